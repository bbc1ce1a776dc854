import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
import registry_kit as kit
import yaml
from sqlalchemy import delete, update

from kernels.cache import source_hash
from mei_pipeline.errors import Busy, ConfigError, DataError, Fatal, Refused
from mei_pipeline.files import locked
from mei_pipeline.registry import store, tables
from mei_pipeline.registry.config_file import parse_config
from mei_pipeline.registry.database import write_transaction
from mei_pipeline.registry.lanes import config_path, drift, pointer_path, read_pointer_file
from mei_pipeline.registry.records import Pointer
from mei_pipeline.registry.render import render, write_checked
from mei_pipeline.registry.rows import add_transition, move_pointer, transition_id_of

pytestmark = pytest.mark.usefixtures("database")

STEPS = ("config written", "before commit", "pointer moved", "config rendered", "rendered")
SOME = ("pointer moved",)  # after what makes it so, before its files are written


def move(registry, lanes, config_id, generation=0, lane=kit.PAPER1, policy=kit.POLICY, **more):
    return kit.promote(registry, lanes, lane, config_id, policy, generation, kit.at(50 + generation), **more)


def in_line(registry, lanes, lane="paper1"):
    return drift(registry, lanes, lane).differences == ()


def test_a_config_takes_an_empty_lane(registry, lanes):
    config_id = kit.judged(registry)
    done = move(registry, lanes, config_id)
    assert done.moved
    assert store.lane_pointer(registry, "paper1") == done.pointer
    assert (done.pointer.config_id, done.pointer.generation, done.pointer.size_multiplier) == (config_id, 1, 1.0)
    assert (done.transition.from_state, done.transition.to_state) == ("validated", "paper")
    assert set(done.files) == {config_path(lanes, "paper1", config_id), pointer_path(lanes, "paper1")}
    file = read_pointer_file(lanes, "paper1")
    assert (file.config_id, file.generation, file.transition_id) == (config_id, 1, done.transition.transition_id)
    assert (file.provenance.policy_id, file.provenance.kernel_hash) == (kit.POLICY, source_hash())


def test_the_file_of_a_config_holds_it_whole(registry, lanes):
    config_id = kit.judged(registry)
    move(registry, lanes, config_id)
    content = yaml.safe_load(config_path(lanes, "paper1", config_id).read_text())
    assert parse_config(Path("c.yaml"), yaml.safe_dump(content).encode()) == kit.resolved()
    assert content["config"]["params"]["indicators"]["ema_fast_window"] == 8
    assert content["config"]["market"]["taker_fee_bps"] == 4.5
    assert content["evidence"]["kernel_hash"] == source_hash()


def test_the_next_config_replaces_the_first_and_the_first_may_return(registry, lanes):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    for generation, config_id in enumerate((one, two, one)):
        assert move(registry, lanes, config_id, generation).pointer.generation == generation + 1
    steps = [(step.config_id, step.from_state, step.to_state) for step in store.history(registry, lane="paper1")]
    assert steps == [
        (one, "validated", "paper"),
        (two, "validated", "paper"),
        (one, "paper", "replaced"),
        (one, "replaced", "paper"),
        (two, "paper", "replaced"),
    ]
    assert len({step.transition_id for step in store.history(registry)}) == 7 + 2
    assert store.config_history(registry, one).lanes == ("paper1",)
    assert store.config_history(registry, two).state == "replaced"
    assert {step.config_id for step in store.history(registry, config_id=two)} == {two}


def test_promoting_the_holder_changes_nothing(registry, lanes):
    config_id = kit.judged(registry)
    first = move(registry, lanes, config_id)
    again = move(registry, lanes, config_id, generation=7)
    assert not again.moved
    assert (again.pointer, again.transition, again.files) == (first.pointer, first.transition, ())


def test_a_config_may_hold_two_lanes(registry, lanes):
    config_id = kit.judged(registry)
    move(registry, lanes, config_id)
    assert move(registry, lanes, config_id, lane=kit.PAPER2).moved
    assert store.config_history(registry, config_id).lanes == ("paper1", "paper2")


