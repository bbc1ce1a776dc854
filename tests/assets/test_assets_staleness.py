"""What another kernel makes stale, as the page sees it."""

import shutil
import sys
from pathlib import Path

import dagster as dg
import pytest
from asset_kit import World, graph
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget

from kernels.cache import SOURCES, source_hash

QUERY = "{ assetNodes { assetKey { path } staleStatus } }"
LOCATION = """\
import dagster as dg
from assets.graph import definitions
from mei_pipeline.config.load import load_config
from mei_pipeline.settings import read_settings

@dg.definitions
def defs() -> dg.Definitions:
    return definitions(load_config(read_settings().config), kernels={kernels!r})
"""


def stale_statuses(instance: dg.DagsterInstance, folder: Path, kernels: str) -> dict[str, str]:
    """Asset to its status, of the graph with these kernels."""
    from dagster_graphql.test.utils import execute_dagster_graphql  # no other test needs it, and it takes a second

    file = folder / f"location_{kernels[:8]}.py"
    file.write_text(LOCATION.format(kernels=kernels))
    origin = LoadableTargetOrigin(executable_path=sys.executable, python_file=str(file), working_directory=str(folder))
    target = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(origin, location_name="mei_pipeline"))
    with WorkspaceProcessContext(instance, target) as process:
        result = execute_dagster_graphql(process.create_request_context(), QUERY)
    assert not result.errors
    return {"/".join(node["assetKey"]["path"]): node["staleStatus"] for node in result.data["assetNodes"]}


# Dagster reads a property of its own schedules that it has deprecated itself.
@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars` is deprecated:DeprecationWarning")
def test_a_touched_kernel_makes_its_results_stale_and_the_plan_not(world: World, tmp_path: Path) -> None:
    touched = tmp_path / "kernels"
    shutil.copytree(SOURCES, touched, ignore=shutil.ignore_patterns("__pycache__"))
    with (touched / "ledger.py").open("a") as file:
        file.write("# another rule\n")
    with graph(world) as (_, instance):
        before = stale_statuses(instance, tmp_path, source_hash())
        after = stale_statuses(instance, tmp_path, source_hash(touched))
    night = ("night_plan", "features", "sweep_results")
    assert [before[name] for name in night] == ["FRESH", "FRESH", "FRESH"]
    assert [after[name] for name in night] == ["FRESH", "STALE", "STALE"]
