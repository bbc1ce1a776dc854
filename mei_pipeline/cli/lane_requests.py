"""`mei lane flatten`, and requests of other commands: write a request, and wait for the lane's answer.

A lane without a process is operated by the command itself.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.journals import journal_of
from mei_pipeline.cli.lane_following import POLL_S, TIMEOUT, is_running
from mei_pipeline.cli.lane_holds import hold_name, hold_table, make_hold, send_holds
from mei_pipeline.cli.moves import WHO, audit
from mei_pipeline.cli.options import result_options
from mei_pipeline.cli.symbols import check_option

if TYPE_CHECKING:
    from mei_pipeline.execution.requests import RequestFile, ResultFile
    from mei_pipeline.registry.holds import Hold
    from mei_pipeline.settings import Settings

LIFE_MS = 10 * 60_000
"""Time after which a lane that has not read a request must not execute it any more."""


@click.command()
@click.argument("name", metavar="LANE")
@click.option("--symbol", "symbols", multiple=True, callback=check_option, help="Only this symbol; may be repeated.")
@click.option("--keep-trading", is_flag=True, help="Let the lane enter again at once, instead of pausing it first.")
@click.option("--why", help="Reason; it is kept in the journal.")
@WHO
@TIMEOUT
@result_options
def flatten(
    name: str,
    symbols: tuple[str, ...],
    keep_trading: bool,
    why: str | None,
    who: str | None,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Close the positions of LANE, and pause it first, so that it does not enter again before `mei lane resume`.

    Closing orders are market orders; in a paper lane the fill model fills them at its next moment. Other orders of the
    same symbols are cancelled. A halted lane refuses, because a halt stops closing orders too.
    """
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    request = make_request(settings, name, "flatten", {"symbols": symbols}, who, why or "by `mei lane flatten`")
    _refuse_halted(settings, name, symbols)
    holds: dict[str, Hold] = {} if keep_trading else _pause(settings, name, symbols, request)
    result = ask(settings, request, timeout_s)
    values = {key: hold.model_dump() for key, hold in holds.items()}
    if as_json:
        output.print_json({**result.model_dump(), "holds": values})
    else:
        output.echo(f"{result.state}: {result.text}")
        if values:
            hold_table(f"Holds of {name}", values)
    send_holds(name, holds, f"flatten: {result.text}")
    raise_unless_done(result)


def _refuse_halted(settings: "Settings", lane: str, symbols: tuple[str, ...]) -> None:
    """Raise `Refused` under a halt, before the lane is paused; the lane itself refuses as well."""
    from mei_pipeline.errors import DataError, Refused
    from mei_pipeline.registry.holds import read_all_holds

    try:
        holds = read_all_holds(settings.lanes, lane, time.time_ns() // 1_000_000)
    except DataError:  # the lane knows which holds are in force
        return
    for key, hold in holds.items():
        if hold.effect == "halt" and (hold.symbol is None or hold.symbol in symbols):
            raise Refused(
                f"lane {lane}: hold {key} halts every order, closing ones too; lift it with `mei lane resume`, and "
                "stop entries with `mei lane pause` instead"
            )


def _pause(settings: "Settings", lane: str, symbols: tuple[str, ...], request: "RequestFile") -> "dict[str, Hold]":
    """Set the holds of `mei lane pause`, and return all holds of the lane's file.

    A lane reads holds before requests, so it does not enter between the two.
    """
    from mei_pipeline.registry.holds import read_holds, set_hold

    for symbol in symbols or (None,):
        hold = make_hold("close_only", symbol, None, request.who, request.why)
        set_hold(settings.lanes, lane, hold_name("pause", symbol), hold)
    return read_holds(settings.lanes, lane)


def make_request(
    settings: "Settings", lane: str, verb: str, arguments: dict[str, tuple[str, ...]], who: str | None, why: str
) -> "RequestFile":
    """Return a request of a person that begins now.

    Raises:
        ConfigError: The lane is unknown, or the person is missing.
        DataError: The lane never ran in this home.
    """
    from mei_pipeline.execution.journal.meta import check_exists
    from mei_pipeline.execution.requests import RequestFile, new_id

    check_exists(journal_of(settings, lane))
    because = audit(who, why, "mei lane")
    return RequestFile.model_validate(
        {
            "schema_version": 1,
            "id": new_id(),
            "lane": lane,
            "who": because.who,
            "why": because.why,
            "verb": verb,
            "arguments": arguments,
            "created_ms": because.now_ms,
            "expires_ms": because.now_ms + LIFE_MS,
        }
    )


def ask(settings: "Settings", request: "RequestFile", timeout_s: float) -> "ResultFile":
    """Write a request and return its answer; operate the lane if no process runs it.

    Args:
        settings: Settings of the home.
        request: The request.
        timeout_s: Longest wait for a running lane, in seconds.

    Raises:
        OutcomeUnknown: A process runs the lane, and has not answered in time.
        MeiError: The lane can't be operated (see `live.operate.operate_lane`), or the request can't be written.
    """
    from mei_pipeline.errors import MeiError
    from mei_pipeline.execution.requests import submit

    path = submit(settings.lanes, request)
    try:
        return _wait(settings, request, path, timeout_s)
    except (KeyboardInterrupt, MeiError):
        output.note(f"{path}: the request stays, and a lane executes it within {LIFE_MS // 60_000} minutes; remove the "
                    "file to withdraw it")  # fmt: skip
        raise


def _wait(settings: "Settings", request: "RequestFile", path: Path, timeout_s: float) -> "ResultFile":
    from mei_pipeline.errors import Busy, OutcomeUnknown
    from mei_pipeline.execution.requests import read_result

    deadline_s = time.monotonic() + timeout_s
    told = False
    while True:
        result = read_result(settings.lanes, request.lane, request.id)
        if result is not None:
            return result
        if not is_running(settings, request.lane):
            with suppress(Busy):  # a process has taken the lane over in between
                _operate(settings, request.lane)
                continue
        elif not told:
            output.note("waiting for the lane's answer")
            told = True
        time.sleep(POLL_S)
        if time.monotonic() >= deadline_s and (result := read_result(settings.lanes, request.lane, request.id)) is None:
            raise OutcomeUnknown(
                f"{path}: lane {request.lane} has not answered within {timeout_s:g} s; its answer will be in "
                f"{path.stem}.result.json beside it"
            )


def _operate(settings: "Settings", lane: str) -> None:
    from live.operate import operate_lane
    from live.running import Watch

    output.note(f"lane {lane}: no process runs it; operating it here")
    operate_lane(settings, lane, Watch(alert=lambda alert: output.note(alert.text)))


def raise_unless_done(result: "ResultFile") -> None:
    """Raise the error of a request that was not executed.

    Raises:
        Refused: A rule forbids it.
        Retryable: The lane read it too late.
    """
    from mei_pipeline.errors import Refused, Retryable

    if result.state == "refused":
        raise Refused(f"lane {result.lane}: {result.verb}: {result.text}")
    if result.state == "expired":
        raise Retryable(f"lane {result.lane}: {result.verb}: {result.text}; request it again")
