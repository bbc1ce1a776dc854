"""What a night decides before it does anything."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_kit import DAY_MS, HOUR_MS, START_MS, SYMBOLS, VENUE, fill_lake, quarters, walk, write_config

from mei_pipeline.candles.confirm import Decision, confirm, withdraw
from mei_pipeline.candles.instruments import default_instruments
from mei_pipeline.candles.lake import Lake, merge_candles, merge_funding, merge_instruments, read_funding, undo
from mei_pipeline.config.models import Spikes
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.night.data import load_holdout_bars, load_night_bars, search_window
from mei_pipeline.night.plan import latest_as_of_ms, parse_as_of, plan_night, resolve_as_of
from mei_pipeline.night.store import (
    current_night,
    find_night,
    night_folder,
    planned_nights,
    read_night_plan,
    stored_nights,
    write_night_plan,
)
from mei_pipeline.night.universe import choose_holdout_symbols
from mei_pipeline.params.benchmark import candidates
from mei_pipeline.settings import Settings

AS_OF_MS = START_MS + 60 * DAY_MS


def test_the_search_ends_where_the_holdout_starts(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    plan = plan_night(mei_settings, write_config(tmp_path), "smoke", AS_OF_MS)
    assert (plan.sweep.from_ms, plan.sweep.to_ms) == (AS_OF_MS - 50 * DAY_MS, AS_OF_MS - 10 * DAY_MS)
    assert (plan.holdout_ms, plan.to_ms) == (plan.sweep.to_ms, AS_OF_MS)
    assert plan.candles == 60 * 24 * 3
    assert plan.sweep.symbols == SYMBOLS
    assert plan.sweep.combos == 12


def test_a_plan_reads_back_as_it_was_written(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    plan = plan_night(mei_settings, write_config(tmp_path), "smoke", AS_OF_MS)
    folder = write_night_plan(mei_settings, plan)
    assert folder == night_folder(mei_settings, plan)
    assert read_night_plan(mei_settings) == read_night_plan(mei_settings, plan.id) == plan
    assert read_night_plan(mei_settings).id == plan.id
    assert planned_nights(mei_settings) == [plan.id[:16]]


def test_a_plan_of_another_version_is_unreadable_and_says_what_to_do(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    config = write_config(tmp_path)
    folder = write_night_plan(mei_settings, plan_night(mei_settings, config, "smoke", AS_OF_MS))
    path, earlier = folder / "plan.json", folder.with_name("0" * 16)
    earlier.mkdir()
    content = json.loads(path.read_bytes())
    del content["format"]  # the version before had none, and other names
    content["others"] = content.pop("holdout_symbols")
    (earlier / "plan.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"its format is 1, this version reads 2; run `mei nightly` for a new one"):
        find_night(mei_settings, earlier.name)
    (earlier / "report.html").touch()
    with pytest.raises(DataError, match=r"its report is still .*/0000000000000000/report.html; run `mei nightly`"):
        find_night(mei_settings, earlier.name)
    with pytest.raises(ConfigError, match=r"no such nightly run; there are .*0000000000000000 \(unreadable\)"):
        find_night(mei_settings, "zz")
    states = {night.id: (night.plan is None, night.of_other_version) for night in stored_nights(mei_settings)}
    assert states == {folder.name: (False, False), earlier.name: (True, True)}
    path.write_text("{}")
    assert current_night(mei_settings).of_other_version
    path.write_text('{"format": 2}')
    damaged = current_night(mei_settings)
    assert (damaged.plan, damaged.of_other_version) == (None, False)
    assert "damaged plan of a nightly run" in damaged.problem


def test_same_facts_same_plan(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    config = write_config(tmp_path)
    one, other = (plan_night(mei_settings, config, "smoke", AS_OF_MS) for _ in range(2))
    assert one.id == other.id


def test_bars_after_the_as_of_time_change_nothing(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings, days=51)  # what is due at the as-of time comes a little later
    config = write_config(tmp_path, days=40)
    before = plan_night(mei_settings, config, "smoke", START_MS + 50 * DAY_MS)
    fill_lake(mei_settings, days=60)
    assert plan_night(mei_settings, config, "smoke", START_MS + 50 * DAY_MS) == before


def test_a_bad_symbol_is_left_out_by_name(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings, symbols=("AAA", "BBB"))
    now_ms = AS_OF_MS + DAY_MS
    merge_candles(lake, walk("OLD", 58, 1), now_ms=now_ms)
    thin = walk("THIN", 60, 1).filter((pl.col("open_ms") // HOUR_MS % 5 != 0) | (pl.col("open_ms") > AS_OF_MS - DAY_MS))
    merge_candles(lake, thin, now_ms=now_ms)
    merge_instruments(lake, default_instruments(VENUE, {"OLD": 100.0, "THIN": 100.0}), now_ms=now_ms)
    plan = plan_night(mei_settings, write_config(tmp_path), "smoke", AS_OF_MS)
    assert plan.sweep.symbols == ("AAA", "BBB")
    assert plan.dropped["OLD"].startswith("stale")
    assert plan.dropped["THIN"].startswith("short")
    assert {(f.rule, f.symbol) for f in plan.findings} >= {("stale", "OLD"), ("short", "THIN"), ("gap", "THIN")}


def test_a_symbol_that_the_lake_does_not_have_is_reported(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    plan = plan_night(mei_settings, write_config(tmp_path, universe="[AAA, ZZZ]"), "smoke", AS_OF_MS)
    assert plan.sweep.symbols == ("AAA",)
    assert plan.dropped == {"ZZZ": "not in the lake"}


@given(
    names=st.lists(st.sampled_from(("BTC", "BTCUSDT", *"ABCDEFGHIJ")), unique=True),
    count=st.integers(0, 6),
    more=st.sampled_from("KLMNOP"),
)
def test_symbols_are_held_out_by_their_names_alone(names: list[str], count: int, more: str) -> None:
    found = choose_holdout_symbols(names, count)
    assert found == choose_holdout_symbols(names[::-1], count) == tuple(sorted(found))
    assert set(found) <= set(names) - set(candidates(names))
    assert len(found) == (count if count <= len(names) - count else 0) or count == 1
    assert len(set(names) - set(found)) >= len(found)
    # Another symbol takes one place at most: who is held out stays so night after night.
    if found:
        assert len(set(found) - set(choose_holdout_symbols([*names, more], count))) <= 1


def test_a_search_does_not_see_the_symbols_that_are_held_out(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings)
    plan = plan_night(mei_settings, write_config(tmp_path, holdout_symbols=1), "smoke", AS_OF_MS)
    (other,) = plan.holdout_symbols
    assert plan.sweep.symbols == tuple(name for name in SYMBOLS if name != other)
    assert load_night_bars(mei_settings, plan).symbols == plan.sweep.symbols
    elsewhere = load_holdout_bars(mei_settings, plan)
    assert elsewhere is not None
    assert (elsewhere.symbols, elsewhere.data_hash) == ((other,), plan.holdout_symbols_hash)
    revised = walk(other, 60, 1).tail(1).with_columns(volume=pl.col("volume") + 1.0)
    merge_candles(lake, revised, now_ms=AS_OF_MS + DAY_MS)
    assert load_night_bars(mei_settings, plan).data_hash == plan.sweep.data_hash
    again = load_holdout_bars(mei_settings, plan)
    assert again is not None
    assert again.data_hash == plan.holdout_symbols_hash


def test_too_few_symbols_hold_nobody_out(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    plan = plan_night(mei_settings, write_config(tmp_path, holdout_symbols=2), "smoke", AS_OF_MS)
    assert (plan.sweep.symbols, plan.holdout_symbols, plan.holdout_symbols_hash) == (SYMBOLS, (), "")
    assert load_holdout_bars(mei_settings, plan) is None


def test_a_plan_says_which_gates_its_symbols_cannot_pass(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    wide, narrow = (
        plan_night(
            mei_settings,
            write_config(tmp_path / str(count), holdout_symbols=count, min_holdout_symbols_sharpe=0),
            "smoke",
            AS_OF_MS,
        ).notes
        for count in (1, 2)
    )
    assert not any("no config can be promoted" in note for note in wide)
    assert "holdout_symbols: 2 holds out none of 3, it needs at least 4" in narrow[0]


def test_latest_as_of_leaves_nobody_out(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings, symbols=("AAA",))
    merge_candles(lake, walk("BBB", 55, 1), now_ms=AS_OF_MS)
    merge_instruments(lake, default_instruments(VENUE, {"BBB": 100.0}), now_ms=AS_OF_MS)
    config = write_config(tmp_path, days=40)
    as_of_ms = latest_as_of_ms(mei_settings, config, "smoke")
    assert as_of_ms == START_MS + 55 * DAY_MS
    assert plan_night(mei_settings, config, "smoke", as_of_ms).dropped == {}


@pytest.mark.parametrize(
    ("days", "as_of_days", "error", "says"),
    [
        (50, 60.5, DataError, "Run `mei ingest`"),
        (200, 60, ConfigError, "window.days: 200 days"),
        (50, 40, ConfigError, "before the anchor"),
    ],
)
def test_a_night_that_cannot_be_says_why(
    mei_settings: Settings, tmp_path: Path, days: int, as_of_days: float, error: type[Exception], says: str
) -> None:
    fill_lake(mei_settings)
    with pytest.raises(error, match=says):
        plan_night(mei_settings, write_config(tmp_path, days=days), "smoke", START_MS + int(as_of_days * DAY_MS))


def test_an_empty_lake_says_ingest(mei_settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `mei ingest`"):
        plan_night(mei_settings, write_config(tmp_path), "smoke", AS_OF_MS)


def test_no_night_unknown_night_damaged_night(mei_settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no nightly run was planned yet"):
        read_night_plan(mei_settings)
    fill_lake(mei_settings)
    plan = plan_night(mei_settings, write_config(tmp_path), "smoke", AS_OF_MS)
    path = write_night_plan(mei_settings, plan) / "plan.json"
    with pytest.raises(DataError, match=f"no such nightly run; known: {plan.id[:16]}"):
        read_night_plan(mei_settings, "0" * 64)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"damaged plan of a nightly run.*; run `mei nightly` for a new one"):
        read_night_plan(mei_settings)


def test_a_night_keeps_its_slice_whatever_is_ingested_after_the_plan(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings)
    plan = plan_night(mei_settings, write_config(tmp_path), "smoke", AS_OF_MS)
    write_night_plan(mei_settings, plan)
    before = load_night_bars(mei_settings, plan)
    now_ms = AS_OF_MS + DAY_MS
    for _ in range(2):  # a bar that is restated twice, others that are new, funding, another lot
        merge_candles(lake, walk("AAA", 61, 1).tail(50).with_columns(volume=pl.col("volume") + 1.0), now_ms=now_ms)
        merge_candles(lake, walk("BBB", 61, 1).tail(50).with_columns(close=pl.col("high")), now_ms=now_ms)
        merge_candles(lake, walk("AAA", 60, 1).tail(5).with_columns(close=pl.col("low")), now_ms=now_ms)
    paid = read_funding(lake, VENUE, ["AAA"])
    merge_funding(lake, paid.with_columns(time_ms=pl.col("time_ms") + 1, rate=pl.lit(0.01)), now_ms=now_ms)
    merge_instruments(lake, default_instruments(VENUE, {"AAA": 1e6}), now_ms=now_ms)
    planned = read_night_plan(mei_settings)
    after = load_night_bars(mei_settings, planned)
    assert after.data_hash == before.data_hash == plan.sweep.data_hash
    assert np.array_equal(after.prices, before.prices, equal_nan=True)
    assert np.array_equal(after.steps.funding, before.steps.funding)
    fresh = plan_night(mei_settings, write_config(tmp_path / "again"), "smoke", AS_OF_MS)
    assert fresh.sweep.data_hash != plan.sweep.data_hash


def test_a_slice_that_is_gone_says_which_command_plans_again(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings)
    revised = walk("AAA", 60, 1).tail(1).with_columns(volume=pl.col("volume") + 1.0)
    merged = merge_candles(lake, revised, now_ms=AS_OF_MS + DAY_MS)
    plan = plan_night(mei_settings, write_config(tmp_path), "smoke", AS_OF_MS)
    undo(lake, str(merged.ingest_id), now_ms=AS_OF_MS + DAY_MS)
    with pytest.raises(DataError, match="run `mei nightly --profile smoke` for a new one"):
        load_night_bars(mei_settings, plan)


@pytest.mark.parametrize("day", [5, 30])  # before the window, where features begin; in the window
def test_a_symbol_with_a_bar_that_no_market_makes_sits_out(mei_settings: Settings, tmp_path: Path, day: int) -> None:
    lake = fill_lake(mei_settings)
    config = write_config(tmp_path)
    now_ms = AS_OF_MS + DAY_MS
    sound = walk("BBB", 60, 1).filter(pl.col("open_ms") == START_MS + day * DAY_MS)
    spike = sound.with_columns(pl.col("open", "high", "low", "close") * 1000.0)
    merge_candles(lake, spike, now_ms=now_ms)
    plan = plan_night(mei_settings, config, "smoke", AS_OF_MS)
    assert plan.sweep.symbols == ("AAA", "CCC")
    assert plan.dropped.keys() == {"BBB"}
    assert plan.dropped["BBB"].startswith("spike: 1 implausible 1h bar")
    assert [(item.rule, item.count) for item in plan.findings if item.rule == "spike"] == [("spike", 1)]
    confirm(lake, VENUE, "1h", spike.row(0, named=True), Decision("ann", "it was so", now_ms))
    assert plan_night(mei_settings, config, "smoke", AS_OF_MS).dropped == {}
    withdraw(lake, VENUE, "1h", "BBB", sound["open_ms"][0], Decision("ann", "it was not", now_ms))
    assert plan_night(mei_settings, config, "smoke", AS_OF_MS).dropped.keys() == {"BBB"}
    merge_candles(lake, sound, now_ms=now_ms)
    assert plan_night(mei_settings, config, "smoke", AS_OF_MS).dropped == {}


def test_bars_before_the_anchor_tell_a_spike_from_a_change_of_level(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings)
    config = write_config(tmp_path)
    prices = pl.col("open", "high", "low", "close")
    first = pl.col("open_ms") == START_MS
    early = {name: walk(name, 1, 1, START_MS - DAY_MS).with_columns(prices * 0 + 100.0) for name in SYMBOLS}
    bar = {name: walk(name, 1, 1).filter(first) for name in SYMBOLS}
    # AAA: a spike that needs the neighbour before the anchor. BBB: the new level begins one bar after the anchor.
    spike = bar["AAA"].with_columns(prices * 5.0)
    levels = [early["BBB"].with_columns(prices * 0.01), bar["BBB"].with_columns(prices * 0.01)]
    merge_candles(lake, pl.concat([early["AAA"], spike, *levels]), now_ms=AS_OF_MS + DAY_MS)
    assert plan_night(mei_settings, config, "smoke", AS_OF_MS).dropped.keys() == {"AAA"}


def test_bounds_are_those_of_the_policy(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings)
    bar = walk("BBB", 60, 1).filter(pl.col("open_ms") == START_MS + 30 * DAY_MS)
    merge_candles(lake, bar.with_columns(high=pl.col("high") * 5.0), now_ms=AS_OF_MS + DAY_MS)
    config = write_config(tmp_path)
    assert plan_night(mei_settings, config, "smoke", AS_OF_MS).dropped == {}
    strict = config.policy.model_copy(update={"spikes": Spikes(max_reach=4.0)})
    assert plan_night(mei_settings, replace(config, policy=strict), "smoke", AS_OF_MS).dropped.keys() == {"BBB"}


FETCHED = ("15m", "1h")
EXITS = "exit_interval: 15m"


def fill_quarters(lake: Lake, symbols: tuple[str, ...] = SYMBOLS, days: int = 60) -> None:
    frames = [quarters(walk(name, days, 1)) for name in symbols]
    merge_candles(lake, pl.concat(frames), now_ms=AS_OF_MS + DAY_MS)


def test_a_night_reads_the_bars_that_exits_are_decided_on(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings)
    fill_quarters(lake)
    hourly = plan_night(mei_settings, write_config(tmp_path / "1h"), "smoke", AS_OF_MS)
    config = write_config(tmp_path / "15m", fetched=FETCHED, sweep=EXITS)
    plan = plan_night(mei_settings, config, "smoke", AS_OF_MS)
    assert plan.candles == 5 * hourly.candles
    assert (plan.sweep.entry_interval, plan.sweep.exit_interval) == ("", "15m")
    assert plan.sweep.data_hash != hourly.sweep.data_hash
    write_night_plan(mei_settings, plan)
    assert read_night_plan(mei_settings) == plan
    bars = load_night_bars(mei_settings, plan)
    assert bars.steps.interval == "15m"
    cut = search_window(plan, bars)
    assert cut.last - cut.first == 40 * 96
    assert plan.sweep.to_ms == plan.holdout_ms  # the search ends where the holdout begins
    revised = quarters(walk("AAA", 60, 1)).tail(1).with_columns(volume=pl.lit(7.0))
    merge_candles(lake, revised, now_ms=AS_OF_MS + DAY_MS)
    assert load_night_bars(mei_settings, plan).data_hash == bars.data_hash


def test_shorter_bars_exclude_a_symbol_too(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings)
    fill_quarters(lake, symbols=("AAA",))
    fill_quarters(lake, symbols=("BBB",), days=50)
    config = write_config(tmp_path, fetched=FETCHED, sweep=EXITS)
    plan = plan_night(mei_settings, config, "smoke", AS_OF_MS)
    assert plan.sweep.symbols == ("AAA",)
    assert plan.dropped["BBB"] == "ended: its last bar closed 2025-02-20 00:00Z (15m bars)"
    assert plan.dropped["CCC"] == "no 15m bars in the lake"
    assert {(found.rule, found.symbol) for found in plan.findings} == {("stale", "BBB"), ("short", "BBB")}
    assert latest_as_of_ms(mei_settings, config, "smoke") == AS_OF_MS  # who has ended holds nobody up


def test_a_night_without_the_shorter_bars_says_what_to_run(mei_settings: Settings, tmp_path: Path) -> None:
    lake = fill_lake(mei_settings)
    config = write_config(tmp_path, fetched=FETCHED, sweep=EXITS)
    with pytest.raises(DataError, match="no 15m bars of test; run `mei ingest`, with 15m among `intervals`"):
        plan_night(mei_settings, config, "smoke", AS_OF_MS)
    fill_quarters(lake, days=5)
    with pytest.raises(DataError, match=r"there is no 15m bar\. Run `mei ingest`"):
        plan_night(mei_settings, config, "smoke", AS_OF_MS)


def test_a_night_reads_only_what_is_fetched(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    config = write_config(tmp_path)
    spec = config.sweep("smoke").model_copy(update={"exit_interval": "15m"})
    with pytest.raises(ConfigError, match="intervals: '15m', which the sweep reads, is not among them: 1h; add it"):
        plan_night(mei_settings, replace(config, sweeps={"smoke": spec}), "smoke", AS_OF_MS)


def test_as_of_times_in_words(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    config, now_ms, february_ms = write_config(tmp_path), AS_OF_MS + HOUR_MS, START_MS + 31 * DAY_MS
    asked = {
        ("now", ""): now_ms,
        ("now", "now"): now_ms,
        ("now", " last "): AS_OF_MS,
        ("last", ""): AS_OF_MS,
        ("last", "now"): now_ms,
        ("last", "2025-02-01"): february_ms,
        ("now", "2025-02-01T01:00+01:00"): february_ms,
        ("now", "2025-02-01T00:00:00.250Z"): february_ms + 250,
    }
    for (usual, text), expected_ms in asked.items():
        profile = config.profile("smoke").model_copy(update={"as_of": usual})
        pipeline = config.pipeline.model_copy(update={"profiles": {"smoke": profile}})
        found = replace(config, pipeline=pipeline)
        assert resolve_as_of(mei_settings, found, "smoke", text, now_ms) == expected_ms


@pytest.mark.parametrize("text", ["yesterday", "2025-13-01", "0", "LAST", "1735689600000"])
def test_an_as_of_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write an ISO time"):
        parse_as_of(text)
