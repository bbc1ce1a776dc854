"""A registry with made-up configs, for the tests beside this file."""

from pathlib import Path

from mei_pipeline.params.identity import Resolved, make_resolved
from mei_pipeline.params.table import read_catalog
from mei_pipeline.registry.deploy import Candidate
from mei_pipeline.registry.records import Basis, Gate, Lane, Occasion
from mei_pipeline.registry.store import Registry, add_config, add_evidence, add_verdict, open_registry

POLICY = "p" * 64
OTHER_POLICY = "q" * 64
NIGHT = "2026-01-02-smoke"
PAPER1 = Lane("paper1", "paper", "synthetic", "primary")
PAPER2 = Lane("paper2", "paper", "synthetic", "fallback")


def fresh(folder: Path) -> Registry:
    return open_registry(f"sqlite:///{folder / 'registry.db'}")


def resolved(number: int = 0, venue: str = "synthetic") -> Resolved:
    return make_resolved(
        read_catalog(),
        strategy="ema_cross",
        venue=venue,
        interval="1h",
        symbols=("BTC", "ETH"),
        initial_balance_usd=10_000.0,
        params={"indicators.ema_fast_window": 8 + number, "trade.leverage": 2.0},
        market={"market.fill": "next_open", "market.taker_fee_bps": 4.5},
    )


def basis(venue: str = "synthetic", data: str = "d") -> Basis:
    return Basis("k" * 64, {"fill": "next_open"}, venue, data * 64, 1_000)


def gate(verdict: str = "pass", name: str = "trades") -> Gate:
    return Gate(name, None if verdict == "no evidence" else 31.0, 30.0, verdict, "31 closed trades")


def at(now_ms: int = 1, why: str = "a night found it") -> Occasion:
    return Occasion(now_ms, "nightly", why, f"night {NIGHT}")


def judged(
    registry: Registry,
    number: int = 0,
    verdict: str = "pass",
    *,
    policy: str = POLICY,
    night: str = NIGHT,
    venue: str = "synthetic",
    measured_on: str = "",
) -> str:
    config_id = add_config(registry, resolved(number, venue), at())
    identity = add_evidence(registry, config_id, basis(measured_on or venue), {"sharpe": 1.5}, at())
    add_verdict(registry, config_id, identity, policy, [gate(verdict)], night_id=night, occasion=at())
    return config_id


def candidate(number: int, score: float, verdict: str = "pass", venue: str = "synthetic") -> Candidate:
    return Candidate(resolved(number, venue), basis(venue), {"sharpe": score}, (gate(), gate(verdict, "luck")), score)
