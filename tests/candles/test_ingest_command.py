"""What `mei ingest` says and ends with, where files are not as they should be."""

import json

import click
import polars as pl
import pytest
from candle_kit import HOUR, MAY, bars, with_row

from mei_pipeline.cli.lake import COMMANDS
from mei_pipeline.cli.main import run
from mei_pipeline.settings import CHECKOUT

GROUP = click.Group(commands={str(command.name): command for command in COMMANDS})
FRAME = bars(("BTC", "ETH"), 24)
NAMED = ("symbol", "open_ms", "open", "high", "low", "close", "volume")


@pytest.fixture
def mei(capsys, home):  # noqa: ARG001  (an empty home)
    """Run a command; return exit code, standard output (as JSON where it is) and standard error."""

    def call(*arguments):
        code = run([str(argument) for argument in arguments], GROUP)
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if "--json" in arguments else captured.out, captured.err

    return call


def save(path, frame):
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_csv(path)
    return path


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_every_row_refused_ends_with_3_and_the_likeliest_cause(mei, tmp_path, as_json):
    path = save(
        tmp_path / "BTC.csv", FRAME.select(NAMED).with_columns(timestamp=pl.col("open_ms") + HOUR - 1).drop("open_ms")
    )
    code, report, told = mei("ingest", "--path", path, "--venue", "binance", "--interval", "1h", *as_json)
    assert code == 3
    assert "all 48 rows of 1h were refused" in told
    assert "state that with --columns close_ms=timestamp" in told
    if as_json:
        assert report["ingests"][0]["total"]["refused"] == 48
    offered = ("--columns", "close_ms=timestamp")
    code, report, _ = mei("ingest", "--path", path, "--venue", "binance", "--interval", "1h", *offered, "--json")
    assert (code, report["ingests"][0]["total"]["added"]) == (0, 48)


def test_some_rows_refused_ends_with_0_and_a_warning(mei, tmp_path):
    path = save(tmp_path / "a.csv", with_row(FRAME, 3, close=-1.0).select("interval", *NAMED))
    code, _, told = mei("ingest", "--path", path, "--venue", "binance")
    assert (code, "1 rows were refused" in told) == (0, True)


def test_funding_of_which_every_row_is_refused_ends_with_3_though_candles_went_in(mei, tmp_path):
    save(tmp_path / "in/a.csv", FRAME.select("interval", *NAMED))
    paid = pl.DataFrame({"symbol": ["BTC"], "time_ms": [MAY], "rate": [None]}, schema_overrides={"rate": pl.Float64})
    save(tmp_path / "in/f.csv", paid)
    code, report, told = mei("ingest", "--path", tmp_path / "in", "--venue", "binance", "--json")
    assert (code, report["ingests"][0]["total"]["added"]) == (3, 48)
    assert "all 1 rows of funding were refused" in told


def test_rows_of_another_interval_are_in_the_report(mei, tmp_path):
    path = save(tmp_path / "a.csv", pl.concat([FRAME, bars(interval="5m")]).select("interval", *NAMED))
    code, report, told = mei("ingest", "--path", path, "--venue", "binance", "--interval", "1h", "--json")
    found = {item["rule"]: item["count"] for item in report["ingests"][0]["findings"]["1h"]["items"]}
    assert (code, found) == (0, {"other_interval": 48})
    code, _, told = mei("ingest", "--path", path, "--venue", "binance", "--interval", "15m")
    assert (code, "--columns interval==15m" in told) == (3, True)


def test_hourly_bars_labelled_5m_are_refused(mei, tmp_path):
    path = save(tmp_path / "a.csv", FRAME.with_columns(interval=pl.lit("5m")).select("interval", *NAMED))
    code, _, told = mei("ingest", "--path", path, "--venue", "binance")
    assert (code, "mostly 1h apart, but column 'interval' says 5m" in told) == (3, True)
    code, _, told = mei("ingest", "--path", path, "--venue", "binance", "--columns", "interval==1h")
    assert code == 0, told


