"""A sweep on two nodes ends as it does here, whoever dies meanwhile."""

import dataclasses
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_kit import Nodes, Search, driver, make_long_search, make_search
from market_kit import write_config

from mei_pipeline.cli import main
from mei_pipeline.config.models import Compute
from mei_pipeline.errors import Busy, ConfigError, Retryable
from mei_pipeline.settings import Settings
from mei_pipeline.storage import open_bucket
from mei_pipeline.sweep.results import CHUNKS

# Ray leaves sockets and processes to the garbage collector.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def ray_compute(cluster: Nodes) -> Compute:
    return Compute(backend="ray", address=cluster.address)


@pytest.fixture
def shared(mei_settings: Settings, tmp_path: Path) -> Settings:
    """A driver that keeps its results on a path that all machines see."""
    return mei_settings.model_copy(update={"sweeps_at": str(tmp_path / "shared")})


def chunks_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / CHUNKS).iterdir()}


def test_results_on_a_shared_path_are_those_of_this_machine_byte_for_byte(
    mei_settings: Settings, shared: Settings, ray_compute: Compute
) -> None:
    search = make_search(mei_settings)
    here = search.run(mei_settings)
    there = search.run(shared, ray_compute)
    assert there.device == "ray: 2 nodes, 2 tasks at a time, on cpu"
    assert (there.combos, there.resumed) == (120, 0)
    assert there.folder != here.folder
    assert chunks_of(there.folder) == chunks_of(here.folder)
    assert search.run(shared).resumed == 120


def test_a_driver_outside_the_cluster_gets_the_same(
    mei_settings: Settings, cluster: Nodes, cache: Path, tmp_path: Path
) -> None:
    search = make_search(mei_settings)
    # A process that has joined a cluster can't be a client of one: Ray keeps state.
    with driver(cluster.client_address, cache, tmp_path / "away", tmp_path / "shared", "make_search") as process:
        said, _ = process.communicate()
    assert process.returncode == 0
    assert said.endswith("done 120 of 120\nray: 2 nodes, 2 tasks at a time, on cpu")
    assert chunks_of(tmp_path / "shared" / search.plan.id[:16]) == chunks_of(search.run(mei_settings).folder)


@pytest.mark.usefixtures("credentials")
def test_results_in_a_bucket_are_those_of_this_machine_and_another_machine_finds_them(
    mei_settings: Settings, tmp_path: Path, ray_compute: Compute, bucket: str
) -> None:
    search = make_search(mei_settings)
    here = search.run(mei_settings)
    url = bucket.format("mei/sweeps")
    there = search.run(mei_settings.model_copy(update={"home": tmp_path / "driver", "sweeps_at": url}), ray_compute)
    assert chunks_of(there.folder) == chunks_of(here.folder)
    kept = open_bucket(url).below(there.folder.name)
    assert kept.names(CHUNKS) == {f"{CHUNKS}/{name}" for name in chunks_of(here.folder)}
    assert kept.has("plan.json")
    other = mei_settings.model_copy(update={"home": tmp_path / "other", "sweeps_at": url})
    again = search.run(other)
    assert again.resumed == 120
    assert chunks_of(again.folder) == chunks_of(here.folder)


@pytest.mark.usefixtures("credentials")
def test_this_machine_alone_can_keep_its_results_in_a_bucket(mei_settings: Settings, bucket: str) -> None:
    search = make_search(mei_settings)
    settings = mei_settings.model_copy(update={"sweeps_at": bucket.format("alone")})
    folder = search.run(settings).folder
    kept = open_bucket(settings.sweeps_bucket).below(folder.name)
    assert kept.names(CHUNKS) == {f"{CHUNKS}/{name}" for name in chunks_of(folder)}


def test_chunks_of_a_killed_node_are_done_by_the_others(
    mei_settings: Settings, shared: Settings, cluster: Nodes, ray_compute: Compute
) -> None:
    search = make_long_search(mei_settings)
    doomed = [cluster.add()]

    def kill_one(done: int, *_: object) -> None:
        if done and doomed:  # each node has a chunk at work, and one waiting
            cluster.kill(doomed.pop())

    there = search.run(shared, ray_compute, kill_one)
    assert there.device.startswith("ray: 3 nodes, 3 tasks at a time")
    assert doomed == []
    assert chunks_of(there.folder) == chunks_of(search.run(mei_settings).folder)


