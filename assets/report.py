"""What a night says of itself at its end."""

import dagster as dg
import polars as pl

from assets import run_context
from assets.deploy import GROUP, promoted
from assets.metadata import Result, artefact_metadata, declared, materialized, records
from assets.run_lock import plan_of
from mei_pipeline.report.write import unnamed, write_report

OWNERS = ("team:research",)
FILES = {"report.md": pl.String(), "report.html": pl.String()}
FILE_DOCS = {
    "report.md": "The report as Markdown.",
    "report.html": "The report as one page with pictures.",
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
            description="The report names every finalist, every gate and every lane of the night.",
        )
    ],
    metadata=declared(FILES, FILE_DOCS),
)
def night_report(context: dg.AssetExecutionContext) -> Result:
    """The night in words: what was tried, what fell at which gate, how much is luck, what changed in the lanes and why.

    Read from the night's files, the rows of its search and the registry; nothing is computed anew. `report.html` is one
    page with pictures that needs no network, `report.md` the same without them; `mei report --latest` prints it. A
    night in which nothing passed has a report like any other, with the reason.
    """
    settings, _ = run_context.read_all()
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
