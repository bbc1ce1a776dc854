"""The page that writes a strategy does: its files are taken from it, its commands typed, in a copy of the kernels."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from document_kit import commands
from market_kit import HOUR_MS, VENUE, fill_lake, write_config

from mei_pipeline.candles.lake import Lake, read_candles
from mei_pipeline.settings import CHECKOUT

PAGE = CHECKOUT / "docs" / "how-to" / "write-a-strategy.md"
SYMBOLS = ("BTC", "ETH", "SOL")


def files_of_page():
    """Text of each block that begins with the name of its file."""
    blocks = re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    return dict(blocks)


@pytest.fixture(scope="module")
def kernels(pytestconfig):
    """A copy of the kernels with the strategies, always in one place: machine code is kept by its source's place."""
    place = Path(pytestconfig.cache.mkdir("written-strategy"))
    shutil.rmtree(place / "kernels", ignore_errors=True)
    shutil.copytree(CHECKOUT / "kernels", place / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in files_of_page().items():
        if name.endswith(".py"):
            (place / name).write_text(text)
    return place


@pytest.fixture
def days():
    """Days of the lake."""
    return 60


@pytest.fixture(params=["uncompiled", pytest.param("compiled", marks=pytest.mark.long)])
def typed(request, kernels, mei_settings, tmp_path, days):
    """Types a command where the page's files lie, over a small lake; the kernels are the copy."""
    fill_lake(mei_settings, days, SYMBOLS)
    write_config(tmp_path / "config")
    for name, text in files_of_page().items():
        if name.endswith(".yaml"):
            (tmp_path / name).write_text(text)
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(kernels), str(CHECKOUT))),
        "MEI_CACHE": str(kernels / "cache"),
        "NUMBA_DISABLE_JIT": str(int(request.param == "uncompiled")),  # compiling takes a minute
        "MEI_CONFIG": str(tmp_path / "config"),
    }

    def run(*words):
        command = [sys.executable, "-P", "-m", "mei_pipeline.cli.main", *words]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    return run


@pytest.mark.long
def test_every_command_of_the_page_does_what_it_says(typed, tmp_path):
    done = []
    for _, words in commands(PAGE):
        found = typed(*words[1:])
        assert found.returncode == 0, f"{' '.join(words)}: {found.stderr}"
        done.append(words[1])
    assert done == ["warmup", "backtest", "sweep", "why", "backtest"]
    trades = pl.read_csv(tmp_path / "mine-trades.csv")
    assert trades.height > 20
    assert set(trades["reason"]) == {"recovered", "stop"}
    found = json.loads(typed("sweep", "mine-sweep.yaml", "--json").stdout)
    assert (found["combos"], found["resumed"]) == (16, 16)


@pytest.mark.parametrize("days", [20])
def test_the_channel_of_the_page_trades_breakouts(typed, mei_settings, tmp_path):
    """Each trade begins at the open after a close beyond the highest high, or lowest low, of the 48 bars before it."""
    found = typed("backtest", "--config", "donchian.yaml", "--trades", "donchian-trades.csv")
    assert found.returncode == 0, found.stderr
    trades = pl.read_csv(tmp_path / "donchian-trades.csv")
    assert set(trades["reason"]) == {"channel", "stop"}
    assert set(trades["side"]) == {"long", "short"}
    candles = read_candles(Lake(mei_settings.lake), VENUE, "1h").sort("symbol", "open_ms")
    wanted = candles.select(
        "symbol",
        entry_ms=pl.col("open_ms") + HOUR_MS,
        above=(pl.col("close") > pl.col("high").shift(1).rolling_max(48)).over("symbol"),
        below=(pl.col("close") < pl.col("low").shift(1).rolling_min(48)).over("symbol"),
    )
    joined = trades.join(wanted, on=["symbol", "entry_ms"], how="left")
    assert joined.select(pl.when(pl.col("side") == "long").then("above").otherwise("below").all()).item()


def test_a_file_without_a_rule_is_refused_as_the_page_says(typed, kernels):
    path = kernels / "kernels" / "strategies" / "mine.py"
    whole = path.read_text()
    path.write_text(whole.replace("def plan(", "def plane("))
    try:
        found = typed("config", "check")
    finally:
        path.write_text(whole)
    (line,) = re.findall(r"^```text\n(.*)\n```", PAGE.read_text(), flags=re.MULTILINE)
    assert found.returncode == 7
    assert line in " ".join(found.stderr.split())


def test_the_checkout_knows_no_such_strategy():
    for name in ("mine", "donchian"):
        assert not (CHECKOUT / "kernels" / "strategies" / f"{name}.py").exists()
