"""Any order of judging, proposing, moving, dying and repairing, against a model of what must hold throughout."""

import contextlib
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import registry_kit as kit
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mei_pipeline.errors import Refused
from mei_pipeline.params.identity import config_id as id_of
from mei_pipeline.promotion.moves import pause, resize, retire, rollback
from mei_pipeline.promotion.promote_proposals import promote_proposals
from mei_pipeline.promotion.propose import propose_assignments, store_candidates
from mei_pipeline.registry import store
from mei_pipeline.registry.lanes import config_path, drift, lane_files, pointer_path, read_pointer_file
from mei_pipeline.registry.lifecycle import NEXT_STATES
from mei_pipeline.registry.records import Lane
from mei_pipeline.registry.render import render

VENUE = "hyperliquid"
NUMBERS = range(4)
IDS = [id_of(kit.resolved(number, VENUE)) for number in NUMBERS]
PAPER = (Lane("paper1", "paper", VENUE, "primary"), Lane("paper2", "paper", VENUE, "fallback"))
LIVE = Lane("live1", "live", VENUE, "primary")
ALL = (*PAPER, LIVE)

CONFIGS = st.sampled_from(NUMBERS)
LANES = st.sampled_from(ALL)
VERDICTS = st.sampled_from(("pass", "pass", "pass", "fail", "no evidence"))
DATA = st.sampled_from("de")
SIZES = st.sampled_from((None, None, 0.25, 0.5, 1.0, 0.3))
STEPS = st.sampled_from(("config written", "before commit", "pointer moved", "config rendered", "rendered"))


class Died(BaseException):
    """The process ended here."""


@dataclass(frozen=True)
class Held:
    """What a lane holds, as the model has it."""

    number: int
    state: str
    size: float
    generation: int
    data: str


