"""`mei lane pause`, `halt` and `resume`: holds of a person, with and without a running lane."""

import errno
import json
import threading
import time
from contextlib import suppress

import pytest
from disk_kit import refusing

from mei_pipeline.cli.main import run
from mei_pipeline.errors import DataError
from mei_pipeline.execution.journal.opening import lock_path
from mei_pipeline.files import locked
from mei_pipeline.registry.holds import control_path, read_holds
from mei_pipeline.registry.lanes import STATUS_NAME


@pytest.fixture
def lanes(home):
    """A home with the folders of two lanes."""
    folder = home / "lanes"
    for name in ("paper1", "paper2"):
        (folder / name).mkdir(parents=True)
    return folder


def done(capsys, *arguments):
    assert run(["lane", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, code, *arguments):
    assert run(["lane", *arguments]) == code
    return capsys.readouterr().err


def write_status(lanes, lane, holds):
    status = {
        "schema_version": 2, "lane": lane, "config_id": None, "generation": None, "since_bar_ms": None,
        "written_ms": 0, "health": "ok", "positions": {}, "holds": holds,
    }  # fmt: skip
    path = lanes / lane / STATUS_NAME
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(status))
    temporary.replace(path)


class FollowingLane(threading.Thread):
    """A running lane that reports the holds of its files as its status."""

    def __init__(self, lanes, lane):
        super().__init__(daemon=True)
        self.lanes, self.lane, self.ended = lanes, lane, threading.Event()

    def run(self):
        while not self.ended.is_set():
            shown = {}
            with suppress(DataError):
                for prefix, owner in (("all/", None), ("", self.lane)):
                    for name, hold in read_holds(self.lanes, owner).items():
                        kept = ("effect", "symbol", "owner", "reason", "expires_ms")
                        shown[prefix + name] = {key: hold.model_dump()[key] for key in kept}
            write_status(self.lanes, self.lane, shown)
            self.ended.wait(0.02)

    def __enter__(self):
        self.lock = locked(lock_path(self.lanes, self.lane), f"running lane {self.lane}")
        self.lock.__enter__()
        self.start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.join()
        self.lock.__exit__(*error)


def test_a_pause_and_its_end(lanes, capsys):
    paused = done(capsys, "pause", "paper1", "--why", "maintenance", "--who", "anna")
    hold = paused["holds"]["pause"]
    assert (hold["effect"], hold["owner"], hold["reason"], hold["expires_ms"]) == (
        "close_only", "anna", "maintenance", None
    )  # fmt: skip
    assert paused["lanes"] == {"paper1": "stopped"}
    assert set(read_holds(lanes, "paper1")) == {"pause"}
    resumed = done(capsys, "resume", "paper1")
    assert (resumed["lifted"], resumed["holds"], read_holds(lanes, "paper1")) == (["pause"], {}, {})
    assert done(capsys, "resume", "paper1")["lifted"] == []


def test_a_halt_of_all_lanes_has_one_file(lanes, capsys):
    assert done(capsys, "halt", "--all")["lanes"] == {"paper1": "stopped", "paper2": "stopped"}
    assert (read_holds(lanes, None)["halt"].effect, read_holds(lanes, "paper1")) == ("halt", {})
    done(capsys, "pause", "paper1")
    assert done(capsys, "resume", "paper1")["lifted"] == ["pause"]
    assert set(read_holds(lanes, None)) == {"halt"}
    assert done(capsys, "resume", "--all")["lifted"] == ["halt"]