@pytest.mark.parametrize(
    ("lane", "words"),
    [
        (replace(kit.PAPER1, mode="live"), "moves paper lanes only"),
        (replace(kit.PAPER1, mode="shadow"), "moves paper lanes only"),
        (replace(kit.PAPER1, manual=True), "is manual"),
        (replace(kit.PAPER1, venue="hyperliquid"), "choose a lane of its venue"),
    ],
)
def test_a_lane_that_no_night_may_move(registry, lanes, lane, words):
    with pytest.raises(Refused, match=words):
        move(registry, lanes, kit.judged(registry), lane=lane)
    assert store.lane_pointers(registry) == ()


def test_evidence_of_another_venue_does_not_promote(registry, lanes):
    config_id = kit.judged(registry, measured="binance")
    with pytest.raises(Refused, match="was measured on binance"):
        move(registry, lanes, config_id)


@pytest.mark.parametrize(
    ("verdicts", "policy", "words"),
    [
        (["fail"], kit.POLICY, r"did not pass: trades \(fail\)"),
        (["no evidence"], kit.POLICY, r"did not pass: trades \(no evidence\)"),
        (["pass", "fail"], kit.POLICY, "did not pass"),
        (["pass"], kit.OTHER_POLICY, "no verdict under policy qqq"),
    ],
)
def test_without_a_passing_verdict_nothing_moves(registry, lanes, verdicts, policy, words):
    for number, verdict in enumerate(verdicts):
        config_id = kit.judged(registry, verdict=verdict, night=f"n{number}")
    with pytest.raises(Refused, match=words):
        move(registry, lanes, config_id, policy=policy)
    assert store.lane_pointers(registry) == ()
    assert not pointer_path(lanes, "paper1").exists()


def test_a_verdict_without_gates_does_not_promote(registry, lanes):
    config_id = store.add_config(registry, kit.resolved(), kit.at())
    identity = store.add_evidence(registry, config_id, kit.basis(), {}, kit.at())
    store.add_verdict(registry, config_id, identity, kit.POLICY, [], night_id="n", audit=kit.at())
    with pytest.raises(Refused, match="no gate was computed"):
        move(registry, lanes, config_id)


def test_an_unknown_config_is_refused(registry, lanes):
    with pytest.raises(Refused, match="not in the registry"):
        move(registry, lanes, "f" * 64)


def test_a_step_that_does_not_exist_is_refused(registry, lanes):
    config_id = kit.judged(registry)
    with write_transaction(registry) as connection:
        connection.execute(delete(tables.transitions).where(tables.transitions.c.to_state == "validated"))
    with pytest.raises(Refused, match="can't go from candidate to paper"):
        move(registry, lanes, config_id)


def test_an_outdated_generation_is_refused(registry, lanes):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    with pytest.raises(Refused, match=r"at generation 0 \(no config\), not 3"):
        move(registry, lanes, two, 3)
    move(registry, lanes, one)
    with pytest.raises(Refused, match=rf"at generation 1 \(config {one[:12]}\), not 0"):
        move(registry, lanes, two, 0)
    assert in_line(registry, lanes)


def test_of_two_promoters_one_wins(registry, lanes):
    ids = [kit.judged(registry, number) for number in range(4)]
    barrier = Barrier(len(ids))

    def race(config_id):
        try:
            return move(
                registry, lanes, config_id, fault_hook=lambda step: barrier.wait() if step == "config written" else None
            )
        except Refused as error:
            return str(error)

    with ThreadPoolExecutor(len(ids)) as pool:
        outcomes = list(pool.map(race, ids))
    winners = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert len(winners) == 1
    assert store.lane_pointer(registry, "paper1") == winners[0].pointer
    assert all("at generation 1" in outcome for outcome in outcomes if isinstance(outcome, str))
    assert len(store.history(registry, lane="paper1")) == 1
    assert in_line(registry, lanes)


RACER = """
import sys
from pathlib import Path
import registry_kit as kit
from mei_pipeline.errors import Refused
folder, config_id = Path(sys.argv[1]), sys.argv[2]
def wait(step):
    if step == "config written":
        print("ready", flush=True)
        sys.stdin.readline()
try:
    lanes, hook = folder / "lanes", {"fault_hook": wait}
    done = kit.promote(kit.fresh(folder), lanes, kit.PAPER1, config_id, kit.POLICY, 0, kit.at(51), **hook)
    print("won", done.pointer.config_id)
except Refused as error:
    print("lost", error)
"""


