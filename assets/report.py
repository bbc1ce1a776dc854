"""Asset of the report of a nightly run."""

import dagster as dg
import polars as pl

from assets import run_context
from assets.deploy import GROUP, promoted
from assets.metadata import Result, artefact_metadata, declared, materialized, records
from assets.run_lock import plan_of
from mei_pipeline.report.write import unnamed, write_report
from mei_pipeline.settings import read_settings

OWNERS = ("team:research",)
FILES = {"report.md": pl.String(), "report.html": pl.String()}
FILE_DOCS = {
    "report.md": "The report as Markdown.",
    "report.html": "The report as one page with plots.",
}
WARN = dg.AssetCheckSeverity.WARN


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"markdown"},
    deps=[promoted],
    check_specs=[
        dg.AssetCheckSpec(
            "names_all",
            asset="night_report",
            description="The report names every candidate, every gate and every lane of the run.",
        )
    ],
    metadata=declared(FILES, FILE_DOCS),
)
def night_report(context: dg.AssetExecutionContext) -> Result:
    """The report of the nightly run: search, rejected candidates by gate, selection bias, and changes of lanes.

    The report reads the files of the run, the rows of its search and the registry, and computes nothing again.
    `report.html` is one page with plots that needs no network. `report.md` is the same without plots; `mei report
    --latest` prints it. A run that accepts no candidate has a report as well, with the reasons.
    """
    settings = read_settings()
    plan = plan_of(settings, context)
    written = write_report(settings, plan, run_context.now_ms())
    text = written.markdown.read_text()
    missing = unnamed(settings, plan, text)
    return materialized(
        metadata={
            **artefact_metadata(written.markdown),
            "page": dg.MetadataValue.path(str(written.html)),
            "report": dg.MetadataValue.md(text),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="names_all",
                passed=not missing,
                severity=WARN,
                metadata={"missing": records([{"name": name} for name in missing])},
            )
        ],
    )