@pytest.fixture
def half_done(cluster: Nodes, cache: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the long search on the cluster, and has done a chunk of it."""
    with driver(cluster.address, cache, tmp_path / "home", tmp_path / "shared", "make_long_search") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("done ") and not line.startswith("done 0 "):
                break
        yield process


def test_a_sweep_whose_driver_is_killed_resumes_and_ends_identical(
    mei_settings: Settings, shared: Settings, ray_compute: Compute, half_done: subprocess.Popen[str], tmp_path: Path
) -> None:
    search = make_long_search(mei_settings)
    half_done.send_signal(signal.SIGSTOP)
    elsewhere = shared.model_copy(update={"sweeps_at": str(tmp_path / "elsewhere")})
    with pytest.raises(Busy, match="is running on this cluster, from another process or machine"):
        search.run(elsewhere, ray_compute)
    with pytest.raises(Busy, match=rf"lock: sweep {search.plan.id[:16]} is running, process {half_done.pid}"):
        search.run(shared, ray_compute)
    half_done.kill()
    half_done.wait()
    report = search.run(shared, ray_compute)
    assert 0 < report.resumed < report.combos
    assert chunks_of(report.folder) == chunks_of(search.run(mei_settings).folder)


def test_a_worker_with_other_kernels_is_named(mei_settings: Settings, shared: Settings, ray_compute: Compute) -> None:
    search = make_search(mei_settings)
    foreign = Search(dataclasses.replace(search.plan, kernels="0" * 64), search.window, search.features)
    with pytest.raises(ConfigError, match=r"worker \S+: its kernels differ from those of the driver; install"):
        foreign.run(shared, ray_compute)


def test_a_cluster_without_gpus_is_refused(mei_settings: Settings, shared: Settings, ray_compute: Compute) -> None:
    device = ray_compute.model_copy(update={"gpus_per_task": 1.0})
    with pytest.raises(ConfigError, match=r"no node has 1 CPU and 1 GPU.*the cluster has \S+: 1 CPU, 0 GPU"):
        make_search(mei_settings).run(shared, device)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "no.such.host.invalid:6379"])
def test_an_address_where_nothing_listens_is_named_at_once(mei_settings: Settings, address: str) -> None:
    with pytest.raises(Retryable, match=f"no Ray cluster at {address}: .*start it with `ray start --head`"):
        make_search(mei_settings).run(mei_settings, Compute(backend="ray", address=address))


@pytest.mark.usefixtures("credentials")
def test_a_bucket_that_is_not_there_is_an_error_before_work_starts(mei_settings: Settings, bucket: str) -> None:
    search = make_search(mei_settings)
    missing = mei_settings.model_copy(update={"sweeps_at": bucket.format("x").replace("results", "nothing")})
    with pytest.raises(ConfigError, match="bucket 'nothing' does not exist; create it"):
        search.run(missing)
    assert list((missing.sweeps / search.plan.id[:16]).glob(CHUNKS)) == []


@pytest.mark.usefixtures("credentials")
def test_without_credentials_the_error_says_where_they_come_from(
    mei_settings: Settings, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    search = make_search(mei_settings)
    settings = mei_settings.model_copy(update={"sweeps_at": bucket.format("secret")})
    search.run(settings)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match=r"access denied; MEI uses the variables AWS_ACCESS_KEY_ID"):
        search.run(settings.model_copy(update={"home": tmp_path / "other"}))


@pytest.mark.usefixtures("credentials")
def test_an_s3_server_that_is_down_is_an_error_before_work_starts(mei_settings: Settings) -> None:
    url = "s3://results/x?endpoint=http://127.0.0.1:9&region=us-east-1"
    with pytest.raises(Retryable, match="NETWORK_CONNECTION"):
        make_search(mei_settings).run(mei_settings.model_copy(update={"sweeps_at": url}))


def test_the_command_runs_on_the_cluster_as_pipeline_yaml_says(
    mei_settings: Settings,
    ray_compute: Compute,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    make_search(mei_settings)
    write_config(tmp_path / "config")
    with (tmp_path / "config" / "pipeline.yaml").open("a") as file:
        file.write(f"compute: {{backend: ray, address: '{ray_compute.address}'}}\n")
    monkeypatch.setenv("MEI_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("MEI_SWEEPS", str(tmp_path / "shared"))
    assert main.run(["sweep", "smoke", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["device"] == "ray: 2 nodes, 2 tasks at a time, on cpu"
    assert Path(said["folder"]).parent == tmp_path / "shared"
