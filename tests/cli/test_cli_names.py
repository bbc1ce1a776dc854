"""Options that name what does not exist: one exit code, and a message that lists what there is."""

import json

import pytest
from market_kit import fill_lake, write_config

from mei_pipeline.cli.main import run
from mei_pipeline.settings import read_settings

UNKNOWN = {
    "coverage --venue nowhere": "it has: test",
    "coverage --interval 7m": "allowed: 1m, 3m, 5m",
    "coverage --interval 4h": "it has: 1h",
    "lake revisions --venue nowhere": "it has: test",
    "lake revisions --interval 4h": "it has: 1h",
    "lake revisions --symbol NOPE": "it has: AAA, BBB",
    "lake revisions --ingest nope": "`mei lake show` lists them",
    "lake undo nope --yes": "`mei lake show` lists them",
    "lake spikes --venue nowhere": "it has: test",
    "lake spikes --interval 7m": "allowed: 1m, 3m, 5m",
    "lake spikes --symbol NOPE": "it has: AAA, BBB",
    "lake confirm NOPE --at 2025-02-01 --why w": "it has: AAA, BBB",
    "lake confirm AAA --at 2025-02-01 --venue nowhere --why w": "it has: test",
    "ingest --venue nowhere": "its sources are of",
    "ingest --path none.csv --venue testing --interval 1h": "no such file",
    "ingest --path none.csv --venue testing --interval 7m": "allowed: 1m, 3m, 5m",
    "restore none.tar": "no such file",
    "backtest --config none.yaml": "no such file",
    "why --config none.yaml --symbol AAA --at 2025-02-01": "no such file",
    "backtest --config nope": "no lane that holds a config",
    "backtest --config paper1": "the lane holds no config",
    "why --config abcd --symbol AAA --at 2025-02-01": "`mei registry list` shows the ids",
    "sweep run nope": "no sweep 'nope'; known: ",
    "sweep run none.yaml": "no such file",
    "sweep show abcd": "no such sweep",
    "sweep resume abcd": "no such sweep",
    "nightly --profile nope": "known: ",
    "report --night abcd": "no such night",
    "registry show zz": "`mei registry list` shows the ids",
    "registry diff zz yy": "`mei registry list` shows the ids",
    "registry retire zz --why w": "`mei registry list` shows the ids",
    "registry history --config zz": "`mei registry list` shows the ids",
    "registry history --lane nope": "it has: ",
    "registry pause --lane nope --why w": "it has: ",
    "registry rollback --lane nope --why w": "it has: ",
    "registry promote zz --lane nope --why w": "it has: ",
    "lane show nope": "it has: ",
    "lane set nope --hold x halt --why w": "it has: ",
    "lane set paper1 --lift nope": "it has: none",
    "config explain nope.key": "no such parameter",
    "warmup --strategy nope": "known: ema_cross",
}


@pytest.fixture(scope="module")
def lake_home(tmp_path_factory):
    """A home with a small lake and a configuration; commands that fail change nothing in it."""
    folder = tmp_path_factory.mktemp("names")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEI_HOME", str(folder / "home"))
        patch.setenv("MEI_CONFIG", str(folder / "config"))
        write_config(folder / "config")
        fill_lake(read_settings())
    return folder


@pytest.mark.parametrize("command", UNKNOWN)
def test_a_name_that_nothing_has_exits_2_and_lists_what_there_is(command, lake_home, monkeypatch, capsys):
    monkeypatch.setenv("MEI_HOME", str(lake_home / "home"))
    monkeypatch.setenv("MEI_CONFIG", str(lake_home / "config"))
    monkeypatch.chdir(lake_home)
    assert run([*command.split(), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)["error"]
    assert UNKNOWN[command] in told["message"]
    assert not (lake_home / "home" / "lanes" / "nope").exists()


def test_an_empty_lake_says_what_to_run(home, capsys):
    assert not home.exists()
    assert run(["coverage", "--venue", "binance"]) == 2
    assert "run `mei ingest`" in capsys.readouterr().err
