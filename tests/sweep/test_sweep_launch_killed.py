"""A process that is killed between the files of one launch: the next one does the rest, with equal bytes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from market_kit import DAY_MS, START_MS, VENUE, fill_lake, spec

from mei_pipeline.settings import Settings
from mei_pipeline.simulation.feature_sets import build_features
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.window import cut_window
from mei_pipeline.storage import Store
from mei_pipeline.sweep.inputs import SweepInputs, publish_inputs
from mei_pipeline.sweep.plan import make_plan
from mei_pipeline.sweep.results import CHUNKS, sweep_folder
from mei_pipeline.sweep.run import run_sweep

HERE = Path(__file__).parent
FROM_MS = START_MS + 10 * DAY_MS


@pytest.mark.long
@pytest.mark.parametrize("method", ["grid", "tpe"])
def test_a_launch_of_which_some_files_are_written_goes_on(mei_settings: Settings, method: str) -> None:
    settings = mei_settings.model_copy(update={"cache": mei_settings.home / "cache"})
    bars = load_bars(fill_lake(settings), VENUE, "1h", ("AAA",), START_MS, START_MS + 60 * DAY_MS)
    given = {"chunk_combos": 2}
    if method == "tpe":
        given |= {"method": method, "budget": 11, "batch": 1, "min_trades": 0, "lag": 4, "chunk_combos": 1}
    plan = make_plan(spec(**given), bars, FROM_MS, FROM_MS + 2 * DAY_MS)
    inputs = SweepInputs(
        plan,
        cut_window(bars, plan.from_ms, plan.to_ms, least_days=1),
        build_features(bars, plan.columns(), settings.features),
    )
    store = Store(mei_settings.home / "shared")
    note = publish_inputs(store, inputs)
    expected = files_of(
        run_sweep(
            settings.model_copy(update={"home": settings.home / "whole"}),
            plan,
            inputs.window,
            inputs.features,
            device="cpu",
        ).folder
    )
    assert len(expected) == plan.chunks > 5
    folder = sweep_folder(settings.sweeps, plan)
    for files in (1, 2, 2, 0):  # a grid has six
        words = [str(settings.home), str(store.folder), note, str(files), "100"]
        done = subprocess.run(
            [sys.executable, str(HERE / "launch_run.py"), *words],
            env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
            check=False,
        )
        assert done.returncode == (-signal.SIGKILL if files else 0)
        assert 0 < len(files_of(folder)) < plan.chunks or not files
    assert files_of(folder) == expected


def files_of(folder: Path) -> dict[str, bytes]:
    """The result files that are whole."""
    return {path.name: path.read_bytes() for path in sorted((folder / CHUNKS).glob("[!.]*.parquet"))}
