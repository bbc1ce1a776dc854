"""Fault plan of the exchange simulator: the file, and the decision which faults hit an event.

The decision is pure: it depends on the plan, the seed and the events so far. The simulator applies it.
"""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from mei_pipeline.config.document import read_document
from mei_pipeline.config.fields import FileModel, Interval, flaws
from mei_pipeline.config.messages import report
from mei_pipeline.errors import ConfigError
from mei_pipeline.hyperliquid.wire import ANSWERS, BBO, BOOK, CANDLE, CONTEXT, MIDS, TRADES

Place = Literal["connect", "info", "clock", "subscription", "socket", "candle", "bbo", "context"]
"""Kind of an event of the simulator; see `FaultRule.where`."""

Action = Literal[
    "drop",
    "half_open",
    "refuse",
    "delay",
    "duplicate",
    "reorder",
    "silent",
    "429",
    "500",
    "502",
    "503",
    "html",
    "truncated",
    "late_candle",
    "missing_candle",
    "clock_skew",
]
"""Kind of a fault; see `docs/reference/simulator.md`."""

_FAILURES = ("429", "500", "502", "503", "html")
_ON_MESSAGES = ("drop", "half_open", "delay", "duplicate", "reorder", "silent", "html", "truncated")

ACTIONS: Final[Mapping[Place, tuple[Action, ...]]] = {
    "connect": ("half_open", "refuse", "delay", *_FAILURES),
    "info": ("drop", "half_open", "refuse", "delay", *_FAILURES, "truncated"),
    "clock": ("clock_skew",),
    "subscription": ("drop", "half_open", "refuse", "delay", "silent"),
    "socket": _ON_MESSAGES,
    "candle": (*_ON_MESSAGES, "late_candle", "missing_candle"),
    "bbo": _ON_MESSAGES,
    "context": _ON_MESSAGES,
}
"""Faults that each kind of event can have."""

_FILTERS: Mapping[Place, tuple[str, ...]] = {
    "connect": (),
    "info": ("symbol", "interval", "request"),
    "clock": (),
    "subscription": ("symbol", "interval", "stream"),
    "socket": ("symbol",),
    "candle": ("symbol", "interval"),
    "bbo": ("symbol",),
    "context": ("symbol",),
}
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "delay_s": ("delay", "late_candle"),
    "skew_ms": ("clock_skew",),
    "retry_after_s": ("429",),
    "close_code": ("drop",),
}
_REQUIRED = ("delay_s", "skew_ms")
_TRIGGERS = ("at", "every", "chance")
_OF_BARS = ("late_candle", "missing_candle")
_BARS_KEPT = 8  # a connection may lag behind another by a few bars
_OF_STREAMS = ("subscription", "candle", "bbo", "context")

_REQUESTS = tuple(str(request.__struct_config__.tag) for request in ANSWERS)
_STREAMS = (CANDLE, BBO, CONTEXT, MIDS, TRADES, BOOK)


def _one_of(values: tuple[str, ...]) -> Any:
    def check(value: str) -> str:
        if value not in values:
            raise PydanticCustomError("word", "not one of the words")
        return value

    return AfterValidator(check), WithJsonSchema({"enum": list(values)})


_Request = Annotated[str, *_one_of(_REQUESTS)]
_Stream = Annotated[str, *_one_of(_STREAMS)]
# YAML reads `do: 502` as a number.
_Action = Annotated[Action, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
_Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
_Seconds = Annotated[
    float | int,
    Field(gt=0, le=86_400),
    WithJsonSchema({"type": "number", "x-allowed": "a number of seconds above 0 up to 86400"}),
]
_Chance = Annotated[
    float | int, Field(gt=0, le=1), WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1})
]


