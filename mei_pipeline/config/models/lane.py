"""Model of lanes/*.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from mei_pipeline.config.fields import FileModel, Role, Switch, Venue

LaneMode = Literal["paper", "shadow", "live"]
FeedKind = Literal["replay", "simulator", "hyperliquid"]


class LaneConfig(FileModel):
    """lanes/<name>.yaml: one executor with its own book."""

    mode: LaneMode
    """`paper` trades a virtual book, `shadow` a virtual book beside a real account, `live` real money."""
    venue: Venue
    """Venue of the lane; it only accepts configs with evidence from this venue."""
    role: Role
    """Accepted config that a nightly run assigns to the lane: `primary` the best one, `fallback` the best one that
    moves differently, `conservative` the one with the smallest maximum drawdown."""
    equity_usd: Annotated[float, Field(gt=0, le=1e12)] = 10_000.0
    """Initial equity of the lane's book."""
    manual: Switch = False
    """Whether the lane follows strategy_overrides.yaml; then no nightly run and no promotion changes it."""
    warmup: Literal["exact", "approximate"] = "exact"
    """How features start: `exact` refuses a lake without the bars since the anchor of the config's evidence,
    `approximate` starts at the first bar that the lake has."""
    feed: FeedKind = "replay"
    """Market data of the lane: `replay` serves the bars of the lake, `simulator` and `hyperliquid` are served by
    `python -m live.feed`."""
    network: Literal["mainnet", "testnet"] | None = None
    """Network of the feed `hyperliquid`, which must be named; other feeds have none."""
    max_late_ms: Annotated[int, Field(ge=0)] = 10_000
    """Delay of a step after the end of the feed's grace period above which the lane opens nothing at that step."""
