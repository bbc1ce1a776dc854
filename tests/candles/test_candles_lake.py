import threading
from dataclasses import replace

import polars as pl
import pytest
from candle_kit import HOUR, MAY, NOW, bars, contents, data_hash, prints, with_row
from example_kit import examples
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline import files
from mei_pipeline.candles.instruments import default_instruments, in_force
from mei_pipeline.candles.lake import (
    Lake,
    edition,
    ingests,
    intervals,
    merge_candles,
    merge_funding,
    merge_instruments,
    read_candles,
    read_funding,
    read_instruments,
    revisions,
    symbols,
    undo,
    venues,
    verify,
)
from mei_pipeline.errors import Busy, ConfigError, DataError, Refused

FRAME = bars(("BTC", "ETH", "SOL"), 24 * 45)


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def merge(lake, frame, **more):
    return merge_candles(lake, frame, now_ms=NOW, source="test", **more)


def test_what_is_merged_is_read_back_sorted(lake):
    report = merge(lake, FRAME.sample(fraction=1.0, shuffle=True, seed=1))
    assert read_candles(lake, "binance", "1h").equals(FRAME)
    assert report.total.added == FRAME.height
    assert set(report.files) == {"candles/binance/1h/2025-05.parquet", "candles/binance/1h/2025-06.parquet"}
    assert symbols(lake, "binance", "1h") == ["BTC", "ETH", "SOL"]
    assert (venues(lake), intervals(lake, "binance")) == (["binance"], ["1h"])


@pytest.mark.parametrize(
    ("names", "from_ms", "to_ms"),
    [
        (["ETH"], None, None),
        (["SOL", "BTC"], MAY + 5 * HOUR, MAY + 6 * HOUR),
        (None, MAY + 24 * 30 * HOUR, MAY + 24 * 32 * HOUR),
        (["NOPE"], None, None),
        ([], None, None),
        (None, MAY + 24 * 45 * HOUR, None),
        (None, None, MAY),
    ],
)
def test_a_slice_is_what_filtering_all_bars_gives(lake, names, from_ms, to_ms):
    merge(lake, FRAME)
    expected = FRAME.filter(
        (pl.lit(value=True) if names is None else pl.col("symbol").is_in(names))
        & (pl.col("open_ms") >= (from_ms or 0))
        & (pl.col("open_ms") < (to_ms or NOW))
    )
    if to_ms == MAY:
        expected = expected.clear()
    assert read_candles(lake, "binance", "1h", names, from_ms, to_ms).equals(expected)


def test_a_lake_without_bars_is_empty_not_an_error(lake):
    assert read_candles(lake, "binance", "1h").is_empty()
    assert (symbols(lake, "binance", "1h"), venues(lake), verify(lake)) == ([], [], [])


def test_a_lake_without_bars_has_no_revisions_and_no_ingests(lake):
    assert revisions(lake).is_empty()
    assert ingests(lake) == []
    assert merge(lake, FRAME.clear()).ingest_id is None
    assert not lake.root.exists()


def test_revisions_can_be_chosen_by_venue_interval_symbol_and_ingest(lake):
    other = bars(("BTC",), 5, venue="okx")
    for frame in (FRAME[:9], other):
        merge(lake, frame)
    ids = [merge(lake, with_row(frame, 1, volume=50.0)).ingest_id for frame in (FRAME[:9], other)]
    assert revisions(lake)["ingest"].to_list() == ids
    assert revisions(lake, venue="okx")["ingest"].to_list() == ids[1:]
    assert revisions(lake, ingest_id=ids[0])["venue"].to_list() == ["binance"]
    assert revisions(lake, interval="5m").is_empty()
    assert revisions(lake, symbols=["ETH"]).is_empty()


def test_the_same_ingest_twice_changes_no_byte(lake):
    merge(lake, FRAME)
    before = contents(lake.root)
    report = merge(lake, FRAME)
    assert contents(lake.root) == before
    assert (report.ingest_id, report.total.unchanged, report.files) == (None, FRAME.height, {})
    assert revisions(lake).is_empty()


def test_another_value_for_a_bar_wins_and_the_old_one_is_kept(lake):
    merge(lake, FRAME)
    report = merge(lake, with_row(FRAME[5:7], 0, volume=77.0))
    assert (report.total.revised, report.total.unchanged, report.total.added) == (1, 1, 0)
    assert read_candles(lake, "binance", "1h")["volume"][5] == 77.0
    row = revisions(lake).row(0, named=True)
    assert (row["symbol"], row["open_ms"], row["interval"]) == ("BTC", MAY + 5 * HOUR, "1h")
    assert (row["old_volume"], row["new_volume"], row["ingest"]) == (FRAME["volume"][5], 77.0, report.ingest_id)


