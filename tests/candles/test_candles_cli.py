import json

import click
import polars as pl
import pytest
from candle_kit import HOUR, MAY, bars, with_row

from mei_pipeline.candles.lake import Lake, read_candles
from mei_pipeline.cli.lake import COMMANDS
from mei_pipeline.cli.main import run
from mei_pipeline.settings import CHECKOUT

GROUP = click.Group(commands={str(command.name): command for command in COMMANDS})
FRAME = bars(("BTC", "ETH"), 24)


@pytest.fixture
def mei(capsys):
    """Run a command; return exit code, standard output (as JSON where it is) and standard error."""

    def call(*arguments):
        code = run([str(argument) for argument in arguments], GROUP)
        captured = capsys.readouterr()
        text = captured.out
        return code, json.loads(text) if "--json" in arguments and text else text, captured.err

    return call


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    FRAME.write_parquet(folder / "a.parquet")
    return folder


def test_from_files_to_lake_and_back(mei, shelf, home):
    code, report, _ = mei("ingest", "--path", shelf, "--venue", "binance", "--json")
    assert code == 0
    assert report["ingests"][0]["total"]["added"] == 48
    identity = report["ingests"][0]["ingest_id"]

    code, shown, _ = mei("lake", "show", "--json")
    assert [(part["table"], part["rows"]) for part in shown["parts"]] == [("candles", 48), ("instruments", 2)]
    assert [record["id"] for record in shown["ingests"]] == [identity]

    code, undone, _ = mei("lake", "undo", identity, "--yes", "--json")
    assert (code, undone["files"]["candles/binance/1h/2025-05.parquet"]) == (0, {"removed": 48, "restored": 0})
    assert read_candles(Lake(home / "lake"), "binance", "1h").is_empty()


def test_tables_name_symbols_and_broken_rules(mei, shelf):
    with_row(FRAME, 3, close=-1.0).write_parquet(shelf / "a.parquet")
    code, text, said = mei("ingest", "--path", shelf)
    assert code == 0
    assert all(word in text for word in ("BTC", "ETH", "non_positive", "inconsistent", "2025-05-01 03:00Z"))
    assert "1 rows were refused" in said
    _, text, _ = mei("coverage")
    assert all(word in text for word in ("BTC", "1h", "2025-05"))
    assert "Ingests" in mei("lake", "show")[1]


@pytest.fixture
def flawed(shelf):
    """Bars of BTC with a spike, of ETH with two gaps and a lower level after the longer one."""
    prices = ["open", "high", "low", "close"]
    eth = (pl.col("symbol") == "ETH") & (pl.col("open_ms") >= MAY + 10 * HOUR)
    frame = FRAME.with_columns(pl.when(eth).then(pl.col(prices) / 100).otherwise(pl.col(prices)))
    gone = (pl.col("symbol") == "ETH") & pl.col("open_ms").is_in([MAY + hour * HOUR for hour in (2, 6, 7, 8, 9)])
    frame = with_row(frame, 5, high=5e5).filter(~gone)
    frame.write_parquet(shelf / "a.parquet")
    return shelf


def test_an_ingest_tells_of_spikes_jumps_and_gaps(mei, flawed):
    code, text, said = mei("ingest", "--path", flawed)
    assert code == 0
    assert "missing in 2 gaps, the longest 4 bars from 2025-05-01 06:00Z to 2025-05-01 10:00Z" in text
    assert "(-99.0%) after 4 missing bars" in text
    assert "BTC: implausible bars" in said
    counts = {"spike": {"BTC": 1}, "gap_jump": {"ETH": 1}, "gap": {"ETH": 5}}
    (part,) = (part for part in mei("lake", "show", "--json")[1]["parts"] if part["table"] == "candles")
    assert (part["findings"], part["warnings"]) == (counts, 7)
    assert "missing in 2 gaps" in mei("lake", "show")[1]
    (again,) = mei("ingest", "--path", flawed, "--json")[1]["ingests"]
    assert {item["rule"]: {item["symbol"]: item["count"]} for item in again["findings"]["1h"]["items"]} == counts


