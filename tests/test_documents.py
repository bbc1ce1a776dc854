"""Types every `mei` command of the README, and of the tutorial, one after the other, as a newcomer would."""

import re
from pathlib import Path

import pytest
from document_kit import commands

from mei_pipeline.candles.lake import Lake, read_candles
from mei_pipeline.cli import main
from mei_pipeline.errors import EXIT_CODES
from mei_pipeline.settings import CHECKOUT

pytest_plugins = ["demo_fixtures"]

OWN_TESTS = {"ui"}  # it runs until it is stopped; tests/cli/test_cli_ui.py and the tier browser do that


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """A folder with the home `var/`, where the demo's bars also lie in `~/candles` as if they were of a venue."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MEI_HOME", "var")
    return tmp_path


def bring_candles(folder, open_ms):
    frame = read_candles(Lake(folder / "var" / "demo" / "lake"), "synthetic", "1h").drop("venue", "interval", "source")
    (folder / "candles").mkdir(exist_ok=True)
    frame.rename({"open_ms": open_ms}).write_parquet(folder / "candles" / "bars.parquet")


def real(word, folder):
    """What a person puts where the document says `example`, and what the shell makes of `~`."""
    if word.endswith("example.yaml"):
        return str(next(Path(folder, word).parent.glob("*.yaml")).relative_to(folder))
    return word.replace("~", str(folder))


def walk(document, folder, monkeypatch, demos):
    """Type the commands of a document; the finished homes of `demos` stand for the commands that make them."""
    typed = []
    for variables, words in commands(document):
        if words[0] != "mei" or words[1] in OWN_TESTS:
            continue
        if tuple(words[1:]) in demos.homes:
            typed.append(words[1])
            demos.copy(tuple(words[1:]), folder / "var" / "".join(words[1:]).replace("--", "-"))
            continue
        if words[1] == "ingest":
            bring_candles(folder, "timestamp" if "open_ms=timestamp" in words else "open_ms")
        with monkeypatch.context() as context:
            for name, value in variables.items():
                context.setenv(name, value)
            code = main.run([real(word, folder) for word in words[1:]])
            assert code == 0, f"{' '.join(words)} exits with {code}"
        typed.append(words[1])
    return typed


def test_the_readme_lists_every_exit_code():
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", (CHECKOUT / "README.md").read_text(), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == dict(EXIT_CODES)


def test_every_command_of_the_readme_does_what_it_says(newcomer, monkeypatch, demos):
    typed = walk(CHECKOUT / "README.md", newcomer, monkeypatch, demos)
    assert typed[:2] == ["demo", "demo"]
    assert {"ingest", "nightly", "registry", "coverage"} <= set(typed)


def test_every_command_of_the_tutorial_does_what_it_says(newcomer, monkeypatch, demos):
    typed = walk(CHECKOUT / "docs" / "tutorial.md", newcomer, monkeypatch, demos)
    assert {"demo", "ingest", "backup", "config", "nightly", "sweep", "backtest"} <= set(typed)
    assert (newcomer / "trades.csv").stat().st_size > 0