def test_unknown_trades_contradict_no_number_of_trades(lake):
    known = FRAME.with_columns(pl.lit(5, dtype=pl.Int64).alias("trades"))
    merge(lake, known)
    assert merge(lake, FRAME).ingest_id is None
    assert read_candles(lake, "binance", "1h").equals(known)


def test_another_source_of_the_same_values_is_no_revision(lake):
    merge(lake, FRAME)
    assert merge(lake, FRAME.with_columns(pl.lit("elsewhere").alias("source"))).ingest_id is None


def test_venues_and_intervals_do_not_meet(lake):
    merge(lake, FRAME)
    merge(lake, bars(("BTC",), 10, venue="hyperliquid"))
    merge(lake, bars(("BTC",), 10, interval="5m"))
    assert read_candles(lake, "binance", "1h").equals(FRAME)
    assert read_candles(lake, "hyperliquid", "1h").height == 10
    assert intervals(lake, "binance") == ["5m", "1h"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.drop("low"), "column 'low' of candles is missing"),
        (FRAME.with_columns(pl.col("close").cast(pl.String)), "column 'close' of candles is String, expected Float64"),
        (pl.concat([FRAME, bars(venue="okx")]), "one venue at a time"),
        (pl.concat([FRAME, bars(interval="5m")]), "one interval at a time"),
    ],
)
def test_a_frame_that_is_no_candles_is_refused_whole(lake, frame, message):
    with pytest.raises(DataError, match=message):
        merge(lake, frame)
    assert not (lake.root / "lake.json").exists()


def test_a_venue_that_is_no_word_is_refused(lake):
    with pytest.raises(ConfigError, match=r"venue '\.\./up' is not allowed"):
        merge(lake, bars(venue="../up"))
    assert not (lake.root / "lake.json").exists()


def test_bad_rows_are_left_out_and_the_rest_is_stored(lake):
    report = merge(lake, with_row(FRAME, 3, close=float("nan")))
    assert report.symbols["BTC"].refused == 1
    assert report.findings.counts() == {"non_finite": {"BTC": 1}}
    assert read_candles(lake, "binance", "1h").height == FRAME.height - 1


def test_undo_takes_back_added_and_revised_bars(lake):
    merge(lake, FRAME[:100])
    before, hashed = read_candles(lake, "binance", "1h"), data_hash(lake, "binance", "1h")
    second = merge(lake, with_row(FRAME, 5, volume=77.0))
    report = undo(lake, second.ingest_id, now_ms=NOW)
    assert read_candles(lake, "binance", "1h").equals(before)
    assert data_hash(lake, "binance", "1h") == hashed
    assert sum(row["restored"] for row in report.values()) == 1
    assert sum(row["removed"] for row in report.values()) == FRAME.height - 100
    assert verify(lake) == []
    assert revisions(lake)["undone"].to_list() == [True]
    taken = pl.read_parquet(lake.root / "undone" / f"{second.ingest_id}-candles.parquet")
    assert merge(lake, taken).total.added == FRAME.height - 100


def test_undo_of_the_first_ingest_leaves_an_empty_lake(lake):
    undo(lake, merge(lake, FRAME).ingest_id)
    assert read_candles(lake, "binance", "1h").is_empty()
    assert list((lake.root / "candles").rglob("*.parquet")) == []
    assert merge(lake, FRAME).total.added == FRAME.height


def test_undo_goes_back_through_several_merges_of_one_ingest(lake):
    merge(lake, FRAME[:10])
    second = merge(lake, with_row(FRAME[:12], 3, volume=50.0))
    merge(lake, with_row(FRAME[:12], 3, volume=60.0), ingest_id=second.ingest_id)
    assert ingests(lake)[1].transactions == [2, 3]
    undo(lake, second.ingest_id)
    assert read_candles(lake, "binance", "1h").equals(FRAME[:10])


def test_an_ingest_that_was_built_upon_is_undone_last(lake):
    first = merge(lake, FRAME)
    second = merge(lake, with_row(FRAME, 5, volume=77.0))
    with pytest.raises(Refused, match=f"ingest {second.ingest_id} revised .* undo {second.ingest_id} first"):
        undo(lake, first.ingest_id)
    undo(lake, second.ingest_id)
    with pytest.raises(Refused, match="was undone at"):
        undo(lake, second.ingest_id)
    undo(lake, first.ingest_id)
    assert read_candles(lake, "binance", "1h").is_empty()