class Lifecycle(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.lanes = self.folder / "lanes"
        self.registry = kit.fresh(self.folder)
        self.clock_ms = 0
        self.night = 0
        self.newest = {}  # config to (whether its newest verdict passed, the candles of it)
        self.passed = {}  # config to the candles of its newest pass
        self.held = {}  # lane to what it holds
        self.stack = {lane.name: [] for lane in ALL}  # configs that a rollback can go back to
        self.was_on_paper, self.retired = set(), set()
        # Steps are few: they begin where most of the lifecycle is one or two of them away.
        for number in NUMBERS[:3]:
            self.judge(number, "pass", "d")
        for lane, number in ((PAPER[0], 0), (PAPER[0], 1), (PAPER[1], 2), (LIVE, 0), (LIVE, 1)):
            self.move(lane, number, by_person=True, size=None, late=0)
        self.go_to_size(LIVE, 0.5)

    # The model

    def now(self):
        self.clock_ms += 1
        return kit.at(self.clock_ms)

    def expect(self, lane, number, *, by_person, size, late=0):
        """What a promotion must come to: a refusal (None), what is held already, or what is held then."""
        held = self.held.get(lane.name)
        passed, data = self.newest.get(number, (False, ""))
        if (not by_person and (lane.mode == "live" or (held and held.state == "paused"))) or not passed:
            return None
        trades = held and held.number == number and held.state != "paused"
        if trades:
            after = size or held.size
            ramp = [0.25, 0.5, 1.0]
            if lane.mode == "live" and (after not in ramp or ramp.index(after) > ramp.index(held.size) + 1):
                return None
            if after == held.size and data == held.data:
                return held
        else:
            after = size or (0.25 if lane.mode == "live" else 1.0)
            live_too_soon = lane.mode == "live" and (after != 0.25 or number not in self.was_on_paper)
            if number in self.retired or live_too_soon:
                return None
        if late:
            return None
        return Held(number, self.state_at(lane, after), after, self.generation(lane) + 1, data)

    @staticmethod
    def state_at(lane, size):
        return "paper" if lane.mode == "paper" else "live_full" if size == 1.0 else "live_small"

    def generation(self, lane):
        return self.held[lane.name].generation if lane.name in self.held else 0

    def holds_now(self, lane, held):
        """Take over into the model what a lane holds from now on."""
        before = self.held.get(lane.name)
        self.held[lane.name] = held
        stack = self.stack[lane.name]
        if before is None or before.number != held.number:
            if held.number in stack:
                stack.remove(held.number)
            stack.append(held.number)
        if held.state == "paper":
            self.was_on_paper.add(held.number)

    def tried(self, lane, expected, move):
        """Make a move; it must do exactly what the model says."""
        try:
            done = move()
        except Refused:
            assert expected is None
            return
        assert expected is not None
        assert done.moved is (expected != self.held.get(lane.name))
        self.holds_now(lane, expected)

    def pointer(self, lane):
        found = store.lane_pointer(self.registry, lane.name)
        if found is None:
            return None
        data = lane_files(self.registry, lane.name).file.provenance.data_hash[0]
        return Held(IDS.index(found.config_id), found.state, found.size_multiplier, found.generation, data)

    def promote(self, lane, number, *, by_person, size=None, late=0, **more):
        options = {"by_person": by_person, "size": size, **more}
        generation = self.generation(lane) + late
        return kit.promote(self.registry, self.lanes, lane, IDS[number], kit.POLICY, generation, self.now(), **options)

    # What nights do

    @rule(number=CONFIGS, verdict=VERDICTS, data=DATA)
    def judge(self, number, verdict, data):
        self.night += 1
        kit.judged(self.registry, number, verdict, night=f"night {self.night}", venue=VENUE, data=data)
        self.judged(number, passed=verdict == "pass", data=data)

    def judged(self, number, *, passed, data):
        self.newest[number] = (passed, data)
        if passed:
            self.passed[number] = data

    @rule(numbers=st.lists(CONFIGS, unique=True, max_size=3), data=st.data())
    def propose(self, numbers, data):
        self.night += 1
        night = f"night {self.night}"
        made = [kit.candidate(number, data.draw(st.floats(-2, 2)), data.draw(VERDICTS), VENUE) for number in numbers]
        before = [self.pointer(lane) for lane in ALL]
        done = store_candidates(self.registry, made, night_id=night, policy_id=kit.POLICY, audit=self.now())
        for number, entry in zip(numbers, done, strict=True):
            self.judged(number, passed=entry.rejected_at in {(), ("lifecycle: retired",)}, data="d")
        assignments = kit.by_rank(self.registry, done, ALL)
        lanes = propose_assignments(
            self.registry, self.lanes, ALL, assignments, night_id=night, policy_id=kit.POLICY, audit=self.now()
        )
        chosen = [entry.new for entry in lanes if entry.new is not None]
        assert len(chosen) == len(set(chosen))
        assert {entry.new for entry in lanes if entry.lane == "live1"} == {None}
        assert not {IDS[number] for number in self.retired} & set(chosen)
        assert [self.pointer(lane) for lane in ALL] == before

    @rule()
    def hand_over(self):
        outcomes = promote_proposals(self.registry, self.lanes, ALL, policy_id=kit.POLICY, audit=self.now())
        for lane, outcome in zip(sorted(ALL, key=lambda lane: lane.name), outcomes, strict=True):
            if outcome.moved:
                number = IDS.index(outcome.pointer.config_id)
                expected = self.expect(lane, number, by_person=False, size=None)
                assert expected == self.pointer(lane)
                if not (lane.name in self.held and self.held[lane.name].number == number):
                    others = [other for other in PAPER if other != lane and self.pointer(other)]
                    assert number not in [self.pointer(other).number for other in others]
                self.holds_now(lane, expected)

    # What persons do

    @rule(lane=LANES, number=CONFIGS, by_person=st.booleans(), size=SIZES, late=st.sampled_from((0, 0, 0, -1, 1)))
    def move(self, lane, number, by_person, size, late):
        expected = self.expect(lane, number, by_person=by_person, size=size, late=late)
        self.tried(lane, expected, lambda: self.promote(lane, number, by_person=by_person, size=size, late=late))

    @rule(lane=LANES, by_person=st.booleans())
    def judge_the_holder_again(self, lane, by_person):
        held = self.held.get(lane.name)
        if held is not None:
            self.judge(held.number, "pass", "e" if held.data == "d" else "d")
            self.move(lane, held.number, by_person=by_person, size=None, late=0)

    @rule(lane=LANES, size=st.sampled_from((0.25, 0.5, 1.0, 0.3)))
    def go_to_size(self, lane, size):
        held = self.held.get(lane.name)
        if held is None or held.state == "paused" or (lane.mode == "live" and size == 0.3):
            expected = None
        elif size > held.size:
            expected = self.expect(lane, held.number, by_person=True, size=size)
        elif size == held.size:
            expected = held
        else:
            expected = replace(held, state=self.state_at(lane, size), size=size, generation=held.generation + 1)
        self.tried(lane, expected, lambda: resize(self.registry, self.lanes, lane, size, kit.POLICY, self.now()))

    @rule()
    def climb(self):
        held = self.held.get(LIVE.name)
        self.go_to_size(LIVE, {0.25: 0.5}.get(held.size, 1.0) if held else 0.25)

    def paused(self, lane):
        held = self.held.get(lane.name)
        if held is None or held.state == "paused":
            return held
        return replace(held, state="paused", generation=held.generation + 1)

    @rule(lane=LANES)
    def hold_back(self, lane):
        self.tried(lane, self.paused(lane), lambda: pause(self.registry, self.lanes, lane.name, self.now()))

    @rule(lane=LANES, steps=st.integers(1, 2))
    def roll_back(self, lane, steps):
        stack, expected = self.stack[lane.name], None
        if steps < len(stack) and stack[-1 - steps] not in self.retired:
            number = stack[-1 - steps]
            size = 0.25 if lane.mode == "live" else 1.0
            generation = self.generation(lane) + 1
            expected = Held(number, self.state_at(lane, size), size, generation, self.passed[number])
            stack = stack[: len(stack) - steps]
        self.tried(lane, expected, lambda: rollback(self.registry, self.lanes, lane, steps, self.now()))
        self.stack[lane.name] = stack

    @rule(number=CONFIGS)
    def retire(self, number):
        trades = any(held.number == number and held.state != "paused" for held in self.held.values())
        try:
            retire(self.registry, IDS[number], self.now())
        except Refused:
            assert trades or number not in self.newest
        else:
            assert not trades
            self.retired.add(number)

    # What happens to processes and files

    @rule(lane=LANES, number=CONFIGS, where=STEPS, stops=st.booleans())
    def die(self, lane, number, where, stops):
        expected = self.paused(lane) if stops else self.expect(lane, number, by_person=True, size=None)
        before = self.held.get(lane.name)

        def end(step):
            if step == where:
                raise Died

        with contextlib.suppress(Died, Refused):
            if stops:
                pause(self.registry, self.lanes, lane.name, self.now(), fault_hook=end)
            else:
                self.promote(lane, number, by_person=True, fault_hook=end)
        after = self.pointer(lane)
        assert after in {before, expected or before}
        if where not in {"config written", "before commit"}:
            assert after == (expected or before)
        if after != before:
            self.holds_now(lane, after)

    @rule(first=CONFIGS, second=CONFIGS, lane=LANES)
    def race(self, first, second, lane):
        """The second promoter goes the whole way while the first stands before its transaction."""
        moved, entered = [], []
        generation = self.generation(lane)

        def go(number, fault_hook=lambda _step: None):
            with contextlib.suppress(Refused):
                done = kit.promote(
                    self.registry, self.lanes, lane, IDS[number], kit.POLICY, generation, self.now(),
                    by_person=True, fault_hook=fault_hook,
                )  # fmt: skip
                if done.moved:
                    moved.append(done.pointer)

        def overtaken(step):
            if step == "config written" and not entered:
                entered.append(step)
                go(second)

        go(first, overtaken)
        assert len(moved) <= 1
        if moved:
            assert moved[0].generation == generation + 1
            self.holds_now(lane, self.pointer(lane))

    @rule(lane=LANES)
    def repair(self, lane):
        render(self.registry, self.lanes, lane.name)
        assert drift(self.registry, self.lanes, lane.name).differences == ()

    @rule(lane=LANES, data=st.binary(max_size=40))
    @precondition(lambda self: self.held)
    def damage(self, lane, data):
        path = pointer_path(self.lanes, lane.name)
        if path.exists():
            path.write_bytes(data)
            render(self.registry, self.lanes, lane.name)
            assert drift(self.registry, self.lanes, lane.name).differences == ()

    # What holds throughout

    @invariant()
    def the_registry_says_what_was_done(self):
        for lane in ALL:
            assert self.pointer(lane) == self.held.get(lane.name)

    @invariant()
    def every_step_is_legal_and_every_generation_new(self):
        steps = store.history(self.registry)
        assert all(step.to_state in NEXT_STATES[step.from_state] for step in steps)
        assert len({step.transition_id for step in steps}) == len(steps)
        for lane in ALL:
            moves = [step.generation for step in steps if step.lane == lane.name and step.action != "replaced"]
            assert moves == list(range(1, len(moves) + 1))

    @invariant()
    def whoever_trades_had_passed(self):
        verdicts = {
            verdict.verdict_id: verdict for story in store.list_configs(self.registry) for verdict in story.verdicts
        }
        for step in store.history(self.registry):
            if step.to_state in {"validated", "paper", "live_small", "live_full", "paused"}:
                assert verdicts[step.verdict_id].passed
                assert verdicts[step.verdict_id].config_id == step.config_id
                assert all(gate.verdict == "pass" for gate in verdicts[step.verdict_id].gates)

    @invariant()
    def real_money_was_small_before_it_was_full(self):
        steps = [step for step in store.history(self.registry, lane="live1") if step.to_state.startswith("live")]
        for step in steps:
            assert (step.to_state == "live_full") is (step.size_multiplier == 1.0)
            assert step.size_multiplier in {0.25, 0.5, 1.0}
            if step.to_state == "live_full" and step.from_state != "live_full":
                assert step.from_state == "live_small"

    @invariant()
    def a_pointer_file_names_a_config_that_is_there(self):
        for lane in ALL:
            file = read_pointer_file(self.lanes, lane.name)
            if file is not None:
                assert config_path(self.lanes, lane.name, file.config_id).exists()
                assert file.generation <= self.held[lane.name].generation

    def teardown(self):
        shutil.rmtree(self.folder)


def walk(runs, steps):
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=runs, stateful_step_count=steps, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


@pytest.mark.usefixtures("database")
def test_a_few_orders_of_events_do_not_break_the_lifecycle():
    walk(2, 10)


@pytest.mark.long
def test_no_order_of_events_breaks_the_lifecycle(database):
    walk(30 if database == "sqlite" else 6, 25)
