"""`mei backtest` with its files, and `mei why`, as a person types them."""

import json

import polars as pl
import pytest
from market_kit import fill_lake, write_config

from mei_pipeline.cli.main import run
from mei_pipeline.errors import ConfigError, DataError

MINE = "strategy: ema_cross\ninterval: 1h\nparams: {entry.warmup_bars: 50, indicators.ema_fast_window: 5}\n"


@pytest.fixture
def mine(mei_settings, tmp_path, monkeypatch):
    """A config over a lake of three symbols."""
    fill_lake(mei_settings)
    write_config(tmp_path / "config")
    monkeypatch.setenv("MEI_CONFIG", str(tmp_path / "config"))
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


def test_backtest_writes_its_page_and_its_decisions(mine, tmp_path, capsys):
    page, decisions = tmp_path / "report.html", tmp_path / "decisions.parquet"
    words = ["backtest", "--config", str(mine), "--json", "--html", str(page), "--decisions", str(decisions)]
    assert run([*words, "--chart", "AAA"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "<h3>AAA</h3><svg" in page.read_text()
    frame = pl.read_parquet(decisions)
    assert frame["gate"].unique().len() == len(report["gates"]) == 3
    assert frame.height == 3 * report["signals"]["evaluated"] == 3 * 60 * 24 * 3


def test_backtest_compares_with_the_benchmark_that_the_file_names(mine, tmp_path, capsys):
    mine.write_text(f"{MINE}benchmark: BBB\n")
    page = tmp_path / "report.html"
    assert run(["backtest", "--config", str(mine), "--json", "--html", str(page)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["benchmark"]["name"], report["benchmark"]["symbols"]) == ("buy and hold of BBB", ["BBB"])
    assert page.read_text().count("buy and hold of BBB") == 2
    assert run(["backtest", "--config", str(mine)]) == 0
    shown = capsys.readouterr().out
    assert "buy and hold of BBB" in shown
    assert "Worst drawdowns" in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--decisions", "d.csv"], "must end in .parquet"),
        (["--chart", "AAA"], "--chart: candles are shown on the page that --html writes"),
        (["--chart", "ZZZ", "--html", "r.html"], "--chart ZZZ: the config trades AAA, BBB, CCC"),
    ],
)
def test_backtest_refuses_what_makes_no_sense(mine, words, says, capsys):
    assert run(["backtest", "--config", str(mine), *words]) == ConfigError.exit_code
    assert says in capsys.readouterr().err


def test_why_tells_what_the_backtest_did(mine, tmp_path, capsys):
    fills = tmp_path / "fills.parquet"
    assert run(["backtest", "--config", str(mine), "--fills", str(fills)]) == 0
    entry = pl.read_parquet(fills).filter(pl.col("reason") == "entry").row(0, named=True)
    capsys.readouterr()
    at = pl.Series([entry["time_ms"]]).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M")[0]
    words = ["why", "--config", str(mine), "--symbol", entry["symbol"], "--at", at]
    assert run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["done"][0]["reason"] == "entry"
    assert found["done"][0]["price"] == entry["price"]
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert "entry at the bar's open" in shown
    assert "crossed" in shown


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (
            ["--symbol", "AAA", "--at", "2025-01-05T10:17"],
            DataError.exit_code,
            "the nearest one opens 2025-01-05 10:00Z",
        ),
        (["--symbol", "ZZZ", "--at", "2025-01-05T10:00"], ConfigError.exit_code, "the config trades AAA, BBB, CCC"),
        (["--symbol", "AAA", "--at", "2024-01-05"], ConfigError.exit_code, "before the start of the replay"),
        (["--symbol", "AAA", "--at", "2025-01-05", "--from", "2024-01-01"], ConfigError.exit_code, "before the anchor"),
    ],
)
def test_why_says_what_is_wrong_with_the_question(mine, words, code, says, capsys):
    assert run(["why", "--config", str(mine), *words]) == code
    assert says in capsys.readouterr().err