def test_a_person_confirms_a_marked_bar_by_name_and_takes_it_back(mei, flawed):
    mei("ingest", "--path", flawed)
    (bar,) = mei("lake", "spikes", "--json")[1]["marked"]
    assert (bar["symbol"], bar["interval"], bar["open_ms"], bar["high"]) == ("BTC", "1h", MAY + 5 * HOUR, 5e5)
    words = ("lake", "confirm", "BTC", "--at", "2025-05-01T05:00", "--why", "seen on the venue", "--who", "ann")
    code, report, _ = mei(*words, "--json")
    assert (code, report["confirmed"][0]["who"], report["confirmed"][0]["high"]) == (0, "ann", 5e5)
    found = mei("lake", "spikes", "--json")[1]
    assert (found["marked"], [entry["why"] for entry in found["confirmed"]]) == ([], ["seen on the venue"])
    code, _, said = mei(*words)
    assert (code, "was confirmed by ann" in said) == (4, True)
    code, report, _ = mei(*words, "--withdraw", "--json")
    assert (code, report["confirmed"][0]["withdrawn"]["who"]) == (0, "ann")
    assert len(mei("lake", "spikes", "--json")[1]["marked"]) == 1
    assert all(word in mei("lake", "spikes")[1] for word in ("500,000", "seen on the venue", "by ann"))


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("BTC", "--at", "2025-05-01T06:00", "--why", "x"), 4, "marked bars of it: 2025-05-01 05:00Z (binance 1h)"),
        (("ETH", "--at", "2025-05-01T06:00", "--why", "x"), 4, "marked bars of it: none"),
        (("BTC", "--at", "2025-05-01T05:00", "--why", "x", "--venue", "okx"), 2, "it has: binance"),
        (("BTC", "--at", "2025-05-01T05:00", "--why", " "), 2, "give a reason"),
        (("BTC", "--at", "2025-05-01T05:00", "--why", "x", "--withdraw"), 4, "no confirmation of it is in force"),
        (("BTC", "--at", "yesterday", "--why", "x"), 2, "--at"),
        (("BTC", "--at", "2025-05-01T05:00"), 2, "--why"),
    ],
)
def test_what_cannot_be_confirmed_is_refused(mei, flawed, words, code, says):
    mei("ingest", "--path", flawed)
    found, _, said = mei("lake", "confirm", *words)
    assert (found, says in " ".join(said.split())) == (code, True), said


def test_a_bar_that_is_marked_twice_is_confirmed_in_one_place(mei, flawed):
    mei("ingest", "--path", flawed)
    pl.read_parquet(flawed / "a.parquet").with_columns(venue=pl.lit("other")).write_parquet(flawed / "a.parquet")
    mei("ingest", "--path", flawed)
    words = ("lake", "confirm", "BTC", "--at", "2025-05-01T05:00", "--why", "x")
    code, _, said = mei(*words)
    assert (code, "--venue other --interval 1h" in said) == (2, True)
    assert mei(*words, "--venue", "other")[0] == 0
    assert [bar["venue"] for bar in mei("lake", "spikes", "--json")[1]["marked"]] == ["binance"]


def test_the_bounds_are_those_of_the_policy(mei, flawed, tmp_path, monkeypatch):
    text = (CHECKOUT / "config" / "policy.yaml").read_text()
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("MEI_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config" / "policy.yaml").write_text(text.replace("max_reach: 10 ", "max_reach: 100000 "))
    report = mei("ingest", "--path", flawed, "--json")[1]["ingests"][0]
    assert {item["rule"] for item in report["findings"]["1h"]["items"]} == {"gap_jump", "gap"}
    (tmp_path / "config" / "policy.yaml").write_text(text.replace("max_reach: 10 ", "max_reach: 1 "))
    code, _, said = mei("lake", "show")
    assert (code, "policy.yaml" in said and "max_reach" in said) == (2, True)


def test_doing_it_again_says_nothing_new(mei, shelf):
    mei("ingest", "--path", shelf)
    assert "nothing new" in mei("ingest", "--path", shelf)[2]


def test_columns_and_range_are_options(mei, tmp_path):
    FRAME.filter(pl.col("symbol") == "BTC").select(
        T=pl.col("open_ms") + HOUR - 1, o="open", h="high", l="low", c="close", v="volume"
    ).write_csv(tmp_path / "x.csv")
    code, report, _ = mei(
        *("ingest", "--path", tmp_path / "x.csv", "--venue", "hyperliquid", "--interval", "1h"),
        *(
            "--columns",
            "close_ms=T,symbol==BTC",
            "--from",
            "2025-05-01T06:00:00Z",
            "--to",
            "2025-05-01T08:00:00Z",
            "--json",
        ),
    )
    assert code == 0
    assert report["ingests"][0]["candles"]["1h"]["BTC"]["added"] == 2


def test_revisions_show_old_and_new(mei, shelf):
    mei("ingest", "--path", shelf)
    with_row(FRAME, 3, volume=77.0).write_parquet(shelf / "a.parquet")
    mei("ingest", "--path", shelf)
    _, report, _ = mei("lake", "revisions", "--symbol", "BTC", "--json")
    assert [(row["open_ms"], row["new_volume"]) for row in report["revisions"]] == [(MAY + 3 * HOUR, 77.0)]
    assert "volume" in mei("lake", "revisions")[1]
    assert mei("lake", "revisions", "--funding", "--json")[1] == {"revisions": []}


