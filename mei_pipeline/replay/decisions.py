"""Why a config did what it did: what every gate said at every step, and what one change would have let through."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kernels.book import ENTERED, NO_MARGIN, NO_ORDERS, NO_PLACES, TOO_SMALL, VERDICTS
from kernels.market import Floats, Ints
from kernels.params import Parameter, Value
from kernels.strategies import load
from mei_pipeline import files
from mei_pipeline.progress import Progress, silent
from mei_pipeline.replay.run import Replay, ReplayInputs
from mei_pipeline.replay.signals import plain, signal_decoder
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.run import load_simulation, run_block

CANDIDATES = frozenset({ENTERED, NO_PLACES, NO_ORDERS, NO_MARGIN, TOO_SMALL})
"""Verdicts of signals that were ranked; `NO_MARGIN` and `TOO_SMALL` may also be those of an addition."""

_CHUNK_STEPS = 512  # steps whose traces are in memory at once
_TILE_STEPS = 4096  # steps whose signals are made by one call
_LEVERS_SHOWN = 20


@dataclass(frozen=True)
class GateTraces:
    """What the gates said of N symbols at N steps.

    Attributes:
        step: [N] number of the step.
        symbol: [N] number of the symbol.
        code: [N] signal, 0 for none.
        gates: [N, gates, 3] value, threshold and whether it was open (1, 0, NaN: not asked) of each gate.
    """

    step: Ints
    symbol: Ints
    code: Ints
    gates: Floats


def trace_gates(settings: Settings, inputs: ReplayInputs, progress: Progress = silent) -> Iterator[GateTraces]:
    """Ask every gate of every symbol with a bar at every step of the window where entries are decided, in chunks."""
    compiled = load_simulation(settings, inputs.resolved.strategy)
    cut = inputs.cut
    for start in range(cut.first, cut.last, _CHUNK_STEPS):
        stop = min(start + _CHUNK_STEPS, cut.last)
        yield _trace(compiled, inputs, start, stop)
        progress(stop - cut.first, cut.last - cut.first, "traced steps")


def _trace(compiled: ModuleType, inputs: ReplayInputs, start: int, stop: int) -> GateTraces:
    market, combos = inputs.market, inputs.combos
    asked = (market.enters[start:stop, None] != 0) & (market.age[start:stop] >= 0)
    step, symbol = (np.ascontiguousarray(axis) for axis in np.nonzero(asked))
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

    One row per step where entries are decided, symbol with a bar, and gate: close_ms, symbol, gate, value, threshold,
    open (null: not asked), signal (side; null for none), tier, mode, rank (of a candidate), verdict, done (reasons of
    what was filled at this step).
    """
    import pyarrow.parquet as pq  # noqa: PLC0415 - 0.1 s that a replay without a trace does without

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
    meaning = signal_decoder(inputs.resolved.strategy)
    verdict = run.verdicts[part.step - inputs.cut.first, part.symbol].astype(np.int64)
    ranks = [
        rank_of(compiled, inputs, int(t), int(s), int(code)) if v in CANDIDATES else None
        for t, s, code, v in zip(part.step, part.symbol, part.code, verdict, strict=True)
    ]
    told = [meaning(int(code)) for code in part.code]
    first, last = (int(part.step[0]), int(part.step[-1])) if len(part.step) else (0, -1)
    done = done_at(run, first, last)
    names = [inputs.bars.symbols[int(s)] for s in part.symbol]
    per_symbol = pl.DataFrame(
        {
            "close_ms": inputs.bars.steps.close_ms[part.step],
            "symbol": pl.Series(names, dtype=pl.Enum(inputs.bars.symbols)),
            "signal": pl.Series([one.side for one in told], dtype=pl.Enum(["long", "short"])),
            "tier": pl.Series([one.tier for one in told], dtype=pl.String),
            "mode": pl.Series([one.mode for one in told], dtype=pl.String),
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
    """Rank that the signal of symbol `s` at step `t` has among candidates."""
    g = int(inputs.combos.symbol_group[s])
    now = inputs.cut.market.row[t]
    seen = plain(compiled.read)(inputs.features.values, inputs.combos.column_of[0, g], now, s)
    return float(plain(compiled.rank)(code, seen, inputs.combos.params[0, g]))


def done_at(run: Replay, first: int, last: int) -> dict[tuple[int, str], str]:
    """Reasons of the fills of each step and symbol, for the steps from `first` to `last`."""
    found: dict[tuple[int, str], str] = {}
    wanted = run.fills.filter(pl.col("bar").is_between(first, last) & (pl.col("reason") != "funding"))
    for bar, symbol, reason in wanted.select("bar", "symbol", "reason").iter_rows():
        key = (bar, symbol)
        found[key] = f"{found[key]}, {reason}" if key in found else reason
    return found


@dataclass(frozen=True)
class GateCounts:
    """How often each gate was asked and shut.

    Attributes:
        evaluated: Symbols times steps at which the gates were asked.
        asked: [gates] how often each had an answer.
        shut: [gates] how often that was no.
    """

    evaluated: int
    asked: Ints
    shut: Ints

    @classmethod
    def none(cls, gates: int) -> "GateCounts":
        """Counts of nothing yet."""
        return cls(0, np.zeros(gates, dtype=np.int64), np.zeros(gates, dtype=np.int64))

    def with_more(self, part: GateTraces) -> "GateCounts":
        """The counts with a chunk more."""
        verdict = part.gates[:, :, 2]
        return GateCounts(
            self.evaluated + len(part.step),
            self.asked + (~np.isnan(verdict)).sum(axis=0),
            self.shut + (verdict == 0.0).sum(axis=0),
        )


def count_gates(settings: Settings, inputs: ReplayInputs, progress: Progress = silent) -> GateCounts:
    """Count the gates over the window."""
    counts = GateCounts.none(len(load_simulation(settings, inputs.resolved.strategy).GATES))
    for part in trace_gates(settings, inputs, progress):
        counts = counts.with_more(part)
    return counts


def signal_codes(settings: Settings, inputs: ReplayInputs) -> NDArray[np.int8]:
    """[T, S] signal of each symbol at each step of the window, 0 for none."""
    compiled = load_simulation(settings, inputs.resolved.strategy)
    cut, market = inputs.cut, inputs.market
    found = np.zeros((cut.last - cut.first, market.close.shape[1]), dtype=np.int8)
    for start in range(cut.first, cut.last, _TILE_STEPS):
        stop = min(start + _TILE_STEPS, cut.last)
        # The engine makes a tile's signals before it moves a book: they are the same whatever the book holds.
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
        found[start - cut.first : stop - cut.first] = book.codes
    return found


def levers(
    settings: Settings, inputs: ReplayInputs, codes: NDArray[np.int8], progress: Progress = silent
) -> list[dict[str, Any]]:
    """What alone stopped signals: entry parameters that, changed by themselves, give signals where there was none.

    A switch is turned, a choice takes each other value, a number goes to either of its bounds, all else stays as it is.
    The rules themselves are asked again, so the count is exact: for a filter that is switched off it is how often this
    filter alone stopped a signal.

    Args:
        settings: Where compiled kernels are kept.
        inputs: What was replayed.
        codes: As `signal_codes` returns.
        progress: Told of each parameter.

    Returns:
        The strongest first, one record per parameter: path, value, instead, signals (how many more there would be).
    """
    table = [parameter for parameter in load(inputs.resolved.strategy).PARAMETERS if parameter.role == "entry"]
    quiet = codes == 0
    found: list[dict[str, Any]] = []
    for done, parameter in enumerate(table, 1):
        value = inputs.resolved.params[parameter.path]
        best: tuple[int, Value] | None = None
        for instead in _alternatives(parameter, value):
            more = int((quiet & (signal_codes(settings, _changed(inputs, parameter.path, instead)) != 0)).sum())
            if more and (best is None or more > best[0]):
                best = (more, instead)
        if best is not None:
            found.append({"path": parameter.path, "value": value, "instead": best[1], "signals": best[0]})
        progress(done, len(table), "entry parameters")
    return sorted(found, key=lambda lever: -lever["signals"])[:_LEVERS_SHOWN]


def _alternatives(parameter: Parameter, value: Value) -> list[Value]:
    if parameter.kind == "bool":
        return [not value]
    others: tuple[Value, ...] = parameter.choices if parameter.kind == "choice" else (parameter.low, parameter.high)
    return [other for other in others if other != value]


def _changed(inputs: ReplayInputs, path: str, value: Value) -> ReplayInputs:
    resolved = inputs.resolved
    own: Mapping[str, Mapping[str, Value]] = {
        symbol: {key: old for key, old in values.items() if key != path}
        for symbol, values in resolved.symbol_params.items()
    }
    params = {**resolved.params, path: value}
    symbols = inputs.bars.symbols
    combos = encode_combos(resolved.strategy, inputs.features, params, 1, symbols, own, benchmark="")
    return replace(inputs, combos=replace(combos, benchmark=inputs.combos.benchmark))


def signal_summary(inputs: ReplayInputs, run: Replay, codes: NDArray[np.int8]) -> dict[str, Any]:
    """How many signals there were, of which kind, and what became of them.

    Returns:
        `evaluated` (symbols with a bar times steps where entries are decided), `signals`, `signal_pct`, and counts
        `by_side`, `by_tier`, `by_mode` and by `verdict` of `kernels.book.VERDICTS`.
    """
    cut, market = inputs.cut, inputs.market
    asked = (market.enters[cut.first : cut.last, None] != 0) & (market.age[cut.first : cut.last] >= 0)
    evaluated = int(asked.sum())
    meaning = signal_decoder(inputs.resolved.strategy)
    kinds: dict[str, dict[str, int]] = {"by_side": {}, "by_tier": {}, "by_mode": {}}
    for code, count in zip(*np.unique(codes[codes != 0], return_counts=True), strict=True):
        for kind, word in zip(kinds, meaning(int(code)), strict=True):
            if word is not None:
                kinds[kind][word] = kinds[kind].get(word, 0) + int(count)
    verdicts = np.bincount(run.verdicts[asked], minlength=len(VERDICTS))
    signals = int((codes != 0).sum())
    return {
        "evaluated": evaluated,
        "signals": signals,
        "signal_pct": 100.0 * signals / evaluated if evaluated else 0.0,
        **kinds,
        "verdicts": {name: int(count) for name, count in zip(VERDICTS, verdicts, strict=True)},
    }


def gate_summary(settings: Settings, inputs: ReplayInputs, counts: GateCounts) -> list[dict[str, Any]]:
    """One record per gate: gate, asked, shut, shut_pct."""
    names = load_simulation(settings, inputs.resolved.strategy).GATES
    return [
        {
            "gate": name,
            "asked": int(asked),
            "shut": int(shut),
            "shut_pct": 100.0 * int(shut) / int(asked) if asked else 0.0,
        }
        for name, asked, shut in zip(names, counts.asked, counts.shut, strict=True)
    ]
