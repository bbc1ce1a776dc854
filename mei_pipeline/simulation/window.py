"""Whole UTC days of bars that are traded, in the form in which the kernels read them."""

from dataclasses import dataclass, replace

import numpy as np

from kernels.blocks import BLOCKS
from kernels.market import Market
from mei_pipeline.candles.intervals import DAY_MS, MINUTE_MS, iso
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.simulation.bars import Bars


@dataclass(frozen=True)
class Window:
    """Whole UTC days of `Bars` that are traded.

    Attributes:
        from_ms: Start of the first day.
        to_ms: End of the last day, exclusive.
        first: Index of the first step.
        last: One past the index of the last step.
        market: Arrays of all steps; the days of this window are split into blocks.
    """

    from_ms: int
    to_ms: int
    first: int
    last: int
    market: Market

    @property
    def days(self) -> int:
        """Number of days."""
        return (self.to_ms - self.from_ms) // DAY_MS


def cut_window(bars: Bars, from_ms: int, to_ms: int, least_days: int = BLOCKS) -> Window:
    """Cut the whole UTC days [from_ms, to_ms) out of `bars` and split them into `BLOCKS` equal time blocks.

    Args:
        bars: The bars.
        from_ms: Start of the first day.
        to_ms: End of the last day, exclusive.
        least_days: Minimum number of days. If it is below `BLOCKS`, some blocks may be empty.

    Raises:
        ConfigError: The bounds are not UTC midnights inside the bars, or leave fewer than `least_days` days.
        DataError: No symbol can be traded at any step.
    """
    if from_ms % DAY_MS or to_ms % DAY_MS or not bars.anchor_ms <= from_ms < to_ms <= bars.end_ms:
        raise ConfigError(
            f"window {from_ms}..{to_ms} ms: must be UTC midnights between {bars.anchor_ms} and {bars.end_ms} ms"
        )
    days = (to_ms - from_ms) // DAY_MS
    if days < least_days:
        raise ConfigError(f"window of {days} days: at least {least_days} days are needed, one for each time block")
    steps = bars.steps
    first, last = ((time_ms - bars.anchor_ms) // steps.step_ms for time_ms in (from_ms, to_ms))
    if not (steps.age[first:last] >= 0).any():
        raise DataError(
            f"window {iso(from_ms)} to {iso(to_ms)}: no symbol has a {steps.interval} bar after a closed "
            f"{bars.interval} bar in it; choose other days, or run `mei ingest`; `mei coverage` shows what there is"
        )
    return Window(from_ms, to_ms, first, last, _market_of(bars, from_ms, to_ms))


def block_starts_ms(from_ms: int, to_ms: int) -> tuple[int, ...]:
    """Return the first day of each time block of the UTC days [from_ms, to_ms), and the end of the last one, in ms."""
    days = (to_ms - from_ms) // DAY_MS
    return tuple(from_ms + -(-block * days // BLOCKS) * DAY_MS for block in range(BLOCKS + 1))


def closed_at_end(cut: Window) -> Window:
    """Return the window with every position closed at its end.

    Every symbol that is still listed then is delisted at the last step. The ledger therefore books the close: at the
    last known close, with exit slippage, and with the fee of the slipped notional.
    """
    final = cut.last - 1
    listed = (cut.market.last < 0) | (cut.market.last > final)
    ends = cut.market.ends.copy()
    ends[final] = 1
    return replace(cut, market=cut.market._replace(last=np.where(listed, final, cut.market.last), ends=ends))


def _market_of(bars: Bars, from_ms: int, to_ms: int) -> Market:
    """Return the arrays of all steps, without symbol groups and benchmark; `Combos.apply_to` sets these."""
    steps = bars.steps
    close_ms = steps.close_ms
    days = (to_ms - from_ms) // DAY_MS
    inside = (steps.open_ms >= from_ms) & (close_ms <= to_ms)
    day = np.clip((steps.open_ms - from_ms) // DAY_MS, 0, days - 1)
    ends = np.zeros(len(steps.open_ms), dtype=np.int64)
    ends[[ending.step for ending in bars.endings]] = 1
    return Market(
        open=steps.prices[0],
        high=steps.prices[1],
        low=steps.prices[2],
        close=steps.prices[3],
        last_price=steps.last_prices,
        age=steps.age,
        funding=steps.funding,
        **bars.terms._asdict(),
        # Steps outside the window close no day: the daily returns are those of the window alone.
        day_end=(inside & (close_ms % DAY_MS == 0)).astype(np.int64),
        block=np.searchsorted(block_starts_ms(from_ms, to_ms), from_ms + day * DAY_MS, side="right") - 1,
        row=steps.row,
        previous_row=steps.previous_row,
        enters=steps.enters,
        exits=steps.exits,
        ends=ends,
        symbol_group=np.zeros(len(bars.symbols), dtype=np.int64),
        benchmark=np.array([-1], dtype=np.int64),
        minutes=np.array([steps.step_ms / MINUTE_MS]),
    )
