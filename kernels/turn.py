"""Arguments of the rules, as records: the book at a step, the data of its decisions, and limits from outside it.

A rule takes a record and the symbol that it is about. Only drivers loop over symbols.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Turn(NamedTuple):
    """A book at one step: what the rules of fills read and change.

    Attributes:
        account: Record of `ledger.ACCOUNT`.
        positions: [S] records of `position_dtype`.
        active: [S] as in `Book`.
        bars: [S] records of `BAR` of the step.
        symbols: [S] records of `market.SYMBOL`.
        model: Record of `market.MODEL`.
        t: Number of the step.
        log: [N] as in `Book`.
    """

    account: Any
    positions: Any
    active: Any
    bars: Any
    symbols: Any
    model: Any
    t: Any
    log: Any


class OutsideLimits(NamedTuple):
    """OutsideLimits from outside a book on its decisions at one step; a sweep has none (`limits_of`).

    Attributes:
        reserved_margin_usd: USD of margin that orders must leave free.
        reserved_places: Places that entries must leave free.
        other_usd: Equity outside the book that sizes and the margin limit are based on, too.
        late: 1 if the step came too late for entries and additions.
        may_enter: [S] 0 for a symbol without entries and additions; [0] if all may enter.
    """

    reserved_margin_usd: Any
    reserved_places: Any
    other_usd: Any
    late: Any
    may_enter: Any


class StepDecision(NamedTuple):
    """Data of the decisions of a book at one step, in addition to `Turn`.

    Attributes:
        step: Record of `STEP`.
        columns: [C, T, S] feature columns.
        column_of: [G, F] column number of each feature, by symbol group.
        params: [G] records of all parameters, by symbol group.
        codes: [S] signal codes of the step.
        signal_symbols: [S] symbols with a signal, in order.
        candidates: [S] scratch.
        ranks: [S] scratch.
        verdicts: [S] receives the verdicts.
        limits: `OutsideLimits`.
    """

    step: Any
    columns: Any
    column_of: Any
    params: Any
    codes: Any
    signal_symbols: Any
    candidates: Any
    ranks: Any
    verdicts: Any
    limits: Any


def limits_of(
    *,
    reserved_margin_usd: float = 0.0,
    reserved_places: float = 0.0,
    other_usd: float = 0.0,
    late: bool = False,
    may_enter: Sequence[int] | NDArray[Any] = (),
) -> OutsideLimits:
    """Return limits in the types for which the drivers of a lane are compiled; the defaults limit nothing."""
    return OutsideLimits(
        float(reserved_margin_usd),
        float(reserved_places),
        float(other_usd),
        int(late),
        np.array(may_enter, dtype=np.int8),
    )
