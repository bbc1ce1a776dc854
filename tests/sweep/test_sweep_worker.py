"""What a node of a cluster does, without a cluster: published inputs, chunks from them, and what is refused."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from market_kit import DAY_MS, START_MS, SYMBOLS, VENUE, fill_lake, spec
from polars.testing import assert_frame_equal
from result_kit import read_results

from kernels.cache import source_hash
from kernels.market import Market
from mei_pipeline.config.models import Compute
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.feature_sets import build_features
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.window import cut_window
from mei_pipeline.storage import Store
from mei_pipeline.sweep.cluster import task_counts
from mei_pipeline.sweep.inputs import FOLDER, SweepInputs, publish_inputs, read_inputs
from mei_pipeline.sweep.launches import Chunk
from mei_pipeline.sweep.plan import make_plan
from mei_pipeline.sweep.results import CHUNKS, chunk_path
from mei_pipeline.sweep.run import run_sweep
from mei_pipeline.sweep.worker import WorkerJob, ready, work

FROM_MS, TO_MS = START_MS + 10 * DAY_MS, START_MS + 50 * DAY_MS


@pytest.fixture
def inputs(mei_settings: Settings) -> SweepInputs:
    bars = load_bars(fill_lake(mei_settings), VENUE, "1h", SYMBOLS, START_MS, START_MS + 60 * DAY_MS)
    plan = make_plan(spec(symbol_params={"BBB": {"trade.sl_atr_mult": 2.5}}), bars, FROM_MS, TO_MS)
    return SweepInputs(
        plan, cut_window(bars, FROM_MS, TO_MS), build_features(bars, plan.columns(), mei_settings.features)
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "shared" / "0123")


def job(store: Store, inputs: SweepInputs, **changes: object) -> WorkerJob:
    """What a worker is told after the inputs were published."""
    told = WorkerJob(str(store.folder), "", publish_inputs(store, inputs), inputs.plan.kernels, threads=1, gpus=0.0)
    return dataclasses.replace(told, **changes)


def numbers(inputs: SweepInputs, index: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    places = inputs.plan.chunk(index)
    return np.arange(places.start, places.stop, dtype=np.int64)


def test_inputs_are_read_as_they_were_published(inputs: SweepInputs, store: Store) -> None:
    found = read_inputs(store, publish_inputs(store, inputs))
    assert found.plan.id == inputs.plan.id
    assert found.plan.chunk_combos == inputs.plan.chunk_combos
    assert dataclasses.replace(found.window, market=None) == dataclasses.replace(inputs.window, market=None)
    for name in Market._fields:
        here, there = getattr(inputs.window.market, name), getattr(found.window.market, name)
        assert (here.dtype, here.flags.c_contiguous) == (there.dtype, there.flags.c_contiguous)
        assert there.flags.writeable  # read-only arrays would be compiled for anew
        np.testing.assert_array_equal(here, there)
    assert found.features.columns == inputs.features.columns
    np.testing.assert_array_equal(found.features.values, inputs.features.values)


def test_publishing_twice_is_publishing_once(inputs: SweepInputs, store: Store) -> None:
    first = publish_inputs(store, inputs)
    stamps = {path.name: path.stat().st_mtime_ns for path in (store.folder / FOLDER).glob("*.npy")}
    assert publish_inputs(store, inputs) == first
    assert {path.name: path.stat().st_mtime_ns for path in (store.folder / FOLDER).glob("*.npy")} == stamps


def test_a_damaged_array_is_named(inputs: SweepInputs, store: Store) -> None:
    digest = publish_inputs(store, inputs)
    path = max((store.folder / FOLDER).glob("*.npy"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{path.name}: damaged: its content has another hash"):
        read_inputs(store, digest)
    path.write_bytes(data[:50])
    with pytest.raises(DataError, match=rf"{path.name}: unreadable"):
        read_inputs(store, digest)


def test_a_damaged_or_missing_note_is_named(inputs: SweepInputs, store: Store) -> None:
    digest = publish_inputs(store, inputs)
    path = store.folder / FOLDER / f"{digest}.json"
    path.write_bytes(path.read_bytes().replace(b"1.5", b"1.6"))
    with pytest.raises(DataError, match=rf"{digest}\.json: damaged"):
        read_inputs(store, digest)
    path.unlink()
    with pytest.raises(DataError, match=r"file is missing; share the folder of results with this machine"):
        read_inputs(store, digest)


def test_chunks_of_a_worker_are_those_of_the_driver(mei_settings: Settings, inputs: SweepInputs, store: Store) -> None:
    told = job(store, inputs)
    assert ready(told) == "cpu"
    work(told, [Chunk(2, numbers(inputs, 2))])
    work(told, [Chunk(index, numbers(inputs, index)) for index in range(inputs.plan.chunks)])
    here = run_sweep(mei_settings, inputs.plan, inputs.window, inputs.features)
    assert_frame_equal(
        read_results(store.folder, inputs.plan), read_results(here.folder, inputs.plan), check_exact=True
    )
    for index in range(inputs.plan.chunks):
        pair = [chunk_path(folder, inputs.plan, index).read_bytes() for folder in (here.folder, store.folder)]
        assert pair[0] == pair[1]


def test_a_chunk_that_an_earlier_try_had_done_is_not_done_again(inputs: SweepInputs, store: Store) -> None:
    told = job(store, inputs)
    work(told, [Chunk(0, numbers(inputs, 0))])
    path = chunk_path(store.folder, inputs.plan, 0)
    stamp = path.stat().st_mtime_ns
    work(told, [Chunk(0, numbers(inputs, 0))])
    assert path.stat().st_mtime_ns == stamp
    assert [found.name for found in (store.folder / CHUNKS).iterdir()] == [path.name]


def test_other_kernels_are_refused(inputs: SweepInputs, store: Store) -> None:
    told = job(store, inputs, kernels="0" * 64)
    assert source_hash() != told.kernels
    with pytest.raises(
        ConfigError, match=r"worker \S+: its kernels differ from those of the driver; install the same version of MEI"
    ):
        ready(told)


def test_a_folder_that_the_worker_does_not_see_is_named(inputs: SweepInputs, store: Store, tmp_path: Path) -> None:
    told = job(store, inputs, folder=str(tmp_path / "elsewhere" / "0123"))
    with pytest.raises(DataError, match=r"worker \S+: .*elsewhere/0123/inputs/.*share the folder of results"):
        work(told, [Chunk(0, numbers(inputs, 0))])


def test_a_gpu_that_would_stand_idle_is_refused(inputs: SweepInputs, store: Store) -> None:
    with pytest.raises(
        ConfigError, match=r"worker \S+: --device cuda: no GPU in use: .*; or set compute\.gpus_per_task to 0"
    ):
        ready(job(store, inputs, gpus=1.0))


def test_without_ray_the_extra_is_named(
    mei_settings: Settings, inputs: SweepInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    with pytest.raises(ConfigError, match="ray is not installed; install the extra `cluster` of mei"):
        run_sweep(mei_settings, inputs.plan, inputs.window, inputs.features, compute=Compute(backend="ray"))


def node(name: str, *, alive: bool = True, **resources: float) -> dict[str, object]:
    return {"NodeID": name, "Alive": alive, "NodeManagerHostname": f"host-{name}", "Resources": resources}


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"),
    [
        (1, 0.0, {"a": 8, "b": 2}),
        (4, 0.0, {"a": 2}),
        (1, 1.0, {"a": 2}),
        (1, 0.25, {"a": 8}),
        (1, 0.1, {"a": 8}),
        (3, 0.5, {"a": 2}),
    ],
)
def test_slots_are_what_processors_and_gpus_allow(cpus: int, gpus: float, expected: dict[str, int]) -> None:
    nodes = [node("a", CPU=8.0, GPU=2.0), node("b", CPU=2.0), node("c", alive=False, CPU=64.0), node("head")]
    assert task_counts(nodes, Compute(backend="ray", cpus_per_task=cpus, gpus_per_task=gpus)) == expected


def test_a_cluster_that_can_not_run_one_task_says_what_it_has() -> None:
    with pytest.raises(ConfigError, match=r"no node has 4 CPU and 1 GPU.*the cluster has host-a: 8 CPU, 0 GPU$"):
        task_counts([node("a", CPU=8.0)], Compute(backend="ray", cpus_per_task=4, gpus_per_task=1))
    with pytest.raises(ConfigError, match="the cluster has none"):
        task_counts([node("a", alive=False, CPU=8.0)], Compute(backend="ray"))