def test_verify_ends_with_3_when_something_is_damaged_and_0_when_it_was_set_aside(mei, shelf, home):
    mei("ingest", "--path", shelf)
    assert mei("lake", "verify")[0] == 0
    path = home / "lake" / "candles/binance/1h/2025-05.parquet"
    path.write_bytes(b"x")
    code, report, _ = mei("lake", "verify", "--json")
    assert (code, [row["path"] for row in report["damaged"]]) == (3, ["candles/binance/1h/2025-05.parquet"])
    assert "2025-05.parquet" in mei("lake", "verify")[1]
    code, report, _ = mei("lake", "verify", "--set-aside", "--json")
    assert (code, report["set_aside"]) == (0, ["candles/binance/1h/2025-05.parquet"])
    assert mei("lake", "verify")[0] == 0


def test_coverage_draws_the_heat_map(mei, shelf, tmp_path):
    mei("ingest", "--path", shelf)
    code, report, _ = mei("coverage", "--svg", tmp_path / "map.svg", "--json")
    assert (code, report["coverage"][0]["bars"]) == (0, 24)
    assert (tmp_path / "map.svg").read_text().startswith("<svg")


def test_backup_and_restore(mei, shelf, tmp_path, monkeypatch):
    mei("ingest", "--path", shelf)
    code, report, _ = mei("backup", tmp_path / "b.tar", "--json")
    assert (code, report["files"]) == (0, 8)
    monkeypatch.setenv("MEI_REGISTRY_URL", "postgresql://nobody@127.0.0.1:9/none")
    code, _, said = mei("backup", tmp_path / "b.tar", "--json")
    assert (code, "MEI_REGISTRY_URL names is not in the backup" in said) == (0, True)
    monkeypatch.delenv("MEI_REGISTRY_URL")
    code, _, said = mei("restore", tmp_path / "b.tar")
    assert (code, "already has lake" in said) == (4, True)
    monkeypatch.setenv("MEI_HOME", str(tmp_path / "other"))
    code, report, _ = mei("restore", tmp_path / "b.tar", "--json")
    assert (code, report["aside"]) == (0, None)
    assert mei("restore", tmp_path / "b.tar", "--force", "--json")[1]["aside"].endswith("replaced-1")
    assert mei("lake", "verify")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("ingest", "--path", "none.parquet", "--venue", "binance"), 2, "no such file"),
        (("ingest", "--path", "{shelf}", "--interval", "2h"), 2, "interval '2h' is not known"),
        (("ingest", "--path", "{shelf}", "--columns", "nope=x"), 2, "--columns 'nope=x' is not allowed"),
        (("ingest", "--path", "{shelf}", "--columns", "open"), 2, "--columns 'open' is not allowed"),
        (("ingest", "--columns", "open=o"), 2, "--columns goes with --path"),
        (("lake", "undo", "000009-00000000"), 2, "mei lake show"),
        (("backup", "b.tar"), 3, "MEI_HOME"),
    ],
)
def test_errors_are_messages_with_exit_codes(mei, shelf, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    got, _, said = mei(*(argument.format(shelf=shelf) for argument in arguments))
    assert (got, message in said) == (code, True), said


PIPELINE = """\
venue: synthetic
start: 2025-05
intervals: [1h]
anchors: {1h: 2025-05-01T00:00:00Z}
sources:
  - {kind: synthetic, seed: 7, symbols: [BTC], from: 2025-05-01T00:00:00Z, to: 2025-05-02T00:00:00Z}
profiles: {smoke: {sweep: smoke}}
"""


def test_without_a_path_the_sources_of_the_configuration_are_fetched(mei, tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.mkdir()
    (config / "sweeps").mkdir()
    for name in ("policy.yaml", "sweeps/smoke.yaml"):
        (config / name).write_bytes((CHECKOUT / "config" / name).read_bytes())
    (config / "pipeline.yaml").write_text(PIPELINE)
    monkeypatch.setenv("MEI_CONFIG", str(config))
    code, report, said = mei("ingest", "--json")
    assert code == 0, said
    assert report["ingests"][0]["candles"]["1h"]["BTC"]["added"] == 24
    code, _, said = mei("ingest", "--venue", "okx")
    assert (code, "no source of venue okx" in said) == (2, True)


def test_the_commands_are_those_of_the_documentation():
    assert sorted(GROUP.commands) == ["backup", "coverage", "ingest", "lake", "restore"]
    page = (CHECKOUT / "docs/reference/lake.md").read_text()
    assert all(f"mei {name}" in page for name in GROUP.commands)
