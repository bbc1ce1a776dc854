"""Dagster's definitions for one configuration: assets, checks, jobs, schedules and sensors."""

import warnings

import dagster as dg

from assets import deploy, ingest, lane_days, lanes, report, research, run_context, selection
from assets.executor import run_executor
from assets.jobs import jobs
from assets.schedules import schedules
from assets.sensors import sensors
from kernels.cache import source_hash
from mei_pipeline.config.load import Configuration
from mei_pipeline.progress import Progress

KERNEL_ASSETS = (research.features, research.sweep_results)
"""Assets that a change of the kernels makes stale, with `walk_forward`."""


def definitions(config: Configuration, kernels: str = "", progress: Progress | None = None) -> dg.Definitions:
    """Return the definitions for a configuration.

    Args:
        config: The configuration; it defines lanes, partitions and the schedules' status.
        kernels: Hash of the kernels; that of their sources by default.
        progress: Called as the assets work; by default the run's log.
    """
    with warnings.catch_warnings():
        # The beta parameter makes a backfill one run for all partitions instead of one run per partition.
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
                *([lane_days.lane_day_asset(config)] if config.lanes else []),
            ],
            asset_checks=[item for item in by_lane if isinstance(item, dg.AssetChecksDefinition)],
            jobs=jobs(lanes=bool(config.lanes)),
            schedules=schedules(automation=config.pipeline.automation, lanes=bool(config.lanes)),
            sensors=sensors(),
            resources={run_context.PROGRESS: progress or run_context.log_progress},
            executor=run_executor,
        )


def _versioned(asset: dg.AssetsDefinition, version: str) -> dg.AssetsDefinition:
    return asset.map_asset_specs(lambda spec: spec.replace_attributes(code_version=version))
