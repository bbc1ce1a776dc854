"""A registry with made-up configs, for the tests beside this file: an SQLite file, or a database of a server."""

import base64
import contextlib
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Date, LargeBinary, MetaData, NullPool, create_engine, insert, make_url, text
from sqlalchemy.exc import ProgrammingError

from kernels.cache import source_hash
from mei_pipeline.files import canonical_json
from mei_pipeline.params.identity import ResolvedConfig, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.promotion.assign import Assignment
from mei_pipeline.promotion.promote import PromotionRequest
from mei_pipeline.promotion.promote import promote as promote_request
from mei_pipeline.promotion.propose import CandidateRecord, StoredCandidate, reason_not_to_move
from mei_pipeline.registry.lanes import lane_files
from mei_pipeline.registry.lifecycle import PAPER, PAUSED
from mei_pipeline.registry.records import AuditContext, Basis, Gate, Lane
from mei_pipeline.registry.store import Registry, add_config, add_evidence, add_verdict, open_registry
from mei_pipeline.registry.trials import Trial

HERE = Path(__file__).parent
POLICY = "p" * 64
OTHER_POLICY = "q" * 64
NIGHT = "2026-01-02-smoke"
PAPER1 = Lane("paper1", "paper", "synthetic", "primary")
PAPER2 = Lane("paper2", "paper", "synthetic", "fallback")
LIVE = Lane("live1", "live", "hyperliquid", "primary")
PAPER_THERE = Lane("paper9", "paper", "hyperliquid", "primary")
HELD = {PAPER, PAUSED}
SERVER = "REGISTRY_TEST_SERVER"
"""Variable with the URL of a PostgreSQL server; without it registries are files. Processes that a test starts inherit
it."""


def url(folder: Path) -> str:
    """Where the registry of a folder is; on a server it gets a database of its own, which is empty at first."""
    if SERVER not in os.environ:
        return f"sqlite:///{folder / 'registry.db'}"
    server = make_url(os.environ[SERVER])
    name = "t" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
    database = create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with database.connect() as connection, contextlib.suppress(ProgrammingError):  # it is there already
        connection.execute(text(f"CREATE DATABASE {name}"))
    return server.set(database=name).render_as_string(hide_password=False)


