"""What every test gets: an empty home of its own, and the same examples in every run; and how tests share workers."""

import gc
import itertools
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from example_kit import THOROUGH
from hypothesis import settings

from kernels.cache import use_cache
from mei_pipeline.settings import VARIABLES, Settings, read_settings

# The first call of a kernel compiles it, so a deadline per example measures the compiler.
settings.register_profile("mei", deadline=None, derandomize=True, max_examples=THOROUGH // 5)
settings.register_profile("thorough", deadline=None, derandomize=True, max_examples=THOROUGH)
settings.load_profile("mei")

pytest_plugins = ["registry_fixtures", "selection_fixtures"]  # fixtures that several folders use

TOGETHER = {
    "tests/test_documents.py": "tests/cli/test_cli_demo.py",
    "tests/assets/test_assets_sensors.py": "tests/assets/test_assets_night.py",
    "tests/assets/test_assets_run_lock.py": "tests/assets/test_assets_night.py",
    "tests/assets/test_assets_pool.py": "tests/assets/test_assets_night.py",
    "tests/assets/test_assets_staleness.py": "tests/assets/test_assets_night.py",
    "tests/assets/test_assets_report.py": "tests/report/test_report.py",
    "tests/cli/test_cli_report.py": "tests/report/test_report.py",
    "tests/promotion/test_promotion_proposals.py": "tests/selection/test_selection_pipeline.py",
}
"""Files whose tests run in the worker of another file's, because both use the same finished homes."""

LONGEST = (
    "tests/cli/test_cli_demo.py",
    "tests/assets/test_assets_night.py",
    "tests/selection/test_selection_pipeline.py",
    "tests/cli/test_cli_ui.py",
    "tests/experiment/test_experiment_run.py",
    "tests/registry/test_registry_machine.py",
    "tests/backup/test_backup.py",
    "tests/candles/test_candles_crash.py",
    "tests/kernels/test_alpha_twin.py",
)
"""Files that take long although their tests are few: they start first, so that no worker ends the run alone."""


def place_of(nodeid: str) -> str:
    """The file whose worker runs a test."""
    file = nodeid.split("::", 1)[0]
    return TOGETHER.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give workers whole files, those of `TOGETHER` as one, in the order of the collection."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # `pytest_collection_modifyitems` has the order
    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = place_of  # noqa: SLF001 - xdist's documented place for another scope
    return scheduler


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker: the longest files first, then those with the most tests."""
    if not hasattr(config, "workerinput"):
        return
    counts: dict[str, int] = {}
    for item in items:
        place = place_of(item.nodeid)
        counts[place] = counts.get(place, 0) + 1
    ranks = {place: rank for rank, place in enumerate(LONGEST)}

    def order(item: pytest.Item) -> tuple[int, int, str, str]:
        place = place_of(item.nodeid)
        return ranks.get(place, len(ranks)), -counts[place], place, item.nodeid.split("::", 1)[0]

    items.sort(key=order)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, Any]:
    """Let every second worker import the files of the tests in reverse order.

    In a new clone the worker that imports a file first rewrites its assertions, or compiles it, for all. In the same
    order two workers do so at the same time, and each for all files; in opposite orders each does half of them.
    """
    report = yield
    worker = getattr(collector.config, "workerinput", {"workerid": "gw0"})["workerid"]
    if isinstance(collector, pytest.Dir) and int(worker.removeprefix("gw")) % 2:
        report.result.reverse()
    return report


def keep_left_out(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Keep the names of the tests that other tiers run, for `.ci/left_out.py`; one worker does it for all."""
    # Without pytest's plugin `cacheprovider` there is no cache.
    if hasattr(config, "cache") and getattr(config, "workerinput", {"workerid": "gw0"})["workerid"] == "gw0":
        config.cache.set("mei/left-out", sorted(item.nodeid for item in items))


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    keep_left_out(items[0].config, items)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, Any, Any]:
    """Collect without the garbage collector: all that is loaded stays, and it would look through it again and again."""
    keep_left_out(session.config, ())
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Machine code of the kernels, compiled once for all tests and kept for the next run if pytest has a cache."""
    kept = hasattr(pytestconfig, "cache")
    return use_cache(pytestconfig.cache.mkdir("kernels") if kept else tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session", autouse=True)
def migrations_read_once() -> Generator[None]:
    """Read Dagster's migrations once: a new home looks through all 55 a dozen times, and they don't change."""
    read = ScriptDirectory.from_config
    known: dict[str, ScriptDirectory] = {}

    def from_config(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location") or ""
        if not place.startswith("dagster:"):
            return read(config)
        if place not in known:
            known[place] = read(config)
        return known[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


_tests = itertools.count()


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MEI_HOME of this test; nothing of the person who runs the tests is seen: variables, state, terminal."""
    for name in (*VARIABLES, "DAGSTER_HOME", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    # Most tests need no `tmp_path`, and making one looks through those of all tests before.
    own = tmp_path_factory.getbasetemp() / f"own-{next(_tests)}"
    own.mkdir()
    folder = own / "home"
    monkeypatch.setenv("MEI_HOME", str(folder))
    monkeypatch.setenv("MEI_KERNELS", str(own / "kernels"))  # a GPU's kernels; those of the checkout are its user's
    return folder


@pytest.fixture
def mei_settings(home: Path) -> Settings:  # noqa: ARG001 - it sets what is read here
    """The settings of this test's home."""
    return read_settings()