def test_a_hold_of_a_symbol_that_ends_by_itself(lanes, capsys):
    before_ms = time.time_ns() // 1_000_000
    halted = done(capsys, "halt", "paper1", "--symbol", "BTC/USDT:USDT", "--for", "2h")
    hold = halted["holds"]["halt-btc-usdt-usdt"]
    assert hold["symbol"] == "BTC/USDT:USDT"
    assert hold["expires_ms"] - hold["since_ms"] == 7_200_000
    assert hold["since_ms"] >= before_ms
    done(capsys, "pause", "paper1")
    assert done(capsys, "resume", "paper1", "--symbol", "BTC/USDT:USDT")["lifted"] == ["halt-btc-usdt-usdt"]
    assert set(read_holds(lanes, "paper1")) == {"pause"}
    assert run(["lane", "pause", "paper1", "--for", "1d"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("Holds of paper1", "close_only", "ends", "is not running"))


@pytest.mark.usefixtures("lanes")
def test_holds_of_others_are_lifted_only_by_name_or_owner(capsys):
    for name in ("exchange", "feed"):
        assert run(["lane", "set", "paper1", "--hold", name, "halt", "--why", "so", "--who", "watchdog"]) == 0
    capsys.readouterr()
    done(capsys, "pause", "paper1")
    assert done(capsys, "resume", "paper1")["lifted"] == ["pause"]
    assert done(capsys, "resume", "paper1", "--hold", "feed")["lifted"] == ["feed"]
    assert "no such hold; it has: exchange" in refused(capsys, 2, "resume", "paper1", "--hold", "feed")
    assert done(capsys, "resume", "paper1", "--owner", "watchdog")["lifted"] == ["exchange"]
    assert run(["lane", "resume", "paper1"]) == 0
    assert "no hold to lift" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("halt",), "name a LANE, or give --all"),
        (("halt", "paper1", "--all"), "name a LANE, or give --all"),
        (("pause", "paper1", "--for", "2 weeks"), "is no length of time; write a whole number and a unit"),
        (("pause", "paper1", "--symbol", "a b"), "--symbol"),
        (("pause", "paper1", "--who", ""), "name the person"),
        (("pause", "nowhere"), "has no file of it"),
        (("resume", "paper1", "--hold", "x", "--owner", "anna"), "leave out --owner"),
    ],
)
def test_a_hold_that_is_none(lanes, capsys, arguments, words):
    assert words in refused(capsys, 2, *arguments)
    assert not control_path(lanes, "paper1").exists()


def test_a_running_lane_is_waited_for(lanes, capsys):
    with FollowingLane(lanes, "paper1"):
        assert done(capsys, "halt", "paper1")["lanes"] == {"paper1": "followed"}
        assert done(capsys, "halt", "--all")["lanes"] == {"paper1": "followed", "paper2": "stopped"}
        assert done(capsys, "resume", "--all")["lanes"]["paper1"] == "followed"
        assert done(capsys, "resume", "paper1")["lanes"] == {"paper1": "followed"}


def test_a_lane_that_does_not_follow_is_an_unknown_outcome(lanes, capsys):
    lock = locked(lock_path(lanes, "paper1"), "running lane paper1")
    with lock:
        assert "has not followed within 0 s" in refused(capsys, 6, "halt", "paper1", "--timeout", "0")
        write_status(lanes, "paper1", {})
        assert "has not followed" in refused(capsys, 6, "halt", "paper1", "--timeout", "0", "--why", "again")
        (lanes / "paper1" / STATUS_NAME).write_text("{")
        assert "has not followed" in refused(capsys, 6, "halt", "paper1", "--timeout", "0")
    assert read_holds(lanes, "paper1")["halt"].effect == "halt"


@pytest.mark.parametrize("where", ["paper1", "--all"])
def test_a_halt_needs_room_for_one_small_file_alone(lanes, home, where):
    """Neither registry, journal nor configuration is read, and on a full disk no other file gets content."""
    (home / "registry.db").mkdir()
    folder = lanes if where == "--all" else lanes / where

    def full(path, writes):
        allowed = path.name.startswith(("control.yaml", ".control.yaml.", ".control.lock"))
        return errno.ENOSPC if writes and path.is_relative_to(home) and not allowed else 0

    with refusing(full):
        assert run(["lane", "halt", where]) == 0
    assert "effect: halt" in (folder / "control.yaml").read_text()


def test_a_full_disk_leaves_the_holds_as_they_were(lanes, capsys):
    assert run(["lane", "pause", "paper1"]) == 0
    before = control_path(lanes, "paper1").read_bytes()
    with refusing(lambda path, writes: errno.ENOSPC if writes and path.name.startswith(".control.yaml.") else 0):
        assert "not written, the previous file is intact" in refused(capsys, 5, "halt", "paper1")
    assert control_path(lanes, "paper1").read_bytes() == before
    assert [path.name for path in (lanes / "paper1").iterdir() if path.suffix == ".tmp"] == []


def test_ctrl_c_leaves_the_hold(lanes, capsys, monkeypatch):
    def interrupt(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with locked(lock_path(lanes, "paper1"), "running lane paper1"):
        assert "the change is in the file, and stays" in refused(capsys, 130, "halt", "paper1")
    assert set(read_holds(lanes, "paper1")) == {"halt"}


@pytest.mark.usefixtures("lanes")
def test_a_resumed_lane_says_what_still_stops_it(capsys):
    assert run(["lane", "halt", "--all"]) == 0
    assert run(["lane", "pause", "paper1"]) == 0
    capsys.readouterr()
    assert run(["lane", "resume", "paper1"]) == 0
    assert "paper1 is still stopped by hold all/halt: `mei lane resume --all`" in capsys.readouterr().err
    assert run(["lane", "resume", "--all"]) == 0
    capsys.readouterr()
    assert run(["lane", "resume", "paper1"]) == 0
    assert "still stopped" not in capsys.readouterr().err
