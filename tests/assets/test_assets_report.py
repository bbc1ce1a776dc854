"""The asset `night_report` over a night that the stations ran."""

import dagster as dg
import pytest

from assets.report import night_report
from mei_pipeline.night.store import night_folder, read_night_plan
from mei_pipeline.settings import Settings

pytest_plugins = ("night_fixtures",)


@pytest.mark.parametrize("ended", ["passed", "rejected", "none"], indirect=True)
def test_the_report_is_written_shown_inline_and_named_whole(ended: Settings) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([night_report], instance=instance)
    folder = night_folder(ended, read_night_plan(ended))
    (event,) = result.asset_materializations_for_node("night_report")
    text = (folder / "report.md").read_text()
    assert event.metadata["report"] == dg.MetadataValue.md(text)
    assert event.metadata["path"].value == str(folder / "report.md")
    assert event.metadata["page"].value == str(folder / "report.html")
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.severity) == ("names_all", True, dg.AssetCheckSeverity.WARN)


def test_it_stands_at_the_end_of_the_night() -> None:
    (spec,) = night_report.specs
    assert spec.group_name == "deploy"
    assert [dep.asset_key.to_user_string() for dep in spec.deps] == ["promoted"]
    (check,) = night_report.check_specs
    assert not check.blocking
