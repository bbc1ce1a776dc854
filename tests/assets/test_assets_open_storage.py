"""Dagster's files, kept open for a run: what is in them is what Dagster's own storage writes and reads."""

import dagster as dg
from dagster._core.instance import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage

from assets.open_storage import OpenEventLog, kept_open
from assets.run import open_instance
from mei_pipeline.config.load import load_config

KEY = dg.AssetKey("bars")


@dg.op
def count(context):
    context.log_event(dg.AssetMaterialization(KEY, metadata={"rows": 3}))


@dg.job
def counting():
    count()


def test_dagster_reads_what_was_written_and_no_file_stays_open(mei_settings):
    with open_instance(mei_settings, load_config(mei_settings.config)) as instance:
        assert isinstance(instance.event_log_storage, OpenEventLog)
        first, second = (counting.execute_in_process(instance=instance).run_id for _ in range(2))
        folder = mei_settings.dagster_home / "history" / "runs"
        assert (folder / "index.db-wal").exists()
        ours = {run_id: [entry.to_json() for entry in instance.all_logs(run_id)] for run_id in (first, second)}
        with dg.DagsterInstance.from_config(str(mei_settings.dagster_home)) as beside:  # as `mei ui` does meanwhile
            assert type(beside.event_log_storage) is SqliteEventLogStorage
            assert beside.get_latest_materialization_event(KEY).run_id == second
            seen = {run_id: [entry.to_json() for entry in beside.all_logs(run_id)] for run_id in ours}
            before = (folder / f"{second}.db").stat()
            instance.report_engine_event("later", run_id=second, job_name=counting.name)
            after = (folder / f"{second}.db").stat()
    assert after.st_mtime_ns > before.st_mtime_ns  # which tells the page that follows the run
    assert after.st_size == before.st_size  # though the event is still in the log beside the file
    assert seen == ours
    assert len(ours[first]) > 5
    assert list(mei_settings.dagster_home.rglob("*.db-wal")) == []


def test_a_storage_that_an_operator_chose_stays(tmp_path):
    (tmp_path / "dagster.yaml").write_text(
        "run_storage: {module: dagster._core.storage.runs, class: InMemoryRunStorage}\n"
        "event_log_storage: {module: dagster._core.storage.event_log, class: InMemoryEventLogStorage}\n"
    )
    reference = InstanceRef.from_dir(str(tmp_path))
    assert kept_open(reference) == reference
