import errno
from concurrent.futures import ThreadPoolExecutor

import pytest
from disk_kit import refusing

from mei_pipeline.cli.main import run
from mei_pipeline.errors import ConfigError, DataError, Retryable
from mei_pipeline.registry.holds import (
    Hold,
    control_path,
    lift_hold,
    lift_holds,
    read_all_holds,
    read_holds,
    set_hold,
    strictest_effect,
)


def hold(effect="close_only", reason="maintenance", owner="anna"):
    return Hold(owner=owner, effect=effect, reason=reason, since_ms=1_000)


@pytest.fixture
def lanes(tmp_path):
    return tmp_path / "lanes"


def test_a_lane_without_a_file_is_not_held(lanes):
    assert read_holds(lanes, "paper1") == {}
    assert strictest_effect({}) is None


def test_holds_are_kept_by_name_and_lifted_one_by_one(lanes):
    set_hold(lanes, "paper1", "exchange", hold())
    both = set_hold(lanes, "paper1", "risk", hold("halt", 'a "loss": #1'))
    assert read_holds(lanes, "paper1") == both == {"exchange": hold(), "risk": hold("halt", 'a "loss": #1')}
    assert strictest_effect(both) == "halt"
    left = lift_hold(lanes, "paper1", "risk")
    assert (left, strictest_effect(left)) == ({"exchange": hold()}, "close_only")
    assert lift_hold(lanes, "paper1", "exchange") == read_holds(lanes, "paper1") == {}


def test_a_hold_of_a_symbol_does_not_hold_the_lane(lanes):
    one = hold("halt").model_copy(update={"symbol": "BTC"})
    held = set_hold(lanes, "paper1", "thin", one)
    assert (read_holds(lanes, "paper1"), strictest_effect(held)) == ({"thin": one}, None)
    both = set_hold(lanes, "paper1", "exchange", hold())
    assert strictest_effect(both) == "close_only"
    assert "symbol: null" not in control_path(lanes, "paper1").read_text()


def test_a_hold_of_the_same_name_takes_its_place(lanes):
    set_hold(lanes, "paper1", "exchange", hold())
    assert set_hold(lanes, "paper1", "exchange", hold("halt", owner="bert")) == {"exchange": hold("halt", owner="bert")}


def test_a_hold_that_is_not_there_is_not_lifted(lanes):
    with pytest.raises(ConfigError, match="no hold 'risk'; it has: none"):
        lift_hold(lanes, "paper1", "risk")
    set_hold(lanes, "paper1", "exchange", hold())
    with pytest.raises(ConfigError, match="it has: exchange"):
        lift_hold(lanes, "paper1", "risk")


def test_holds_of_all_lanes_have_a_file_of_their_own(lanes):
    set_hold(lanes, "paper1", "halt", hold())
    assert set_hold(lanes, None, "halt", hold("halt")) == read_holds(lanes, None) == {"halt": hold("halt")}
    assert "lane" not in control_path(lanes, None).read_text()
    assert read_all_holds(lanes, "paper1", 1_000) == {"halt": hold(), "all/halt": hold("halt")}
    assert read_all_holds(lanes, "paper2", 1_000) == {"all/halt": hold("halt")}
    with pytest.raises(ConfigError, match="the file of all lanes: has no hold 'risk'; it has: halt"):
        lift_hold(lanes, None, "risk")
    assert lift_hold(lanes, None, "halt") == {}
    control_path(lanes, None).write_bytes(control_path(lanes, "paper1").read_bytes())
    with pytest.raises(DataError, match="belongs to lane paper1"):
        read_holds(lanes, None)
    control_path(lanes, "paper1").write_text("schema_version: 1\nholds: {}\n")
    with pytest.raises(DataError, match="belongs to all lanes"):
        read_holds(lanes, "paper1")


def test_a_hold_may_end_by_itself(lanes):
    ends = hold().model_copy(update={"expires_ms": 2_000})
    set_hold(lanes, "paper1", "pause", ends)
    assert read_all_holds(lanes, "paper1", 1_999) == {"pause": ends}
    assert read_all_holds(lanes, "paper1", 2_000) == {}
    # The next hold removes what has expired.
    assert list(set_hold(lanes, "paper1", "risk", hold())) == ["pause", "risk"]
    late = hold().model_copy(update={"since_ms": 2_000})
    assert set_hold(lanes, "paper1", "late", late) == read_holds(lanes, "paper1") == {"late": late, "risk": hold()}


