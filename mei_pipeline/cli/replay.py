"""`mei replay`: repeat days of a lane, and name the cause of each difference."""

from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.days import utc_ms
from mei_pipeline.cli.options import result_options

if TYPE_CHECKING:
    from mei_pipeline.execution.day_check.differences import DayCheck

_DAY = click.DateTime(["%Y-%m-%d"])
_FAILED = 1


@click.command()
@click.option("--lane", "name", required=True, help="The lane; it may be running.")
@click.option("--day", type=_DAY, help="UTC day on the lane's clock; default: the last complete one.")
@click.option("--all", "every", is_flag=True, help="All days of the lane.")
@result_options
def replay(name: str, day: Any, every: bool, as_json: bool) -> None:
    """Repeat a day of a lane from its journal: decisions with the features of a sweep, fills with the fill model.

    Each step begins at the state that the lane had, so each difference has a cause of its own: data revision, config,
    fill, degraded, or logic. Only logic is a defect; the exit code is then 1.
    """
    from live.lane_files import read_lane_config
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.execution.day_check.check import check_day, complete_days, days_of
    from mei_pipeline.settings import read_settings

    if day is not None and every:
        raise ConfigError("--day and --all exclude each other")
    settings = read_settings()
    lane = read_lane_config(settings, name)
    if day is not None:
        chosen = [utc_ms(day)]
    else:
        chosen = list(days_of(settings, name)) if every else complete_days(settings, name)[-1:]
    if not chosen:
        raise ConfigError(f"lane {name}: it has not completed a UTC day yet; --day DAY repeats a part of one")
    checks = []
    for day_ms in chosen:
        checks.append(check_day(settings, name, lane, day_ms))
        if every:
            output.note(str(checks[-1]))
    failed = any(check.verdict == "failed" for check in checks)
    if as_json:
        days = [check.as_dict() for check in checks]
        output.print_json({"lane": name, "failed": failed, "days": days})
    else:
        _show(name, checks)
    if failed:
        raise click.exceptions.Exit(_FAILED)


def _show(name: str, checks: "list[DayCheck]") -> None:
    from mei_pipeline.candles.intervals import iso

    names = ("day", "verdict", "steps", "decisions", "fills", "differences")
    rows = [
        (
            iso(each.day_ms)[:10],
            each.verdict,
            each.steps,
            each.decisions,
            each.fills,
            ", ".join(f"{count} {kind}" for kind, count in each.counts.items()) or None,
        )
        for each in checks
    ]
    output.table(f"Days of lane {name}, repeated", names, rows, important=("day", "verdict", "differences"))
    found = [difference for check in checks for difference in check.differences]
    if found:
        columns = ("step", "class", "symbol", "what", "lane", "replay", "reason")
        output.table(
            "Differences",
            columns,
            [
                (
                    iso(each.step_ms),
                    each.kind,
                    each.symbol or None,
                    each.what,
                    each.recorded,
                    each.replayed,
                    "; ".join(filter(None, (each.reason, "" if each.gate is None else str(each.gate)))) or None,
                )
                for each in found
            ],
            important=("step", "class", "symbol", "what"),
        )
    for text in dict.fromkeys(text for check in checks for text in check.unchecked):
        output.note(f"not checked: {text}")


COMMANDS: list[click.Command] = [replay]
