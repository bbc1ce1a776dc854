import json
import re

import pytest
import registry_kit as kit

from mei_pipeline.errors import DataError
from mei_pipeline.registry.config_file import parse_config
from mei_pipeline.registry.lanes import (
    ExecutorStatus,
    config_path,
    drift,
    is_acknowledged,
    lane_folder,
    pointer_path,
    read_bytes,
    read_pointer_file,
    read_status,
)
from mei_pipeline.registry.records import Pointer
from mei_pipeline.settings import CHECKOUT

pytestmark = pytest.mark.usefixtures("database")

STATUS = {
    "schema_version": 1,
    "lane": "paper1",
    "config_id": "a" * 64,
    "generation": 3,
    "since_bar_ms": 1_000,
    "written_ms": 2_000,
    "health": "ok",
    "positions": {"BTC": -0.5},
}


@pytest.fixture
def lanes(tmp_path):
    folder = tmp_path / "lanes"
    lane_folder(folder, "paper1").mkdir(parents=True)
    return folder


@pytest.fixture
def promoted(tmp_path, lanes):
    registry = kit.fresh(tmp_path)
    config_id = kit.judged(registry)
    kit.promote(registry, lanes, kit.PAPER1, config_id, kit.POLICY, 0, kit.at())
    return registry, config_id


def write_status(lanes, content):
    (lanes / "paper1" / "status.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_an_executor_that_has_said_nothing(lanes):
    assert read_status(lanes, "paper1") is None
    assert not is_acknowledged(Pointer("paper1", "a" * 64, 3, 1.0, "t", "paper"), None)


@pytest.mark.parametrize(("config_id", "generation", "expected"), [("a", 3, True), ("a", 4, False), ("b", 3, False)])
def test_an_acknowledgement_names_config_and_generation(lanes, config_id, generation, expected):
    write_status(lanes, STATUS)
    status = read_status(lanes, "paper1")
    assert (status.health, status.since_bar_ms, status.positions) == ("ok", 1_000, {"BTC": -0.5})
    assert is_acknowledged(Pointer("paper1", config_id * 64, generation, 1.0, "t", "paper"), status) is expected


def test_a_status_of_version_1_has_no_newer_values(lanes):
    write_status(lanes, STATUS)
    status = read_status(lanes, "paper1")
    assert (status.mode, status.equity_usd, status.offered, status.holds, status.draining) == (None, None, None, {}, ())


def test_an_executor_without_a_config_acknowledges_nothing(lanes):
    write_status(lanes, {**STATUS, "schema_version": 2, "config_id": None, "generation": None, "since_bar_ms": None})
    assert not is_acknowledged(Pointer("paper1", "a" * 64, 3, 1.0, "t", "paper"), read_status(lanes, "paper1"))


def test_the_page_names_each_key_of_a_status():
    page = (CHECKOUT / "docs" / "reference" / "registry.md").read_text()
    table = page.partition("### Status of an executor")[2].partition("## Commands")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(ExecutorStatus.model_fields)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the file"),
        ("{", "the file"),
        ("[]", "the file"),
        ({**STATUS, "schema_version": 3}, "schema_version"),
        ({**STATUS, "health": "great"}, "health"),
        ({**STATUS, "generation": 0}, "generation"),
        ({**STATUS, "generation": "3"}, "generation"),
        ({**STATUS, "config_id": "../../etc"}, "config_id"),
        ({**STATUS, "mood": "good"}, "mood"),
        ({**STATUS, "holds": {"risk": {"effect": "stop"}}}, "holds.risk.effect"),
        (json.dumps(STATUS).replace("-0.5", "NaN"), "positions.BTC"),
        ({**STATUS, "lane": "paper2"}, "belongs to lane paper2"),
        ({key: value for key, value in STATUS.items() if key != "since_bar_ms"}, "since_bar_ms"),
    ],
)
def test_a_bad_status_says_what_is_wrong(lanes, content, words):
    write_status(lanes, content)
    with pytest.raises(DataError, match=words) as caught:
        read_status(lanes, "paper1")
    assert "status.json" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"a: [", "promoted.yaml:"),
        (b"\xff\xfe\xfd", "not UTF-8"),
        (b"schema_version: 1\n", "lane"),
        (b"- 1\n", "not a mapping"),
        (b"schema_version: 1\nschema_version: 1\n", "twice"),
    ],
)
def test_a_bad_pointer_says_what_is_wrong(lanes, data, words):
    pointer_path(lanes, "paper1").write_bytes(data)
    with pytest.raises(DataError, match=words):
        read_pointer_file(lanes, "paper1")


@pytest.mark.usefixtures("promoted")
def test_a_pointer_of_another_lane_is_refused(lanes):
    lane_folder(lanes, "paper2").mkdir()
    pointer_path(lanes, "paper2").write_bytes(pointer_path(lanes, "paper1").read_bytes())
    with pytest.raises(DataError, match="belongs to lane paper1"):
        read_pointer_file(lanes, "paper2")


def test_a_file_that_can_not_be_read_is_reported(tmp_path):
    with pytest.raises(DataError, match="unreadable"):
        read_bytes(tmp_path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a: [", "c.yaml:"),
        (b"\xff\xfe\xfd", "not UTF-8"),
        (b"[]", "not a mapping"),
        (b"schema_version: 2", "schema_version"),
        (b"schema_version: 1", "config_id"),
    ],
)
def test_a_bad_config_file_says_what_is_wrong(tmp_path, data, words):
    with pytest.raises(DataError, match=words):
        parse_config(tmp_path / "c.yaml", data)


def test_a_config_file_is_checked_against_its_id(promoted, lanes):
    path = config_path(lanes, "paper1", promoted[1])
    assert parse_config(path, path.read_bytes()) == kit.resolved()
    with pytest.raises(DataError, match="another id"):
        parse_config(path, path.read_bytes().replace(b"4.5", b"4.6"))


def test_no_drift_after_a_promotion(promoted, lanes):
    found = drift(promoted[0], lanes, "paper1")
    assert found.differences == ()
    assert found.file.transition_id == found.pointer.transition_id


def test_drift_names_what_differs(promoted, lanes):
    registry, config_id = promoted
    pointer_path(lanes, "paper1").unlink()
    config_path(lanes, "paper1", config_id).write_bytes(b"a: [")
    found = drift(registry, lanes, "paper1").differences
    assert ["missing" in found[0], "differs" in found[1]] == [True, True]
    config_path(lanes, "paper1", config_id).unlink()
    pointer_path(lanes, "paper1").write_bytes(b"a: [")
    found = drift(registry, lanes, "paper1").differences
    assert ["damaged" in found[0], "missing" in found[1]] == [True, True]


def test_drift_names_both_generations(promoted, lanes, tmp_path):
    registry, config_id = promoted
    other = kit.judged(registry, 1)
    kit.promote(registry, tmp_path / "elsewhere", kit.PAPER1, other, kit.POLICY, 1, kit.at())
    found = drift(registry, lanes, "paper1")
    assert f"generation 1 of {config_id[:12]}, the registry has generation 2 of {other[:12]}" in found.differences[0]


@pytest.mark.parametrize("data", [None, b"a: [", "good"])
def test_drift_of_a_lane_that_the_registry_does_not_know(promoted, lanes, data):
    lane_folder(lanes, "paper2").mkdir()
    if data is not None:
        good = pointer_path(lanes, "paper1").read_bytes().replace(b"paper1", b"paper2")
        pointer_path(lanes, "paper2").write_bytes(good if data == "good" else data)
    found = drift(promoted[0], lanes, "paper2")
    assert found.pointer is None
    assert bool(found.differences) is (data is not None)
