"""A lane whose configs come from a registry, and a feed that lets something happen between two of its steps."""

import json
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import registry_kit
from session_kit import FROM_MS, LANE, START_MS, TO_MS, Steps, events_of, run_session

from live.feed_protocol import Subscribe
from live.lane_feed import Feed, OpenFeed
from live.running import Watch
from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.config.load import load_lanes
from mei_pipeline.execution.commands import Alert
from mei_pipeline.execution.events import FeedEvent, StepClosed
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.promotion.promote import Promotion, PromotionRequest, promote
from mei_pipeline.registry.database import Registry
from mei_pipeline.registry.lanes import pointer_path
from mei_pipeline.registry.records import Lane
from mei_pipeline.registry.render import FaultHook, no_fault
from mei_pipeline.registry.store import add_config, add_evidence, add_verdict
from mei_pipeline.settings import CHECKOUT, Settings

BENCH = Lane(LANE, "paper", "synthetic", "primary")
Actions = Mapping[int, Callable[[], object]]
"""What happens after a step, by the number of the step."""


@dataclass(frozen=True)
class Desk:
    """A home with a registry, and the policy by which it judges."""

    settings: Settings
    registry: Registry
    policy_id: str

    def judged(self, resolved: ResolvedConfig, kernels: str = "") -> str:
        """Store a config that passed; return its id."""
        basis = replace(registry_kit.basis(kernels=kernels), anchor_ms=START_MS)
        name = add_config(self.registry, resolved, registry_kit.at())
        evidence = add_evidence(self.registry, name, basis, {"sharpe": 1.5}, registry_kit.at())
        gates = [registry_kit.gate()]
        add_verdict(
            self.registry,
            name,
            evidence,
            self.policy_id,
            gates,
            night_id=registry_kit.NIGHT,
            audit=registry_kit.at(),
        )
        return name

    def promote(self, name: str, generation: int, fault_hook: FaultHook = no_fault) -> Promotion:
        """Promote a config to the lane, which has a generation."""
        audit = registry_kit.at(10 + generation)
        request = PromotionRequest(BENCH, name, generation, audit, by_person=True)
        return promote(self.registry, self.settings.lanes, request, self.policy_id, fault_hook=fault_hook)


def make_desk(settings: Settings) -> Desk:
    """Return the desk of a home whose lane holds no config."""
    pointer_path(settings.lanes, LANE).unlink()
    pipeline = settings.config / "pipeline.yaml"
    source = "\n  - {kind: files, venue: synthetic, path: /none/*.parquet, interval: 1h}"
    pipeline.write_text(pipeline.read_text().replace("sources: []", f"sources:{source}"))
    shutil.copytree(CHECKOUT / "config" / "sweeps", settings.config / "sweeps")
    policy = load_lanes(settings.config).policy.selection.id
    return Desk(settings, registry_kit.fresh(settings.home), policy)


class _Acting(Steps):
    """Hands out one step per read, and acts before the read that follows a step."""

    def __init__(self, events: list[FeedEvent], actions: Actions) -> None:
        super().__init__(events, 0)
        self._actions = actions
        self._last_ms = 0

    def read(self, timeout_s: float) -> list[FeedEvent]:
        action = self._actions.get((self._last_ms - FROM_MS) // HOUR_MS)
        if self._last_ms and action is not None:
            action()
        ends = [number for number, event in enumerate(self._events, 1) if isinstance(event, StepClosed)]
        self._size = ends[0] if ends else len(self._events)
        piece = super().read(timeout_s)
        self._last_ms = max((event.step_ms for event in piece if isinstance(event, StepClosed)), default=0)
        return piece


def acting_feed(settings: Settings, actions: Actions | None = None, to_ms: int = TO_MS) -> OpenFeed:
    """Return what opens the feed of `acting`, up to a time."""

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        yield _Acting(events_of(settings, wanted, to_ms), actions or {})

    return open_feed


def follow(settings: Settings, actions: Actions | None = None, to_step: int | None = None) -> list[Alert]:
    """Run the lane until the end of the span or of a step; return its alerts."""
    alerts: list[Alert] = []
    to_ms = TO_MS if to_step is None else FROM_MS + (to_step + 1) * HOUR_MS
    result = run_session(settings, Watch(alert=alerts.append), acting_feed(settings, actions, to_ms))
    assert result.reason == "the lake ends here"
    return alerts


def shown(settings: Settings) -> dict[str, Any]:
    """The status of the lane."""
    return json.loads((settings.lanes / LANE / "status.json").read_text())


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    """Rows of the lane's journal."""
    with closing(sqlite3.connect(journal_path(settings.lanes, LANE))) as journal:
        return journal.execute(query).fetchall()


def changes(settings: Settings) -> list[tuple[str, int, str]]:
    """Config, generation and kind of each change, oldest first."""
    return rows(settings, "SELECT config_id, generation, change FROM v_config_changes")


def holders(settings: Settings) -> dict[str, list[tuple[int, int, str]]]:
    """Steps of entry and exit, and config, of every trade of a symbol, oldest first; an open one ends last."""
    found = defaultdict(list)
    query = "SELECT symbol, entry_ms, exit_ms, config_id FROM trades ORDER BY entry_ms"
    for symbol, entry_ms, exit_ms, config in rows(settings, query):
        ended_ms = TO_MS if exit_ms is None else exit_ms
        found[symbol].append(((entry_ms - FROM_MS) // HOUR_MS, (ended_ms - FROM_MS) // HOUR_MS, config))
    return dict(found)
