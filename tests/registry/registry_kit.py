"""A registry with made-up configs, for the tests beside this file: an SQLite file, or a database of a server."""

import hashlib
import os
from pathlib import Path

from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from kernels.cache import source_hash
from mei_pipeline.params.identity import Resolved, make_resolved
from mei_pipeline.params.table import read_catalog
from mei_pipeline.registry.deploy import Candidate
from mei_pipeline.registry.promote import Wish
from mei_pipeline.registry.promote import promote as promote_wish
from mei_pipeline.registry.records import Basis, Gate, Lane, Occasion
from mei_pipeline.registry.store import Registry, add_config, add_evidence, add_verdict, open_registry

POLICY = "p" * 64
OTHER_POLICY = "q" * 64
NIGHT = "2026-01-02-smoke"
PAPER1 = Lane("paper1", "paper", "synthetic", "primary")
PAPER2 = Lane("paper2", "paper", "synthetic", "fallback")
LIVE = Lane("live1", "live", "hyperliquid", "primary")
PAPER_THERE = Lane("paper9", "paper", "hyperliquid", "primary")
SERVER = "MEI_TEST_SERVER"
"""Variable with the URL of a PostgreSQL server; without it registries are files. Processes that a test starts inherit
it."""


def url(folder: Path) -> str:
    """Where the registry of a folder is; on a server it gets a database of its own, which is empty at first."""
    if SERVER not in os.environ:
        return f"sqlite:///{folder / 'registry.db'}"
    server = make_url(os.environ[SERVER])
    name = "t" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
    engine = create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        try:
            connection.execute(text(f"CREATE DATABASE {name}"))
        except ProgrammingError as error:
            assert "already exists" in str(error)
    return server.set(database=name).render_as_string(hide_password=False)


def fresh(folder: Path) -> Registry:
    return open_registry(url(folder))


def promote(registry, lanes, lane, config_id, policy, generation, occasion, *, by_person=False, size=None, **more):
    return promote_wish(registry, lanes, Wish(lane, config_id, generation, occasion, by_person, size), policy, **more)


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


def basis(venue: str = "synthetic", data: str = "d", kernels: str = "") -> Basis:
    return Basis(kernels or source_hash(), {"fill": "next_open"}, venue, data * 64, 1_000)


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
    data: str = "d",
    kernels: str = "",
) -> str:
    config_id = add_config(registry, resolved(number, venue), at())
    identity = add_evidence(registry, config_id, basis(measured_on or venue, data, kernels), {"sharpe": 1.5}, at())
    add_verdict(registry, config_id, identity, policy, [gate(verdict)], night_id=night, occasion=at())
    return config_id


def candidate(number: int, score: float, verdict: str = "pass", venue: str = "synthetic") -> Candidate:
    return Candidate(resolved(number, venue), basis(venue), {"sharpe": score}, (gate(), gate(verdict, "luck")), score)
