"""Instruments by time: a change of lots or leverage within the bars holds from its step on, in every way to run."""

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, HOUR_MS, START_MS, VENUE, fill_lake
from replay_kit import cross

from kernels.market import fill_model
from mei_pipeline.bench.live import Follower, message_of
from mei_pipeline.candles.lake import merge_instruments, read_instruments
from mei_pipeline.notes import data_notes
from mei_pipeline.replay.run import columns_for, make_replay_inputs, replay
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.endings import Ending
from mei_pipeline.simulation.feature_sets import build_features
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.run import load_simulation, run_combos
from mei_pipeline.simulation.terms import assumed_symbols, history_of, terms_of

END_MS = START_MS + 60 * DAY_MS
CHANGE_MS = START_MS + 30 * DAY_MS
SIZED = {"trade.size_mode": "equity", "trade.size_frac": 0.2, "trade.leverage": 10.0}


def changed(settings: Settings, **terms: float) -> Bars:
    """Bars of three symbols; the terms of BBB change in the middle."""
    lake = fill_lake(settings, drift=0.002)
    if terms:
        row = read_instruments(lake, VENUE, ["BBB"])
        values = [pl.lit(value, row.schema[name]).alias(name) for name, value in terms.items()]
        stated = row.with_columns(from_ms=pl.lit(1, pl.Int64), source=pl.lit("venue"))
        later = stated.with_columns(from_ms=pl.lit(CHANGE_MS, pl.Int64)).with_columns(values)
        merge_instruments(lake, pl.concat([stated, later]), now_ms=END_MS)
    return load_bars(lake, VENUE, "1h", ("AAA", "BBB", "CCC"), START_MS, END_MS)


@pytest.mark.parametrize("terms", [{"size_decimals": 0}, {"max_leverage": 2.0}], ids=["lots", "leverage"])
def test_a_change_holds_from_its_step_on_in_replay_sweep_and_bar_by_bar(
    mei_settings: Settings, terms: dict[str, float]
) -> None:
    bars = changed(mei_settings, **terms)
    resolved = cross(**SIZED)
    inputs = make_replay_inputs(mei_settings, bars, resolved, START_MS, END_MS)
    done = replay(mei_settings, inputs)
    entries = done.fills.filter((pl.col("symbol") == "BBB") & (pl.col("reason") == "entry"))
    # A signal at the close at which the change is in force is filled at the open of the step after.
    before, after = (
        entries.filter(side)["size"].abs() for side in (pl.col("time_ms") < CHANGE_MS, pl.col("time_ms") >= CHANGE_MS)
    )
    assert len(before) > 3
    assert len(after) > 3
    if "size_decimals" in terms:
        assert (before % 1 > 0).any()
        assert (after % 1 == 0).all()
    features = build_features(bars, columns_for(resolved), mei_settings.features)
    combos = encode_combos(resolved.strategy, features, resolved.params, 1, bars.symbols, benchmark="")
    model = fill_model(resolved.market, resolved.initial_balance_usd)
    swept = run_combos(mei_settings, inputs.cut, model, features, combos).results
    assert {name: float(value[0]) for name, value in swept.items()} == {
        name: float(value[0]) for name, value in done.outcome.results.items()
    }
    follower = Follower(load_simulation(mei_settings, "ema_cross"), model, features, combos, inputs.cut.market)
    for t in range(inputs.cut.last):
        follower.prepare(message_of(inputs.cut.market, t), t)
        follower.observe(bars.volume[t])
        follower.decide()
        assert follower.book.accounts["equity"][0] == done.equity["equity_usd"][t]


def test_without_a_change_there_is_one_version(mei_settings: Settings) -> None:
    bars = changed(mei_settings)
    assert bars.terms.lots.shape == (1, 3)
    assert bars.terms.since.tolist() == [0]
    same = changed(mei_settings, price_significant=4)
    assert same.terms.since.tolist() == [0]
    assert same.data_hash == bars.data_hash


