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
        (("ingest", "--path", "none.parquet", "--venue", "binance"), 3, "no such file"),
        (("ingest", "--path", "{shelf}", "--interval", "2h"), 2, "interval '2h' is not known"),
        (("ingest", "--path", "{shelf}", "--columns", "nope=x"), 2, "--columns 'nope=x' is not allowed"),
        (("ingest", "--path", "{shelf}", "--columns", "open"), 2, "--columns 'open' is not allowed"),
        (("ingest", "--columns", "open=o"), 2, "--columns goes with --path"),
        (("lake", "undo", "000009-00000000"), 4, "mei lake show"),
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
