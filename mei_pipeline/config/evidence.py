"""Gates that a small universe can't pass, which is known before the sweep."""

from mei_pipeline.config.models import Selection


def least_symbols(selection: Selection) -> int:
    """Return the smallest universe that supplies `holdout_symbols`: the sweep keeps at least as many symbols."""
    return 2 * selection.holdout_symbols


def missing_evidence(selection: Selection, symbols: int) -> tuple[str, ...]:
    """Return the gates that lack evidence in a universe of this size, with the change that helps.

    If there is any, no config can be promoted: a gate without evidence does not pass.

    Args:
        selection: The policy.
        symbols: Symbols of the universe, 1 or more.

    Returns:
        One sentence for each gate; empty if every gate can pass.
    """
    gates, wanted = selection.gates, selection.holdout_symbols
    found = []
    held_out = wanted if symbols >= least_symbols(selection) else 0
    if gates.min_holdout_symbols_sharpe is not None and not held_out:
        why = (
            f"holdout_symbols: {wanted} holds out none of {symbols}, it needs at least {least_symbols(selection)}"
            if wanted
            else "holdout_symbols: 0 holds out none"
        )
        found.append(
            f"{_impossible('min_holdout_symbols_sharpe')}: {why}; ingest more symbols, or set the gate to null"
        )
    if symbols - held_out == 1:
        if gates.min_sharpe_without_best_symbol is not None:
            found.append(
                f"{_impossible('min_sharpe_without_best_symbol')}: one symbol is searched, without it none is left; "
                "ingest more symbols, or set the gate to null"
            )
        if gates.max_symbol_share < 1.0:
            found.append(
                f"{_impossible('max_symbol_share')}: one symbol is searched, which has all of the profit; ingest more "
                "symbols, or set the gate to 1"
            )
    return tuple(found)


def _impossible(gate: str) -> str:
    return f"no config can be promoted, because none can pass selection.gates.{gate}"