@pytest.mark.parametrize("racing", [2, pytest.param(3, marks=pytest.mark.long)])
def test_of_many_processes_one_wins(registry, lanes, tmp_path, racing):
    ids = [kit.judged(registry, number) for number in range(racing)]
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), config_id],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for config_id in ids
    ]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * racing
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = [racer.communicate()[0] for racer in racers]
    winner = store.lane_pointer(registry, "paper1").config_id
    assert [text for text in told if text.startswith("won")] == [f"won {winner}\n"]
    assert sum("at generation 1" in text for text in told) == racing - 1
    assert len(store.history(registry, lane="paper1")) == 1
    assert in_line(registry, lanes)


def test_two_promoters_of_one_config_agree(registry, lanes):
    config_id = kit.judged(registry)
    meanwhile = []

    def overtake(step):
        if step == "config written" and not meanwhile:
            meanwhile.append(move(registry, lanes, config_id))

    done = move(registry, lanes, config_id, fault_hook=overtake)
    assert not done.moved
    assert done.pointer == meanwhile[0].pointer
    assert done.pointer.generation == 1


def test_a_verdict_that_falls_at_the_last_moment_stops_it(registry, lanes):
    config_id = kit.judged(registry)

    def fall(step):
        if step == "config written":
            kit.judged(registry, verdict="fail", night="later")

    with pytest.raises(Refused, match="did not pass"):
        move(registry, lanes, config_id, fault_hook=fall)
    assert store.lane_pointer(registry, "paper1") is None


KILLED = """
import os, signal, sys
from pathlib import Path
import registry_kit as kit
folder, config_id, where = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def die(step):
    if step == where:
        os.kill(os.getpid(), signal.SIGKILL)
kit.promote(kit.fresh(folder), folder / "lanes", kit.PAPER1, config_id, kit.POLICY, 1, kit.at(51), fault_hook=die)
"""


@pytest.mark.parametrize(
    "where", [where if where in SOME else pytest.param(where, marks=pytest.mark.long) for where in STEPS]
)
def test_a_promoter_that_is_killed_leaves_old_or_new(registry, lanes, tmp_path, where):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    move(registry, lanes, one)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    died = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), two, where],
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    moved = where not in STEPS[:2]
    assert store.lane_pointer(registry, "paper1").config_id == (two if moved else one)
    # What the executor sees is good at every moment: the pointer's file names a config whose file is there.
    file = read_pointer_file(lanes, "paper1")
    assert file.config_id == (two if where == "rendered" else one)
    assert config_path(lanes, "paper1", file.config_id).exists()
    render(registry, lanes, "paper1")
    assert in_line(registry, lanes)
    assert move(registry, lanes, two, 1).moved is not moved
    assert store.lane_pointer(registry, "paper1").generation == 2
    assert in_line(registry, lanes)


@pytest.mark.parametrize("damage", ["missing", "torn", "wrong", "binary", "foreign"])
def test_render_repairs_what_is_damaged(registry, lanes, damage):
    config_id = kit.judged(registry)
    move(registry, lanes, config_id)
    paths = [pointer_path(lanes, "paper1"), config_path(lanes, "paper1", config_id)]
    good = [path.read_bytes() for path in paths]
    for path, data in zip(paths, good, strict=True):
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(
                {
                    "torn": data[: len(data) // 2],
                    "wrong": data.replace(b"4.5", b"4.6").replace(b"size_multiplier: 1.0", b"size_multiplier: 0.5"),
                    "binary": b"\xff\xfe\x00",
                    "foreign": b"lane: paper9\n",
                }[damage]
            )
    assert drift(registry, lanes, "paper1").differences != ()
    assert set(render(registry, lanes, "paper1")) == set(paths)
    assert [path.read_bytes() for path in paths] == good
    assert render(registry, lanes, "paper1") == ()


def test_a_lane_that_never_held_a_config_is_left_alone(registry, lanes):
    lanes.joinpath("paper1").mkdir(parents=True)
    pointer_path(lanes, "paper1").write_text("by hand")
    assert render(registry, lanes, "paper1") == ()
    assert pointer_path(lanes, "paper1").read_text() == "by hand"


def test_a_registry_from_an_older_backup_is_not_rendered(registry, lanes, tmp_path):
    one, two = kit.judged(registry, 1), kit.judged(registry, 2)
    move(registry, lanes, one)
    move(registry, lanes, two, 1)
    before = pointer_path(lanes, "paper1").read_bytes()
    old = kit.fresh(tmp_path / "older")
    move(old, tmp_path / "elsewhere", kit.judged(old, 1))
    with pytest.raises(Fatal, match="has generation 2"):
        render(old, lanes, "paper1")
    assert pointer_path(lanes, "paper1").read_bytes() == before


def test_a_file_that_reads_back_bad_never_takes_its_place(tmp_path):
    path = tmp_path / "promoted.yaml"
    path.write_bytes(b"good")

    def refuse(where, data):
        raise DataError(f"{where}: {data!r} is bad")

    with pytest.raises(DataError, match="is bad"):
        write_checked(path, b"bad", refuse)
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]


