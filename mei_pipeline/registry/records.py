"""What the registry holds, as frozen records."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mei_pipeline.errors import DataError
from mei_pipeline.files import sha256_json
from mei_pipeline.params.identity import ResolvedConfig, config_id
from mei_pipeline.registry.lifecycle import check_size

GateVerdict = Literal["pass", "fail", "no evidence"]

_OPTIONAL = {"symbol_params", "entry_interval", "exit_interval", "benchmark"}

EVERY_LANE = ""
"""The lane of a transition that concerns a config wherever it runs."""


@dataclass(frozen=True)
class AuditContext:
    """Why something is done, and when.

    Attributes:
        now_ms: The time, as the caller's clock has it.
        who: The person or the service.
        why: The reason, in words.
        trigger: What set it off: a night's id, a command.
    """

    now_ms: int
    who: str
    why: str
    trigger: str


@dataclass(frozen=True)
class Basis:
    """What was measured, on what, by which rules: with the config id, the identity of evidence.

    Attributes:
        kernel_hash: Hash of the kernels' sources.
        fill_model: The market parameters that say how orders fill.
        venue: Whose candles.
        data_hash: Hash of the bars, the funding and the instruments: see `market.Bars`.
        anchor_ms: Where the features start.
    """

    kernel_hash: str
    fill_model: Mapping[str, Any]
    venue: str
    data_hash: str
    anchor_ms: int

    def as_dict(self) -> dict[str, Any]:
        """The basis as plain JSON."""
        return {
            "kernel_hash": self.kernel_hash,
            "fill_model": dict(self.fill_model),
            "venue": self.venue,
            "data_hash": self.data_hash,
            "anchor_ms": self.anchor_ms,
        }


def as_dict(resolved: ResolvedConfig) -> dict[str, Any]:
    """A resolved config as plain JSON; what says nothing is left out."""
    content = {
        **vars(resolved),
        "symbols": list(resolved.symbols),
        "params": dict(resolved.params),
        "market": dict(resolved.market),
        "symbol_params": {symbol: dict(values) for symbol, values in resolved.symbol_params.items()},
    }
    return {key: value for key, value in content.items() if value or key not in _OPTIONAL}


def from_dict(content: Any, expected_id: str) -> ResolvedConfig:
    """A resolved config from plain JSON, its content checked against its id.

    Raises:
        DataError: Something is missing, of another kind or too much, or the content has another id.
    """
    try:
        fields: dict[str, Any] = {**content, "symbols": tuple(content["symbols"])}
        resolved = ResolvedConfig(**fields)
        found = config_id(resolved)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"not a resolved config: {error}") from error
    if found != expected_id:
        raise DataError(f"its content has another id: {found}")
    return resolved


def evidence_id(config: str, basis: Basis) -> str:
    """The identity of what is measured of a config on a basis."""
    return sha256_json({"config_id": config, **basis.as_dict()})


@dataclass(frozen=True)
class Evidence:
    """What was measured of a config on a basis; a figure that is not finite is None.

    One basis may be measured in several ways (another split of the same candles): `metrics_id`, the hash of the
    metrics, tells them apart.
    """

    evidence_id: str
    config_id: str
    basis: Basis
    metrics: Mapping[str, Any]
    metrics_id: str
    created_ms: int


@dataclass(frozen=True)
class Gate:
    """One test of a config: what was measured, against what, and the verdict.

    Attributes:
        name: The gate.
        value: What was measured, or None where nothing was.
        threshold: What the policy asks for, or None where it asks for no figure.
        verdict: `pass`, `fail` or `no evidence`; only `pass` promotes.
        explanation: The verdict in words.
    """

    name: str
    value: float | None
    threshold: float | None
    verdict: GateVerdict
    explanation: str

    def __post_init__(self) -> None:
        if self.verdict not in {"pass", "fail", "no evidence"}:
            raise DataError(f"gate {self.name}: verdict {self.verdict!r}; allowed: pass, fail, no evidence")
        if self.verdict == "pass" and (self.value is None or math.isnan(self.value)):
            raise DataError(f"gate {self.name}: passes without a value; nothing measured is 'no evidence'")


def finite_or_none(value: float | None) -> float | None:
    """The value, or None where it is none that JSON has a word for."""
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Verdict:
    """All gates of one config under one policy; it passed when there are gates and every one passed."""

    verdict_id: str
    config_id: str
    evidence_id: str
    metrics_id: str
    policy_id: str
    passed: bool
    gates: tuple[Gate, ...]
    night_id: str
    at_ms: int


def all_pass(gates: tuple[Gate, ...]) -> bool:
    """Whether these gates let a config through: no gate at all is no evidence."""
    return bool(gates) and all(gate.verdict == "pass" for gate in gates)


@dataclass(frozen=True)
class StoredConfig:
    """An immutable config: everything resolved, named by the hash of its content."""

    config_id: str
    resolved: ResolvedConfig
    created_ms: int


@dataclass(frozen=True)
class Proposal:
    """What a night wants a lane to run.

    Attributes:
        night_id: The night.
        lane: The lane.
        config_id: The config, or None for "leave it as it is".
        policy_id: The policy that judged.
        generation: The lane's generation that the night saw; a lane that has moved since is left alone.
        reason: Why this one, or why nothing.
        at_ms: When it was stored.
    """

    night_id: str
    lane: str
    config_id: str | None
    policy_id: str
    generation: int
    reason: str
    at_ms: int


@dataclass(frozen=True)
class Transition:
    """A config went from one state to another; rows of this are added and never changed.

    Attributes:
        transition_id: Hash of the content.
        at_ms: When.
        config_id: Which config.
        lane: In which lane; empty where it concerns every lane.
        from_state: The state it left; empty for a config that is new.
        to_state: The state it entered; the same one where it was renewed or got another size.
        action: What was done.
        trigger: What set it off.
        who: The person or the service.
        why: The reason, in words.
        generation: The lane's generation from then on; 0 where no lane moved.
        size_multiplier: The lane's size multiplier from then on; None where no lane moved or it was not recorded.
        verdict_id: The verdict that allowed it, or by which the config holds the lane; empty where there is none.
    """

    transition_id: str
    at_ms: int
    config_id: str
    lane: str
    from_state: str
    to_state: str
    action: str
    trigger: str
    who: str
    why: str
    generation: int
    size_multiplier: float | None
    verdict_id: str


@dataclass(frozen=True)
class Pointer:
    """Which config holds a lane.

    Attributes:
        lane: The lane.
        config_id: The config.
        generation: Counts the moves of this lane; it only grows.
        size_multiplier: Scales the equity that sizing sees, 0..1; in a live lane the stage of the ramp.
        transition_id: The transition that moved the lane last.
        state: `paper`, `live_small`, `live_full` or `paused`.
    """

    lane: str
    config_id: str
    generation: int
    size_multiplier: float
    transition_id: str
    state: str


@dataclass(frozen=True)
class Lane:
    """What the operator says of a lane, as far as the registry asks.

    Attributes:
        name: The lane.
        mode: `paper`, `shadow` or `live`.
        venue: Whose prices it trades.
        role: Which of the night's choices it takes: `primary`, `fallback`, …
        manual: It follows `strategy_overrides.yaml`, and no night moves it.
        size_multiplier: With which a config enters the lane, above 0 up to 1; a live lane has its ramp.
        min_paper_days: Days on paper before a config enters a live lane.
        min_stage_days: Days at a stage of the ramp before the next one.
    """

    name: str
    mode: str
    venue: str
    role: str
    manual: bool = False
    size_multiplier: float = 1.0
    min_paper_days: float = 0.0
    min_stage_days: float = 0.0

    def __post_init__(self) -> None:
        check_size(self.name, self.size_multiplier)
