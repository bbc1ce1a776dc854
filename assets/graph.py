"""The whole graph: assets, checks, jobs, schedules and sensors of one configuration."""

import warnings

import dagster as dg

from assets import deploy, ingest, lanes, report, research, run_context, selection
from assets.executor import run_executor
from assets.jobs import jobs
from assets.schedules import schedules
from assets.sensors import sensors
from kernels.cache import source_hash
from mei_pipeline.config.load import Config
from mei_pipeline.progress import Progress

KERNEL_ASSETS = (research.features, research.sweep_results)
"""What the rules of the kernels decide; another rule makes these stale, and no other asset."""


def definitions(config: Config, kernels: str = "", progress: Progress | None = None) -> dg.Definitions:
    """Everything that Dagster is told.

    Args:
        config: The configuration; lanes, partitions and the schedules' status come from it.
        kernels: Hash of the rules; that of the kernels' sources where left out.
        progress: Told of the assets' work; the run's log where left out.
    """
    with warnings.catch_warnings():
        # One run for a whole box of partitions; without it a backfill is a run per partition.
        warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)
        version = kernels or source_hash()
        by_lane = list(lanes.lane_assets(config.lanes))
        return dg.Definitions(
            assets=[
                ingest.candles_asset(config.pipeline),
                ingest.funding,
                ingest.coverage,
                research.night_plan,
                *(_versioned(asset, version) for asset in KERNEL_ASSETS),
                _versioned(selection.walk_forward, version),
                selection.candidates,
                selection.gate_results,
                selection.role_assignments,
                deploy.deployments,
                deploy.promoted,
                report.night_report,
                *(item for item in by_lane if isinstance(item, dg.AssetSpec)),
            ],
            asset_checks=[item for item in by_lane if isinstance(item, dg.AssetChecksDefinition)],
            jobs=jobs(),
            schedules=schedules(automation=config.pipeline.automation),
            sensors=sensors(),
            resources={run_context.PROGRESS: progress or run_context.log_progress},
            executor=run_executor,
        )


def _versioned(asset: dg.AssetsDefinition, version: str) -> dg.AssetsDefinition:
    return asset.map_asset_specs(lambda spec: spec.replace_attributes(code_version=version))
