"""A small synthetic market, its configuration, and what tests ask of Dagster."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from policy_kit import policy_text

from assets.graph import definitions
from assets.run import open_instance
from mei_pipeline.cli.nightly import NightSummary
from mei_pipeline.config.load import Configuration, load_config
from mei_pipeline.settings import Settings

DAY_MS = 86_400_000
FROM_MS = 1_735_689_600_000  # 2025-01-01
AS_OF, AS_OF_MS = "2025-04-01T00:00Z", FROM_MS + 90 * DAY_MS
PROFILE = "smoke"

PIPELINE = """\
venue: synthetic
start: 2025-01
intervals: [1h]
anchors: {{1h: 2025-01-01T00:00:00Z}}
sources:
  - kind: synthetic
    seed: 11
    symbols: ["AAA/USDT:USDT", "BBB/USDT:USDT", "NO"]
    from: 2025-01-01
    to: 2025-04-01
    edge_sharpe: 8
window: {{days: 80, holdout_days: 16}}
profiles: {{smoke: {{sweep: smoke}}, nightly: {{sweep: smoke}}}}
automation: {automation}
retention: {{sweeps_keep: 3}}
"""
SWEEP = """\
strategy: ema_cross
interval: 1h
params: {entry.warmup_bars: 50}
chunk_combos: 5
axes:
  indicators.ema_fast_window: [5, 9, 13]
  indicators.ema_slow_window: [21, 34]
  trade.sl_atr_mult: [1.5, 3.0]
"""
LANES = {"paper1": "primary", "paper2": "fallback"}


@dataclass(frozen=True)
class World:
    """A home after one night, for one test alone.

    Attributes:
        settings: Its settings; the environment says the same.
        config: Its configuration.
        summary: What the night did.
    """

    settings: Settings
    config: Configuration
    summary: NightSummary


def write_config(folder: Path, *, automation: str = "off", **policy: object) -> Configuration:
    """A configuration folder, and what it says; `policy` is what `policy_kit.policy` is told."""
    (folder / "sweeps").mkdir(parents=True, exist_ok=True)
    (folder / "lanes").mkdir(exist_ok=True)
    (folder / "pipeline.yaml").write_text(PIPELINE.format(automation=automation))
    (folder / "policy.yaml").write_text(policy_text(**policy))
    (folder / "sweeps" / "smoke.yaml").write_text(SWEEP)
    for name, role in LANES.items():
        (folder / "lanes" / f"{name}.yaml").write_text(f"mode: paper\nvenue: synthetic\nrole: {role}\n")
    return load_config(folder)


@contextmanager
def graph(world: World) -> Iterator[tuple[dg.Definitions, dg.DagsterInstance]]:
    """The definitions and the instance of a home."""
    with open_instance(world.settings, world.config) as instance:
        yield definitions(world.config), instance


def metadata_of(instance: dg.DagsterInstance, asset: str) -> Mapping[str, Any]:
    """Metadata of the newest materialization of an asset."""
    event = instance.get_latest_materialization_event(dg.AssetKey(asset.split("/")))
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization.metadata


def check_results(instance: dg.DagsterInstance, run_id: str) -> dict[tuple[str, str], bool]:
    """Asset and check to whether it passed, of the checks that a run evaluated."""
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = {}
    for entry in entries:
        assert entry.dagster_event is not None
        evaluation = entry.dagster_event.asset_check_evaluation_data
        found[evaluation.asset_key.to_user_string(), evaluation.check_name] = evaluation.passed
    return found