def test_several_holds_are_lifted_at_once(lanes):
    assert lift_holds(lanes, "paper1", lambda _name, _hold: True) == ({}, {})
    assert not lanes.exists()
    for name, owner in (("pause", "anna"), ("halt", "bert"), ("risk", "bert")):
        set_hold(lanes, "paper1", name, hold(owner=owner))
    lifted, left = lift_holds(lanes, "paper1", lambda _name, each: each.owner == "bert")
    assert (sorted(lifted), list(left)) == (["halt", "risk"], ["pause"])
    assert read_holds(lanes, "paper1") == left


@pytest.mark.parametrize("name", ["", "Risk", "a b", "-x"])
def test_a_hold_has_a_plain_name(lanes, name):
    set_hold(lanes, "paper1", "exchange", hold())
    with pytest.raises(ConfigError, match=r"not written: .*control\.yaml"):
        set_hold(lanes, "paper1", name, hold())
    assert set(read_holds(lanes, "paper1")) == {"exchange"}


def test_holds_that_are_set_at_once_are_all_kept(lanes):
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: set_hold(lanes, "paper1", f"hold{number}", hold()), range(6)))
    assert len(read_holds(lanes, "paper1")) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("a: [", r"control\.yaml"),
        ("schema_version: 2\nlane: paper1\nholds: {}\n", "schema_version"),
        ("schema_version: 1\nlane: paper1\nholds: {x: {owner: a, effect: stop, reason: b, since_ms: 1}}\n", "effect"),
        ("schema_version: 1\nlane: paper1\nholds: {x: {owner: a, effect: halt, reason: '', since_ms: 1}}\n", "reason"),
        ("schema_version: 1\nlane: paper1\nholds: {}\nmood: bad\n", "mood"),
        ("schema_version: 1\nlane: paper2\nholds: {}\n", "belongs to lane paper2"),
    ],
)
def test_a_damaged_file_is_not_taken_for_no_hold(lanes, text, words):
    path = control_path(lanes, "paper1")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    for call in (read_holds, lambda *at: set_hold(*at, "x", hold()), lambda *at: lift_hold(*at, "x")):
        with pytest.raises(DataError, match=words):
            call(lanes, "paper1")
    assert path.read_text() == text


def test_a_folder_that_can_not_be_made_is_reported(lanes):
    lanes.write_text("a file")
    with pytest.raises(DataError, match=r"lanes/paper1.*a file is in the place of a folder"):
        set_hold(lanes, "paper1", "x", hold())


@pytest.mark.parametrize("command", [False, True], ids=["function", "command"])
def test_a_hold_needs_no_room_but_its_own(home, command):
    """On a full disk an empty file can be made, and the file of the holds is the only one with content."""
    lanes = home / "lanes"
    (lanes / "paper1").mkdir(parents=True)

    def full(path, writes):
        allowed = (
            path.name.startswith(("control.yaml", ".control.yaml.", ".control.lock")) and "holder" not in path.name
        )
        return errno.ENOSPC if writes and path.is_relative_to(home) and not allowed else 0

    with refusing(full):
        if command:
            assert run(["lane", "set", "paper1", "--hold", "risk", "halt", "--why", "the disk is full"]) == 0
        else:
            set_hold(lanes, "paper1", "risk", hold("halt"))
    assert strictest_effect(read_holds(lanes, "paper1")) == "halt"
    assert sorted(path.name for path in (lanes / "paper1").iterdir()) == [".control.lock", "control.yaml"]


def test_a_hold_that_finds_no_room_says_so_and_keeps_the_others(lanes):
    set_hold(lanes, "paper1", "exchange", hold())

    def full(path, writes):
        return errno.ENOSPC if writes and path.name.startswith(".control.yaml.") else 0

    with refusing(full), pytest.raises(Retryable, match=r"control\.yaml: not written.*free space on the disk"):
        set_hold(lanes, "paper1", "risk", hold("halt"))
    assert set(read_holds(lanes, "paper1")) == {"exchange"}