def test_a_rendering_waits_for_another_only_so_long(registry, lanes):
    with locked(lanes / "paper1" / ".render.lock", "a test"), pytest.raises(Busy, match="a test"):
        render(registry, lanes, "paper1", wait_s=0.0)
    assert render(registry, lanes, "paper1", wait_s=0.0) == ()


def test_a_folder_that_can_not_be_made_is_reported(registry, lanes):
    lanes.write_text("a file")
    with pytest.raises(DataError, match="not created"):
        move(registry, lanes, kit.judged(registry))
    assert store.lane_pointers(registry) == ()


@pytest.mark.parametrize("name", ["", "..", "a/b", "Paper1", ".hidden", "x" * 65])
def test_a_lane_has_a_name_that_a_folder_can_have(registry, lanes, name):
    with pytest.raises(ConfigError, match="use lower-case letters"):
        render(registry, lanes, name)


def test_a_config_that_the_kernels_no_longer_know_is_refused_and_stays_rendered(registry, lanes):
    old = replace(kit.resolved(), params={"indicators.gone": 1})
    config_id = store.add_config(registry, old, kit.at())
    identity = store.add_evidence(registry, config_id, kit.basis(), {}, kit.at())
    verdict = store.add_verdict(registry, config_id, identity, kit.POLICY, [kit.gate()], night_id="n", audit=kit.at())
    with pytest.raises(Refused, match=r"indicators\.gone"):
        move(registry, lanes, config_id)
    assert store.lane_pointers(registry) == ()
    # As if it had been promoted before the kernels changed.
    with write_transaction(registry) as connection:
        identity = transition_id_of(config_id, "paper1", "paper", 1, kit.at())
        pointer = Pointer("paper1", config_id, 1, 1.0, identity, "paper")
        move_pointer(connection, pointer)
        add_transition(
            connection, config_id, "paper", "promoted", kit.at(), pointer=pointer, verdict_id=verdict.verdict_id
        )
    assert len(render(registry, lanes, "paper1")) == 2
    assert move(registry, lanes, kit.judged(registry), 1).moved


@pytest.mark.parametrize("table", [tables.transitions, tables.verdicts, tables.evidence])
def test_a_pointer_whose_reasons_are_gone_is_fatal(registry, lanes, table):
    move(registry, lanes, kit.judged(registry))
    with write_transaction(registry) as connection:
        connection.execute(delete(table))
    with pytest.raises(Fatal, match="restore the registry"):
        render(registry, lanes, "paper1")


def test_an_impossible_pointer_is_fatal(registry, lanes):
    move(registry, lanes, kit.judged(registry))
    with write_transaction(registry) as connection:
        connection.execute(update(tables.lanes).values(size_multiplier=3.0))
    with pytest.raises(Fatal, match="its pointer is impossible"):
        render(registry, lanes, "paper1")


def test_a_config_is_refused_for_what_is_wrong_with_it(registry, lanes):
    """A name that was stored before names were held to a rule: the kernels have nothing to do with it."""
    old = replace(kit.resolved(), symbols=("BTC", "NEAR USDT"))
    config_id = store.add_config(registry, old, kit.at())
    identity = store.add_evidence(registry, config_id, kit.basis(), {}, kit.at())
    store.add_verdict(registry, config_id, identity, kit.POLICY, [kit.gate()], night_id="n", audit=kit.at())
    with pytest.raises(Refused, match=r"symbols\[1\]: 'NEAR USDT' is not allowed; a symbol such as BTC") as caught:
        move(registry, lanes, config_id)
    assert "kernels" not in str(caught.value)
