"""What is forgotten, and what never is."""

import os
from pathlib import Path

import pytest
from market_kit import fill_lake, write_config

from mei_pipeline import files, night
from mei_pipeline.housekeeping import Pruned, prune
from mei_pipeline.params.identity import Resolved, make_resolved
from mei_pipeline.params.table import read_catalog
from mei_pipeline.registry.engine import open_registry
from mei_pipeline.registry.records import Basis, Occasion
from mei_pipeline.registry.store import add_config, add_evidence
from mei_pipeline.settings import Settings

DAY_MS = 86_400_000
NOW_MS = 1_735_689_600_000 + 400 * DAY_MS


def sweep(settings: Settings, number: int, days_ago: float) -> Path:
    """A sweep's folder with a result, written some days ago; its data is named by its number."""
    folder = settings.sweeps / f"{number:016x}"
    files.write_json(folder / "plan.json", {"data_hash": f"data {number}", "kernels": "rules"})
    files.write_bytes(folder / "chunks" / "000000.parquet", b"x" * 100)
    return aged(folder, days_ago)


def columns(settings: Settings, number: int, days_ago: float) -> Path:
    """Feature columns over the data of that number."""
    folder = settings.features / f"{number:016x}"
    files.write_json(folder / "features.json", {"data": f"data {number}", "kernels": "rules"})
    files.write_bytes(folder / "columns.npy", b"x" * 100)
    return aged(folder, days_ago)


def aged(folder: Path, days_ago: float) -> Path:
    seconds = (NOW_MS - days_ago * DAY_MS) / 1000
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (seconds, seconds))
    return folder


def resolved() -> Resolved:
    return make_resolved(
        read_catalog(),
        strategy="ema_cross",
        venue="test",
        interval="1h",
        symbols=["AAA"],
        initial_balance_usd=1000.0,
        params={},
        market={},
    )


def remember(settings: Settings, number: int) -> None:
    """Store a config whose evidence names the sweep and the data of that number."""
    registry = open_registry(settings.registry)
    occasion = Occasion(NOW_MS, "a test", "why not", "test")
    config_id = add_config(registry, resolved(), occasion)
    basis = Basis("rules", {}, "test", f"data {number}", 0)
    add_evidence(registry, config_id, basis, {"sweep_id": f"{number:016x}" + "0" * 48}, occasion)


def names(root: Path) -> list[int]:
    return sorted(int(path.name, 16) for path in root.iterdir())


def test_the_newest_stay(mei_settings: Settings) -> None:
    for number in range(6):
        sweep(mei_settings, number, days_ago=10 + number)
        columns(mei_settings, number, days_ago=10 + number)
    done = prune(mei_settings, 2, NOW_MS)
    assert names(mei_settings.sweeps) == names(mei_settings.features) == [0, 1]
    assert (len(done.sweeps), len(done.features)) == (4, 4)
    assert done.bytes > 8 * 100


def test_what_evidence_names_stays(mei_settings: Settings) -> None:
    for number in range(5):
        sweep(mei_settings, number, days_ago=10 + number)
        columns(mei_settings, number, days_ago=10 + number)
    remember(mei_settings, 4)
    prune(mei_settings, 1, NOW_MS)
    assert names(mei_settings.sweeps) == names(mei_settings.features) == [0, 4]


def test_the_current_night_stays(mei_settings: Settings, tmp_path: Path) -> None:
    fill_lake(mei_settings)
    as_of_ms = 1_735_689_600_000 + 60 * DAY_MS
    plan = night.plan_night(mei_settings, write_config(tmp_path / "config"), "smoke", as_of_ms)
    night.write_plan(mei_settings, plan)
    bars = night.night_bars(mei_settings, plan)
    built = aged(night.night_features(mei_settings, plan, bars).folder, 90)
    current = mei_settings.sweeps / plan.sweep.id[:16]
    files.write_json(current / "plan.json", {"data_hash": plan.sweep.data_hash, "kernels": plan.sweep.kernels})
    aged(current, 90)
    sweep(mei_settings, 1, days_ago=10)
    sweep(mei_settings, 2, days_ago=11)
    done = prune(mei_settings, 1, NOW_MS)
    assert current.exists()
    assert built.exists()
    assert done.sweeps == (f"{2:016x}",)


def test_results_outside_the_home_stay_with_their_columns(mei_settings: Settings, tmp_path: Path) -> None:
    shared = mei_settings.model_copy(update={"sweeps_at": str(tmp_path / "shared")})
    for number in range(3):
        sweep(shared, number, days_ago=10 + number)
        columns(shared, number, days_ago=10 + number)
    assert prune(shared, 1, NOW_MS) == Pruned((), (), 0)
    assert names(shared.sweeps) == names(shared.features) == [0, 1, 2]


def test_what_was_written_today_stays(mei_settings: Settings) -> None:
    for number in range(3):
        sweep(mei_settings, number, days_ago=0.1 * number)
        columns(mei_settings, number + 10, days_ago=0.1)
    assert prune(mei_settings, 1, NOW_MS) == Pruned((), (), 0)


def test_a_sweep_that_is_running_stays(mei_settings: Settings) -> None:
    sweep(mei_settings, 0, days_ago=10)
    old = sweep(mei_settings, 1, days_ago=11)
    with files.locked(old / "lock", "a sweep is running"):
        aged(old, 11)
        assert prune(mei_settings, 1, NOW_MS).sweeps == ()
    aged(old, 11)
    assert prune(mei_settings, 1, NOW_MS).sweeps == (old.name,)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_columns_that_nobody_can_name_go(mei_settings: Settings, content: str) -> None:
    folder = columns(mei_settings, 3, days_ago=5)
    (folder / "features.json").write_text(content)
    aged(folder, 5)
    assert prune(mei_settings, 5, NOW_MS).features == (folder.name,)


def test_a_removal_that_was_cut_off_is_finished(mei_settings: Settings) -> None:
    sweep(mei_settings, 0, days_ago=10)
    half = mei_settings.sweeps / f".{1:016x}.removed"
    (half / "chunks").mkdir(parents=True)
    prune(mei_settings, 1, NOW_MS)
    assert not half.exists()
    assert names(mei_settings.sweeps) == [0]


def test_nothing_to_do_in_an_empty_home(mei_settings: Settings) -> None:
    assert prune(mei_settings, 1, NOW_MS) == Pruned((), (), 0)
