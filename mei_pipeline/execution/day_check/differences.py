"""Differences between a day of a lane and a repetition of it, and the verdict that follows from them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from mei_pipeline.candles.intervals import iso

Class = Literal["logic", "data revision", "config", "fill", "degraded"]
"""Cause of a difference.

    logic: the same rules with the same inputs gave another result. Only this fails the check.
    data revision: the lake has other bars, funding or terms than the lane saw.
    config: a person changed what the lane may do: a hold, a pause, a change of config, a transfer.
    fill: the broker filled an order in another way than the fill model: refused, lost, in part, late, at another price.
    degraded: the lane had no complete or timely market data: late steps, stale streams, unknown bars.
"""

CLASSES: tuple[Class, ...] = ("logic", "data revision", "config", "fill", "degraded")

Verdict = Literal["equal", "explained", "failed", "no evidence"]
"""Result of a check: no difference, none of class logic, at least one of class logic, or nothing that was compared."""


@dataclass(frozen=True)
class GateDifference:
    """The first gate of a strategy that differs between the lane and the repetition.

    Attributes:
        name: Name of the gate.
        recorded: Value on the features that the lane carried along from bar to bar.
        replayed: Value on the features of the repetition.
        threshold: Threshold of the repetition.
        open: True if the gate is open in the repetition.
    """

    name: str
    recorded: float
    replayed: float
    threshold: float
    open: bool

    def __str__(self) -> str:
        state = "open" if self.open else "closed"
        return f"gate {self.name}: {self.recorded!r}, {self.replayed!r} again, threshold {self.threshold!r}, {state}"


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        kind: Its cause.
        step_ms: Open time of the step, UTC milliseconds.
        config_id: Config of the book; empty for market data.
        symbol: Symbol; empty for the whole book.
        what: Name of what differs, such as `verdict`, `order`, `fee_usd` or `close of 1h`.
        recorded: What the lane has, as text.
        replayed: What the repetition or the lake has, as text.
        reason: Reason in words; empty if there is none beyond the class.
        gate: The first gate that differs; None without one.
    """

    kind: Class
    step_ms: int
    config_id: str
    symbol: str
    what: str
    recorded: str
    replayed: str
    reason: str = ""
    gate: GateDifference | None = None

    def __str__(self) -> str:
        """Return the difference in one sentence."""
        where = f"{iso(self.step_ms)} {self.symbol}".rstrip()
        text = f"{where}: {self.what}: lane {self.recorded}, replay {self.replayed}"
        return "; ".join(filter(None, (text, self.reason, "" if self.gate is None else str(self.gate))))

    def as_dict(self) -> dict[str, Any]:
        """Return the difference as JSON values."""
        gate = self.gate
        return {
            "class": self.kind,
            "step_ms": self.step_ms,
            "step_utc": iso(self.step_ms),
            "config_id": self.config_id,
            "symbol": self.symbol,
            "what": self.what,
            "recorded": self.recorded,
            "replayed": self.replayed,
            "reason": self.reason,
            "gate": None if gate is None else {**vars(gate)},
        }


@dataclass(frozen=True)
class DayCheck:
    """The result of a check.

    Attributes:
        lane: The lane.
        day_ms: Beginning of the UTC day on the lane's clock.
        steps: Number of steps that were repeated.
        decisions: Number of decisions that were repeated: one per book and step.
        fills: Number of fills and payments that were compared with the fill model.
        differences: The differences, in the order of the journal.
        unchecked: Reasons why a part of the day could not be repeated.
    """

    lane: str
    day_ms: int
    steps: int
    decisions: int
    fills: int
    differences: tuple[Difference, ...]
    unchecked: tuple[str, ...]

    @property
    def counts(self) -> dict[Class, int]:
        """Number of differences of each class, without those of none."""
        found = Counter(each.kind for each in self.differences)
        return {kind: found[kind] for kind in CLASSES if found[kind]}

    @property
    def verdict(self) -> Verdict:
        """The result; a day without a step that could be repeated is no evidence, and no failure either."""
        if "logic" in self.counts:
            return "failed"
        if self.differences:
            return "explained"
        return "equal" if self.steps else "no evidence"

    @property
    def first(self) -> Difference | None:
        """The first difference of class logic, or else the first one of all."""
        logic = (each for each in self.differences if each.kind == "logic")
        return next(logic, next(iter(self.differences), None))

    def __str__(self) -> str:
        """Return the result in one sentence."""
        compared = f"{self.steps} steps, {self.decisions} decisions and {self.fills} fills and payments"
        text = f"lane {self.lane}, {iso(self.day_ms)[:10]}: {self.verdict}: {compared}"
        if self.counts:
            text += "; differences: " + ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        return "; ".join((text, *self.unchecked))

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "lane": self.lane,
            "day": iso(self.day_ms)[:10],
            "verdict": self.verdict,
            "steps": self.steps,
            "decisions": self.decisions,
            "fills": self.fills,
            "counts": self.counts,
            "differences": [each.as_dict() for each in self.differences],
            "unchecked": list(self.unchecked),
        }


def worst_verdict(checks: Iterable[DayCheck]) -> Verdict:
    """Return the verdict on several days: `failed` if one failed, else `explained`, `equal`, or `no evidence`."""
    found = {check.verdict for check in checks}
    order: tuple[Verdict, ...] = ("failed", "explained", "equal")
    return next((each for each in order if each in found), "no evidence")
