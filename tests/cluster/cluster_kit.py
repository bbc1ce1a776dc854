"""A Ray cluster of two nodes and an S3 server, both on loopback, and a sweep that takes some seconds."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from market_kit import DAY_MS, START_MS, SYMBOLS, VENUE, fill_lake, spec

from mei_pipeline.config.models import Engine
from mei_pipeline.features import FeatureSet, build_features
from mei_pipeline.market import Window, load_bars, window
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings, read_settings
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

    def run(self, settings: Settings, engine: Engine | None = None, progress: Progress = silent) -> SweepReport:
        return run_sweep(settings, self.plan, self.window, self.features, engine=engine, progress=progress)


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
    return Search(plan, window(bars, plan.from_ms, plan.to_ms), features)


def make_long_search(settings: Settings) -> Search:
    """24,000 combos in 24 chunks, each of which takes a processor some tenths of a second."""
    return make_search(settings, stops=1000, chunk_combos=1000)


@contextmanager
def two_nodes(environment: Mapping[str, str]) -> Iterator[Any]:
    """A running cluster, `ray.cluster_utils.Cluster`, of two nodes with a processor each."""
    os.environ.update({**RAY, **environment})  # nodes inherit it, and so do their workers
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()


def told(done: int, total: int, *_: object) -> None:
    """Progress, for who reads this process's output."""
    sys.stdout.write(f"done {done} of {total}\n")
    sys.stdout.flush()


if __name__ == "__main__":  # a driver that a test may kill
    here = read_settings()
    make_long_search(here).run(here, Engine(run="ray", address=sys.argv[1]), told)
