"""Decisions of a config: the result of every gate at every step, and the effect of single parameter changes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.book import BLOCKED, ENTERED, NO_MARGIN, NO_ORDERS, NO_PLACES, TOO_SMALL, VERDICTS
from kernels.market import Floats, Ints
from kernels.params import Parameter, Value
from kernels.strategies import load
from mei_pipeline import files
from mei_pipeline.params.modules import python_function
from mei_pipeline.progress import Progress, silent
from mei_pipeline.replay.run import Replay, ReplayInputs
from mei_pipeline.replay.signals import signal_decoder
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.run import load_simulation, run_block

CANDIDATES = frozenset({ENTERED, NO_PLACES, NO_ORDERS, NO_MARGIN, TOO_SMALL})
"""Verdicts on ranked signals. `NO_MARGIN` and `TOO_SMALL` may also be verdicts on an addition."""

_CHUNK_STEPS = 512  # steps whose traces are in memory at a time
_TILE_STEPS = 4096  # steps per call that computes signals
_EFFECTS_SHOWN = 20


@dataclass(frozen=True)
class GateTraces:
    """Results of all gates for N pairs of symbol and step.

    Attributes:
        step: [N] number of the step.
        symbol: [N] number of the symbol.
        code: [N] signal, 0 for none.
        gates: [N, gates, 3] value, threshold and result of each gate: 1 open, 0 closed, NaN not evaluated.
    """

    step: Ints
    symbol: Ints
    code: Ints
    gates: Floats


def trace_gates(settings: Settings, inputs: ReplayInputs, progress: Progress = silent) -> Iterator[GateTraces]:
    """Evaluate every gate of every symbol with a bar at every step at which entries are decided, in chunks."""
    compiled = load_simulation(settings, inputs.resolved.strategy)
    cut = inputs.cut
    for start in range(cut.first, cut.last, _CHUNK_STEPS):
        stop = min(start + _CHUNK_STEPS, cut.last)
        yield _trace_chunk(compiled, inputs, start, stop)
        progress(stop - cut.first, cut.last - cut.first, "traced steps")


def _trace_chunk(compiled: ModuleType, inputs: ReplayInputs, start: int, stop: int) -> GateTraces:
    market, combos = inputs.market, inputs.combos
    evaluated = (market.enters[start:stop, None] != 0) & (market.age[start:stop] >= 0)
    step, symbol = (np.ascontiguousarray(axis) for axis in np.nonzero(evaluated))
    step += start
    gates = np.full((len(step), len(compiled.GATES), 3), np.nan)
    code = np.zeros(len(step), dtype=np.int64)
    for n in range(len(step)):
        code[n] = compiled.explain(
            market, inputs.features.values, combos.column_of, combos.signal_params, 0, step[n], symbol[n], gates[n]
        )
    return GateTraces(step, symbol, code, gates)


def write_decisions(
    settings: Settings, inputs: ReplayInputs, run: Replay, path: Path, progress: Progress = silent
) -> "GateCounts":
    """Write the decision trace of a replay to a Parquet file, a chunk of steps at a time, and count its gates.

    There is one row for each step at which entries are decided, each symbol with a bar, and each gate. Columns:
    close_ms, symbol, gate, value, threshold, open (null: not evaluated), signal (side; null without one), tier, mode,
    rank (of a candidate), verdict, done (reasons of fills at this step).
    """
    import pyarrow.parquet as pq  # noqa: PLC0415 - saves 0.1 s in a replay without a trace

    counts = GateCounts.none(len(load_simulation(settings, inputs.resolved.strategy).GATES))
    with files.replacing(path) as temporary:
        writer = None
        try:
            for part in trace_gates(settings, inputs, progress):
                counts = counts.with_more(part)
                table = _table(settings, inputs, run, part).to_arrow()
                if writer is None:
                    writer = pq.ParquetWriter(temporary, table.schema, compression="zstd")
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
    return counts


def _table(settings: Settings, inputs: ReplayInputs, run: Replay, part: GateTraces) -> pl.DataFrame:
    compiled = load_simulation(settings, inputs.resolved.strategy)
    gates = len(compiled.GATES)
    decode = signal_decoder(inputs.resolved.strategy)
    verdict = run.verdicts[part.step - inputs.cut.first, part.symbol].astype(np.int64)
    ranks = [
        rank_of(compiled, inputs, int(t), int(s), int(code)) if v in CANDIDATES else None
        for t, s, code, v in zip(part.step, part.symbol, part.code, verdict, strict=True)
    ]
    meanings = [decode(int(code)) for code in part.code]
    first_step, last_step = (int(part.step[0]), int(part.step[-1])) if len(part.step) else (0, -1)
    done = done_at(run, first_step, last_step)
    names = [inputs.bars.symbols[int(s)] for s in part.symbol]
    per_symbol = pl.DataFrame(
        {
            "close_ms": inputs.bars.steps.close_ms[part.step],
            "symbol": pl.Series(names, dtype=pl.Enum(inputs.bars.symbols)),
            "signal": pl.Series([one.side for one in meanings], dtype=pl.Enum(["long", "short"])),
            "tier": pl.Series([one.tier for one in meanings], dtype=pl.String),
            "mode": pl.Series([one.mode for one in meanings], dtype=pl.String),
            "rank": pl.Series(ranks, dtype=pl.Float64),
            "verdict": pl.Series([VERDICTS[v] for v in verdict], dtype=pl.Enum(VERDICTS)),
            "done": pl.Series(
                [done.get((int(t), name)) for t, name in zip(part.step, names, strict=True)], dtype=pl.String
            ),
        }
    )
    flat = part.gates.reshape(-1, 3)
    return (
        per_symbol.select(pl.all().repeat_by(gates).explode())
        .with_columns(
            gate=pl.Series(list(compiled.GATES) * len(part.step), dtype=pl.Enum(compiled.GATES)),
            value=flat[:, 0],
            threshold=pl.Series(flat[:, 1]).fill_nan(None),
            open=pl.Series(flat[:, 2]).fill_nan(None).cast(pl.Boolean),
        )
        .select(
            "close_ms",
            "symbol",
            "gate",
            "value",
            "threshold",
            "open",
            "signal",
            "tier",
            "mode",
            "rank",
            "verdict",
            "done",
        )
    )


def rank_of(compiled: ModuleType, inputs: ReplayInputs, t: int, s: int, code: int) -> float:
    """Return the rank of the signal of symbol `s` at step `t` among candidates."""
    g = int(inputs.combos.symbol_group[s])
    row = inputs.cut.market.row[t]
    features = python_function(compiled.read)(inputs.features.values, inputs.combos.column_of[0, g], row, s)
    return float(python_function(compiled.rank)(code, features, inputs.combos.params[0, g]))


def done_at(run: Replay, first: int, last: int) -> dict[tuple[int, str], str]:
    """Return the reasons of the fills of each step and symbol, for the steps from `first` to `last`."""
    reasons: dict[tuple[int, str], str] = {}
    fills = run.fills.filter(pl.col("bar").is_between(first, last) & (pl.col("reason") != "funding"))
    for bar, symbol, reason in fills.select("bar", "symbol", "reason").iter_rows():
        key = (bar, symbol)
        reasons[key] = f"{reasons[key]}, {reason}" if key in reasons else reason
    return reasons


@dataclass(frozen=True)
class GateCounts:
    """Counts of the results of gates.

    Attributes:
        rows: Pairs of symbol and step.
        evaluated: [gates] pairs at which each gate was evaluated.
        closed: [gates] pairs at which it was closed.
    """

    rows: int
    evaluated: Ints
    closed: Ints

    @classmethod
    def none(cls, gates: int) -> "GateCounts":
        """Return counts of zero."""
        return cls(0, np.zeros(gates, dtype=np.int64), np.zeros(gates, dtype=np.int64))

    def with_more(self, part: GateTraces) -> "GateCounts":
        """Return the counts including another chunk."""
        verdict = part.gates[:, :, 2]
        return GateCounts(
            self.rows + len(part.step),
            self.evaluated + (~np.isnan(verdict)).sum(axis=0),
            self.closed + (verdict == 0.0).sum(axis=0),
        )


def count_gates(settings: Settings, inputs: ReplayInputs, progress: Progress = silent) -> GateCounts:
    """Count the gates over the window."""
    counts = GateCounts.none(len(load_simulation(settings, inputs.resolved.strategy).GATES))
    for part in trace_gates(settings, inputs, progress):
        counts = counts.with_more(part)
    return counts


def signal_codes(settings: Settings, inputs: ReplayInputs) -> NDArray[np.int8]:
    """Return the signal of each symbol at each step of the window, [T, S], 0 for none."""
    compiled = load_simulation(settings, inputs.resolved.strategy)
    cut, market = inputs.cut, inputs.market
    codes = np.zeros((cut.last - cut.first, market.close.shape[1]), dtype=np.int8)
    for start in range(cut.first, cut.last, _TILE_STEPS):
        stop = min(start + _TILE_STEPS, cut.last)
        # The simulation makes a tile's signals before it moves a book: they are the same whatever the book holds.
        book = run_block(
            compiled,
            market,
            inputs.model,
            inputs.features.values,
            inputs.combos,
            (0, 1),
            (start, stop),
            tile=stop - start,
        )
        codes[start - cut.first : stop - cut.first] = book.codes
    return codes


def parameter_effects(
    settings: Settings, inputs: ReplayInputs, codes: NDArray[np.int8], progress: Progress = silent
) -> list[dict[str, Any]]:
    """Return entry parameters that, changed alone, give signals where there was none.

    A switch is inverted, a choice takes each other value, and a number takes each of its bounds. The rules are
    evaluated again for each change, so the counts are exact. For a filter that is switched off, the count is the number
    of signals that this filter alone rejected.

    Args:
        settings: Where compiled kernels are kept.
        inputs: Inputs of the replay.
        codes: Result of `signal_codes`.
        progress: Receives the number of finished parameters.

    Returns:
        One record per parameter, the strongest first: path, value, instead (the other value), signals (additional
        ones).
    """
    table = [parameter for parameter in load(inputs.resolved.strategy).PARAMETERS if parameter.role == "entry"]
    no_signal = codes == 0
    records: list[dict[str, Any]] = []
    for done, parameter in enumerate(table, 1):
        value = inputs.resolved.params[parameter.path]
        best: tuple[int, Value] | None = None
        for other in _alternatives(parameter, value):
            more = int((no_signal & (signal_codes(settings, _changed(inputs, parameter.path, other)) != 0)).sum())
            if more and (best is None or more > best[0]):
                best = (more, other)
        if best is not None:
            records.append({"path": parameter.path, "value": value, "instead": best[1], "signals": best[0]})
        progress(done, len(table), "entry parameters")
    return sorted(records, key=lambda effect: -effect["signals"])[:_EFFECTS_SHOWN]


def _alternatives(parameter: Parameter, value: Value) -> list[Value]:
    if parameter.kind == "bool":
        return [not value]
    others: tuple[Value, ...] = parameter.choices if parameter.kind == "choice" else (parameter.low, parameter.high)
    return [other for other in others if other != value]


def _changed(inputs: ReplayInputs, path: str, value: Value) -> ReplayInputs:
    resolved = inputs.resolved
    symbol_params: Mapping[str, Mapping[str, Value]] = {
        symbol: {key: old for key, old in values.items() if key != path}
        for symbol, values in resolved.symbol_params.items()
    }
    params = {**resolved.params, path: value}
    symbols = inputs.bars.symbols
    combos = encode_combos(resolved.strategy, inputs.features, params, 1, symbols, symbol_params, benchmark="")
    return replace(inputs, combos=replace(combos, benchmark=inputs.combos.benchmark))


def signal_summary(inputs: ReplayInputs, run: Replay, codes: NDArray[np.int8]) -> dict[str, Any]:
    """Count signals by kind and by verdict.

    Returns:
        `evaluated` (symbols with a bar times steps at which entries are decided), `signals`, `signal_pct`, and counts
        `by_side`, `by_tier`, `by_mode` and `verdicts`, those of `kernels.book.VERDICTS` that a replay can have.
    """
    cut, market = inputs.cut, inputs.market
    decided = (market.enters[cut.first : cut.last, None] != 0) & (market.age[cut.first : cut.last] >= 0)
    evaluated = int(decided.sum())
    decode = signal_decoder(inputs.resolved.strategy)
    kinds: dict[str, dict[str, int]] = {"by_side": {}, "by_tier": {}, "by_mode": {}}
    for code, count in zip(*np.unique(codes[codes != 0], return_counts=True), strict=True):
        for kind, name in zip(kinds, decode(int(code)), strict=True):
            if name is not None:
                kinds[kind][name] = kinds[kind].get(name, 0) + int(count)
    possible = VERDICTS[:BLOCKED]  # only a lane is blocked or late
    verdicts = np.bincount(run.verdicts[decided], minlength=len(possible))
    signals = int((codes != 0).sum())
    return {
        "evaluated": evaluated,
        "signals": signals,
        "signal_pct": 100.0 * signals / evaluated if evaluated else 0.0,
        **kinds,
        "verdicts": {name: int(count) for name, count in zip(possible, verdicts, strict=True)},
    }


def gate_summary(settings: Settings, inputs: ReplayInputs, counts: GateCounts) -> list[dict[str, Any]]:
    """Return one record per gate: gate, evaluated, closed, closed_pct."""
    names = load_simulation(settings, inputs.resolved.strategy).GATES
    return [
        {
            "gate": name,
            "evaluated": int(evaluated),
            "closed": int(closed),
            "closed_pct": 100.0 * int(closed) / int(evaluated) if evaluated else 0.0,
        }
        for name, evaluated, closed in zip(names, counts.evaluated, counts.closed, strict=True)
    ]
