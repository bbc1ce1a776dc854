"""Files of requests and results: written whole, read whole, never replaced."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from disk_kit import refusing

from mei_pipeline.errors import DataError, MeiError, Refused, Retryable
from mei_pipeline.execution.events import RequestAnswered
from mei_pipeline.execution.requests import (
    KEPT_MS,
    RequestFile,
    new_id,
    pending,
    read_request,
    read_result,
    remove_answered,
    requests_folder,
    submit,
    write_result,
)


@pytest.fixture
def lanes(tmp_path):
    return tmp_path / "lanes"


def request(request_id="r1", **changes):
    values = {
        "schema_version": 1, "id": request_id, "lane": "paper1", "who": "anna", "verb": "flatten",
        "arguments": {"symbols": ("BTC",)}, "created_ms": 1, "expires_ms": 2,
    }  # fmt: skip
    return RequestFile.model_validate(values | changes)


def answered(request_id="r1", state="done"):
    return RequestAnswered(
        venue_ms=7, id=request_id, who="anna", verb="flatten", state=state, text="closing", taken_ms=8, expires_ms=9
    )


def names(lanes):
    return [path.name for path in pending(requests_folder(lanes, "paper1"))]


def test_a_request_is_read_as_it_was_written(lanes):
    path = submit(lanes, request(why="the venue is down"))
    assert path == lanes / "paper1" / "requests" / "r1.json"
    assert read_request(path, "paper1") == request(why="the venue is down")
    assert names(lanes) == ["r1.json"]
    with pytest.raises(Refused, match="a request is never replaced"):
        submit(lanes, request(who="bert"))
    assert read_request(path, "paper1").who == "anna"


def test_an_answer_ends_a_request(lanes):
    submit(lanes, request())
    assert read_result(lanes, "paper1", "r1") is None
    write_result(lanes, "paper1", answered())
    result = read_result(lanes, "paper1", "r1")
    assert (result.state, result.text, result.who, result.lane_ms, result.taken_ms) == ("done", "closing", "anna", 7, 8)
    assert names(lanes) == []
    (lanes / "paper1" / "requests" / "r1.json").unlink()
    with pytest.raises(Refused, match="exists"):
        submit(lanes, request())
    path = lanes / "paper1" / "requests" / "r1.result.json"
    path.write_text("{")
    with pytest.raises(DataError, match=r"r1\.result\.json: damaged"):
        read_result(lanes, "paper1", "r1")


def test_requests_that_are_written_at_once_are_all_kept(lanes):
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: submit(lanes, request(new_id())), range(12)))
    assert len(names(lanes)) == 12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ('{"schema_version": 1, "id": "r1", "lane": "pa', "not a request"),
        ("[]", "not a request"),
        ({"id": "r2"}, "id: r2, but the file is of id r1"),
        ({"lane": "paper2"}, "lane: paper2, but the file is of lane paper1"),
        ({"arguments": {"symbols": "BTC"}}, "arguments"),
        ({"arguments": ["BTC"]}, "arguments"),
        ({"expires_ms": "soon"}, "expires_ms"),
        ({"who": ""}, "who"),
        ({"mood": "bad"}, "mood"),
    ],
)
def test_a_file_that_is_no_request_says_why(lanes, text, words):
    path = submit(lanes, request())
    path.write_text(text if isinstance(text, str) else json.dumps({**request().model_dump(), **text}))
    with pytest.raises(DataError, match=words) as error:
        read_request(path, "paper1")
    assert str(path) in str(error.value)


def test_a_request_that_is_gone(lanes):
    with pytest.raises(DataError, match="missing"):
        read_request(lanes / "paper1" / "requests" / "r1.json", "paper1")
    assert names(lanes) == []
    (lanes / "paper1").mkdir(parents=True)
    (lanes / "paper1" / "requests").write_text("a file")
    with pytest.raises(DataError, match="unreadable"):
        names(lanes)
    with pytest.raises(MeiError, match="a file is in the place of a folder"):
        submit(lanes, request())


@pytest.mark.parametrize("write", [lambda at: submit(at, request()), lambda at: write_result(at, "paper1", answered())])
def test_a_full_disk_leaves_nothing_half_written(lanes, write):
    folder = requests_folder(lanes, "paper1")
    folder.mkdir(parents=True)
    with (
        refusing(lambda path, writes: errno.ENOSPC if writes and path.is_relative_to(folder) else 0),
        pytest.raises(Retryable, match="not written, the previous file is intact"),
    ):
        write(lanes)
    assert list(folder.iterdir()) == []


def test_answered_requests_are_removed_after_some_days(lanes):
    folder = requests_folder(lanes, "paper1")
    remove_answered(folder, 0)
    for name in ("old", "new"):
        submit(lanes, request(name))
        write_result(lanes, "paper1", answered(name))
    submit(lanes, request("open"))
    for path in folder.iterdir():
        if not path.name.startswith("new"):
            os.utime(path, (1, 1))
    remove_answered(folder, 1_000 + KEPT_MS - 1)
    assert len(list(folder.iterdir())) == 5
    remove_answered(folder, 1_000 + KEPT_MS)
    assert sorted(path.name for path in folder.iterdir()) == ["new.json", "new.result.json", "open.json"]
