"""The executor of every run: Dagster's own, after the run has taken its lock and tagged its nightly plan."""

from collections.abc import Iterator

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext  # no public way to wrap an executor
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.in_process import InProcessExecutor

from assets.run_lock import tag_planned_night
from assets.run_processes import hold_until_exit
from mei_pipeline.settings import read_settings


class _Executor(InProcessExecutor):
    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        settings = read_settings()
        hold_until_exit(settings, plan_context.run_id)
        tag_planned_night(plan_context.instance, plan_context.run_id, execution_plan.step_keys_to_execute)
        yield from super().execute(plan_context, execution_plan)


@dg.executor(name="in_process")
def run_executor(_context: dg.InitExecutorContext) -> dg.Executor:
    """Run all steps in the process of the run, one after the other."""
    return _Executor(retries=RetryMode.ENABLED)
