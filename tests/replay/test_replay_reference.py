"""The reference page names what a report has."""

from replay_kit import cross, inputs

from mei_pipeline.replay.report import decisions_of, report_of
from mei_pipeline.replay.run import replay
from mei_pipeline.replay.spec import BacktestSpec
from mei_pipeline.replay.trades import SCHEMA
from mei_pipeline.settings import CHECKOUT


def test_the_page_names_every_column_and_every_key(mei_settings):
    page = (CHECKOUT / "docs" / "reference" / "report.md").read_text()
    on = inputs(mei_settings, cross())
    run = replay(mei_settings, on)
    keys = (*SCHEMA, *run.fills.columns, *report_of(on, run), *decisions_of(mei_settings, on, run))
    assert [key for key in keys if f"`{key}`" not in page] == []


def test_the_page_lists_every_key_of_a_backtest_file():
    page = (CHECKOUT / "docs" / "reference" / "report.md").read_text()
    table = page.partition("## The backtest file")[2].partition("\n## ")[0]
    keys = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert keys == [field.alias or name for name, field in BacktestSpec.model_fields.items()]