@functools.cache
def empty_file() -> bytes:
    """An SQLite file with the tables and no rows: making them anew for each test takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        open_registry(f"sqlite:///{folder}/registry.db")
        return Path(folder, "registry.db").read_bytes()


def fresh(folder: Path) -> Registry:
    """Open the registry of a folder; a new one is a copy of an empty one."""
    file = folder / "registry.db"
    if SERVER not in os.environ and not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_bytes(empty_file())
    return opened(folder)


def opened(folder: Path) -> Registry:
    """Open the registry of a folder; a new one makes its tables."""
    return open_registry(url(folder))


def connected(folder: Path):
    """A connection of its own, as another program would have it."""
    return create_engine(url(folder), poolclass=NullPool).begin()


def rows_of(version: int) -> dict[str, list[dict[str, Any]]]:
    """Every row that an earlier version of the tables had, by table."""
    return json.loads((HERE / f"version{version}" / "rows.json").read_text())


def make_version(folder: Path, *extra: str, version: int) -> None:
    """A registry with the tables and rows of an earlier version, in whichever database the test runs."""
    folder.mkdir(parents=True, exist_ok=True)
    with connected(folder) as connection:
        script = HERE / f"version{version}" / f"{connection.dialect.name}.sql"
        for statement in script.read_text().split(";\n"):
            if statement.strip():
                connection.execute(text(statement))
        found = MetaData()
        found.reflect(connection)
        for table in found.sorted_tables:
            for row in rows_of(version)[table.name]:  # in their order, so that the database counts as it did
                values = {key: stored(table.c[key], value) for key, value in row.items() if key != "seq"}
                connection.execute(insert(table), values)
        for statement in extra:
            connection.execute(text(statement))


def stored(column: Column[Any], value: Any) -> Any:
    """A value of rows.json as the column takes it: JSON has neither bytes nor days."""
    match column.type:
        case LargeBinary():
            return base64.b64decode(value)
        case Date():
            return date.fromisoformat(value)
        case _:
            return value


def promote(registry, lanes, lane, config_id, policy, generation, audit, **more):
    fault_hook = {"fault_hook": more.pop("fault_hook")} if "fault_hook" in more else {}
    return promote_request(
        registry, lanes, PromotionRequest(lane, config_id, generation, audit, **more), policy, **fault_hook
    )


def resolved(number: int = 0, venue: str = "synthetic") -> ResolvedConfig:
    return resolve_config(
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


def rows_text(value) -> str:
    return canonical_json(value).decode()


def gate(verdict: str = "pass", name: str = "trades") -> Gate:
    return Gate(name, None if verdict == "no evidence" else 31.0, 30.0, verdict, "31 closed trades")


def at(now_ms: int = 1, why: str = "a night found it") -> AuditContext:
    return AuditContext(now_ms, "nightly", why, f"night {NIGHT}")


def judged(
    registry, number=0, verdict="pass", *, policy=POLICY, night=NIGHT, venue="synthetic", measured="", **on
) -> str:
    """Add a config with evidence, measured `on` what `basis` is told, and a verdict on it."""
    config_id = add_config(registry, resolved(number, venue), at())
    identity = add_evidence(registry, config_id, basis(measured or venue, **on), {"sharpe": 1.5}, at())
    add_verdict(registry, config_id, identity, policy, [gate(verdict)], night_id=night, audit=at())
    return config_id


def candidate(number: int, score: float, verdict: str = "pass", venue: str = "synthetic") -> CandidateRecord:
    return CandidateRecord(
        resolved(number, venue), basis(venue), {"sharpe": score}, (gate(), gate(verdict, "luck")), score
    )


def by_rank(registry: Registry, judged: Sequence[StoredCandidate], lanes: Sequence[Lane]) -> list[Assignment]:
    """The n-th best that passed for the n-th lane of its venue that a night may move, one after the other.

    A config in a lane that no night moves is for no other one, and one that holds the very lane is assigned anew only
    where it was accepted with other kernels.
    """
    held = {lane.name: lane_files(registry, lane.name) for lane in lanes}
    reasons = {lane.name: reason_not_to_move(lane, held[lane.name] and held[lane.name].pointer) for lane in lanes}
    there = {now.pointer.config_id for name, now in held.items() if now and reasons[name] and now.pointer.state in HELD}
    fallen = {entry.config_id for entry in judged if not entry.passed}
    standing = [entry for entry in judged if entry.config_id not in fallen]
    best = sorted(standing, key=lambda entry: (-entry.score, entry.config_id))
    assigned = []
    for lane in lanes:
        free = [entry.config_id for entry in best if entry.venue == lane.venue and entry.config_id not in there]
        now = held[lane.name]
        if reasons[lane.name] or not free:
            assigned.append(Assignment(lane.name, None, reasons[lane.name] or "nothing, because nobody is left"))
            continue
        there.add(free[0])
        same = now is not None and now.pointer.config_id == free[0]
        if same and now.file.provenance.kernel_hash == source_hash():
            assigned.append(Assignment(lane.name, None, f"nothing, because {free[0][:12]} holds the lane"))
        else:
            assigned.append(Assignment(lane.name, free[0], "judged anew" if same else "best that is left"))
    return assigned


def trial() -> Trial:
    return Trial(
        night_id=NIGHT,
        rank="finalist 1",
        config_ids=("a" * 64, "b" * 64),
        venue="binance",
        first_day=date(2026, 1, 2),
        last_day=date(2026, 1, 5),
        returns=(0.1 + 0.2, -1e-17, 0.0, 5e-324),
        data_hash="d" * 64,
        policy_id=POLICY,
    )
