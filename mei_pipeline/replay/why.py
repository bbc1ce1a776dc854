"""Explain the decision of a config on one symbol at one step: gates, book, orders."""

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kernels.book import MOMENTS, REASONS, VERDICTS, Book
from mei_pipeline.candles.intervals import DAY_MS, iso
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.params.identity import ResolvedConfig, config_id
from mei_pipeline.replay.decisions import CANDIDATES, rank_of
from mei_pipeline.replay.run import ReplayInputs, columns_for, encode_replay_inputs
from mei_pipeline.replay.signals import signal_decoder
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.feature_sets import build_features
from mei_pipeline.simulation.kernel_cache import use_kernels
from mei_pipeline.simulation.run import load_simulation, run_block, tile_steps
from mei_pipeline.simulation.window import cut_window

_LOG_ROWS = 4096


@dataclass(frozen=True)
class _Moment:
    """The book after the close of one step.

    Attributes:
        book: Book of one combo.
        step: The step; the one before the first step stands for the start.
        row: Index of its bars in the tile of the book; -1 at the start.
    """

    book: Book
    step: int
    row: int


def explain_step(settings: Settings, inputs: ReplayInputs, symbol: str, open_ms: int) -> dict[str, Any]:
    """Return everything that decided what the config did with `symbol` at the step that opens at `open_ms`.

    The config is replayed from the start of the window to that step, so that position, equity and margin are exact.

    Args:
        settings: Settings with the folder of compiled kernels.
        inputs: The config, and bars that contain the step.
        symbol: The symbol.
        open_ms: Open time of the step's bar.

    Returns:
        Config and bar; `gates` with value, threshold and result; the `signal` with side, tier and mode; `rank` of a
        candidate; the `verdict`; the book `before` and `after` the step; and `done`, the fills.

    Raises:
        ConfigError: The config does not trade the symbol, or the step is before the window.
        DataError: The symbol has no bar at that step; the message names the nearest one.
    """
    t, s = _place(inputs, symbol, open_ms)
    compiled = load_simulation(settings, inputs.resolved.strategy)
    # Kernels return the book at the end of a run, so the states before and after the step are two runs.
    before, after = (_run_to(compiled, inputs, stop) for stop in (t, t + 1))
    verdict = int(after.book.verdicts[t, s])
    signal, code = _signal(compiled, inputs, t, s)
    decides = signal["decides_entries"]
    return {
        **signal,
        "rank": rank_of(compiled, inputs, t, s, code) if verdict in CANDIDATES else None,
        "verdict": VERDICTS[verdict] if decides else "entries are not decided at this step",
        "before": _state(compiled, inputs, before, s),
        "after": _state(compiled, inputs, after, s),
        "done": _done(compiled, after.book, t, s),
    }


