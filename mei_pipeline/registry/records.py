"""Records of the registry: frozen values without a connection."""

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
"""Fields of a config that are left out if empty: configs from before they existed keep their ids."""

EVERY_LANE = ""
"""The lane of a transition that concerns a config in all lanes."""


@dataclass(frozen=True)
class AuditContext:
    """Person, time and reason of a change of the registry; stored with the change.

    Attributes:
        now_ms: Time of the change by the caller's clock, in UTC milliseconds.
        who: The person or service.
        why: The reason in words.
        trigger: The command or nightly run that caused the change.
    """

    now_ms: int
    who: str
    why: str
    trigger: str


@dataclass(frozen=True)
class Basis:
    """Data and rules of a measurement; with the config id, the identity of evidence.

    Attributes:
        kernel_hash: Hash of the kernels' sources.
        fill_model: Market parameters that define how orders fill.
        venue: Venue of the candles.
        data_hash: Hash of bars, funding and instruments; see `simulation.bars.Bars`.
        anchor_ms: Open time of the first bar of the features.
    """

    kernel_hash: str
    fill_model: Mapping[str, Any]
    venue: str
    data_hash: str
    anchor_ms: int

    def as_dict(self) -> dict[str, Any]:
        """Return the basis as JSON values."""
        return {
            "kernel_hash": self.kernel_hash,
            "fill_model": dict(self.fill_model),
            "venue": self.venue,
            "data_hash": self.data_hash,
            "anchor_ms": self.anchor_ms,
        }


def as_dict(resolved: ResolvedConfig) -> dict[str, Any]:
    """Return a resolved config as JSON values, without the `_OPTIONAL` fields that are empty."""
    content = {
        **vars(resolved),
        "symbols": list(resolved.symbols),
        "params": dict(resolved.params),
        "market": dict(resolved.market),
        "symbol_params": {symbol: dict(values) for symbol, values in resolved.symbol_params.items()},
    }
    return {key: value for key, value in content.items() if value or key not in _OPTIONAL}


def from_dict(content: Any, expected_id: str) -> ResolvedConfig:
    """Return a resolved config from JSON values, after a check of its content against its id.

    Raises:
        DataError: A field is missing, unknown or of the wrong type, or the content has another id.
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
    """Return the evidence id of a config on a basis."""
    return sha256_json({"config_id": config, **basis.as_dict()})


@dataclass(frozen=True)
class Evidence:
    """Metrics of a config on a basis; a value that is not finite is None.

    One basis may have several measurements, for example with another split of the same candles. `metrics_id`, the hash
    of the metrics, distinguishes them.
    """

    evidence_id: str
    config_id: str
    basis: Basis
    metrics: Mapping[str, Any]
    metrics_id: str
    created_ms: int


@dataclass(frozen=True)
class Gate:
    """One test of a config with its result.

    Attributes:
        name: Name of the gate. Verdicts of earlier versions keep the names that gates had then.
        value: The measured value; None without a measurement.
        threshold: The limit of the policy; None if the gate has no numeric limit.
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
            raise DataError(
                f"gate {self.name}: unknown verdict: {self.verdict!r}; allowed are pass, fail and no evidence"
            )
        if self.verdict == "pass" and (self.value is None or math.isnan(self.value)):
            raise DataError(f"gate {self.name}: verdict pass without a value; use 'no evidence'")


def finite_or_none(value: float | None) -> float | None:
    """Return the value, or None if it is NaN or infinite, which JSON can't express."""
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Verdict:
    """Results of all gates of one config under one policy; `passed` as in `all_pass`."""

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
    """Return True if there are gates and every one passed; a config without gates does not pass."""
    return bool(gates) and all(gate.verdict == "pass" for gate in gates)


@dataclass(frozen=True)
class StoredConfig:
    """A config as stored: immutable and fully resolved, with the hash of its content as id."""

    config_id: str
    resolved: ResolvedConfig
    created_ms: int


@dataclass(frozen=True)
class Proposal:
    """Proposal of a nightly run for a lane.

    Attributes:
        night_id: Id of the nightly run.
        lane: The lane.
        config_id: The config to promote; None to leave the lane as it is.
        policy_id: The policy of the verdict.
        generation: Generation of the lane when it was read; a lane that moved since is not changed.
        reason: Reason for the config, or for None.
        at_ms: Time of storage, UTC milliseconds.
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
    """Change of a config's state; stored once and never changed.

    Attributes:
        transition_id: Hash of the content.
        at_ms: Time of the change, UTC milliseconds.
        config_id: The config.
        lane: The lane; empty if the change concerns every lane.
        from_state: State before; empty for a new config.
        to_state: State after; the same state after a renewal or a change of size.
        action: Kind of change.
        trigger: The command or nightly run that caused it.
        who: The person or service.
        why: The reason in words.
        generation: Generation of the lane after the change; 0 if no lane moved.
        size_multiplier: Size multiplier of the lane after the change; None if no lane moved or none was recorded.
        verdict_id: The verdict that allowed it, or by which the config holds the lane; empty without one.
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
    """The config that holds a lane.

    Attributes:
        lane: The lane.
        config_id: The config.
        generation: Number of moves of this lane; it only grows.
        size_multiplier: Factor on the equity that sizing uses, 0..1; in a live lane the step of the ramp.
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
    """Configuration of a lane, reduced to what the registry needs.

    Attributes:
        name: The lane.
        mode: `paper`, `shadow` or `live`.
        venue: Venue that it trades on.
        role: Role in the assignment of accepted configs: `primary`, `fallback`, …
        manual: The lane follows `strategy_overrides.yaml`; a nightly run never moves it.
        size_multiplier: Size multiplier of a config that enters the lane, above 0 up to 1; a live lane uses its ramp.
        min_paper_days: Least days on paper before a config enters a live lane.
        min_stage_days: Least days at a step of the ramp before the next one.
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
