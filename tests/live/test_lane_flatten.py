"""`mei lane flatten`, and `mei lane resume` of the executor's own holds."""

import errno
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import session_kit as kit
from disk_kit import refusing

from live.bench_home import LANE
from mei_pipeline.cli.main import run
from mei_pipeline.execution.events import HoldSet, HoldState, RequestAnswered
from mei_pipeline.execution.journal.machine import machine_id
from mei_pipeline.execution.journal.opening import journal_path, lock_path, open_journal
from mei_pipeline.execution.requests import pending, requests_folder, write_result
from mei_pipeline.execution.rows import HoldRow
from mei_pipeline.files import locked
from mei_pipeline.registry.holds import read_holds
from mei_pipeline.registry.lanes import pointer_path, read_status
from mei_pipeline.settings import Settings


@pytest.fixture
def holding(holding_home: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with a lane that holds a position and was stopped."""
    monkeypatch.setenv("MEI_CACHE", str(home / "cache"))
    return kit.copy_home(holding_home, home)


def done(capsys, *words: str) -> dict[str, Any]:
    code = run(["lane", *words, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def refused(capsys, code: int, *words: str) -> str:
    assert run(["lane", *words]) == code
    return capsys.readouterr().err


def test_a_stopped_lane_is_paused_and_flattened(holding: Settings, capsys) -> None:
    result = done(capsys, "flatten", LANE, "--why", "the venue is down", "--who", "anna")
    assert (result["state"], result["who"], list(result["holds"])) == ("done", "anna", ["pause"])
    assert set(read_holds(holding.lanes, LANE)) == {"pause"}
    (order,) = done(capsys, "orders", LANE, "--open")["orders"]
    assert (order["purpose"], order["origin"]) == ("flatten", f"request:{result['id']}")
    kit.run_session(holding)
    assert done(capsys, "positions", LANE)["positions"] == []
    assert done(capsys, "trades", LANE, "--last", "1")["trades"][0]["reason"] == "manual"
    assert done(capsys, "resume", LANE)["lifted"] == ["pause"]
    assert run(["lane", "flatten", LANE]) == 0
    assert "done: no position and no order to close" in capsys.readouterr().out


def test_a_lane_that_keeps_trading_is_not_paused(holding: Settings, capsys) -> None:
    held = next(iter(read_status(holding.lanes, LANE).positions))
    assert done(capsys, "flatten", LANE, "--symbol", held, "--keep-trading")["holds"] == {}
    assert read_holds(holding.lanes, LANE) == {}
    assert set(done(capsys, "flatten", LANE, "--symbol", held)["holds"]) == {f"pause-{held.lower()}"}


def test_a_halted_lane_is_not_flattened(holding: Settings, capsys) -> None:
    for words in ((LANE,), ("--all",), (LANE, "--symbol", "BTC")):
        assert run(["lane", "halt", *words]) == 0
        capsys.readouterr()
        assert "halts every order" in refused(capsys, 4, "flatten", LANE, "--symbol", "BTC")
        assert not requests_folder(holding.lanes, LANE).exists()
        assert run(["lane", "resume", words[0]]) == 0
        assert run(["lane", "resume", "--all"]) == 0
        capsys.readouterr()
    # A halt that the command can't read is known to the lane.
    assert run(["lane", "halt", LANE]) == 0
    capsys.readouterr()
    (holding.lanes / "control.yaml").write_text("{")
    assert "a hold halts every order" in refused(capsys, 4, "flatten", LANE, "--keep-trading")


@pytest.mark.usefixtures("holding")
def test_a_symbol_that_the_lane_does_not_trade_is_refused(capsys) -> None:
    assert "symbol DOGE: the lane trades BTC, ETH" in refused(
        capsys, 4, "flatten", LANE, "--symbol", "DOGE", "--keep-trading"
    )


@pytest.mark.parametrize(("words", "code", "says"), [
    (("flatten", "nowhere"), 2, "has no file of it"),
    (("flatten", LANE), 3, "the lane never ran in this home"),
    (("flatten", LANE, "--who", ""), 3, "the lane never ran in this home"),
])  # fmt: skip
def test_a_lane_that_never_ran_is_not_flattened(lane_home: Settings, capsys, words, code, says) -> None:
    assert says in refused(capsys, code, *words)
    assert not requests_folder(lane_home.lanes, LANE).exists()
    assert read_holds(lane_home.lanes, LANE) == {}


class AnsweringLane(threading.Thread):
    """A process that runs the lane, and answers requests in a state; without one it never does, and dies at once."""

    def __init__(self, settings: Settings, state: str | None) -> None:
        super().__init__(daemon=True)
        self.settings, self.state, self.ready = settings, state, threading.Event()

    def run(self) -> None:
        folder = requests_folder(self.settings.lanes, LANE)
        with locked(lock_path(self.settings.lanes, LANE), f"running lane {LANE}"):
            self.ready.set()
            deadline_s = time.monotonic() + 20.0
            while not (found := list(pending(folder))) and time.monotonic() < deadline_s:
                time.sleep(0.01)
            if self.state is not None and found:
                answer = RequestAnswered(
                    venue_ms=1, id=found[0].stem, who="anna", verb="flatten", state=self.state, text="so",
                    taken_ms=2, expires_ms=3,
                )  # fmt: skip
                write_result(self.settings.lanes, LANE, answer)
            else:
                time.sleep(0.15)

    def __enter__(self) -> None:
        self.start()
        assert self.ready.wait(20.0)

    def __exit__(self, *error: object) -> None:
        self.join()


@pytest.mark.parametrize(("state", "code", "says"), [
    ("done", 0, "done: so"), ("refused", 4, f"lane {LANE}: flatten: so"), ("expired", 5, "request it again"),
])  # fmt: skip
def test_a_running_lane_answers(holding: Settings, capsys, state, code, says) -> None:
    with AnsweringLane(holding, state):
        assert run(["lane", "flatten", LANE]) == code
    captured = capsys.readouterr()
    assert says in captured.out + captured.err


def test_a_lane_that_dies_while_the_command_waits_is_operated_by_it(holding: Settings, capsys) -> None:
    with AnsweringLane(holding, None):
        assert done(capsys, "flatten", LANE)["state"] == "done"
    assert list(pending(requests_folder(holding.lanes, LANE))) == []


def test_a_lane_that_does_not_answer_is_an_unknown_outcome(holding: Settings, capsys) -> None:
    with locked(lock_path(holding.lanes, LANE), f"running lane {LANE}"):
        words = refused(capsys, 6, "flatten", LANE, "--timeout", "0")
    (path,) = pending(requests_folder(holding.lanes, LANE))
    assert all(each in words for each in ("has not answered within 0 s", str(path), "remove the file to withdraw it"))
    # The next process executes it.
    kit.run_session(holding)
    assert read_status(holding.lanes, LANE).positions == {}


def test_ctrl_c_leaves_the_request(holding: Settings, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with locked(lock_path(holding.lanes, LANE), f"running lane {LANE}"):
        assert "the request stays" in refused(capsys, 130, "flatten", LANE)
    assert len(list(pending(requests_folder(holding.lanes, LANE)))) == 1


def test_a_hold_of_the_executor_is_lifted_by_its_name(holding: Settings, capsys) -> None:
    set_own_hold(holding)
    assert "it has: mismatch-btc" in refused(capsys, 2, "resume", LANE, "--hold", "mismatch-eth")
    assert run(["lane", "pause", LANE]) == 0
    capsys.readouterr()
    assert done(capsys, "resume", LANE, "--hold", "mismatch-btc")["lifted"] == ["mismatch-btc"]
    assert set(read_status(holding.lanes, LANE).holds) == {"pause"}
    set_own_hold(holding)
    both = done(capsys, "resume", LANE, "--hold", "mismatch-btc", "--hold", "pause")
    assert (both["lifted"], both["holds"]) == (["mismatch-btc", "pause"], {})
    assert "no such hold" in refused(capsys, 2, "resume", "--all", "--hold", "mismatch-btc")


def test_a_full_disk_leaves_a_pause_and_no_request(holding: Settings, capsys) -> None:
    folder = requests_folder(holding.lanes, LANE)
    with refusing(lambda path, writes: errno.ENOSPC if writes and path.is_relative_to(folder) else 0):
        assert "not written, the previous file is intact" in refused(capsys, 5, "flatten", LANE)
    assert (set(read_holds(holding.lanes, LANE)), folder.exists()) == ({"pause"}, False)


def test_a_resumed_lane_says_what_the_executor_and_the_registry_stop(holding: Settings, capsys) -> None:
    set_own_hold(holding)
    path = pointer_path(holding.lanes, LANE)
    path.write_text(path.read_text().replace("state: paper", "state: paused"))
    assert run(["lane", "resume", LANE]) == 0
    words = capsys.readouterr().err
    assert f"hold mismatch-btc: `mei lane resume {LANE} --hold mismatch-btc`" in words
    assert "`mei registry pause`: `mei registry promote`" in words


def set_own_hold(settings: Settings) -> None:
    """Let the executor of the stopped lane have set a hold."""
    hold = HoldState(owner="executor", effect="close_only", reason="it differs", since_ms=0, symbol="BTC")
    row = HoldRow(
        name="mismatch-btc", symbol="BTC", owner="executor", effect="close_only", reason="it differs",
        since_ms=time.time_ns() // 1_000_000, own=True, lifted_ms=None,
    )  # fmt: skip
    journal = open_journal(
        journal_path(settings.lanes, LANE), lane=LANE, venue="synthetic", feed="replay",
        machine_id=machine_id(settings.cache),
    )  # fmt: skip
    journal.append(HoldSet(name="mismatch-btc", hold=hold), 1, (row,))
    journal.commit()
    journal.close()