def signal_inputs(settings: Settings, bars: Bars, resolved: ResolvedConfig) -> ReplayInputs:
    """Compute what `explain_signal` needs: features over all whole UTC days of the bars.

    Raises:
        ConfigError: A feature window is longer than the bars, or they have no whole UTC day.
    """
    cut = cut_window(bars, -(-bars.anchor_ms // DAY_MS) * DAY_MS, bars.end_ms // DAY_MS * DAY_MS, 1)
    use_kernels(settings)
    return encode_replay_inputs(bars, cut, build_features(bars, columns_for(resolved), settings.features), resolved)


def explain_signal(settings: Settings, inputs: ReplayInputs, symbol: str, open_ms: int) -> dict[str, Any]:
    """Return the gates and the signal of a config on `symbol` at the step that opens at `open_ms`, without a book.

    The keys are those of `explain_step` up to `signal`; arguments and errors as there.
    """
    t, s = _place(inputs, symbol, open_ms)
    return _signal(load_simulation(settings, inputs.resolved.strategy), inputs, t, s)[0]


def _signal(compiled: ModuleType, inputs: ReplayInputs, t: int, s: int) -> tuple[dict[str, Any], int]:
    """Return config and bar, gates and signal of a symbol at a step; and the code of the signal."""
    market, steps = inputs.market, inputs.bars.steps
    decides = bool(market.enters[t])
    gates, code = _gates(compiled, inputs, t, s) if decides else ([], 0)
    decode = signal_decoder(inputs.resolved.strategy)(code)
    values = {
        "config_id": config_id(inputs.resolved),
        "strategy": inputs.resolved.strategy,
        "symbol": inputs.bars.symbols[s],
        "interval": steps.interval,
        "bar": iso(int(steps.open_ms[t])),
        "decided": iso(int(steps.close_ms[t])),
        "features_of": iso(int(inputs.bars.open_ms[int(market.row[t])])),
        "price": float(market.close[t, s]),
        "decides_entries": decides,
        "decides_exits": bool(market.exits[t]),
        "gates": gates,
        "signal": None if code == 0 else {"code": code, **decode._asdict()},
    }
    return values, code


def _place(inputs: ReplayInputs, symbol: str, open_ms: int) -> tuple[int, int]:
    """Return the numbers of step and symbol."""
    bars, steps, cut = inputs.bars, inputs.bars.steps, inputs.cut
    if symbol not in bars.symbols:
        raise ConfigError(f"--symbol {symbol}: the config trades {', '.join(bars.symbols)}")
    s = bars.symbols.index(symbol)
    if open_ms < cut.from_ms:
        raise ConfigError(
            f"--at {iso(open_ms)}: before the start of the replay, {iso(cut.from_ms)}; set an earlier --from"
        )
    t = (open_ms - bars.anchor_ms) // steps.step_ms
    on_grid = (open_ms - bars.anchor_ms) % steps.step_ms == 0
    if not on_grid or t >= len(steps.open_ms) or not steps.present[t, s]:
        steps_with_bars = cut.first + np.flatnonzero(steps.present[cut.first :, s])
        if not len(steps_with_bars):
            raise DataError(f"{symbol}: no {steps.interval} bar since {iso(cut.from_ms)}; run `mei ingest` for it")
        nearest = steps_with_bars[np.abs(steps.open_ms[steps_with_bars] - open_ms).argmin()]
        raise DataError(
            f"{symbol}: no {steps.interval} bar opens {iso(open_ms)}; the nearest one opens "
            f"{iso(int(steps.open_ms[nearest]))}"
        )
    if steps.age[t, s] < 0:
        raise DataError(f"{symbol}: no {bars.interval} bar has closed by {iso(open_ms + steps.step_ms)}")
    return int(t), s


def _run_to(compiled: ModuleType, inputs: ReplayInputs, stop: int) -> _Moment:
    """Run from flat to the step `stop`, exclusive."""
    first = inputs.cut.first
    tile = tile_steps(len(inputs.bars.symbols), inputs.combos.column_of.shape[2])
    rows = _LOG_ROWS
    while True:
        book = run_block(
            compiled,
            inputs.market,
            inputs.model,
            inputs.features.values,
            inputs.combos,
            (0, 1),
            (first, stop),
            tile=tile,
            log_rows=rows,
            recorded=True,
        )
        # The log has a fixed size. Kernels count rows beyond it, so that the second run has enough.
        needed = int(book.accounts[0]["logged"])
        if needed <= rows:
            return _Moment(book, stop - 1, (stop - 1 - first) % tile if stop > first else -1)
        rows = needed


def _gates(compiled: ModuleType, inputs: ReplayInputs, t: int, s: int) -> tuple[list[dict[str, Any]], int]:
    out = np.full((len(compiled.GATES), 3), np.nan)
    combos = inputs.combos
    code = compiled.explain(inputs.market, inputs.features.values, combos.column_of, combos.signal_params, 0, t, s, out)
    gates = [
        {
            "gate": name,
            "value": _known(value),
            "threshold": _known(threshold),
            "open": None if math.isnan(verdict) else verdict != 0.0,
        }
        for name, (value, threshold, verdict) in zip(compiled.GATES, out.tolist(), strict=True)
    ]
    return gates, int(code)


def _state(compiled: ModuleType, inputs: ReplayInputs, moment: _Moment, s: int) -> dict[str, Any]:
    """Return equity, margin, and position and order of the symbol after a step."""
    account, position = moment.book.accounts[0], moment.book.positions[0, s]
    equity = float(account["equity"])
    margin = float(account["margin"])
    waiting = _reserved(inputs, moment)
    most = float(inputs.combos.params[0, 0]["max_total_margin_frac"])
    return {
        "at": iso(int(inputs.bars.steps.close_ms[moment.step]) if moment.row >= 0 else inputs.cut.from_ms),
        "equity_usd": equity,
        "margin_usd": margin,
        "free_margin_usd": equity * most - margin - waiting,
        "open_positions": int(account["open_positions"]),
        "position": _position(compiled, inputs, position) if position["size"] != 0.0 else None,
        "order": _order(compiled, position),
    }


def _reserved(inputs: ReplayInputs, moment: _Moment) -> float:
    """Return the margin and fees that waiting orders reserve."""
    account, positions, active = moment.book.accounts[0], moment.book.positions[0], moment.book.active[0]
    waiting = [int(s) for s in active[: account["active"]] if positions[s]["open_size"] != 0.0]
    if not waiting:
        return 0.0
    model = inputs.model
    last_prices = inputs.cut.market.last_price[moment.step]
    money = 0.0
    for s in waiting:
        position = positions[s]
        notional = abs(float(position["open_size"])) * float(last_prices[s])
        more = notional / float(position["open_leverage"]) + notional * model.fee
        more -= float(position["margin"]) if position["open_adds"] == 0.0 else 0.0
        money += max(more, 0.0)
    return money


def _position(compiled: ModuleType, inputs: ReplayInputs, position: Any) -> dict[str, Any]:
    opened, added = (
        iso(int(inputs.bars.steps.close_ms[int(step)])) for step in (position["opened"], position["added"])
    )
    shown = {
        "side": "long" if position["size"] > 0.0 else "short",
        "size": abs(float(position["size"])),
        "entry_price": float(position["entry"]),
        "leverage": float(position["leverage"]),
        "margin_usd": float(position["margin"]),
        "booked_usd": float(position["trade_pnl"]),
        "opened_by": opened,
        "added_by": added,
        "additions": int(position["adds"]),
        "partial_closes": int(position["parts"]),
        "stop": _known(float(position["stop"])),
        "target": _known(float(position["target"])),
    }
    # Fields of a strategy's memory have no other names than in its module.
    return shown | {f"remembers.{name}": _known(float(position[name])) for name in compiled.MEMORY}


def _order(compiled: ModuleType, position: Any) -> dict[str, Any] | None:
    order: dict[str, Any] = {}
    if position["close_frac"] != 0.0:
        order["close_frac"] = float(position["close_frac"])
        order["reason"] = _reasons(compiled)[int(position["close_reason"])]
    if position["open_size"] != 0.0:
        order["adds" if position["open_adds"] != 0.0 else "opens"] = float(position["open_size"])
    return order or None


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
