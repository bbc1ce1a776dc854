"""Symbols that end: where their bars stop for good, what becomes of their positions, and what is said of them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from market_kit import DAY_MS, HOUR_MS, START_MS, VENUE, fill_lake, walk, write_config
from replay_kit import cross

from kernels.market import fill_model
from mei_pipeline.candles.lake import Lake, merge_candles, merge_instruments, read_instruments
from mei_pipeline.cli.main import run
from mei_pipeline.replay.run import columns_for, make_replay_inputs, replay
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.endings import Ending, endings_of
from mei_pipeline.simulation.feature_sets import build_features
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.members import Member, members_of
from mei_pipeline.simulation.run import run_combos
from mei_pipeline.simulation.window import cut_window

END_MS = START_MS + 60 * DAY_MS
WEEK = 7 * 24


def endings(bars: list[int], delisted_hours: tuple[tuple[int, int], ...] = (), hours: int = 1000) -> list[Ending]:
    """Endings of symbols with `bars` hours from the first on, and then none."""
    present = np.arange(hours)[:, None] < np.array(bars)[None]
    times = START_MS + HOUR_MS * np.arange(hours, dtype=np.int64)
    return list(endings_of(present, times, HOUR_MS, [(s, START_MS + hour * HOUR_MS) for s, hour in delisted_hours]))


@pytest.mark.parametrize(
    ("bars", "delisted", "found"),
    [
        ([1000, 1000 - WEEK], (), [Ending(1, 999 - WEEK, "no bars")]),
        ([1000, 1001 - WEEK], (), []),  # a feed that lags by less than a week
        ([500, 300], (), [Ending(1, 299, "no bars")]),  # the grid's empty end counts for nothing
        ([500, 500], (), []),
        ([1000, 990], ((1, 990),), [Ending(1, 989, "delisted")]),
        ([1000, 990], ((1, 995),), [Ending(1, 989, "delisted")]),
        ([1000, 990], ((1, 1001),), []),  # not yet
        ([1000, 0], ((1, 10),), []),
        ([300, 1000, 500], ((2, 500),), [Ending(0, 299, "no bars"), Ending(2, 499, "delisted")]),
        ([0, 0], (), []),
    ],
)
def test_a_symbol_ends_where_it_is_delisted_or_has_no_bar_for_a_week(
    bars: list[int], delisted: tuple[tuple[int, int], ...], found: list[Ending]
) -> None:
    assert endings(bars, delisted) == found


def dying(settings: Settings, days: int = 40) -> Lake:
    """A lake of which BBB ends after `days` of the sixty, and CCC lags by five hours."""
    lake = fill_lake(settings, symbols=("AAA",), drift=0.002)
    merge_candles(lake, walk("BBB", days, 1, drift=0.002), now_ms=END_MS)
    merge_candles(lake, walk("CCC", 60, 1).head(60 * 24 - 5), now_ms=END_MS)
    template = read_instruments(lake, VENUE)
    others = pl.concat([template.with_columns(symbol=pl.lit(name)) for name in ("BBB", "CCC")])
    merge_instruments(lake, others, now_ms=END_MS)
    return lake


def bars_of(lake: Lake, *names: str) -> Bars:
    return load_bars(lake, VENUE, "1h", names or ("AAA", "BBB", "CCC"), START_MS, END_MS)


def test_the_position_of_a_symbol_that_ends_is_closed_and_the_book_goes_on(mei_settings: Settings) -> None:
    bars = bars_of(dying(mei_settings))
    resolved = cross(**{"trade.sl_atr_mult": 50.0, "trade.tp_atr_mult": 50.0})
    inputs = make_replay_inputs(mei_settings, bars, resolved, START_MS + 10 * DAY_MS, END_MS)
    done = replay(mei_settings, inputs)
    last = done.trades.filter(pl.col("symbol") == "BBB").row(-1, named=True)
    assert (last["reason"], last["exit_ms"]) == ("delisted", START_MS + 40 * DAY_MS)
    side = 1.0 if last["side"] == "long" else -1.0
    close = walk("BBB", 40, 1, drift=0.002)["close"][-1]
    assert last["exit_price"] == pytest.approx(close * (1.0 - side * 0.0002))
    assert done.trades.filter(pl.col("symbol") == "AAA")["exit_ms"].max() > START_MS + 55 * DAY_MS
    assert "BBB" not in done.holding["symbol"]
    features = build_features(bars, columns_for(resolved), mei_settings.features)
    combos = encode_combos(resolved.strategy, features, resolved.params, 1, bars.symbols, benchmark="")
    model = fill_model(resolved.market, resolved.initial_balance_usd)
    swept = run_combos(mei_settings, inputs.cut, model, features, combos)
    assert {name: float(value[0]) for name, value in swept.results.items()} == {
        name: float(value[0]) for name, value in done.outcome.results.items()
    }


def test_membership_tells_who_was_there_from_when_to_when(mei_settings: Settings) -> None:
    found = members_of(bars_of(dying(mei_settings)), START_MS + 10 * DAY_MS, END_MS)
    first_ms = START_MS + 10 * DAY_MS
    assert found == (
        Member("AAA", first_ms, END_MS, 50 * 24, 0, ""),
        Member("BBB", first_ms, START_MS + 40 * DAY_MS, 30 * 24, 0, "no bars"),
        Member("CCC", first_ms, END_MS - 5 * HOUR_MS, 50 * 24 - 5, 5, ""),
    )
    assert found[2].missing_frac == 5 / 1200
    later = members_of(bars_of(dying(mei_settings)), START_MS + 42 * DAY_MS, END_MS)
    assert later[1] == Member("BBB", None, None, 0, 0, "")


def test_a_delisting_is_part_of_what_the_hash_covers_once_it_has_come(mei_settings: Settings) -> None:
    lake = dying(mei_settings)
    before = bars_of(lake).data_hash
    row = read_instruments(lake, VENUE, ["CCC"])
    merge_instruments(lake, row.with_columns(delisted_ms=END_MS + HOUR_MS), now_ms=END_MS)
    assert bars_of(lake).data_hash == before
    merge_instruments(lake, row.with_columns(delisted_ms=END_MS - HOUR_MS), now_ms=END_MS)
    assert bars_of(lake).data_hash != before
    ends = bars_of(lake).endings
    assert ends[-1] == Ending(2, 60 * 24 - 6, "delisted")
    cut = cut_window(bars_of(lake), START_MS, END_MS)
    assert cut.market.last.tolist() == [[-1, 40 * 24 - 1, 60 * 24 - 6]]
    assert np.flatnonzero(cut.market.ends).tolist() == [40 * 24 - 1, 60 * 24 - 6]


@pytest.fixture
def configured(mei_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    dying(mei_settings)
    write_config(tmp_path / "config")
    monkeypatch.setenv("MEI_CONFIG", str(tmp_path / "config"))
    path = tmp_path / "mine.yaml"
    path.write_text("strategy: ema_cross\ninterval: 1h\nparams: {entry.warmup_bars: 50}\n")
    return path


def test_a_backtest_runs_to_the_last_bar_of_any_symbol(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backtest", "--config", str(configured), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["to"] == "2025-03-02 00:00Z"
    assert [(each["symbol"], each["to"], each["ended"]) for each in told["members"]] == [
        ("AAA", "2025-03-02 00:00Z", None),
        ("BBB", "2025-02-10 00:00Z", "no bars"),
        ("CCC", "2025-03-01 19:00Z", None),
    ]
    page = configured.parent / "page.html"
    assert run(["backtest", "--config", str(configured), "--html", str(page)]) == 0
    assert "BBB" in capsys.readouterr().out
    assert "2025-02-10 00:00Z" in page.read_text()


@pytest.mark.usefixtures("configured")
def test_a_sweep_leaves_out_by_name_who_has_no_bar_in_the_window(
    mei_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = Lake(mei_settings.lake)
    merge_candles(lake, walk("OLD", 2, 1, start_ms=START_MS - 5 * DAY_MS), now_ms=END_MS)
    assert run(["sweep", "smoke", "--json"]) == 0
    out = capsys.readouterr()
    assert "without a bar from the anchor to the end of the window: OLD" in out.err
    assert [each["ended"] for each in json.loads(out.out)["members"]] == [None, "no bars", None]