@pytest.mark.parametrize("name", ["000009-00000000", "../lake", ""])
def test_undo_of_an_unknown_ingest_is_refused(lake, name):
    merge(lake, FRAME)
    with pytest.raises(ConfigError, match="is not in"):
        undo(lake, name)


def test_a_second_writer_is_told_who_is_busy(lake):
    with files.locked(lake.root / ".lock", "ingest of binance"), pytest.raises(Busy, match="ingest of binance"):
        merge(Lake(lake.root, wait_s=0.0), FRAME)


@examples(25)
@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(1, 40)), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_the_order_and_overlap_of_ingests_do_not_matter(tmp_path_factory, pieces, random):
    base = bars(("BTC", "ETH"), 60, MAY + 24 * 30 * HOUR)
    parts = [base[start : start + length] for start, length in pieces]
    hashes, files_of = set(), []
    for number in range(2):
        lake = Lake(tmp_path_factory.mktemp(f"lake{number}"))
        for part in random.sample(parts, len(parts)):
            merge(lake, part)
        hashes.add(data_hash(lake, "binance", "1h"))
        data = contents(lake.root / "candles") if (lake.root / "candles").exists() else {}
        files_of.append(data)
        assert revisions(lake).is_empty()
    assert len(hashes) == 1
    assert files_of[0] == files_of[1]


@pytest.mark.parametrize(
    "change",
    [
        {"close": 100.00000001},
        {"volume": 1.23},
        {"trades": 0},
        {"symbol": "OP"},
        {"open_ms": MAY - HOUR},
    ],
)
def test_the_data_hash_sees_every_value(tmp_path, change):
    hashes = set()
    for name, frame in (("one", FRAME[:20]), ("other", with_row(FRAME[:20], 7, **change))):
        lake = Lake(tmp_path / name)
        merge(lake, frame.with_columns(pl.max_horizontal("high", "close").alias("high")))
        hashes.add(data_hash(lake, "binance", "1h"))
    assert len(hashes) == 2


def test_the_data_hash_is_of_the_slice_alone(lake):
    merge(lake, FRAME[:50])
    first = data_hash(lake, "binance", "1h", ["BTC"], MAY, MAY + 20 * HOUR)
    merge(lake, FRAME.with_columns(pl.lit("elsewhere").alias("source")))
    assert data_hash(lake, "binance", "1h", ["BTC"], MAY, MAY + 20 * HOUR) == first
    assert data_hash(lake, "binance", "1h", ["BTC"], MAY, MAY + 21 * HOUR) != first


def test_instruments_hold_from_their_time_on(lake):
    merge_instruments(lake, default_instruments("binance", {"BTC": 94_125.2, "DOGE": 0.17}), now_ms=NOW)
    later = default_instruments("binance", {"BTC": 94_125.2}).with_columns(
        pl.lit(MAY, dtype=pl.Int64).alias("from_ms"), pl.lit(3, dtype=pl.Int64).alias("size_decimals")
    )
    merge_instruments(lake, later, now_ms=NOW)
    known = read_instruments(lake, "binance")
    assert in_force(known, MAY - 1).select("symbol", "size_decimals").rows() == [("BTC", 5), ("DOGE", 0)]
    assert in_force(known, MAY).select("symbol", "size_decimals").rows() == [("BTC", 3), ("DOGE", 0)]


@pytest.mark.parametrize(
    ("price", "decimals"), [(94_125.2, 5), (1_800.0, 4), (147.5, 3), (1.0, 0), (0.17, 0), (1e9, 5), (10.0, 1)]
)
def test_a_lot_of_a_default_instrument_is_worth_at_most_a_dollar(price, decimals):
    frame = default_instruments("binance", {"X": price})
    assert frame["size_decimals"].item() == decimals
    assert price * 10.0**-decimals <= 1.0 or decimals == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda frame: frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("max_leverage")),
            "'max_leverage' has empty",
        ),
        (
            lambda frame: pl.concat([frame, frame.with_columns(pl.lit(9, dtype=pl.Int64).alias("size_decimals"))]),
            "BTC has two rows from the same time",
        ),
    ],
)
def test_unfit_instruments_are_refused(lake, change, message):
    with pytest.raises(DataError, match=message):
        merge_instruments(lake, change(default_instruments("binance", {"BTC": 1.0})), now_ms=NOW)


