"""Why a config did, or did not, act on one symbol at one step: the gates, the book, the orders."""

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kernels.book import MOMENTS, REASONS, VERDICTS, Book
from mei_pipeline.candles.intervals import iso
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.params.identity import config_id
from mei_pipeline.replay.decisions import CANDIDATES, rank_of
from mei_pipeline.replay.run import Stage
from mei_pipeline.replay.signals import decoder
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.run import engine, run_block, tile_steps

_LOG_ROWS = 4096


@dataclass(frozen=True)
class _Moment:
    """The book after the close of one step.

    Attributes:
        book: The book, of one combo.
        step: The step; the one before the first stands for the start.
        row: Where its bars lie in the book's tile; -1 at the start.
    """

    book: Book
    step: int
    row: int


def explain_step(settings: Settings, stage: Stage, symbol: str, open_ms: int) -> dict[str, Any]:
    """Everything that shaped what the config did with `symbol` at the step that opens at `open_ms`.

    The config is replayed from the start of the window up to that step, so position, equity and margin are those that
    it had.

    Args:
        settings: Where compiled kernels are kept.
        stage: The config, and bars that hold the step.
        symbol: The symbol.
        open_ms: Open time of the step's bar.

    Returns:
        Config and bar; `gates` with value, threshold and whether each is open; the `signal` with side, tier and mode;
        `rank`, for a candidate; the `verdict`; the book `before` and `after` the step; and what was `done`.

    Raises:
        ConfigError: The config does not trade the symbol, or the step is before the window.
        DataError: The symbol has no bar at that step; the message names the nearest one.
    """
    t, s = _place(stage, symbol, open_ms)
    compiled = engine(settings, stage.resolved.strategy)
    market, steps = stage.market, stage.bars.steps
    before, after = (_run_to(compiled, stage, stop) for stop in (t, t + 1))
    verdict = int(after.book.verdicts[t, s])
    asked = bool(market.enters[t])
    gates, code = _gates(compiled, stage, t, s) if asked else ([], 0)
    told = decoder(stage.resolved.strategy)(code)
    main = int(market.row[t])
    return {
        "config_id": config_id(stage.resolved),
        "strategy": stage.resolved.strategy,
        "symbol": symbol,
        "interval": steps.interval,
        "bar": iso(int(steps.open_ms[t])),
        "decided": iso(int(steps.close_ms[t])),
        "features_of": iso(int(stage.bars.open_ms[main])),
        "price": float(market.close[t, s]),
        "decides_entries": asked,
        "decides_exits": bool(market.exits[t]),
        "gates": gates,
        "signal": None if code == 0 else {"code": code, **told._asdict()},
        "rank": rank_of(compiled, stage, t, s, code) if verdict in CANDIDATES else None,
        "verdict": VERDICTS[verdict] if asked else "entries are not decided at this step",
        "before": _state(compiled, stage, before, s),
        "after": _state(compiled, stage, after, s),
        "done": _done(compiled, after.book, t, s),
    }


def _place(stage: Stage, symbol: str, open_ms: int) -> tuple[int, int]:
    """Step and symbol by number."""
    bars, steps, cut = stage.bars, stage.bars.steps, stage.cut
    if symbol not in bars.symbols:
        raise ConfigError(f"--symbol {symbol}: the config trades {', '.join(bars.symbols)}")
    s = bars.symbols.index(symbol)
    if open_ms < cut.from_ms:
        raise ConfigError(
            f"--at {iso(open_ms)}: before the start of the replay, {iso(cut.from_ms)}; state an earlier --from"
        )
    t = (open_ms - bars.anchor_ms) // steps.step_ms
    on_grid = (open_ms - bars.anchor_ms) % steps.step_ms == 0
    if not on_grid or t >= len(steps.open_ms) or not steps.present[t, s]:
        there = cut.first + np.flatnonzero(steps.present[cut.first :, s])
        if not len(there):
            raise DataError(f"{symbol} has no {steps.interval} bar since {iso(cut.from_ms)}; run `mei ingest` for it")
        nearest = there[np.abs(steps.open_ms[there] - open_ms).argmin()]
        raise DataError(
            f"{symbol} has no {steps.interval} bar that opens {iso(open_ms)}; the nearest one opens "
            f"{iso(int(steps.open_ms[nearest]))}"
        )
    if steps.age[t, s] < 0:
        raise DataError(f"{symbol}: no {bars.interval} bar has closed by {iso(open_ms + steps.step_ms)}")
    return int(t), s