def test_a_change_is_told_and_its_source_is(mei_settings: Settings) -> None:
    notes = data_notes(changed(mei_settings, size_decimals=0), START_MS, END_MS)
    assert "The venue's terms of BBB change within the bars; each step uses those in force." in notes
    assert any("AAA, CCC are assumed" in note for note in notes)


def rows(*changes: tuple[str, int, int, int | None]) -> pl.DataFrame:
    names = ("symbol", "from_ms", "size_decimals", "delisted_ms")
    kinds = {"symbol": pl.String, "from_ms": pl.Int64, "size_decimals": pl.Int64, "delisted_ms": pl.Int64}
    frame = pl.DataFrame([dict(zip(names, row, strict=True)) for row in changes], schema=kinds)
    return frame.with_columns(
        min_notional_usd=10.0, max_leverage=10.0, maintenance_margin_frac=0.05, source=pl.lit("venue")
    )


def test_versions_begin_at_the_first_close_at_which_a_row_is_in_force() -> None:
    hours = 10 * HOUR_MS
    history = history_of(
        rows(
            ("AAA", 0, 1, None),
            ("AAA", START_MS - 1, 2, None),
            ("AAA", START_MS + hours, 3, None),
            ("AAA", START_MS + hours + 1, 4, None),
            ("AAA", END_MS + 1, 5, None),
            ("BBB", START_MS + 5 * HOUR_MS, 6, END_MS + 1),
        ),
        START_MS,
        END_MS,
    )
    assert history["size_decimals"].to_list() == [2, 3, 4, 6]
    assert history["delisted_ms"].to_list() == [None] * 4
    terms = terms_of(history, ("AAA", "BBB"), START_MS, HOUR_MS, ())
    assert terms.since.tolist() == [0, 9, 10]
    assert np.log10(terms.lots).tolist() == [[2, 6], [3, 6], [4, 6]]


def test_a_symbol_that_was_listed_again_has_each_of_its_ends() -> None:
    history = rows(("AAA", 0, 1, None), ("BBB", 0, 1, None))
    ends = (Ending(1, 5, "delisted"), Ending(0, 7, "delisted"), Ending(1, 9, "delisted"))
    terms = terms_of(history, ("AAA", "BBB"), START_MS, HOUR_MS, ends)
    assert terms.since.tolist() == [0, 6, 10]
    assert terms.last.tolist() == [[-1, 5], [7, 9], [-1, -1]]


def test_terms_that_a_source_states_late_hold_from_the_anchor_and_leave_nothing_assumed(mei_settings: Settings) -> None:
    lake = fill_lake(mei_settings)
    stated = read_instruments(lake, VENUE).with_columns(
        from_ms=pl.lit(CHANGE_MS, pl.Int64), source=pl.lit("venue"), max_leverage=pl.lit(3.0)
    )
    merge_instruments(lake, stated, now_ms=END_MS)
    bars = load_bars(lake, VENUE, "1h", ("AAA", "BBB"), START_MS, END_MS)
    assert bars.terms.max_leverage.tolist() == [[3.0, 3.0]]
    assert assumed_symbols(bars.instruments) == []


@pytest.mark.parametrize(
    ("later", "ends"),
    [
        ((20, 50), [50]),  # postponed before it came
        ((20, None), []),  # called off
        ((30, None), [30]),  # listed again at once
        ((40, None), [30]),  # listed again later
    ],
)
def test_a_delisting_that_a_later_row_takes_back_does_not_happen(later, ends) -> None:
    day = lambda number: None if number is None else number * DAY_MS  # noqa: E731 - two words of arithmetic
    history = history_of(rows(("A", 0, 2, day(30)), ("A", day(later[0]), 2, day(later[1]))), 0, 60 * DAY_MS)
    assert history["delisted_ms"].drop_nulls().to_list() == [day(number) for number in ends]
