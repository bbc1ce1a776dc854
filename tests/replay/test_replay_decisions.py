"""What the gates said: counted, written down, and true of the rules that were run."""

import numpy as np
import polars as pl
import pytest
from replay_kit import alpha, cross, inputs

from kernels.book import VERDICTS
from mei_pipeline.progress import silent
from mei_pipeline.replay.decisions import (
    count_gates,
    gate_summary,
    parameter_effects,
    signal_codes,
    signal_summary,
    trace_gates,
    write_decisions,
)
from mei_pipeline.replay.run import replay


@pytest.fixture(params=[cross, alpha])
def played(request, mei_settings):
    on = inputs(mei_settings, request.param())
    return on, replay(mei_settings, on)


def test_signals_are_those_that_the_run_acted_on(mei_settings, played):
    on, run = played
    codes = signal_codes(mei_settings, on)
    # An exit is a verdict too, and needs no signal.
    asked = run.verdicts != VERDICTS.index("no signal")
    exits = run.verdicts == VERDICTS.index("closing")
    assert np.array_equal((codes != 0) | exits, asked)
    entries = run.fills.filter(pl.col("reason") == "entry")
    told = signal_summary(on, run, codes)
    assert told["evaluated"] == 40 * 24 * 3
    assert sum(told["by_side"].values()) == told["signals"] == (codes != 0).sum() >= entries.height
    assert sum(told["verdicts"].values()) == told["evaluated"]
    assert told["verdicts"]["no signal"] == told["evaluated"] - asked.sum()


def test_a_trace_and_the_run_see_the_same_signals(mei_settings, played):
    on, _ = played
    codes = signal_codes(mei_settings, on)
    seen = np.zeros_like(codes)
    for part in trace_gates(mei_settings, on):
        seen[part.step - on.cut.first, part.symbol] = part.code
    assert np.array_equal(seen, codes)


def test_the_cross_has_a_signal_where_it_is_warm_and_crossed(mei_settings):
    on = inputs(mei_settings, cross())
    part = next(trace_gates(mei_settings, on))
    warm, crossed = part.gates[:, 0, 2] == 1.0, part.gates[:, 2, 2] == 1.0
    assert np.array_equal(part.code != 0, warm & crossed)


def test_gates_are_counted(mei_settings):
    on = inputs(mei_settings, cross(**{"entry.warmup_bars": 300}))
    counts = count_gates(mei_settings, on)
    warm, above, crossed = gate_summary(mei_settings, on, counts)
    # The window begins at bar 240 of each of three symbols; bar 300 is the first that is warm.
    assert (warm["evaluated"], warm["closed"]) == (40 * 24 * 3, 60 * 3)
    assert 0 < above["closed"] < above["evaluated"] == counts.rows
    assert crossed["closed_pct"] > 90.0


def test_decisions_are_written_for_each_symbol_step_and_gate(mei_settings, played, tmp_path):
    on, run = played
    path = tmp_path / "decisions.parquet"
    counts = write_decisions(mei_settings, on, run, path)
    frame = pl.read_parquet(path)
    gates = frame["gate"].n_unique()
    assert frame.height == 40 * 24 * 3 * gates
    shut = frame.filter(~pl.col("open")).group_by("gate").len()
    assert dict(shut.iter_rows()) == {
        row["gate"]: row["closed"] for row in gate_summary(mei_settings, on, counts) if row["closed"]
    }
    one = frame.filter(pl.col("gate") == frame["gate"][0])
    signals = one.filter(pl.col("signal").is_not_null())
    assert signals.height == (signal_codes(mei_settings, on) != 0).sum() > 0
    assert one.filter(pl.col("verdict") == "entry ordered")["rank"].null_count() == 0
    assert one.filter(pl.col("signal").is_null())["rank"].null_count() == one.height - signals.height
    done = one.filter(pl.col("done").is_not_null())
    fills = run.fills.filter(pl.col("reason") != "funding")
    assert done.select("close_ms", "symbol").height == fills.select("bar", "symbol").n_unique()
    assert set(signals["tier"].unique()) <= (
        {None} if on.resolved.strategy == "ema_cross" else {"low", "medium", "high"}
    )


def test_a_filter_that_is_lifted_lets_as_many_signals_through_as_was_said(mei_settings):
    on = inputs(mei_settings, alpha())
    codes = signal_codes(mei_settings, on)
    found = {effect["path"]: effect for effect in parameter_effects(mei_settings, on, codes, silent)}
    effect = found["filters.require_adx_rising"]
    assert (effect["value"], effect["instead"]) == (True, False)
    free = signal_codes(mei_settings, inputs(mei_settings, alpha(**{"filters.require_adx_rising": False})))
    assert effect["signals"] == ((free != 0) & (codes == 0)).sum() > 0
    assert [effect["signals"] for effect in found.values()] == sorted(
        (effect["signals"] for effect in found.values()), reverse=True
    )


def test_a_lever_overrides_values_of_single_symbols(mei_settings):
    from dataclasses import replace

    own = replace(alpha(), symbol_params={"AAA": {"entry.warmup_bars": 100_000}})
    on = inputs(mei_settings, own)
    codes = signal_codes(mei_settings, on)
    column = on.bars.symbols.index("AAA")
    assert not codes[:, column].any()
    found = {effect["path"]: effect for effect in parameter_effects(mei_settings, on, codes, silent)}
    plain = signal_codes(mei_settings, inputs(mei_settings, alpha()))
    assert found["entry.warmup_bars"]["signals"] >= (plain[:, column] != 0).sum() > 0
