"""A lane against a venue with its own ledger, over a connection that drops, repeats, reorders and delays everything.

What holds after every step of the machine:

P1  no order reaches the venue without its intent in the journal
P2  an intent has one client order id, and at most one of its attempts is alive at the venue
P3  an unknown order is neither refused nor filled: it expires only if it can't reach the venue any more
P4  each fill counts once: the books and the foreign coins are the sum of the fills in the journal
P5  after a crash a symbol enters only once the account was seen to agree with the books
P6  stale or missing market data blocks entries, and no exit
P7  a hold blocks entries from the next step on, and after a restart
P8  an older config changes nothing

A closing part always has an order or a timer that makes one; an opening part always has an order. When the connection
is good again, the lane and the venue agree on positions and orders, or the lane holds the symbol.
"""

import itertools
from collections import deque

import execution_kit as kit
import pytest
from execution_kit import HOUR, SYMBOLS
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from venue_kit import Venue, VenueOrder

from mei_pipeline.execution import checkpoint
from mei_pipeline.execution.commands import Cancel, Command, Query, QueryFills, Send, Snapshot, Warm
from mei_pipeline.execution.events import (
    AccountSnapshot,
    BarMissing,
    CaughtUp,
    Decided,
    Event,
    FeedHealth,
    Fill,
    HoldsChanged,
    OrderUnknown,
    Sent,
    StepClosed,
)
from mei_pipeline.execution.openings import owner_of
from mei_pipeline.execution.state import alive, find_book

GOOD = "good"
FATES = (GOOD, GOOD, GOOD, "answer lost", "lost", "delayed", "refused", "silent")
"""Fates of a request on its way to the venue and back."""

CONFIGS = [kit.resolved(params={"trade.size_frac": 0.1 + 0.01 * number}) for number in range(3)]
LARGEST = 5_000
NUMBERS = st.integers(0, 30)
MOVES = st.tuples(*[st.sampled_from((0.8, 1.0, 1.25))] * len(SYMBOLS))
SELDOM = st.sampled_from((False, False, False, True))


class Crashed(BaseException):
    """The process ends here."""


