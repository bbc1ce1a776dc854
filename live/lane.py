"""The process of a lane: feed events to the core, keep them in the journal, and execute the core's commands.

Every event passes through `LaneProcess.process`: the core moves, and the event, its facts and its rows go to the
journal. The commands of the core are executed after the commit. A lane that fails to write its journal forgets its
state, recovers from the journal, and goes on: recovery is the only start.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from live.broker import Broker, execute
from mei_pipeline.candles.intervals import iso
from mei_pipeline.errors import ConfigError, DataError, Fatal
from mei_pipeline.execution.books import BookPlan, StepBook
from mei_pipeline.execution.checkpoint import checkpoint_of
from mei_pipeline.execution.commands import (
    Alert,
    Cancel,
    Command,
    Send,
    Warm,
)
from mei_pipeline.execution.core import MARKET, absorb_market, step
from mei_pipeline.execution.events import (
    FACTS,
    CaughtUp,
    ConfigOffered,
    Event,
    Mark,
    StepClosed,
    Timer,
    Warmed,
)
from mei_pipeline.execution.journal.writer import Journal
from mei_pipeline.execution.state import LaneState, alive
from mei_pipeline.registry.render import FaultHook, no_fault

CHECKPOINT_EVENTS = 20_000
"""Events between two checkpoints."""

Warmup = Callable[[BookPlan, int], tuple[StepBook, Warmed]]

_OWN = frozenset(FACTS)
_MOST_EVENTS_PER_CAUSE = 10_000


@dataclass
class LaneProcess:
    """A running lane. Its parts change; the core's state is replaced at each event.

    Attributes:
        state: The core's state.
        journal: The journal.
        broker: The broker.
        warm: Computes the features of a config from the lake.
        start_ms: Open time of the first step, for a lane without steps.
        alert: Tells people.
        durable: True to commit each step and wait for the disk; False to commit a batch of steps without waiting. A
            kill then undoes the batch in progress, and a power failure the last batches; the lane repeats them.
        fault_hook: Called with the name of each place at which tests end the process.
        checkpoint_events: Number of events between two checkpoints.
        steps: Number of steps that this process has committed.
        between_steps: True while the last step is settled and no market data of the next one has come, so that the
            orders of a request are those of no step.
        warm_problem: Reason why the book of the waiting config can't be opened; empty without one.
    """

    state: LaneState
    journal: Journal
    broker: Broker
    warm: Warmup
    start_ms: int
    alert: Callable[[Alert], None]
    durable: bool = True
    fault_hook: FaultHook = no_fault
    checkpoint_events: int = CHECKPOINT_EVENTS
    steps: int = 0
    between_steps: bool = False
    warm_problem: str = ""
    _warming: list[Warm] = field(default_factory=list)
    _since_checkpoint: int = 0
    _taken: int = 0

    def take(self, event: Event) -> None:
        """Process an event of the feed, a file or a timer, and everything that follows from it."""
        if isinstance(event, StepClosed):
            self._take_step(event)
            return
        if type(event) in MARKET:
            self.take_market((event,))
            return
        self._process_all((event,))
        if isinstance(event, CaughtUp):
            # Orders that were sent again after a restart are due at the close of the last step.
            self._settle_last_step()
            self.between_steps = True
        self._open_books()

    def take_market(self, events: Sequence[Event]) -> None:
        """Process market data (`core.MARKET`): all of it that came since the last event of another class."""
        if events:
            self.between_steps = False
            self.state, rows = absorb_market(self.state, events)
            self.journal.append_all(events, time.time_ns() // 1_000_000, rows)
            self._since_checkpoint += len(events)

    def take_timers(self, now_ms: int) -> None:
        """Process the timers that are due."""
        for name, due_ms in sorted(self.state.timers.items(), key=lambda timer: timer[1]):
            if due_ms <= now_ms:
                self._process_all((Timer(venue_ms=now_ms, name=name, due_ms=due_ms),))

    def take_deliveries(self) -> None:
        """Process what the broker delivers late, until it has nothing more."""
        for _ in range(_MOST_EVENTS_PER_CAUSE):
            delivered = self.broker.poll(self.state.clock_ms)
            if not delivered:
                return
            self._process_all(delivered)
        raise self._endless()

    def commit(self, *, batch: bool = False) -> None:
        """End the transaction of the journal; a lane that does not wait for the disk does so once per batch.

        Args:
            batch: True after the last event of a batch.
        """
        if self.durable or batch:
            self.journal.commit(durable=self.durable)
            self.steps = self._taken

    def checkpoint(self) -> None:
        """Write a checkpoint, if no order is between the lane and the broker."""
        if any(order.state in {"NEW", "UNKNOWN"} or not order.accepted for order in alive(self.state)):
            return
        self.fault_hook("checkpoint")
        fact = checkpoint_of(self.state)
        self._process_all((fact,))
        self._since_checkpoint = 0
        self.commit(batch=True)

    def _take_step(self, event: StepClosed) -> None:
        before = self.state.step_ms
        if self.state.next_step_ms == event.step_ms:
            self._process_all(self.broker.open_step(event, self.state))
        self._process_all((event,))
        if self.state.step_ms != before:
            self._process_all(self.broker.close_step(event))
            self._taken += 1
        self.between_steps = True
        self.take_deliveries()
        self._open_books()
        self.commit()
        if self._since_checkpoint >= self.checkpoint_events:
            self.checkpoint()

    def _settle_last_step(self) -> None:
        if self.state.step_ms is not None:
            self._process_all(self.broker.close_step(StepClosed(step_ms=self.state.step_ms, present=())))
            self.take_deliveries()

    def _process_all(self, events: Iterable[Event]) -> None:
        """Process events, and the events that their commands cause, in order."""
        waiting = deque(events)
        for _ in range(_MOST_EVENTS_PER_CAUSE):
            if not waiting:
                return
            waiting.extend(self.process(waiting.popleft()))
        raise self._endless()

    def _endless(self) -> Fatal:
        return Fatal(f"lane {self.state.setup.lane}: its broker reports events without end; report a defect of MEI")

    def process(self, event: Event, book: StepBook | None = None) -> Sequence[Event]:
        """Process one event, execute its commands, and return the events that they cause."""
        outcome = step(self.state, event, book)
        self.state = outcome.state
        seen_ms = time.time_ns() // 1_000_000
        self.journal.append(event, seen_ms, outcome.rows)
        for fact in outcome.facts:
            self.journal.append(fact, seen_ms)
        self._since_checkpoint += 1 + len(outcome.facts)
        caused: list[Event] = []
        for fact in (event, *outcome.facts) if type(event) in _OWN else outcome.facts:
            caused += self.broker.observe(fact, self.state)
        if outcome.commands:
            caused += self._execute(outcome.commands)
        return caused

    def _execute(self, commands: Sequence[Command]) -> list[Event]:
        """Execute commands after a commit, and return the answers."""
        if any(isinstance(command, Send | Cancel) for command in commands):
            self.commit()  # nothing leaves before it is on the disk
        answers: list[Event] = []
        for command in commands:
            self.fault_hook(f"before {type(command).__name__}")
            answers += self._execute_one(command)
            self.fault_hook(f"after {type(command).__name__}")
        return answers

    def _execute_one(self, command: Command) -> Sequence[Event]:
        match command:
            case Warm():
                self._warming.append(command)
                return ()
            case Alert():
                self.alert(command)
                return ()
            case _:
                return execute(self.broker, self.state, command)

    def _open_books(self) -> None:
        """Compute the features of configs that wait, now that the step is complete, and open their books."""
        while self._warming:
            command = self._warming.pop(0)
            offer = self.state.waiting
            if offer is None or offer.config_id != command.config_id:
                continue
            computed = self._compute(offer)
            if computed is None:
                continue
            book, warmed = computed
            if warmed.approximate:
                self.alert(_approximate(self.state.setup.lane, offer.anchor_ms, warmed))
            for event in self.process(warmed, book):
                self._process_all((event,))
            self.commit()
            self.checkpoint()

    def _compute(self, offer: ConfigOffered) -> tuple[StepBook, Warmed] | None:
        """Return the flat book of a config; None if it can't be computed and the lane has another config.

        The lane then goes on with that one, and tries again after each step.
        """
        until_ms = self.state.next_step_ms
        try:
            plan = self.state.setup.make_plan(offer)
            computed = self.warm(plan, self.start_ms if until_ms is None else until_ms)
        except (ConfigError, DataError) as error:
            if not self.state.books:
                raise
            problem = f"lane {self.state.setup.lane}: config {offer.config_id[:12]} can't be opened: {error}"
            if problem != self.warm_problem:
                self.alert(Alert("warmup", "critical", problem))
            self.warm_problem = problem
            return None
        self.warm_problem = ""
        return computed


def _approximate(lane: str, anchor_ms: int, warmed: Warmed) -> Alert:
    text = (
        f"lane {lane}: config {warmed.config_id[:12]}: its features are approximate: they begin "
        f"{iso(warmed.anchor_ms)}, not {iso(anchor_ms)}, because the lake has no earlier bars"
    )
    return Alert("warmup", "warning", text)


def with_market(events: Iterable[Event]) -> Iterator[tuple[list[Event], Event | None]]:
    """Yield each event that is no market data, with the market data before it; at the end None with the rest.

    Marks are left out: no broker of a lane reads them yet.
    """
    market: list[Event] = []
    for event in events:
        if type(event) in MARKET:
            market.append(event)
        elif type(event) is not Mark:
            yield market, event
            market = []
    yield market, None


def describe(state: LaneState) -> str:
    """Return what a lane holds and waits for, in one line, for the log at its end."""
    positions = [
        f"{symbol} {book.step.size_of(symbol):g}"
        for book in state.books
        for symbol in book.step.plan.symbols
        if book.step.size_of(symbol) != 0.0
    ]
    orders = alive(state)
    last = "no step yet" if state.step_ms is None else f"last step {iso(state.step_ms)}"
    held = f"positions: {', '.join(positions)}" if positions else "no position"
    return f"{last}; {held}; {len(orders)} open orders"