class FaultRule(FileModel):
    """A fault, and the events that have it. Seconds are those of the machine's clock at every speed."""

    where: Place
    """Events that the rule counts: `connect` a WebSocket is opened, `info` a request arrives, `clock` the clock of the
    venue is read, `subscription` a client subscribes, `socket` any message of a stream is sent, `candle`, `bbo` and
    `context` a message of that stream is sent."""
    do: _Action
    """The fault."""
    symbol: Annotated[str, Field(min_length=1)] | None = None
    """Only events of this symbol."""
    interval: Interval | None = None
    """Only events of candles of this length."""
    request: _Request | None = None
    """Only info requests of this `type`."""
    stream: _Stream | None = None
    """Only subscriptions of this `type`."""
    at: _Count | None = None
    """Number of the event that has the fault, counted from 1."""
    every: _Count | None = None
    """Every such event has the fault: 50 for the 50th, the 100th and so on."""
    chance: _Chance | None = None
    """Probability that an event has the fault."""
    for_s: _Seconds | None = None
    """Time for which the fault lasts once it occurred."""
    for_events: _Count | None = None
    """Number of consecutive events that have the fault once it occurred."""
    delay_s: _Seconds | None = None
    """Delay of `delay` and `late_candle`."""
    skew_ms: Annotated[int, Field(ge=-(10**12), le=10**12)] | None = None
    """Error of the clock of `clock_skew`; above zero it is fast."""
    retry_after_s: Annotated[int, Field(ge=0, le=3600)] | None = None
    """Header `Retry-After` of a 429; by default it has none."""
    close_code: Annotated[int, Field(ge=1000, le=4999)] | None = None
    """Code of the close frame of a `drop` of a WebSocket; by default the TCP connection is reset without one."""

    @model_validator(mode="after")
    def _fits(self) -> "FaultRule":
        problems = {}
        if self.do not in ACTIONS[self.where]:
            problems["do"] = f"{self.do} is not a fault of {self.where}; one of {', '.join(ACTIONS[self.where])}"
        given = self.model_fields_set
        for name in ("symbol", "interval", "request", "stream"):
            if name in given and name not in _FILTERS[self.where]:
                places = [place for place, filters in _FILTERS.items() if name in filters]
                problems[name] = f"{self.where} has no {name}; allowed for {', '.join(places)}"
        for name, actions in _PARAMETERS.items():
            if getattr(self, name) is not None and self.do not in actions:
                problems[name] = f"{self.do} takes none; allowed for {', '.join(actions)}"
            elif getattr(self, name) is None and name in _REQUIRED and self.do in actions:
                problems[name] = f"missing; {self.do} needs it"
        if self.close_code is not None and self.where == "info":
            problems["close_code"] = "info has no WebSocket to close; leave it out"
        problems |= self._of_triggers()
        if problems:
            raise flaws(problems)
        return self

    def _of_triggers(self) -> dict[str, str]:
        problems = {}
        triggers = [name for name in _TRIGGERS if getattr(self, name) is not None]
        if not triggers:
            problems["at"] = "missing; the rule needs at, every or chance"
        elif len(triggers) > 1:
            problems[triggers[1]] = f"the rule has {triggers[0]} already; one of {', '.join(_TRIGGERS)}"
        if self.for_s is not None and self.for_events is not None:
            problems["for_events"] = "the rule has for_s already; one of for_s, for_events"
        return problems


class FaultPlan(FileModel):
    """faults.yaml: faults of the exchange simulator."""

    faults: tuple[FaultRule, ...] = Field(max_length=1000)
    """The rules. Each counts its own events."""


NO_FAULTS = FaultPlan(faults=())
"""The plan without faults."""


def read_fault_plan(path: Path, symbols: Collection[str] | None = None) -> FaultPlan:
    """Read a fault plan.

    Args:
        path: The YAML file.
        symbols: Symbols of the market; None to allow any.

    Raises:
        ConfigError: The file breaks a rule or names a symbol that the market lacks; one line per error.
    """
    document = read_document(path, FaultPlan)
    problems = [
        document.problem(
            ("faults", index, "symbol"), f"{rule.symbol!r} is not a symbol of the market; one of {', '.join(symbols)}"
        )
        for index, rule in enumerate(document.model.faults)
        if symbols is not None and rule.symbol is not None and rule.symbol not in symbols
    ]
    if problems:
        raise ConfigError(report(problems))
    return document.model


@dataclass(frozen=True)
class FaultPoint:
    """An event that can have a fault.

    Attributes:
        where: Kind of the event.
        now_s: Time of a monotonic clock of the machine, seconds.
        symbol: Symbol of the request, subscription or message; None without one.
        interval: Interval of candles; None for others.
        request: `type` of the info request.
        stream: `type` of the subscription.
        open_ms: Open time of the bar of a message about a candle, UTC milliseconds.
        final: True for the message with the final values of a bar.
    """

    where: Place
    now_s: float
    symbol: str | None = None
    interval: str | None = None
    request: str | None = None
    stream: str | None = None
    open_ms: int | None = None
    final: bool = False


