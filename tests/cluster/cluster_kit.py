"""A Ray cluster of two nodes and an S3 server, both on loopback, and a sweep that takes some seconds."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
_STORE_BYTES = 80_000_000  # of objects, the least that Ray takes


@dataclass(frozen=True)
class Search:
    """A sweep with what it reads."""

    plan: SweepPlan
    window: Window
    features: FeatureSet

    def run(self, settings: Settings, engine: Engine | None = None, progress: Progress = silent) -> SweepReport:
        return run_sweep(settings, self.plan, self.window, self.features, engine=engine, progress=progress)


def make_search(settings: Settings, **changes: object) -> Search:
    """120 combos in 24 chunks, unless changed."""
    axes = {
        "trade.sl_atr_mult": (1.5, 2.0, 2.5, 3.0, 3.5),
        "indicators.ema_fast_window": (5, 9, 13, 15),
        "indicators.ema_slow_window": (21, 25, 29, 34, 40, 50),
    }
    bars = load_bars(fill_lake(settings), VENUE, "1h", SYMBOLS, START_MS, START_MS + 60 * DAY_MS)
    plan = make_plan(spec(**({"axes": axes} | changes)), bars, START_MS + 10 * DAY_MS, START_MS + 50 * DAY_MS)
    features = build_features(bars, plan.columns(), settings.features)
    return Search(plan, window(bars, plan.from_ms, plan.to_ms), features)


@contextmanager
def two_nodes(environment: Mapping[str, str]) -> Iterator[Any]:
    """A running cluster, `ray.cluster_utils.Cluster`, of two nodes with a processor each."""
    os.environ.update({**RAY, **environment})  # nodes inherit it, and so do their workers
    from ray.cluster_utils import Cluster

    node = {
        "num_cpus": 1,
        "node_ip_address": LOOPBACK,
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
    }
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()


def drive(address: str) -> None:
    """Run the sweep of `make_search` on the cluster, as a process of its own does that a test kills."""
    settings = read_settings()
    report = make_search(settings).run(settings, Engine(run="ray", address=address), lambda *told: print(*told[:2]))
    print("finished", report.engine, flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    drive(sys.argv[1])
