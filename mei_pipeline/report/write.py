"""The report of a night as files beside its other results."""

from dataclasses import dataclass
from pathlib import Path

from mei_pipeline import files
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.night.store import night_folder, planned_nights, read_night_plan
from mei_pipeline.promotion.proposals import read_assignments
from mei_pipeline.report.document import escaped, html_of, markdown_of
from mei_pipeline.report.facts import read_facts
from mei_pipeline.report.lanes import SHORT
from mei_pipeline.report.sections import report_of
from mei_pipeline.selection.io import read_candidates, read_gate_results
from mei_pipeline.settings import Settings

_LAST = "roles.json"
"""What a night decides last; a report that is older tells of an earlier run of the same night."""


@dataclass(frozen=True)
class ReportFiles:
    """A report on disk.

    Attributes:
        markdown: Its text.
        html: The page.
    """

    markdown: Path
    html: Path


def report_paths(settings: Settings, plan: NightPlan) -> ReportFiles:
    """Where the report of a night lies, or will."""
    folder = night_folder(settings, plan)
    return ReportFiles(folder / "report.md", folder / "report.html")


def write_report(settings: Settings, plan: NightPlan, now_ms: int) -> ReportFiles:
    """Write what a night did, and why, as Markdown and as one HTML page.

    Raises:
        DataError: The night did not come to its end, or a file of it is damaged.
    """
    report = report_of(read_facts(settings, plan, now_ms))
    written = report_paths(settings, plan)
    files.write_bytes(written.html, html_of(report).encode())
    files.write_bytes(written.markdown, markdown_of(report).encode())
    return written


def is_current(settings: Settings, plan: NightPlan) -> bool:
    """Whether the night has a report that is not older than its result."""
    written, result = report_paths(settings, plan), night_folder(settings, plan) / _LAST
    there = written.markdown.exists() and written.html.exists() and result.exists()
    return there and result.stat().st_mtime_ns <= written.markdown.stat().st_mtime_ns


def unnamed(settings: Settings, plan: NightPlan, text: str) -> tuple[str, ...]:
    """Finalists, gates and lanes of a night that a text in Markdown does not name; empty for a whole report."""
    judgements = read_gate_results(settings, plan).judgements
    names = [
        *(each.config_id[:SHORT] for each in read_candidates(settings, plan).candidates),
        *dict.fromkeys(gate.name for each in judgements for gate in each.gates),
        *(each.lane for each in read_assignments(settings, plan)),
    ]
    return tuple(name for name in names if escaped(name) not in text)


def latest_finished(settings: Settings) -> NightPlan | None:
    """The night that was planned last among those that came to their end; None where there is none.

    Raises:
        DataError: Its plan is damaged or of another version.
    """
    ended = [name for name in planned_nights(settings) if (settings.nights / name / _LAST).exists()]
    return read_night_plan(settings, ended[-1]) if ended else None
