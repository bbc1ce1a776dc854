"""Numbers only: rules, ledger and drivers compiled by numba. Imports nothing of MEI's other packages."""