@dataclass(frozen=True)
class Fault:
    """A fault that hits an event; see `FaultRule`.

    Attributes:
        do: Kind of the fault.
        rule: Index of its rule in the plan.
        delay_s: Delay, seconds; zero if the fault has none.
        skew_ms: Error of the clock, milliseconds; zero if the fault has none.
        retry_after_s: Header `Retry-After`, seconds; None for none.
        close_code: Code of the close frame; None to reset the TCP connection.
    """

    do: Action
    rule: int
    delay_s: float = 0.0
    skew_ms: int = 0
    retry_after_s: int | None = None
    close_code: int | None = None


@dataclass
class FaultCount:
    """Number of events that a rule counted, and of those that had its fault."""

    events: int = 0
    fired: int = 0


_Scope = tuple[str | None, str | None]


@dataclass
class _State:
    """State of a rule: random numbers, counts, open windows, and decisions about the latest bars of each symbol."""

    random: random.Random
    count: FaultCount = field(default_factory=FaultCount)
    until_s: dict[_Scope, float] = field(default_factory=dict)
    events_left: dict[_Scope, int] = field(default_factory=dict)
    bars: dict[_Scope, dict[int | None, bool]] = field(default_factory=dict)


class FaultSchedule:
    """The faults of a plan, event by event.

    Equal plans, seeds and events give equal faults. Every rule has random numbers of its own, so that a rule more or
    less does not move the faults of the others.
    """

    def __init__(self, plan: FaultPlan, seed: int = 0) -> None:
        """Start before the first event."""
        self._rules = plan.faults
        self._states = [_State(random.Random(f"{seed} {index}")) for index in range(len(plan.faults))]  # noqa: S311 - faults, no secrets

    def at(self, point: FaultPoint) -> tuple[Fault, ...]:
        """Count an event and return its faults, in the order of the plan."""
        pairs = enumerate(zip(self._rules, self._states, strict=True))
        return tuple(_fault(rule, index) for index, (rule, state) in pairs if _hits(rule, state, point))

    @property
    def counts(self) -> tuple[FaultCount, ...]:
        """Counts of each rule, in the order of the plan."""
        return tuple(FaultCount(state.count.events, state.count.fired) for state in self._states)


def _fault(rule: FaultRule, index: int) -> Fault:
    return Fault(rule.do, index, rule.delay_s or 0.0, rule.skew_ms or 0, rule.retry_after_s, rule.close_code)


def _hits(rule: FaultRule, state: _State, point: FaultPoint) -> bool:
    if not _matches(rule, point) or (rule.do == "late_candle" and not point.final):
        return False
    if rule.do not in _OF_BARS:
        return _decided(rule, state, point)
    # All messages of a bar, on every connection, are one event.
    scope = (point.symbol, point.interval)
    bars = state.bars.setdefault(scope, {})
    if point.open_ms not in bars:
        bars[point.open_ms] = _decided(rule, state, point)
        if len(bars) > _BARS_KEPT:
            del bars[next(iter(bars))]
    return bars[point.open_ms]


def _matches(rule: FaultRule, point: FaultPoint) -> bool:
    return rule.where == point.where and all(
        wanted is None or wanted == got
        for wanted, got in (
            (rule.symbol, point.symbol),
            (rule.interval, point.interval),
            (rule.request, point.request),
            (rule.stream, point.stream),
        )
    )


def _decided(rule: FaultRule, state: _State, point: FaultPoint) -> bool:
    """Count an event of a rule and return whether it has the fault."""
    # A stream's fault stays with the symbol that it hit; a fault of the venue is the same for all.
    scope = (point.symbol, point.interval) if rule.where in _OF_STREAMS else (None, None)
    state.count.events += 1
    if _begins(rule, state):
        state.until_s[scope] = point.now_s + (rule.for_s or 0.0)
        state.events_left[scope] = rule.for_events or 1
    left = state.events_left.get(scope, 0)
    state.events_left[scope] = max(left - 1, 0)
    hit = left > 0 or point.now_s < state.until_s.get(scope, point.now_s)
    state.count.fired += hit
    return hit


def _begins(rule: FaultRule, state: _State) -> bool:
    if rule.chance is not None:
        return state.random.random() < rule.chance
    if rule.every is not None:
        return state.count.events % rule.every == 0
    return state.count.events == rule.at