def test_a_file_whose_name_says_another_interval_than_the_stated_one_is_refused(mei, tmp_path):
    path = save(tmp_path / "BTC-1d.csv", bars(("BTC",), 2, interval="1d").select(NAMED[1:]))
    code, _, told = mei("ingest", "--path", path, "--venue", "binance", "--interval", "1h")
    assert (code, "all 2 rows of 1h were refused" in told) == (3, True), told
    hourly = save(tmp_path / "ETH-1d.csv", bars(("ETH",), 5).select(NAMED[1:]))
    code, _, told = mei("ingest", "--path", hourly, "--venue", "binance", "--interval", "1h")
    assert (code, "--columns interval==1h" in told) == (3, True), told
    code, _, told = mei("ingest", "--path", hourly, "--venue", "binance", "--columns", "interval==1h")
    assert code == 0, told


def test_bars_that_another_file_gives_other_values_are_said_by_symbol(mei, tmp_path):
    mei("ingest", "--path", save(tmp_path / "a.csv", FRAME.select("interval", *NAMED)), "--venue", "binance")
    dearer = FRAME.filter(pl.col("symbol") == "ETH").with_columns(pl.col("open", "high", "low", "close") * 1.33)
    code, _, told = mei(
        "ingest", "--path", save(tmp_path / "b.csv", dearer.select("interval", *NAMED)), "--venue", "binance"
    )
    assert code == 0
    assert "24 bars of 1h had other values in the lake (ETH 24); `mei lake revisions` shows both" in told


def test_a_preset_is_an_option_and_brings_its_venue(mei, tmp_path):
    path = save(
        tmp_path / "btc.csv", FRAME[:24].select(t="open_ms", o="open", h="high", l="low", c="close", v="volume")
    )
    options = ("--interval", "1h", "--columns", "symbol==BTC", "--preset", "hyperliquid", "--json")
    code, report, _ = mei("ingest", "--path", path, *options)
    assert (code, report["ingests"][0]["venue"], report["ingests"][0]["total"]["added"]) == (0, "hyperliquid", 24)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--preset", "okx"), 2, "--preset goes with --path; pipeline.yaml has a key `preset` for its sources"),
        (("--path", "{path}", "--venue", "okx", "--preset", "nope"), 2, "preset 'nope' is not known; allowed: binance"),
        (("--path", "{path}", "--venue", "okx", "--columns", "symbol==X"), 2, "would become one series; omit it"),
        (("--path", "{path}", "--venue", "binance", "--interval", "1d"), 3, "all 48 rows of 1d were refused"),
        (("--path", "{path}/BTC-1h.csv", "--venue", "binance", "--interval", "1d"), 3, "state other intervals than 1d"),
        (("--path", "{path}/BTC-1h.csv", "--venue", "binance", "--columns", "interval==1d"), 3, "mostly 1h apart"),
    ],
)
def test_wrong_options_are_named(mei, tmp_path, arguments, code, message):
    for symbol in ("BTC", "ETH"):
        save(tmp_path / f"{symbol}-1h.csv", FRAME.filter(pl.col("symbol") == symbol).select(NAMED[1:]))
    got, _, told = mei("ingest", *(argument.format(path=tmp_path) for argument in arguments))
    assert (got, message in told) == (code, True), told


PIPELINE = """\
venue: binance
start: 2025-05
intervals: [1h]
anchors: {1h: 2025-05-01T00:00:00Z}
sources:
  - {kind: files, venue: binance, path: "../in [2025]", preset: ccxt}
profiles: {smoke: {sweep: smoke}}
"""


def test_sources_of_the_configuration_take_presets_and_brackets_and_say_what_is_not_read(mei, tmp_path, monkeypatch):
    config = tmp_path / "config [x]"
    (config / "sweeps").mkdir(parents=True)
    for name in ("policy.yaml", "sweeps/smoke.yaml"):
        (config / name).write_bytes((CHECKOUT / "config" / name).read_bytes())
    (config / "pipeline.yaml").write_text(PIPELINE)
    monkeypatch.setenv("MEI_CONFIG", str(config))
    rows = pl.concat([FRAME, bars(("BTC",), interval="5m")]).select("interval", *NAMED).rename({"open_ms": "timestamp"})
    save(tmp_path / "in [2025]/a.csv", rows)
    code, report, told = mei("ingest", "--json")
    assert (code, report["ingests"][0]["total"]["added"]) == (0, 48), told
    assert "bars of 5m are not read; `intervals` of pipeline.yaml has 1h" in told