def _run_to(compiled: ModuleType, stage: Stage, stop: int) -> _Moment:
    """Run from flat up to the step `stop`, exclusive."""
    first = stage.cut.first
    tile = tile_steps(len(stage.bars.symbols), stage.combos.rows.shape[2])
    rows = _LOG_ROWS
    while True:
        book = run_block(
            compiled,
            stage.market,
            stage.model,
            stage.features.values,
            stage.combos,
            (0, 1),
            (first, stop),
            tile=tile,
            log_rows=rows,
            recorded=True,
        )
        needed = int(book.accounts[0]["logged"])
        if needed <= rows:
            return _Moment(book, stop - 1, (stop - 1 - first) % tile if stop > first else -1)
        rows = needed


def _gates(compiled: ModuleType, stage: Stage, t: int, s: int) -> tuple[list[dict[str, Any]], int]:
    out = np.full((len(compiled.GATES), 3), np.nan)
    combos = stage.combos
    code = compiled.explain(stage.market, stage.features.values, combos.rows, combos.entries, 0, t, s, out)
    found = [
        {
            "gate": name,
            "value": _known(value),
            "threshold": _known(threshold),
            "open": None if math.isnan(verdict) else verdict != 0.0,
        }
        for name, (value, threshold, verdict) in zip(compiled.GATES, out.tolist(), strict=True)
    ]
    return found, int(code)


def _state(compiled: ModuleType, stage: Stage, moment: _Moment, s: int) -> dict[str, Any]:
    """Equity, margin and the symbol's position and order after a step."""
    account, slot = moment.book.accounts[0], moment.book.slots[0, s]
    equity = float(account["equity"])
    margin = float(account["margin"])
    waiting = _reserved(stage, moment)
    most = float(stage.combos.params[0, 0]["max_total_margin_frac"])
    return {
        "at": iso(int(stage.bars.steps.close_ms[moment.step]) if moment.row >= 0 else stage.cut.from_ms),
        "equity_usd": equity,
        "margin_usd": margin,
        "free_margin_usd": equity * most - margin - waiting,
        "open_positions": int(account["positions"]),
        "position": _position(compiled, stage, slot) if slot["size"] != 0.0 else None,
        "order": _order(compiled, slot),
    }


def _reserved(stage: Stage, moment: _Moment) -> float:
    """Margin and fees that waiting orders hold."""
    account, slots, active = moment.book.accounts[0], moment.book.slots[0], moment.book.active[0]
    waiting = [int(s) for s in active[: account["active"]] if slots[s]["open_size"] != 0.0]
    if not waiting:
        return 0.0
    model = stage.model
    marks = stage.cut.market.mark[moment.step]
    money = 0.0
    for s in waiting:
        slot = slots[s]
        notional = abs(float(slot["open_size"])) * float(marks[s])
        more = notional / float(slot["open_leverage"]) + notional * model.fee
        more -= float(slot["margin"]) if slot["open_adds"] == 0.0 else 0.0
        money += max(more, 0.0)
    return money


def _position(compiled: ModuleType, stage: Stage, slot: Any) -> dict[str, Any]:
    opened, added = (iso(int(stage.bars.steps.close_ms[int(step)])) for step in (slot["opened"], slot["added"]))
    found = {
        "side": "long" if slot["size"] > 0.0 else "short",
        "size": abs(float(slot["size"])),
        "entry_price": float(slot["entry"]),
        "leverage": float(slot["leverage"]),
        "margin_usd": float(slot["margin"]),
        "booked_usd": float(slot["trip_pnl"]),
        "opened_by": opened,
        "added_by": added,
        "additions": int(slot["adds"]),
        "partial_closes": int(slot["parts"]),
        "stop": _known(float(slot["stop"])),
        "target": _known(float(slot["target"])),
    }
    # What the strategy itself remembers of the position has no words but its fields' names.
    return found | {f"remembers.{name}": _known(float(slot[name])) for name in compiled.MEMORY}


def _order(compiled: ModuleType, slot: Any) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    if slot["close_frac"] != 0.0:
        found["close_frac"] = float(slot["close_frac"])
        found["reason"] = _reasons(compiled)[int(slot["close_reason"])]
    if slot["open_size"] != 0.0:
        found["adds" if slot["open_adds"] != 0.0 else "opens"] = float(slot["open_size"])
    return found or None


def _done(compiled: ModuleType, book: Book, t: int, s: int) -> list[dict[str, Any]]:
    log = book.log[: int(book.accounts[0]["logged"])]
    return [
        {
            "reason": _reasons(compiled)[int(row["reason"])],
            "moment": MOMENTS[int(row["moment"])],
            "size": float(row["size"]),
            "price": float(row["price"]),
            "fee_usd": float(row["fee"]),
            "cash_usd": float(row["cash"]),
        }
        for row in log[(log["step"] == t) & (log["symbol"] == s)]
    ]


def _reasons(compiled: ModuleType) -> tuple[str, ...]:
    return (*REASONS, *compiled.EXITS)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
