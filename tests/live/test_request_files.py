"""Requests of a lane as events, and its answers as files."""

import errno

import pytest
from disk_kit import refusing

from live.request_files import REQUESTS_ALERT, RequestFiles, poll_requests, write_results
from mei_pipeline.execution.events import OperatorRequested, RequestAnswered
from mei_pipeline.execution.requests import RequestFile, read_result, requests_folder, submit, write_result

NOW = 1_000


@pytest.fixture
def files(tmp_path):
    return RequestFiles(tmp_path, "paper1")


def request(request_id, created_ms=1, **changes):
    values = {
        "schema_version": 1, "id": request_id, "lane": "paper1", "who": "anna", "why": "so", "verb": "flatten",
        "arguments": {"symbols": ("BTC",)}, "created_ms": created_ms, "expires_ms": 9,
    }  # fmt: skip
    return RequestFile.model_validate(values | changes)


def answer(request_id):
    return RequestAnswered(
        venue_ms=7, id=request_id, who="anna", verb="flatten", state="done", text="closing", taken_ms=8, expires_ms=9
    )


def test_a_lane_without_requests_has_no_folder(files):
    assert poll_requests(files, {}, NOW) == (files, (), ())
    assert list(write_results(files, {"r1": answer("r1")})) == []
    assert list(files.lanes_folder.iterdir()) == []


def test_requests_of_several_writers_come_in_the_order_of_their_times(files):
    for name, created_ms in (("b", 5), ("a", 5), ("c", 1)):
        submit(files.lanes_folder, request(name, created_ms))
    polled = poll_requests(files, {}, NOW)
    assert (polled.files, polled.alerts) == (files, ())
    assert [event.id for event in polled.events] == ["c", "a", "b"]
    assert polled.events[0] == OperatorRequested(
        id="c", who="anna", why="so", verb="flatten", arguments={"symbols": ("BTC",)}, created_ms=1, expires_ms=9,
        taken_ms=NOW,
    )  # fmt: skip


def test_an_answered_request_is_not_read_again(files):
    for name in ("r1", "r2"):
        submit(files.lanes_folder, request(name))
    # The first one has its result, the second one only its answer in the journal: the process died in between.
    write_result(files.lanes_folder, "paper1", answer("r1"))
    answers = {"r1": answer("r1"), "r2": answer("r2")}
    assert poll_requests(files, answers, NOW).events == ()
    assert list(write_results(files, answers)) == []
    assert read_result(files.lanes_folder, "paper1", "r2").text == "closing"
    # A result alone is enough, when the answer is forgotten.
    assert poll_requests(files, {}, NOW).events == ()


def test_a_request_that_is_written_half_is_executed_once_it_is_whole(files):
    path = submit(files.lanes_folder, request("r1"))
    whole = path.read_text()
    path.write_text(whole[:40])
    submit(files.lanes_folder, request("r2"))
    polled = poll_requests(files, {}, NOW)
    assert [event.id for event in polled.events] == ["r2"]
    (alert,) = polled.alerts
    assert (alert.key, str(path) in alert.text) == (f"{REQUESTS_ALERT}-r1", True)
    # It is reported once, and again if it changes and is still not whole.
    answers = {"r2": answer("r2")}
    again = poll_requests(polled.files, answers, NOW)
    assert (again.events, again.alerts, again.files) == ((), (), polled.files)
    path.write_text(whole[:60])
    third = poll_requests(again.files, answers, NOW)
    assert (third.events, len(third.alerts)) == ((), 1)
    path.write_text(whole)
    good = poll_requests(third.files, answers, NOW)
    assert ([event.id for event in good.events], good.alerts, good.files.broken) == (["r1"], (), {})


def test_a_folder_that_can_not_be_read_is_reported_once(files):
    folder = requests_folder(files.lanes_folder, "paper1")
    folder.parent.mkdir()
    folder.write_text("a file")
    polled = poll_requests(files, {}, NOW)
    assert (polled.events, [alert.key for alert in polled.alerts]) == ((), [REQUESTS_ALERT])
    assert poll_requests(polled.files, {}, NOW) == (polled.files, (), ())
    assert list(write_results(files, {"r1": answer("r1")})) == []
    folder.unlink()
    assert poll_requests(polled.files, {}, NOW).files == files


def test_a_result_that_can_not_be_written_is_an_alert(files):
    submit(files.lanes_folder, request("r1"))
    folder = requests_folder(files.lanes_folder, "paper1")
    with refusing(lambda path, writes: errno.ENOSPC if writes and path.is_relative_to(folder) else 0):
        alerts = list(write_results(files, {"r1": answer("r1")}))
    assert [(alert.key, "not written" in alert.text) for alert in alerts] == [(f"{REQUESTS_ALERT}-result", True)]
    assert list(write_results(files, {"r1": answer("r1")})) == []
    assert read_result(files.lanes_folder, "paper1", "r1").state == "done"


def test_a_request_without_an_answer_gets_no_result(files):
    for name in ("r1", "r2"):
        submit(files.lanes_folder, request(name))
    assert list(write_results(files, {"r2": answer("r2")})) == []
    assert read_result(files.lanes_folder, "paper1", "r1") is None
    assert read_result(files.lanes_folder, "paper1", "r2").state == "done"
