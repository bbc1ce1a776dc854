"""Recovery: the state of a lane from its journal, without a decision."""

from dataclasses import replace

import execution_kit as kit
import msgspec
import pytest
from execution_kit import DOWN, HOUR, UP

from kernels import bind
from mei_pipeline.errors import DataError
from mei_pipeline.execution import books, checkpoint, core
from mei_pipeline.execution.events import (
    AnyEvent,
    BarClosed,
    Checkpoint,
    Decided,
    Funding,
    FundingRate,
    HoldsChanged,
    PackedLane,
    StepClosed,
    Warmed,
)

PATH = (UP, DOWN, 120.0, 80.0, 80.0, 130.0, 70.0, 140.0)
CODEC = msgspec.json.Decoder(AnyEvent)


def other_config():
    return kit.resolved(params={"trade.size_frac": 0.2})


def story(lane):
    """A history with every kind of event; yields after each of them."""
    for number, price in enumerate(PATH):
        if number == 3:
            yield from each(lane, [kit.offer(other_config(), generation=2)])
            lane.open_waiting()
            yield
        if number == 5:
            yield from each(lane, [HoldsChanged(holds={"stop": kit.hold("halt")}), HoldsChanged(holds={})])
        if number == 6:
            yield from each(lane, [kit.started(), kit.snapshot(lane.state)])
        rate = FundingRate(symbol="BBB", due_ms=lane.state.next_step_ms + HOUR, rate=0.001)
        yield from each(lane, [rate])
        places = lane.close({"AAA": price, "BBB": PATH[-1 - number]}, late_ms=20_000 if number == 4 else 0)
        yield
        for order, place in enumerate(places):
            yield from each(lane, [kit.accepted(place)])
            if number + order == 5:
                yield from each(lane, [kit.gone(place)])
                continue
            part = place.lots // 2
            yield from each(lane, [kit.filled(place, part, key=f"{place.cloid}/1", price=price)])
            yield from each(lane, [kit.filled(place, place.lots - part, key=f"{place.cloid}/2", price=price)])
        yield from each(lane, [Funding(key=f"f{number}", symbol="AAA", usd=0.1), kit.manual("CCC", 1, f"m{number}")])
        lane.due(lane.state.clock_ms + 6_000)
        yield


def each(lane, events):
    for event in events:
        lane.take(event)
        yield


@pytest.fixture
def told(mei_settings):
    """A lane after the story, with the checkpoints that it wrote and their places in the journal."""
    lane = kit.new_lane(mei_settings)
    checkpoints = {}
    for number, _ in enumerate(story(lane)):
        if number % 5 == 0 and not incomplete(lane.journal):
            fact = checkpoint.checkpoint_of(lane.state)
            lane.take(fact)
            checkpoints[len(lane.journal)] = fact.state
    return lane, checkpoints


def test_every_checkpoint_is_what_the_facts_before_it_lead_to(told):
    lane, checkpoints = told
    assert sum(len(event.orders) for event in lane.journal if isinstance(event, Decided)) > 8
    assert sum(isinstance(event, Warmed) for event in lane.journal) == 2
    assert len(checkpoints) > 8
    for length, packed in checkpoints.items():
        assert checkpoint.pack(lane.recovered(events=lane.journal[:length])) == packed


def test_every_checkpoint_and_all_facts_lead_to_the_same_state(told):
    lane, checkpoints = told
    assert checkpoint.pack(lane.recovered()) == lane.pack()
    for length, packed in checkpoints.items():
        assert checkpoint.pack(lane.recovered(packed, lane.journal[length:])) == lane.pack()


def incomplete(journal):
    """Whether market data of a step that has not closed came last; a feed repeats them after a restart."""
    for event in reversed(journal):
        if isinstance(event, BarClosed | FundingRate):
            return True
        if isinstance(event, StepClosed | Warmed):
            return False
    return False


def test_a_checkpoint_survives_its_way_through_json(told):
    lane, _ = told
    state = lane.pack()
    again = msgspec.json.decode(msgspec.json.encode(state), type=PackedLane)
    assert again == state
    events = [CODEC.decode(msgspec.json.encode(event)) for event in lane.journal]
    assert checkpoint.pack(lane.recovered(events=events)) == state
    assert checkpoint.pack(lane.recovered(again, [])) == state


def test_writing_a_checkpoint_changes_nothing(told):
    lane, _ = told
    lane.close({"BBB": 150.0})
    twin, before = lane.recovered(), lane.pack()
    fact = checkpoint.checkpoint_of(lane.state)
    assert not lane.state.books[0].marked
    assert fact.state == before == lane.pack()
    lane.take(fact)
    for moved in (twin, lane.state):
        after = core.step(moved, kit.bar("AAA", moved.next_step_ms, 100.0)).state
        assert checkpoint.pack(after) == fact.state
    assert isinstance(lane.journal[-1], Checkpoint)