class Executor(RuleBasedStateMachine):
    mei_settings = None  # these two are set by the tests
    tells_start = False

    def __init__(self):
        super().__init__()
        self.lane = kit.new_lane(self.mei_settings, CONFIGS[0])
        self.venue = Venue(kit.FIRST)
        self.venue.tells_start = self.tells_start
        self.fates = itertools.repeat(GOOD)
        self.news: list[Event] = []
        self.history: list[Event] = []
        self.committed = len(self.lane.journal)
        self.start = None  # place in the journal and content of the last checkpoint
        self.crash_in = None  # commands until the process ends
        self.agreed = set(SYMBOLS)
        self.stale, self.missing, self.holds = set(), set(), {}
        self.cloids = {}

    # The process.

    def take(self, event: Event, book=None) -> None:
        """Process an event and everything that follows; the process may end on the way."""
        waiting = deque([(event, book)])
        try:
            for _ in range(500):
                if not waiting:
                    return
                outcome = self.lane.take(*waiting.popleft())
                self.look_at(self.lane.journal[-1 - len(outcome.facts)], outcome.facts)
                waiting.extend((each, None) for each in self.execute(outcome.commands))
            pytest.fail("commands cause events without end")
        except Crashed:
            self.crash()

    def execute(self, commands: tuple[Command, ...]) -> list[Event]:
        if any(isinstance(command, Send | Cancel) for command in commands):
            self.committed = len(self.lane.journal)
        answers: list[Event] = []
        for command in commands:
            if self.crash_in is not None:
                if self.crash_in == 0:
                    raise Crashed
                self.crash_in -= 1
            if isinstance(command, Send):
                for place in command.orders:
                    answers += self.send(place)
            else:
                answers += self.ask(command)
        return answers

    def send(self, place) -> list[Event]:
        journal = self.lane.journal[: self.committed]
        assert any(isinstance(event, Sent) and place.cloid in event.cloids for event in journal), "P1"
        assert place.cloid in self.lane.state.orders, "P1"
        assert self.cloids.setdefault(place.intent, place.cloid) == place.cloid, "P2"
        fate = next(self.fates)
        lost = OrderUnknown(venue_ms=self.venue.now_ms, cloid=place.cloid, reason=fate)
        if fate == "lost":
            return [lost]
        if fate == "delayed":
            self.venue.flying[place.cloid] = place
            return [lost]
        answer = self.receive(place, refuse=fate == "refused")
        if fate == "answer lost":
            return [lost]
        if fate != "silent":
            self.news.append(answer)
        return []

    def receive(self, place, *, refuse: bool = False) -> Event:
        self.venue.flying.pop(place.cloid, None)
        answer = self.venue.receive(place, refuse=refuse)
        if self.venue.orders[place.cloid].state == "open":
            assert self.lane.state.orders[place.cloid].state != "EXPIRED", "P3"
        return answer

    def ask(self, command: Command) -> list[Event]:
        fate = next(self.fates)
        match command:
            case Cancel():
                order = self.venue.orders.get(command.cloid)
                if fate == GOOD and order is not None:
                    self.news += self.venue.end(order, "cancelled")
            case Query():
                if fate == GOOD:
                    self.news += self.venue.query(command.cloid)
                elif fate == "answer lost":
                    return [OrderUnknown(venue_ms=self.venue.now_ms, cloid=command.cloid, reason=fate)]
            case QueryFills() if fate == GOOD:
                self.news += self.venue.query_fills(command.since_ms)
            case Snapshot() if fate == GOOD:
                self.news.append(self.venue.snapshot())
            case Warm():
                self.lane.warming = True
        return []

    def open_books(self) -> None:
        """Open the book of a config that waits, as the process does between two steps."""
        if not self.lane.warming:
            return
        self.lane.warming = False
        waiting, state = self.lane.state.waiting, self.lane.state
        if waiting is None or len(state.books) > 1 or find_book(state, waiting.config_id) is not None:
            return
        step, fact = self.lane.bars.warm(state.setup.make_plan(waiting), state.next_step_ms)
        self.take(fact, step)

    def look_at(self, event: Event, facts: tuple[Event, ...]) -> None:
        """Check an event and the facts that followed from it."""
        if isinstance(event, AccountSnapshot):
            for symbol in SYMBOLS:
                lots, _ = event.positions.get(symbol, (0, 0))
                if lots == self.lots(symbol):
                    self.agreed.add(symbol)
        if isinstance(event, StepClosed):
            self.committed = len(self.lane.journal)
        for fact in facts:
            if isinstance(fact, Decided):
                self.look_at_decisions(fact)

    def look_at_decisions(self, fact: Decided) -> None:
        book = find_book(self.lane.state, fact.config_id)
        for place in fact.orders:
            if place.opens:
                assert place.symbol in self.agreed, "P5"
                assert place.symbol not in self.stale | self.missing, "P6"
                assert not any(hold.symbol in {"", place.symbol} for hold in self.holds.values()), "P7"
                assert not fact.late
                assert not book.draining
        for symbol, code in fact.codes.items():
            position = book.step.positions[book.step.plan.index[symbol]]
            if position["size"] * code < 0.0:
                assert position["close_frac"] != 0.0, "P6: the signal is against the position, and it is not closed"

    def crash(self) -> None:
        """End the process: what was not committed and what was on its way to it is lost. Start the next one."""
        whole = self.committed == len(self.lane.journal)
        before = self.lane.pack() if whole else None
        self.lane.journal = self.lane.journal[: self.committed]
        place, packed = self.start or (0, None)
        self.lane.state = self.lane.recovered(packed, self.lane.journal[place:])
        assert before is None or self.lane.pack() == before
        self.news, self.crash_in = [], None
        self.agreed = set()
        self.take(kit.started())
        for symbol in SYMBOLS:  # a feed begins with the health of its streams
            self.take(FeedHealth(symbol=symbol, stream="bars", stale_since_ms=1 if symbol in self.stale else None))
        self.take(CaughtUp(venue_ms=self.venue.now_ms))
        self.lane.warming = True

    # The market and the files.

    @rule(moves=MOVES, late=st.sampled_from((0, 0, 0, 20_000)))
    def close_step(self, moves, late):
        state = self.lane.state
        step_ms = state.next_step_ms
        self.venue.now_ms = max(self.venue.now_ms, step_ms + HOUR + late)
        for symbol, move in zip(SYMBOLS, moves, strict=True):
            last = [price for price in self.lane.bars.of(symbol) if price is not None][-1]
            self.take(self.lane.bar(symbol, min(max(last * move, 1.0), 1e6)))
        self.missing = set()
        self.take(kit.closed(step_ms, SYMBOLS, late))
        self.open_books()

    @rule(moves=MOVES, part=st.sampled_from((1, 2)))
    def trade(self, moves, part):
        """A step whose orders are filled at once, in `part` of their lots."""
        self.close_step(moves, 0)
        self.deliver_all()
        for order in self.venue.open():
            self.fill_order(order, abs(order.left) // part)
        self.deliver_all()

    @rule(symbol=st.sampled_from(SYMBOLS), move=st.sampled_from((0.8, 1.25)))
    def close_step_without(self, symbol, move):
        step_ms = self.lane.state.next_step_ms
        self.venue.now_ms = max(self.venue.now_ms, step_ms + HOUR)
        for other in SYMBOLS:
            last = [price for price in self.lane.bars.of(other) if price is not None][-1]
            if other == symbol:
                self.lane.bars.of(symbol).append(None)
                self.take(BarMissing(symbol=symbol, interval="1h", open_ms=step_ms, reason="unknown"))
            else:
                self.take(self.lane.bar(other, min(max(last * move, 1.0), 1e6)))
        self.missing = {symbol}
        self.take(kit.closed(step_ms, [each for each in SYMBOLS if each != symbol]))
        self.open_books()

    @rule(symbol=st.sampled_from(SYMBOLS), stale=st.booleans())
    def change_health(self, symbol, stale):
        (self.stale.add if stale else self.stale.discard)(symbol)
        self.take(FeedHealth(symbol=symbol, stream="bars", stale_since_ms=1 if stale else None))

    @rule(effect=st.sampled_from(("close_only", "halt", None, None)), symbol=st.sampled_from(("", *SYMBOLS)))
    def change_holds(self, effect, symbol):
        self.holds = {} if effect is None else {"stop": kit.hold(effect, symbol)}
        self.take(HoldsChanged(holds=dict(self.holds)))
        self.committed = len(self.lane.journal)

    @rule(number=st.integers(0, 2), newer=st.booleans(), state=st.sampled_from(("active", "paused")))
    def offer(self, number, newer, state):
        lane = self.lane.state
        generation = (lane.waiting or lane.books[-1].config).generation
        offered = kit.offer(CONFIGS[number], generation + (1 if newer else -1), state=state)
        books = [book.config for book in lane.books]
        self.take(offered)
        if not newer:
            assert [book.config for book in self.lane.state.books] == books, "P8"
        self.committed = len(self.lane.journal)
        self.open_books()

    # The venue and the connection.

    def pick(self, number: int) -> VenueOrder | None:
        orders = self.venue.open()
        return orders[number % len(orders)] if orders else None

    @precondition(lambda self: self.venue.open())
    @rule(number=NUMBERS, lots=st.sampled_from((1, 100, LARGEST, LARGEST)))
    def fill(self, number, lots):
        self.fill_order(self.pick(number), lots)

    def fill_order(self, order, lots):
        price = [price for price in self.lane.bars.of(order.place.symbol) if price is not None][-1]
        self.news += self.venue.fill(order, lots, price)

    @precondition(lambda self: self.venue.open())
    @rule(number=NUMBERS)
    def end(self, number):
        self.news += self.venue.end(self.pick(number), "ended by the venue")

    @precondition(lambda self: self.venue.flying)
    @rule(number=NUMBERS)
    def land(self, number):
        places = list(self.venue.flying.values())
        self.news.append(self.receive(places[number % len(places)]))

    @precondition(lambda self: self.venue.flying)
    @rule(number=NUMBERS)
    def lose(self, number):
        del self.venue.flying[list(self.venue.flying)[number % len(self.venue.flying)]]

    @rule(symbol=st.sampled_from(SYMBOLS), lots=st.sampled_from((-700, -100, 100, 700)), trades=SELDOM)
    def trade_by_hand(self, symbol, lots, trades):
        if not trades:
            return
        self.news.append(self.venue.trade_by_hand(symbol, lots, self.lane.bars.of("AAA")[0]))

    @precondition(lambda self: self.news)
    @rule(number=NUMBERS)
    def deliver(self, number):
        event = self.news.pop(number % len(self.news))
        self.history.append(event)
        self.take(event)

    @precondition(lambda self: self.news)
    @rule()
    def deliver_all(self):
        for event in self.news[:]:
            if event in self.news:  # a crash on the way loses the rest
                self.news.remove(event)
                self.history.append(event)
                self.take(event)

    @precondition(lambda self: self.history)
    @rule(number=st.integers(0, 1000))
    def repeat(self, number):
        event = self.history[number % len(self.history)]
        if not isinstance(event, AccountSnapshot):
            self.take(event)

    @precondition(lambda self: self.news)
    @rule(number=NUMBERS)
    def drop(self, number):
        self.news.pop(number % len(self.news))

    @rule(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=6))
    def change_fates(self, fates):
        self.fates = itertools.chain(fates, itertools.repeat(GOOD))

    @rule(seconds=st.sampled_from((1, 6, 15)))
    def wait(self, seconds):
        self.venue.now_ms += 1_000 * seconds
        self.run_timers()

    def run_timers(self):
        for name, due_ms in list(self.lane.state.timers.items()):
            if due_ms <= self.venue.now_ms and name in self.lane.state.timers:
                self.take(kit.Timer(venue_ms=self.venue.now_ms, name=name, due_ms=due_ms))

    # The end of the process.

    @rule(dies=SELDOM)
    def kill(self, dies):
        if dies:
            self.crash()

    @rule(commands=st.integers(0, 3))
    def kill_soon(self, commands):
        self.crash_in = commands

    @rule()
    def write_checkpoint(self):
        if any(order.state in {"NEW", "UNKNOWN"} or not order.accepted for order in alive(self.lane.state)):
            return
        packed = checkpoint.checkpoint_of(self.lane.state)
        self.take(packed)
        self.committed = len(self.lane.journal)
        self.start = (self.committed, packed.state)

    # What holds.

    def lots(self, symbol: str) -> int:
        """What the lane knows of the account: its books and foreign coins."""
        state = self.lane.state
        return round((self.lane.size(symbol) + state.foreign.get(symbol, 0.0)) * 10**kit.DECIMALS)

    def fills(self) -> dict[str, Fill]:
        return {event.key: event for event in self.lane.journal if isinstance(event, Fill)}

    @invariant()
    def each_fill_counts_once(self):
        early = {fill.key for fill in self.lane.state.early}
        fills = [fill for key, fill in self.fills().items() if key not in early]
        for symbol in SYMBOLS:
            assert self.lots(symbol) == sum(fill.lots for fill in fills if fill.symbol == symbol), "P4"

    @invariant()
    def money_is_kept(self):
        if self.lane.state.foreign or self.lane.state.early:
            return  # fees and prices of foreign coins are not the lane's
        paid = sum(fill.lots / 10**kit.DECIMALS * fill.price + fill.fee_usd for fill in self.fills().values())
        own = 0.0
        for book in self.lane.state.books:
            positions = book.step.positions
            own += float(book.step.account["cash"]) - float((positions["size"] * positions["entry"]).sum())
        assert own == pytest.approx(kit.EQUITY - paid, abs=1e-6)

    @invariant()
    def attempts_follow_each_other(self):
        intents = [order.place.intent for order in self.venue.open()]
        reasons = [(intent.origin, intent.symbol, intent.purpose) for intent in intents]
        assert len(reasons) == len(set(reasons)), "P2"

    @invariant()
    def expired_orders_are_not_at_the_venue(self):
        for cloid, order in self.lane.state.orders.items():
            if order.state == "EXPIRED":
                known = self.venue.orders.get(cloid)
                assert known is None or known.state == "refused", "P3"

    @invariant()
    def parts_have_orders(self):
        state = self.lane.state
        for book in state.books:
            for s, symbol in enumerate(book.step.plan.symbols):
                position = book.step.positions[s]
                if position["open_size"] != 0.0:
                    assert owner_of(state, book, symbol) is not None
                if position["close_frac"] != 0.0:
                    assert position["size"] != 0.0
                    closing = [o for o in alive(state, book.config_id, symbol) if not o.place.opens]
                    timers = [name for name in state.timers if name.startswith("retry:")]
                    names = {state.orders[name[6:]].place.symbol for name in timers}
                    assert closing or symbol in names

    def deliver_everything(self):
        """Deliver until nothing is on its way."""
        for _ in range(50):
            self.deliver_all()
            if not self.news:
                return
        pytest.fail("news cause news without end")

    def teardown(self):
        """Make the connection good, restart, and let the lane find out everything."""
        self.fates, self.crash_in = itertools.repeat(GOOD), None
        self.venue.flying.clear()
        self.crash()
        for _ in range(5):
            self.deliver_everything()
            self.venue.now_ms += 6_000
            self.run_timers()
        self.deliver_everything()
        self.each_fill_counts_once()
        self.parts_have_orders()
        state = self.lane.state
        for symbol in SYMBOLS:
            held = f"mismatch-{symbol.lower()}" in state.own_holds
            assert held or self.lots(symbol) == self.venue.positions.get(symbol, 0), f"{symbol}: books and venue differ"
        working = {order.place.cloid for order in self.venue.open()}
        waiting = {order.place.cloid for order in alive(state) if order.state != "NEW"}
        assert waiting == working
        for order in self.venue.open():
            held = any(hold.symbol in {"", order.place.symbol} for hold in state.effects.values())
            assert not (order.place.opens and held), "P7: an opening order waits at the venue under a hold"


def run_machine(examples: int, steps: int, **values) -> None:
    run_state_machine_as_test(
        type("Executor", (Executor,), values),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("tells_start", [False, True])
def test_the_promises_hold_in_any_order_of_events(mei_settings, tells_start):
    run_machine(40, 40, mei_settings=mei_settings, tells_start=tells_start)


@pytest.mark.long
@pytest.mark.parametrize("tells_start", [False, True])
def test_the_promises_hold_over_ten_thousand_steps(mei_settings, tells_start):
    run_machine(100, 50, mei_settings=mei_settings, tells_start=tells_start)
