"""lanes/*.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from mei_pipeline.config.fields import FileModel, Role, Switch, Venue

LaneMode = Literal["paper", "shadow", "live"]


class LaneConfig(FileModel):
    """lanes/<name>.yaml: one executor with its own book."""

    mode: LaneMode
    """`paper` trades a virtual book, `shadow` a virtual book beside a real account, `live` real money."""
    venue: Venue
    """Venue that the lane trades; only configs with evidence from it are deployed to the lane."""
    role: Role
    """Which of a night's configs that passed the lane takes: `primary` the best, `fallback` the best that moves
    differently, `conservative` the one that fell least."""
    equity_usd: Annotated[float, Field(gt=0, le=1e12)] = 10_000.0
    """Equity that the lane's book starts with."""
    manual: Switch = False
    """Whether the lane follows strategy_overrides.yaml; then no night and no promotion moves it."""
