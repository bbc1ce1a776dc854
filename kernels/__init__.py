"""Simulation and features, compiled by numba. This package imports no other package of MEI."""
