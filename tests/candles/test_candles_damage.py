import pytest
from candle_kit import HOUR, MAY, NOW, bars, contents, data_hash
from plain_user import as_plain_user

from mei_pipeline.candles.lake import (
    Lake,
    merge_candles,
    read_candles,
    set_aside,
    undo,
    verify,
)
from mei_pipeline.errors import DataError

FRAME = bars(("BTC", "ETH"), 24 * 40)
MONTH = "candles/binance/1h/2025-05.parquet"


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path / "lake")
    merge_candles(lake, FRAME, now_ms=NOW, source="test")
    return lake


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)


def delete(path):
    path.unlink()


def grow(path):
    bars(("BTC",), 10).write_parquet(path)


@pytest.mark.parametrize("harm", [truncate, empty, delete, grow])
def test_reading_a_damaged_file_names_it_and_says_how_to_repair(lake, harm):
    harm(lake.root / MONTH)
    with pytest.raises(DataError, match=r"2025-05\.parquet.*mei restore.*set-aside"):
        read_candles(lake, "binance", "1h")
    later = read_candles(lake, "binance", "1h", from_ms=MAY + 31 * 24 * HOUR)
    assert later.height == 2 * 9 * 24


@pytest.mark.parametrize("harm", [truncate, empty, delete, grow, flip])
def test_verify_finds_the_damaged_file_and_an_ingest_after_setting_it_aside_heals_the_lake(lake, harm):
    hashed = data_hash(lake, "binance", "1h")
    harm(lake.root / MONTH)
    damages = verify(lake)
    assert [damage.path for damage in damages] == [MONTH]
    assert "set-aside" in damages[0].repair
    assert set_aside(lake, damages) == [MONTH]
    assert verify(lake) == []
    report = merge_candles(lake, FRAME, now_ms=NOW)
    assert report.total.added == 2 * 31 * 24
    assert data_hash(lake, "binance", "1h") == hashed


@pytest.mark.parametrize("harm", [truncate, empty, delete, grow, flip])
def test_a_merge_into_a_damaged_file_is_refused_and_changes_nothing(lake, harm):
    harm(lake.root / MONTH)
    before = contents(lake.root)
    with pytest.raises(DataError, match=r"2025-05\.parquet"):
        merge_candles(lake, bars(("OP",), 5), now_ms=NOW)
    assert contents(lake.root) == before


def test_bytes_that_no_longer_decode_are_a_damaged_file(lake):
    path = lake.root / MONTH
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DataError, match=r"2025-05\.parquet: damaged"):
        read_candles(lake, "binance", "1h")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": {"a": 1}}', '{"more": {}}'])
def test_a_damaged_manifest_is_named(lake, text):
    path = lake.root / "candles/binance/1h/manifest.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json: damaged"):
        read_candles(lake, "binance", "1h")
    assert [damage.path for damage in verify(lake)] == ["candles/binance/1h/manifest.json"]


def test_a_damaged_record_of_an_ingest_is_found(lake):
    path = next((lake.root / "ingests").iterdir())
    path.write_text("{}")
    assert [damage.path for damage in verify(lake)] == [f"ingests/{path.name}"]


def test_a_damaged_record_of_changes_stops_an_undo(lake):
    truncate(lake.root / "changes/00000001-candles.parquet")
    assert [damage.path for damage in verify(lake)] == ["changes/00000001-candles.parquet"]
    with pytest.raises(DataError, match="00000001-candles"):
        undo(lake, next((lake.root / "ingests").iterdir()).stem)
    assert read_candles(lake, "binance", "1h").equals(FRAME)


def test_a_file_that_is_not_in_the_manifest_is_not_read(lake):
    bars(("OP",), 10).write_parquet(lake.root / "candles/binance/1h/2024-01.parquet")
    assert read_candles(lake, "binance", "1h").equals(FRAME)
    assert [damage.path for damage in verify(lake)] == ["candles/binance/1h/2024-01.parquet"]


def test_a_lake_of_another_format_is_refused(lake):
    (lake.root / "lake.json").write_text('{"format": 2, "next_ingest": 1, "next_transaction": 1}')
    with pytest.raises(DataError, match="format 2"):
        merge_candles(lake, bars(("OP",), 5), now_ms=NOW)


def test_a_data_file_without_permission_is_named(lake):
    (lake.root / MONTH).chmod(0)
    with pytest.raises(DataError, match=r"2025-05\.parquet.*make it readable"):
        as_plain_user(lambda: read_candles(lake, "binance", "1h"))


def test_a_manifest_without_permission_is_named(lake):
    (lake.root / "candles/binance/1h/manifest.json").chmod(0)
    with pytest.raises(DataError, match=r"manifest\.json.*make it readable"):
        as_plain_user(lambda: read_candles(lake, "binance", "1h"))


def test_a_folder_that_can_not_be_written_leaves_the_lake_as_it_was(lake):
    before = contents(lake.root)
    lake.root.chmod(0o500)
    try:
        with pytest.raises(DataError, match="writable"):
            as_plain_user(lambda: merge_candles(lake, bars(("OP",), 5), now_ms=NOW))
    finally:
        lake.root.chmod(0o700)
    assert contents(lake.root) == before
    assert merge_candles(lake, bars(("OP",), 5), now_ms=NOW).total.added == 5