def test_a_recovered_lane_goes_on_as_the_other(told):
    lane, checkpoints = told
    length, packed = list(checkpoints.items())[4]
    one, other = lane.recovered(), lane.recovered(packed, lane.journal[length:])
    for price in (60.0, 150.0):
        for name in kit.SYMBOLS:
            event = kit.bar(name, one.next_step_ms, price)
            one, other = core.step(one, event).state, core.step(other, event).state
        first, second = (core.step(state, kit.closed(state.next_step_ms)) for state in (one, other))
        assert (first.commands, first.facts, first.rows) == (second.commands, second.facts, second.rows)
        assert any(isinstance(fact, Decided) for fact in first.facts)
        one, other = first.state, second.state
    assert checkpoint.pack(one) == checkpoint.pack(other)


class Drivers:
    """The compiled functions of a strategy, without its decisions."""

    def __init__(self, compiled):
        for name in ("MEMORY", "open_books", "apply_fill_step", "end_order_step", "apply_funding_step"):
            setattr(self, name, getattr(compiled, name))
        self.apply_transfer_step, self.finish_step = compiled.apply_transfer_step, compiled.finish_step


def test_recovery_never_decides(told, mei_settings):
    lane, checkpoints = told
    compiled = Drivers(bind.executor("ema_cross"))
    assert not hasattr(compiled, "decide_step")
    plan_of = lane.state.setup.make_plan

    def make_plan(offered):
        return replace(plan_of(offered), compiled=compiled)

    lane.state = replace(lane.state, setup=kit.make_setup(mei_settings, make_plan=make_plan))
    assert checkpoint.pack(lane.recovered()) == lane.pack()
    for length, packed in list(checkpoints.items())[2:4]:
        assert checkpoint.pack(lane.recovered(packed, lane.journal[length:])) == lane.pack()
    with pytest.raises(AttributeError, match="decide_step"):
        core.step(lane.recovered(), kit.closed(lane.state.next_step_ms))


def test_other_kernels_keep_the_exits_and_enter_nothing(mei_settings):
    lane = kit.new_lane(mei_settings)
    (place,) = lane.close({"AAA": UP})
    lane.take(kit.filled(place, price=UP))
    packed = lane.pack()
    state = msgspec.structs.replace(packed, books=(with_field(packed.books[0], "of_another_kernel", 1.0),))

    lane.state = replace(lane.state, setup=kit.make_setup(mei_settings, kernel_hash="b" * 64))
    lane.state = lane.recovered(state, [])
    assert lane.size("AAA") == 9.09
    assert lane.state.books[0].step.positions["stop"][0] == packed.books[0].positions["AAA"]["stop"]
    assert lane.state.books[0].step.state.tobytes() == kit_features(lane)
    lane.take(kit.started(kernel_hash="b" * 64))
    assert lane.state.own_holds["kernels"].effect == "close_only"
    lane.reconcile()
    places = lane.close({"AAA": DOWN, "BBB": UP})
    assert [(place.symbol, place.intent.purpose) for place in places] == [("AAA", "exit")]
    fact = msgspec.structs.replace(
        next(fact for fact in lane.facts if isinstance(fact, Decided)), positions={"AAA": {"of_another_kernel": 1.0}}
    )
    lane.take(fact)  # a fact of other kernels


def with_field(book, name, value):
    return msgspec.structs.replace(
        book,
        positions={symbol: {**fields, name: value} for symbol, fields in book.positions.items()},
    )


def kit_features(lane):
    """The features that a lane without an interruption has."""
    plan = lane.state.books[0].step.plan
    step, _ = lane.bars.warm(plan, lane.state.next_step_ms)
    return step.state.tobytes()


def test_a_lake_that_changed_is_refused(told):
    lane, _ = told
    lane.bars.of("AAA")[2] = 101.0
    with pytest.raises(DataError, match="the bars in the lake have changed since the lane computed its features"):
        lane.recovered()


def test_an_empty_journal_is_a_new_lane(mei_settings):
    lane = kit.Lane(kit.LaneState(kit.make_setup(mei_settings)))
    assert lane.recovered() == lane.state


def test_floats_are_kept_by_bytes(told):
    lane, _ = told
    book = lane.recovered(lane.pack(), []).books[-1].step
    same = lane.recovered().books[-1].step
    for name in ("state", "columns", "counts", "rows", "terms"):
        assert getattr(book, name).tobytes() == getattr(same, name).tobytes(), name
    assert book.positions.tobytes() == same.positions.tobytes()
    assert books.equity_of(book) == books.equity_of(same)
