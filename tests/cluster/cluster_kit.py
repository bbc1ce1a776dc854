"""A Ray cluster of two nodes and an S3 server, both on loopback, and a sweep that takes some seconds."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from market_kit import DAY_MS, START_MS, SYMBOLS, VENUE, fill_lake, spec

from mei_pipeline.config.models import Compute
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import CHECKOUT, Settings, read_settings
from mei_pipeline.simulation.feature_sets import FeatureSet, build_features
from mei_pipeline.simulation.loading import load_bars
from mei_pipeline.simulation.window import Window, cut_window
from mei_pipeline.sweep.plan import SweepPlan, make_plan
from mei_pipeline.sweep.run import SweepReport, run_sweep

LOOPBACK = "127.0.0.1"
BUCKET = "results"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # what Ray calls staying on loopback; read when ray is imported
}
NODE = {
    "num_cpus": 1,
    "node_ip_address": LOOPBACK,
    "include_dashboard": False,
    "object_store_memory": 80_000_000,  # about the least that Ray takes
}


@dataclass(frozen=True)
class Search:
    """A sweep with what it reads."""

    plan: SweepPlan
    window: Window
    features: FeatureSet

    def run(self, settings: Settings, compute: Compute | None = None, progress: Progress = silent) -> SweepReport:
        return run_sweep(settings, self.plan, self.window, self.features, compute=compute, progress=progress)


def make_search(settings: Settings, stops: int = 5, chunk_combos: int = 5) -> Search:
    """24 combos for each stop."""
    axes = {
        "trade.sl_atr_mult": tuple(float(value) for value in np.linspace(1.0, 5.0, stops)),
        "indicators.ema_fast_window": (5, 9, 13, 15),
        "indicators.ema_slow_window": (21, 25, 29, 34, 40, 50),
    }
    bars = load_bars(fill_lake(settings), VENUE, "1h", SYMBOLS, START_MS, START_MS + 60 * DAY_MS)
    sweep = spec(axes=axes, chunk_combos=chunk_combos)
    plan = make_plan(sweep, bars, START_MS + 10 * DAY_MS, START_MS + 50 * DAY_MS)
    features = build_features(bars, plan.columns(), settings.features)
    return Search(plan, cut_window(bars, plan.from_ms, plan.to_ms), features)


def make_long_search(settings: Settings) -> Search:
    """24,000 combos in 24 chunks, each of which takes a processor some tenths of a second."""
    return make_search(settings, stops=1000, chunk_combos=1000)


@dataclass(frozen=True)
class Nodes:
    """A running cluster.

    Attributes:
        address: Of its head, for a process on a node.
        client_address: Of its head, for a process that is on none.
        cluster: The `ray.cluster_utils.Cluster`.
    """

    address: str
    client_address: str
    cluster: Any

    def add(self) -> Any:
        return self.cluster.add_node(**NODE)

    def kill(self, node: Any) -> None:
        self.cluster.remove_node(node, allow_graceful=False)


@contextmanager
def two_nodes(environment: Mapping[str, str]) -> Iterator[Nodes]:
    """Two nodes with a processor each."""
    os.environ.update({**RAY, **environment})  # nodes inherit it, and so do their workers
    from ray.cluster_utils import Cluster

    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "ray_client_server_port": port})
    try:
        cluster.add_node(**NODE)
        yield Nodes(cluster.address, f"ray://{LOOPBACK}:{port}", cluster)
    finally:
        cluster.shutdown()


def told(done: int, total: int, *_: object) -> None:
    """Progress, for who reads this process's output."""
    sys.stdout.write(f"done {done} of {total}\n")
    sys.stdout.flush()


@contextmanager
def driver(address: str, cache: Path, home: Path, shared: Path, search: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a search, `make_search` or `make_long_search`, on the cluster, and tells of its progress."""
    environment = {
        **os.environ,
        "MEI_HOME": str(home),
        "MEI_SWEEPS": str(shared),
        "MEI_CACHE": str(cache),
        "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tests'}",
    }
    command = [sys.executable, __file__, address, search]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


if __name__ == "__main__":
    here = read_settings()
    chosen = {"make_search": make_search, "make_long_search": make_long_search}[sys.argv[2]](here)
    sys.stdout.write(chosen.run(here, Compute(backend="ray", address=sys.argv[1]), told).device)
