"""`mei nightly` as it is typed: what it prints, and what it refuses before anything runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from market_kit import DAY_MS, START_MS, fill_lake, write_config

from assets.run import open_instance
from mei_pipeline.cli.main import run
from mei_pipeline.cli.nightly import CandidateLine, IngestSummary, LaneLine, NightSummary, nightly, show
from mei_pipeline.config.load import load_config
from mei_pipeline.housekeeping import PruneReport
from mei_pipeline.registry.database import open_registry
from mei_pipeline.registry.store import lane_pointers
from mei_pipeline.settings import Settings

AS_OF_MS = START_MS + 60 * DAY_MS
YES, NO = True, False


@pytest.fixture
def filled(home: Path, mei_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with a lake whose trends hold an edge, and no sources."""
    write_config(home / "config")
    monkeypatch.setenv("MEI_CONFIG", str(home / "config"))
    fill_lake(mei_settings, drift=0.004)
    return mei_settings


def test_one_object_for_machines(filled: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--profile", "smoke", "--as-of", "2025-03-02T00:00Z", "--json"], nightly) == 0
    printed = capfd.readouterr()
    told = json.loads(printed.out)
    assert {name: told[name] for name in ("candles", "symbols", "combos", "candidates", "as_of_ms")} == {
        "candles": 60 * 24 * 3,
        "symbols": 3,
        "combos": 12,
        "candidates": 3,
        "as_of_ms": AS_OF_MS,
    }
    held = {pointer.lane: pointer.config_id for pointer in lane_pointers(open_registry(filled.registry))}
    assert {item["lane"]: item["config_id"] for item in told["promoted"]} == held
    assert told["runs"]["ingest"] is None
    assert told["seconds"] > 0
    assert "combos: 12 of 12" in printed.err


def test_a_summary_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = CandidateLine(7, "c" * 64, YES, 1.5, 1.25, 12.5, 3.5, 40, None, (), (), "every gate passed")
    fallen = CandidateLine(8, "d" * 64, NO, 1.0, -0.25, -2.5, 9.5, 4, -1.0, ("min_sharpe",), (), "-0.25 is below 1")
    unknown = CandidateLine(
        9, "e" * 64, NO, 2.0, 1.0, 2.5, 1.5, 70, 1.0, (), ("min_holdout_symbols_sharpe",), "nothing"
    )
    lanes = (LaneLine("paper1", "c" * 64, YES, "the best that passed"), LaneLine("paper2", "", NO, "none is left"))
    summary = NightSummary(
        night="9" * 64,
        run_id="run",
        profile="smoke",
        as_of_ms=AS_OF_MS,
        ingested=IngestSummary("in", 4321, 7, 0),
        candles=60 * 24,
        symbols=("AAA", "BBB"),
        dropped={"CCC": "a gap"},
        combos=12,
        rejected={"with too few trades": 5},
        candidates=(chosen, fallen, unknown),
        lanes=lanes,
        pruned=PruneReport(("a", "b"), ("c",), 2_500_000),
        seconds=1.25,
    )
    show(summary)
    said = capsys.readouterr().out
    for piece in (
        "ingested    4,321 new bars, 7 revised, 0 refused",
        f"run         {'9' * 16}, profile smoke, as of 2025-03-02",
        "candles     1,440 bars of 2 symbols: AAA, BBB",
        "excluded    CCC: a gap",
        "combos      12",
        "5 with too few trades",
        "Candidates, on out-of-sample days",
        "min_sharpe",
        "Lanes",
        "removed     2 old sweeps and 1 sets of features, 2.5 MB",
        f"promoted    paper1: mei registry show {'c' * 12}",
        f"report      mei report --night {'9' * 16}",
        "(1.2 s in all)",
    ):
        assert piece in said
    assert "no evidence for" in said
    assert said.count("rejected at") == 1
    show(replace(summary, ingested=IngestSummary(), candidates=(), lanes=lanes[1:]))
    said = capsys.readouterr().out
    assert "ingested    nothing: pipeline.yaml has no sources" in said
    assert "Candidates, on out-of-sample days" not in said
    assert "promoted    nothing" in said


@pytest.mark.long
@pytest.mark.usefixtures("filled")
def test_tables_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--profile", "smoke", "--as-of", "last"], nightly) == 0
    printed = capfd.readouterr().out
    for piece in (
        "ingested    nothing: pipeline.yaml has no sources",
        "combos      12",
        "Candidates, on out-of-sample days",
        "Lanes",
        "paper1",
    ):
        assert piece in printed
    assert printed.splitlines()[-1].startswith("next        mei ui")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--profile", "smok"], 2, "no profile 'smok'"),
        (["--as-of", "yesterday"], 2, "write an ISO time"),
        (["--as-of", "2025-13-01"], 2, "write an ISO time"),
        (["--profile", "smoke", "--as-of", "2025-06-01"], 3, "Run `mei ingest`"),
        (["--profile", "smoke", "--as-of", "2025-01-02T00:00Z"], 2, "start before the anchor"),
        (["--profile", "smoke"], 3, "Run `mei ingest`"),
    ],
)
def test_what_can_not_run_says_why(
    filled: Settings, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, told: str
) -> None:
    assert filled.lake.exists()
    assert run(arguments, nightly) == code
    printed = capfd.readouterr()
    assert told in printed.err
    assert printed.out == ""
    if filled.dagster.exists():
        with open_instance(filled, load_config(filled.config)) as instance:
            # A failed run turns the checks of the last night red: only a night of now may have one.
            assert len(instance.get_runs()) == (arguments == ["--profile", "smoke"])
