"""Any order of judging, proposing, promoting, dying and repairing, against what must hold throughout."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import registry_kit as kit
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mei_pipeline.errors import Refused
from mei_pipeline.params.identity import config_id as id_of
from mei_pipeline.registry import store
from mei_pipeline.registry.deploy import promote_proposals, propose_deployments
from mei_pipeline.registry.lanes import config_path, drift, pointer_path, read_pointer_file
from mei_pipeline.registry.lifecycle import LEGAL
from mei_pipeline.registry.render import render

CONFIGS = st.integers(0, 3)
LANES = st.sampled_from((kit.PAPER1, kit.PAPER2))
VERDICTS = st.sampled_from(("pass", "pass", "fail", "no evidence"))
STEPS = st.sampled_from(("config written", "before commit", "pointer moved", "config rendered", "rendered"))


class Died(BaseException):
    """The process ended here."""


class Promotions(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.lanes = self.folder / "lanes"
        self.registry = kit.fresh(self.folder)
        self.clock_ms = 0
        self.night = 0
        self.passing = {}  # config number to whether its newest verdict passed
        self.held = {}  # lane to (config id, generation)

    def now(self):
        self.clock_ms += 1
        return kit.at(self.clock_ms)

    def pointer(self, lane):
        found = store.lane_pointer(self.registry, lane.name)
        return None if found is None else (found.config_id, found.generation)

    def expect(self, lane, number, generation):
        """What a promotion must do: move, do nothing, or be refused."""
        holder, at = self.held.get(lane.name, (None, 0))
        if not self.passing.get(number):
            return "refused"
        if holder == id_of(kit.resolved(number)):
            return "nothing"
        return "moves" if generation == at else "refused"

    def generation_of(self, lane):
        return self.held.get(lane.name, (None, 0))[1]

    @rule(number=CONFIGS, verdict=VERDICTS)
    def judge(self, number, verdict):
        self.night += 1
        kit.judged(self.registry, number, verdict, night=f"night {self.night}")
        self.passing[number] = verdict == "pass"

    @rule(numbers=st.lists(CONFIGS, unique=True, max_size=3), data=st.data())
    def deploy(self, numbers, data):
        self.night += 1
        made = [kit.candidate(number, data.draw(st.floats(-2, 2)), data.draw(VERDICTS)) for number in numbers]
        before = [self.pointer(lane) for lane in (kit.PAPER1, kit.PAPER2)]
        deployments = propose_deployments(
            self.registry,
            self.lanes,
            (kit.PAPER1, kit.PAPER2),
            made,
            night_id=f"night {self.night}",
            policy_id=kit.POLICY,
            occasion=self.now(),
        )
        self.passing |= {number: entry.passed for number, entry in zip(numbers, deployments.judged, strict=True)}
        assert [self.pointer(lane) for lane in (kit.PAPER1, kit.PAPER2)] == before
        chosen = [entry.new for entry in deployments.lanes if entry.new is not None]
        assert len(chosen) == len(set(chosen))

    @rule()
    def hand_over(self):
        ids = {id_of(kit.resolved(number)): number for number in range(4)}
        for outcome in promote_proposals(
            self.registry, self.lanes, (kit.PAPER1, kit.PAPER2), policy_id=kit.POLICY, occasion=self.now()
        ):
            if outcome.moved:
                assert self.passing[ids[outcome.pointer.config_id]]
                assert outcome.pointer.generation == self.held.get(outcome.lane, (None, 0))[1] + 1
                self.held[outcome.lane] = (outcome.pointer.config_id, outcome.pointer.generation)

    @rule(lane=LANES, number=CONFIGS, late=st.integers(-1, 1))
    def promote(self, lane, number, late):
        generation = self.generation_of(lane) + late
        expected = self.expect(lane, number, generation)
        try:
            done = kit.promote(
                self.registry, self.lanes, lane, id_of(kit.resolved(number)), kit.POLICY, generation, self.now()
            )
        except Refused:
            assert expected == "refused"
            return
        assert done.moved is (expected == "moves")
        self.held[lane.name] = (done.pointer.config_id, done.pointer.generation)

    @rule(lane=LANES, number=CONFIGS, where=STEPS)
    def die(self, lane, number, where):
        generation = self.generation_of(lane)
        expected = self.expect(lane, number, generation)

        def end(step):
            if step == where:
                raise Died

        config_id = id_of(kit.resolved(number))
        with contextlib.suppress(Died, Refused):
            kit.promote(self.registry, self.lanes, lane, config_id, kit.POLICY, generation, self.now(), seam=end)
        if expected == "moves" and where not in {"config written", "before commit"}:
            self.held[lane.name] = (config_id, generation + 1)

    @rule(first=CONFIGS, second=CONFIGS, lane=LANES)
    def race(self, first, second, lane):
        """The second promoter goes the whole way while the first stands before its transaction."""
        generation = self.generation_of(lane)
        moved = []

        def go(number, seam=lambda _step: None):
            config_id = id_of(kit.resolved(number))
            try:
                done = kit.promote(
                    self.registry, self.lanes, lane, config_id, kit.POLICY, generation, self.now(), seam=seam
                )
            except Refused:
                return
            if done.moved:
                moved.append(done.pointer)

        entered = []

        def overtaken(step):
            if step == "config written" and not entered:
                entered.append(step)
                go(second)

        go(first, overtaken)
        assert len(moved) <= 1
        if moved:
            self.held[lane.name] = (moved[0].config_id, moved[0].generation)

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

    @invariant()
    def the_registry_says_what_was_done(self):
        for lane in (kit.PAPER1, kit.PAPER2):
            assert self.pointer(lane) == self.held.get(lane.name)

    @invariant()
    def every_step_is_legal_and_every_generation_new(self):
        steps = store.history(self.registry)
        assert all(step.to_state in LEGAL[step.from_state] for step in steps)
        assert len({step.transition_id for step in steps}) == len(steps)
        for lane in (kit.PAPER1, kit.PAPER2):
            moves = [step.generation for step in steps if step.lane == lane.name and step.to_state == "paper"]
            assert moves == list(range(1, len(moves) + 1))

    @invariant()
    def whoever_was_promoted_had_passed(self):
        verdicts = {
            verdict.verdict_id: verdict for story in store.list_configs(self.registry) for verdict in story.verdicts
        }
        for step in store.history(self.registry):
            if step.to_state in {"validated", "paper"}:
                assert verdicts[step.verdict_id].passed
                assert verdicts[step.verdict_id].config_id == step.config_id
                assert all(gate.verdict == "pass" for gate in verdicts[step.verdict_id].gates)

    @invariant()
    def a_pointer_file_names_a_config_that_is_there(self):
        for lane in (kit.PAPER1, kit.PAPER2):
            file = read_pointer_file(self.lanes, lane.name)
            if file is not None:
                assert config_path(self.lanes, lane.name, file.config_id).exists()
                assert file.generation <= self.held[lane.name][1]

    def teardown(self):
        shutil.rmtree(self.folder)


TestPromotions = Promotions.TestCase
TestPromotions.settings = settings(
    max_examples=15,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
