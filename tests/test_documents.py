"""Types every `mei` command of the README, and of the tutorial, one after the other, as a newcomer would."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
from document_kit import DOCUMENTS, commands, files_of, lines

from mei_pipeline.candles.lake import Lake, read_candles
from mei_pipeline.cli import main
from mei_pipeline.errors import EXIT_CODES, ConfigError
from mei_pipeline.settings import CHECKOUT, read_settings
from mei_pipeline.simulation.device import choose_device

pytest_plugins = ["demo_fixtures"]

OWN_TESTS = {
    ("ui",),  # it runs until it is stopped; tests/cli/test_cli_ui.py and the tier browser do that
    ("demo", "--no-edge"),  # tests/cli/test_cli_demo.py in the tier long
    # The demo's lanes have not run; tests/live/test_lane_commands.py has one that ran.
    *(("lane", verb, "paper1") for verb in ("status", "positions")),
    ("lane", "orders", "paper1", "--last", "50"),
    ("lane", "trades", "paper1", "--symbol", "BTC"),
    ("lane", "why", "paper1", "BTC"),
    ("lane", "why", "paper1", "BTC", "2026-06-30T12:00"),
    ("replay", "--lane", "paper1", "--day", "2026-06-20"),  # tests/cli/test_cli_replay.py
}
DOCS = CHECKOUT / "docs"
WRITTEN = DOCS / "how-to" / "write-a-strategy.md"  # tests/test_write_a_strategy.py types its commands
WALKED = (
    DOCS / "how-to" / "alerts.md",
    DOCS / "how-to" / "gpu.md",
    DOCS / "how-to" / "operate-a-lane.md",
    DOCS / "how-to" / "promote-and-roll-back.md",
    DOCS / "how-to" / "scale-out.md",
    DOCS / "reference" / "lake.md",
    DOCS / "benchmarks.md",
)


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """A folder with the home `var/`, where the demo's bars also lie in `~/candles` as if they were of a venue."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MEI_HOME", "var")
    return tmp_path


def bring_candles(folder, words):
    """Put bars where an ingest looks for them, in the layout that its options or its file names state."""
    home = folder / "var" / "demo"
    frame = read_candles(Lake(home / "lake"), "synthetic", "1h").drop("venue", "interval", "source")
    place = Path(real(words[words.index("--path") + 1], folder))
    if place.name == "candles":
        place.mkdir(exist_ok=True)
        stamp = "timestamp" if "open_ms=timestamp" in words else "open_ms"
        frame.rename({"open_ms": stamp}).write_parquet(place / "bars.parquet")
        return
    one = frame.filter(pl.col("symbol") == "BTC").head(24 * 31)
    prices = [pl.col(name) for name in ("open", "high", "low", "close", "volume")]
    ends = (pl.col("open_ms") + 3_600_000 - 1).alias("T")
    if place.name == "btc.csv":
        one.select(ends, *prices).write_csv(folder / place)
    else:  # months of Binance Vision: twelve columns without a header
        place.mkdir()
        quote = (pl.col("volume") * pl.col("close")).alias("quote")
        rest = [quote, *(pl.lit(0).alias(f"rest{index}") for index in range(4))]
        one.select("open_ms", *prices, ends, *rest).write_csv(place / "BTCUSDT-1h-2025-01.csv", include_header=False)


def expected(words, code, settings):
    """The exit code of a command on this machine: what needs a card, or a compiler for one, may find none here."""
    if "cuda" in words or words[1:3] == ["bench", "kernels"]:
        return code if choose_device(settings, "auto", "ema_cross").name != "cpu" else ConfigError.exit_code
    if words[1:3] == ["kernels", "build"] and find_spec("numba_cuda") is None:
        return ConfigError.exit_code
    return code


def real(word, folder):
    """What the shell makes of `~`, and a folder of this machine for one that other machines see as well."""
    return word.replace("~", str(folder)).replace("/mnt/shared", str(folder / "shared"))


def walk(document, folder, monkeypatch, demos):
    """Type the commands of a document; the finished homes of `demos` stand for the commands that make them."""
    typed = []
    for variables, words, code in lines(document):
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            monkeypatch.setenv(name, real(value, folder))
        if words[0] != "mei" or tuple(words[1:]) in OWN_TESTS:
            continue
        if tuple(words[1:]) in demos.homes:
            typed.append(words[1])
            demos.copy(tuple(words[1:]), folder / "var" / "".join(words[1:]).replace("--", "-"))
            for name, text in files_of(document).items():
                folder.joinpath(name).write_text(text)
            continue
        if words[1] == "ingest":
            bring_candles(folder, words)
        with monkeypatch.context() as context:
            for name, value in variables.items():
                context.setenv(name, value)
            wanted = expected(words, code, read_settings())
            assert main.run([real(word, folder) for word in words[1:]]) == wanted, " ".join(words)
        typed.append(words[1])
    return typed


def test_every_document_with_commands_is_walked():
    with_commands = {path for path in DOCUMENTS if any(words[0] == "mei" for _, words in commands(path))}
    assert with_commands == {CHECKOUT / "README.md", DOCS / "tutorial.md", WRITTEN, *WALKED}


def test_the_readme_lists_every_exit_code():
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", (CHECKOUT / "README.md").read_text(), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == dict(EXIT_CODES)


def test_every_command_of_the_readme_does_what_it_says(newcomer, monkeypatch, demos):
    typed = walk(CHECKOUT / "README.md", newcomer, monkeypatch, demos)
    assert typed[0] == "demo"
    assert {"ingest", "nightly", "registry", "coverage"} <= set(typed)


def test_the_refusal_at_real_money_reads_as_the_page_says(newcomer, monkeypatch, demos, capsys):
    page = DOCS / "how-to" / "promote-and-roll-back.md"
    demos.copy(("demo",), newcomer / "var" / "demo")
    monkeypatch.setenv("MEI_HOME", "var/demo")
    for name, text in files_of(page).items():
        newcomer.joinpath(name).write_text(text)
    (command,) = [(words[1:], code) for _, words, code in lines(page) if code]
    assert main.run(command[0]) == command[1]
    shown = re.search(r"^```text\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)[1]
    ids = re.compile(r"[0-9a-f]{12}")
    assert ids.sub("ID", capsys.readouterr().err) == ids.sub("ID", shown)


@pytest.mark.long
def test_every_command_of_the_tutorial_does_what_it_says(newcomer, monkeypatch, demos):
    typed = walk(DOCS / "tutorial.md", newcomer, monkeypatch, demos)
    assert {"demo", "ingest", "backup", "config", "nightly", "sweep", "backtest"} <= set(typed)
    assert (newcomer / "trades.csv").stat().st_size > 0


@pytest.mark.long
@pytest.mark.parametrize("document", WALKED, ids=lambda path: path.stem)
def test_every_command_of_the_other_pages_does_what_it_says(document, newcomer, monkeypatch, demos):
    home = newcomer / "var" / "demo"
    if ("demo",) not in {tuple(words[1:]) for _, words in commands(document)}:
        demos.copy(("demo",), home)
    if document.stem in {
        "alerts",
        "gpu",
        "scale-out",
    }:  # on one machine: tests/cluster has the cluster, tests/gpu the card
        monkeypatch.setenv("MEI_HOME", str(home))
        shutil.copy(CHECKOUT / "config" / "sweeps" / "nightly.yaml", home / "config" / "sweeps")
    assert walk(document, newcomer, monkeypatch, demos)
