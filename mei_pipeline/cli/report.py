"""`mei report`: the report of a nightly run: combos, gates, and changes of the lanes with reasons."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mei_pipeline.cli import output

if TYPE_CHECKING:
    from mei_pipeline.night.plan import NightPlan
    from mei_pipeline.settings import Settings


@click.command()
@click.option("--latest", is_flag=True, help="The latest finished run. This is the default.")
@click.option("--night", "prefix", metavar="ID", help="The run whose id begins with ID.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the page with its plots to this file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: id of the run, paths of its report.")
def report(latest: bool, prefix: str | None, html: Path | None, as_json: bool) -> None:
    """Print the report of a nightly run as Markdown, and the path of the page with its plots."""
    from mei_pipeline import files
    from mei_pipeline.cli.tables import check_suffix
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.report.write import is_current, report_paths, write_report
    from mei_pipeline.settings import read_settings

    if latest and prefix is not None:
        raise ConfigError(f"--latest and --night {prefix}: both name a run; leave one of them out")
    check_suffix(html, ".html")
    settings = read_settings()
    plan = _night(settings, prefix)
    if is_current(settings, plan):
        written = report_paths(settings, plan)
    else:
        written = write_report(settings, plan, int(time.time() * 1000))
    page = written.html
    if html is not None:
        files.write_bytes(html, written.html.read_bytes())
        page = html
    if as_json:
        output.print_json({"night": plan.id, "markdown": str(written.markdown), "html": str(page)})
        return
    output.echo(written.markdown.read_text(), end="")
    output.note(f"page with plots: {page}")


def _night(settings: "Settings", prefix: str | None) -> "NightPlan":
    from mei_pipeline.errors import DataError
    from mei_pipeline.night.store import find_night, planned_nights
    from mei_pipeline.report.write import latest_finished

    if prefix is not None:
        return find_night(settings, prefix)
    plan = latest_finished(settings)
    if plan is None:
        problem = "no nightly run has finished" if planned_nights(settings) else "there is no nightly run"
        raise DataError(
            f"{settings.nights}: {problem} yet; run `mei nightly`, or run `mei demo` and set MEI_HOME=var/demo"
        )
    newest = planned_nights(settings)[-1]
    if newest != plan.id[:16]:
        output.warn(f"run {newest} was planned later and has not finished; `mei nightly` resumes it")
    return plan


COMMANDS: list[click.Command] = [report]
