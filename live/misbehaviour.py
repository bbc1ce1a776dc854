"""Faults of a paper broker: what a real venue and its network do to orders and news of them.

The faults touch the way of news to the lane and the moment of fills. What a fill says is always true, so a lane that
has taken all news and asked for what it lost holds exactly what the broker holds.

Each fault is drawn from a seed and the identity of the order or event, so the same run has the same faults.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields

from live.broker import Answer, Broker
from live.paper_broker import PaperBroker, Portion
from mei_pipeline.errors import ConfigError
from mei_pipeline.execution.books import StepBook
from mei_pipeline.execution.commands import Order, Place
from mei_pipeline.execution.events import Event, Fill, Funding, OrderRefused, OrderUnknown, StepClosed
from mei_pipeline.execution.state import LaneState


@dataclass(frozen=True)
class Misbehaviour:
    """Chances of faults, each from 0 to 1.

    Attributes:
        partial: An order fills only in part at its moment; the rest fills at its next one.
        drop: The rest of a partly filled order is dropped.
        late: A fill or payment arrives one to `late_steps` steps later.
        duplicate: A fill or payment arrives again, at once and `late_steps` steps later.
        reorder: The events of a half of a step arrive in another order.
        lost: The answer to an order and to the first query of it are lost; about half of these orders never
            arrived.
        refuse: An order is refused.
        cross: A cancel arrives after the next moment at which the order may fill.
        late_steps: Number of steps, at least 1.
        seed: Seed of all draws.
    """

    partial: float = 0.0
    drop: float = 0.0
    late: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    lost: float = 0.0
    refuse: float = 0.0
    cross: float = 0.0
    late_steps: int = 2
    seed: int = 0

    def draw(self, fault: str, key: str) -> float:
        """Return a number in [0, 1) for a fault of an order or event."""
        digest = hashlib.sha256(f"{self.seed}|{fault}|{key}".encode()).hexdigest()
        return int(digest[:13], 16) / 16.0**13

    def has(self, fault: str, key: str) -> bool:
        """Return whether an order or event has a fault."""
        return self.draw(fault, key) < float(getattr(self, fault))

    def __str__(self) -> str:
        """Return the text that `parse_misbehaviour` reads, without the defaults."""
        named = ((field.name, getattr(self, field.name), field.default) for field in fields(self))
        return ",".join(f"{name}={value}" for name, value, default in named if value != default)


_WHOLE = {"late_steps": 1, "seed": 0}


def parse_misbehaviour(text: str) -> Misbehaviour:
    """Return the faults that a text such as `partial=0.2,late=0.1,seed=7` names.

    Raises:
        ConfigError: A key is unknown or named twice, or a value is not allowed.
    """
    known = [field.name for field in fields(Misbehaviour)]
    values: dict[str, float] = {}
    for part in text.split(","):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in known:
            raise ConfigError(f"misbehave: unknown key: {key!r}; allowed are {', '.join(known)}")
        if key in values:
            raise ConfigError(f"misbehave: {key}: named twice; name it once")
        values[key] = _whole(key, value) if key in _WHOLE else _chance(key, value)
    return Misbehaviour(**values)  # pyrefly: ignore[bad-argument-type]  # whole numbers where they belong


def _whole(key: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) < _WHOLE[key]:
        raise ConfigError(f"misbehave: {key}: {value!r} is not allowed; allowed are whole numbers from {_WHOLE[key]}")
    return int(value)


def _chance(key: str, value: str) -> float:
    try:
        chance = float(value)
    except ValueError:
        chance = -1.0
    if not 0.0 <= chance <= 1.0:
        raise ConfigError(f"misbehave: {key}: {value!r} is not allowed; allowed are numbers from 0 to 1")
    return chance


def make_paper_broker(plan: Misbehaviour | None) -> Broker:
    """Return a paper broker, with faults if there is a plan of them."""
    return PaperBroker() if plan is None else MisbehavingBroker(plan)


class MisbehavingBroker:
    """A paper broker with faults; see `live.broker.Broker` for its methods.

    Args:
        plan: Chances of the faults.
    """

    def __init__(self, plan: Misbehaviour) -> None:
        self._plan = plan
        self._venue = PaperBroker(self._portion)
        self._late: list[tuple[int, Event]] = []  # due time on the lane's clock
        self._crossed: list[str] = []
        self._seen: set[str] = set()
        self._unheard: set[str] = set()
        self._now_ms = 0
        self._step_length_ms = 0

    def _portion(self, order: Order, step_ms: int) -> Portion | None:
        """Return the part of an order that fills now; None for all of it."""
        cloid, left = order.place.cloid, abs(order.left_lots)
        key = f"{cloid}|{step_ms}"
        if left <= 1 or not self._plan.has("partial", key):
            return None
        return Portion(1 + int(self._plan.draw("share", key) * (left - 1)), self._plan.has("drop", cloid))

    def observe(self, event: Event, state: LaneState) -> Sequence[Event]:
        """Pass an event on."""
        return self._venue.observe(event, state)

    def open_step(self, event: StepClosed, state: LaneState) -> Sequence[Event]:
        """Return the news of the first half of a step that is not held back."""
        self._step_length_ms = state.step_length_ms
        self._now_ms = max(self._now_ms, event.venue_ms or 0)
        return self._deliver(self._venue.open_step(event, state), f"open {event.step_ms}")

    def close_step(self, event: StepClosed) -> Sequence[Event]:
        """Return the news of the second half of a step that is not held back; crossed cancels arrive after it."""
        events = list(self._venue.close_step(event))
        for cloid in self._crossed:
            events += self._venue.cancel(cloid)
        self._crossed.clear()
        return self._deliver(events, f"close {event.step_ms}")

    def _deliver(self, events: Sequence[Event], key: str) -> list[Event]:
        """Hold back, repeat and reorder events."""
        now: list[Event] = []
        for event in events:
            name = event.key if isinstance(event, Fill | Funding) else ""
            if name and self._plan.has("late", name):
                self._hold_back(event, name)
            else:
                now.append(event)
            if name and self._plan.has("duplicate", name):
                now.append(event)
                self._hold_back(event, f"{name} again")
        if self._plan.has("reorder", key):
            random.Random(f"{self._plan.seed} {key}").shuffle(now)  # noqa: S311 - no secret
        return now

    def _hold_back(self, event: Event, name: str) -> None:
        steps = 1 + int(self._plan.draw("steps", name) * self._plan.late_steps)
        self._late.append((self._now_ms + steps * self._step_length_ms, event))

    def poll(self, now_ms: int) -> Sequence[Event]:
        """Return what was held back until now."""
        self._now_ms = max(self._now_ms, now_ms)
        due = [event for due_ms, event in self._late if due_ms <= self._now_ms]
        self._late = [(due_ms, event) for due_ms, event in self._late if due_ms > self._now_ms]
        return (*due, *self._venue.poll(now_ms))

    def place(self, orders: Sequence[Place]) -> Sequence[Answer]:
        """Place orders; some are refused, and the answers of some are lost."""
        return [self._place(order) for order in orders]

    def _place(self, place: Place) -> Answer:
        cloid = place.cloid
        if self._plan.has("refuse", cloid):
            return OrderRefused(venue_ms=self._now_ms, cloid=cloid, reason="the venue is out of order")
        if cloid in self._seen or not self._plan.has("lost", cloid):
            return self._venue.place((place,))[0]
        self._seen.add(cloid)
        self._unheard.add(cloid)
        if self._plan.draw("arrived", cloid) < 0.5:  # noqa: PLR2004 - half of them
            self._venue.place((place,))
        return OrderUnknown(venue_ms=self._now_ms, cloid=cloid, reason="no answer")

    def cancel(self, cloid: str) -> Sequence[Event]:
        """Cancel an order, or let the cancel arrive after the order's next moment."""
        if self._plan.has("cross", cloid):
            self._crossed.append(cloid)
            return ()
        return self._venue.cancel(cloid)

    def query(self, cloid: str) -> Sequence[Event]:
        """Ask for an order; the first answer about one that was lost is lost, too."""
        if cloid in self._unheard:
            self._unheard.remove(cloid)
            return ()
        return self._venue.query(cloid)

    def query_fills(self, since_ms: int) -> Sequence[Event]:
        """Ask for fills."""
        return self._venue.query_fills(since_ms)

    def snapshot(self) -> Sequence[Event]:
        """Ask for the account."""
        return self._venue.snapshot()

    def open_book(self, step: StepBook, usd: float, from_config_id: str) -> None:
        """Begin a book."""
        self._venue.open_book(step, usd, from_config_id)

    def close_book(self, config_id: str, usd: float, to_config_id: str) -> None:
        """End a book."""
        self._venue.close_book(config_id, usd, to_config_id)

    def rebuild(self, state: LaneState) -> None:
        """Take over the state of a recovered lane; what was held back has not happened."""
        for known in (self._late, self._crossed, self._seen, self._unheard):
            known.clear()
        self._venue.rebuild(state)