@pytest.mark.parametrize("name", ["\x1b[2JBTC", " BTC", "BTC ", "BTC\n", "..", "A*B"])
def test_a_symbol_whose_name_is_not_allowed_is_refused_by_name(lake, name):
    merge(lake, bars(("ETH",), 4))
    before = contents(lake.root)
    frame = bars(("BTC",), 4).with_columns(symbol=pl.lit(name))
    due = prints([(name, MAY, 0.001, None, "test")], venue="binance")
    terms = default_instruments("binance", {name: 100.0})
    for refused in (
        lambda: merge(lake, pl.concat([frame, bars(("SOL",), 4)])),
        lambda: merge_funding(lake, due, now_ms=NOW),
        lambda: merge_instruments(lake, terms, now_ms=NOW),
    ):
        with pytest.raises(DataError, match=r"of binance: symbol '.*' is not allowed: ") as caught:
            refused()
        assert str(caught.value).isprintable()
    assert contents(lake.root) == before


def test_names_of_exchanges_are_stored_each_in_a_file_of_its_own(lake):
    names = ("NEAR/USDT:USDT", "NEAR_USDT_USDT", "NEAR-USDT-USDT", "NO", "1e5", "a..b")
    merge(lake, bars(names, 4))
    merge_funding(lake, prints([(name, MAY, 0.001, None, "test") for name in names], venue="binance"), now_ms=NOW)
    assert symbols(lake, "binance", "1h") == sorted(names)
    assert read_funding(lake, "binance")["symbol"].to_list() == sorted(names)
    stored = {path.name for path in (lake.root / "funding" / "binance").glob("*.parquet")}
    assert len({name.casefold() for name in stored}) == len(names)
    assert {"NO.parquet", "NEAR_USDT_USDT.parquet"} < stored
    assert verify(lake) == []


def test_two_symbols_that_differ_in_case_alone_have_no_funding_beside_each_other(lake):
    def due(*names):
        rows = [(name, MAY, 0.001, None, "test") for name in names]
        return merge_funding(lake, prints(rows, venue="binance"), now_ms=NOW)

    with pytest.raises(DataError, match="symbol KPEPE differs from kPEPE only in case; rename one of them"):
        due("KPEPE", "kPEPE")
    due("kPEPE")
    with pytest.raises(DataError, match="symbol KPEPE differs from kPEPE only in case"):
        due("KPEPE")
    due("kPEPE")
    assert read_funding(lake, "binance")["symbol"].to_list() == ["kPEPE"]


@pytest.mark.long
def test_a_read_is_of_one_state_while_ingests_go_on(lake):
    # Many months: a commit takes long enough for reads to begin in the middle of it.
    months = bars(("BTC",), 6 * 900, MAY - 500 * 24 * HOUR, "4h")
    states = [months.with_columns(volume=pl.lit(float(number))) for number in range(5)]
    merge_candles(lake, states[0], now_ms=NOW)

    def write():
        for state in states[1:]:
            merge_candles(lake, state, now_ms=NOW)

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while writer.is_alive():
        seen.append(read_candles(lake, "binance", "4h")["volume"].unique().to_list())
    writer.join()
    assert all(len(volumes) == 1 for volumes in seen)
    assert [volumes[0] for volumes in seen] == sorted(volumes[0] for volumes in seen)


def test_the_lake_before_a_transaction_is_read_and_never_written(lake):
    merge_candles(lake, FRAME[:-5], now_ms=NOW)
    known = edition(lake)
    before = read_candles(lake, "binance", "1h")
    merge_candles(lake, FRAME.with_columns(volume=pl.lit(1.0)), now_ms=NOW)
    merge_candles(lake, FRAME.with_columns(volume=pl.lit(2.0)), now_ms=NOW)
    earlier = replace(lake, before=known)
    assert read_candles(earlier, "binance", "1h").equals(before)
    assert read_candles(earlier, "binance", "1h", ["ETH"], MAY + 2 * HOUR, MAY + 9 * HOUR).equals(
        before.filter((pl.col("symbol") == "ETH") & pl.col("open_ms").is_between(MAY + 2 * HOUR, MAY + 8 * HOUR))
    )
    with pytest.raises(ValueError, match="can't be changed"):
        merge_candles(earlier, FRAME, now_ms=NOW)
