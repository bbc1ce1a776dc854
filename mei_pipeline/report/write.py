"""Files of the report of a nightly run, in its folder."""

from dataclasses import dataclass
from pathlib import Path

from mei_pipeline import files
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.night.store import night_folder, planned_nights, read_night_plan
from mei_pipeline.promotion.pipeline import read_assignments
from mei_pipeline.report.document import escaped, html_of, markdown_of
from mei_pipeline.report.facts import read_facts
from mei_pipeline.report.lanes import SHORT
from mei_pipeline.report.sections import report_of
from mei_pipeline.selection.io import read_candidates, read_gate_results
from mei_pipeline.settings import Settings

_LAST = "roles.json"
"""File of the last stage. A report that is older describes an earlier execution of the same nightly run."""


@dataclass(frozen=True)
class ReportFiles:
    """Paths of a report.

    Attributes:
        markdown: The report as Markdown.
        html: The report as a page.
    """

    markdown: Path
    html: Path


def report_paths(settings: Settings, plan: NightPlan) -> ReportFiles:
    """Return the paths of the report of a nightly run, written or not."""
    folder = night_folder(settings, plan)
    return ReportFiles(folder / "report.md", folder / "report.html")


def write_report(settings: Settings, plan: NightPlan, now_ms: int) -> ReportFiles:
    """Write the report of a nightly run as Markdown and as one HTML page.

    Raises:
        DataError: A stage has not run for this nightly run, or a file is not readable.
    """
    report = report_of(read_facts(settings, plan, now_ms))
    written = report_paths(settings, plan)
    files.write_bytes(written.html, html_of(report).encode())
    files.write_bytes(written.markdown, markdown_of(report).encode())
    return written


def is_current(settings: Settings, plan: NightPlan) -> bool:
    """Return True if the nightly run has a report that is not older than its result."""
    report, result = report_paths(settings, plan), night_folder(settings, plan) / _LAST
    exist = report.markdown.exists() and report.html.exists() and result.exists()
    return exist and result.stat().st_mtime_ns <= report.markdown.stat().st_mtime_ns


def unnamed(settings: Settings, plan: NightPlan, text: str) -> tuple[str, ...]:
    """Return the candidates, gates and lanes of a nightly run that a report in Markdown does not name."""
    judgements = read_gate_results(settings, plan).judgements
    names = [
        *(each.config_id[:SHORT] for each in read_candidates(settings, plan).candidates),
        *dict.fromkeys(gate.name for each in judgements for gate in each.gates),
        *(each.lane for each in read_assignments(settings, plan)),
    ]
    return tuple(name for name in names if escaped(name) not in text)


def latest_finished(settings: Settings) -> NightPlan | None:
    """Return the newest nightly run whose lanes have been assigned; None if there is none.

    Raises:
        DataError: Its plan is damaged or of another version.
    """
    ended = [name for name in planned_nights(settings) if (settings.nights / name / _LAST).exists()]
    return read_night_plan(settings, ended[-1]) if ended else None
