"""Nights over a small lake whose search is done: the stations of the selection can be run one by one."""

import io
import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from market_kit import DAY_MS, START_MS, fill_lake, write_config

from mei_pipeline.config.load import Configuration
from mei_pipeline.night.data import build_night_features, load_night_bars, search_window
from mei_pipeline.night.plan import NightPlan, plan_night
from mei_pipeline.night.store import night_folder, write_night_plan
from mei_pipeline.promotion.pipeline import ProposalResult, assign_lanes, propose_configs
from mei_pipeline.registry.database import open_registry
from mei_pipeline.registry.records import AuditContext
from mei_pipeline.selection.pipeline import judge_candidates, run_walk_forward, select_candidates
from mei_pipeline.selection.segments import Segment
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.run import run_sweep

DAYS = 60
EDGE = 0.0015
WIDE = {"window": "anchored", "train_blocks": 4, "test_blocks": 4, "embargo_days": 1}
"""Folds long enough for round trips, and few."""
NOW_MS = START_MS + DAYS * DAY_MS


@dataclass(frozen=True)
class Night:
    """A night whose search is done.

    Attributes:
        settings: Where it is.
        config: What it was planned by.
        plan: The night.
    """

    settings: Settings
    config: Configuration
    plan: NightPlan

    @property
    def folder(self) -> Path:
        """Where it keeps what it decided."""
        return night_folder(self.settings, self.plan)


def search(settings: Settings, config: Configuration, as_of_ms: int = NOW_MS) -> Night:
    """Plan a night and run its search."""
    plan = plan_night(settings, config, "smoke", as_of_ms)
    write_night_plan(settings, plan)
    bars = load_night_bars(settings, plan)
    features = build_night_features(settings, plan, bars)
    run_sweep(settings, plan.sweep, search_window(plan, bars), features)
    return Night(settings, config, plan)


def searched(settings: Settings, folder: Path, drift: float = EDGE, **options: object) -> Night:
    """Fill a lake, write a configuration into `folder`, and search."""
    fill_lake(settings, days=DAYS, drift=drift)
    return search(settings, write_config(folder, **{"walk_forward": WIDE} | options))


def judge(found: Night, now_ms: int = NOW_MS) -> None:
    """Every station up to the verdicts."""
    run_walk_forward(found.settings, found.plan)
    select_candidates(found.settings, found.plan)
    judge_candidates(found.settings, found.plan, open_registry(found.settings.registry), now_ms)


def deploy(found: Night, now_ms: int = NOW_MS) -> ProposalResult:
    """Every station after the verdicts, but for the moves."""
    assign_lanes(found.settings, found.config, found.plan, now_ms)
    return propose_configs(found.settings, found.config, found.plan, AuditContext(now_ms, "test", "night", "test"))


def write_stitched(found: Night, stitched_by_rank: list[Segment]) -> None:
    """Put other chains in place of those of the walk-forward."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, **{f"{i} {f.name}": getattr(c, f.name) for i, c in enumerate(stitched_by_rank) for f in fields(c)}
    )
    (found.folder / "stitched.npz").write_bytes(buffer.getvalue())


def copy_of(found: Night, home: Path) -> Night:
    """The same night in a home that a test may change."""
    shutil.copytree(found.settings.home, home)
    return Night(found.settings.model_copy(update={"home": home}), found.config, found.plan)
