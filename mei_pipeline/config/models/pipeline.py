"""pipeline.yaml."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, SecretStr, Tag, WithJsonSchema, model_validator

from mei_pipeline.candles.intervals import INTERVALS, iso
from mei_pipeline.config.fields import FileModel, Interval, Month, Name, Switch, Symbol, Timestamp, Venue, flaws, shape
from mei_pipeline.config.models.sources import SourceConfig


class WindowConfig(FileModel):
    """Which slice of the lake a night works on, and when it refuses to."""

    days: Annotated[int, Field(ge=2, le=3650)] = 300
    """Days before the as-of time that a night looks at."""
    holdout_days: Annotated[int, Field(ge=1, le=3650)] = 42
    """Last days of the window, which the search never sees: they are reported and choose nothing, but a significant
    loss on them is a veto."""
    min_coverage_frac: Annotated[float, Field(ge=0, le=1)] = 0.98
    """Share of the window's bars that a symbol must have to take part."""
    stale_after_hours: Annotated[float, Field(gt=0, le=8760)] = 3.0
    """Greatest age of the newest bar at the as-of time; an older lake stops the night."""

    @model_validator(mode="after")
    def _leaves_a_sample(self) -> "WindowConfig":
        if self.holdout_days >= self.days:
            raise flaws({"holdout_days": f"{self.holdout_days} leaves nothing of {self.days} days to search"})
        return self


class Profile(FileModel):
    """A kind of night."""

    sweep: Name
    """Search to run: the name of a file in sweeps/, without `.yaml`."""
    as_of: Literal["now", "last"] = "now"
    """As-of time of a night that states none: `now`, or `last`, the end of the last bar that all symbols have. `last`
    is for a market that has ended: with it, no night finds the lake stale."""


class Retention(FileModel):
    """What old state is kept. What the evidence of a config names that ever passed every gate is never removed."""

    ticks_days: Annotated[int, Field(ge=1, le=3650)] = 7
    """Days that Dagster keeps the ticks of schedules and sensors."""
    sweeps_keep: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Number of finished sweeps whose results and features stay on disk. The searches of a night by `tpe`, one for each
    fold, count as one."""
    unfinished_days: Annotated[int, Field(ge=1, le=3650)] = 14
    """Days that an unfinished sweep stays after its last chunk, so that it can be resumed."""


_ADDRESS = re.compile(r"auto|(ray://)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


class Compute(FileModel):
    """Where the combos of a sweep run: this machine, or a Ray cluster that is already there."""

    backend: Literal["local", "ray"] = "local"
    """`local`: this machine; `ray`: the cluster at `address`."""
    address: str = "auto"
    """Where the cluster is: `HOST:PORT` of its head, for a machine that has joined it; `auto` for the cluster that this
    machine has joined; `ray://HOST:PORT` from a machine that has not."""
    cpus_per_task: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processors of a task: the threads that work on one chunk. Results do not depend on it."""
    gpus_per_task: Annotated[float, Field(ge=0, le=64)] = 0.0
    """GPUs of a task; below 1 several tasks share one."""
    chunks_ahead: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Tasks that the cluster is given at a time: a chunk each, with `gpus_per_task` as many chunks as fill a GPU. 0:
    twice as many as it can run at once."""

    @model_validator(mode="after")
    def _possible(self) -> "Compute":
        found = {}
        if not _ADDRESS.fullmatch(self.address):
            found["address"] = f"{self.address!r} is not allowed; auto, HOST:PORT or ray://HOST:PORT"
        if self.gpus_per_task > 1 and not self.gpus_per_task.is_integer():
            found["gpus_per_task"] = f"{self.gpus_per_task} is not allowed; above 1 only whole GPUs"
        if found:
            raise flaws(found)
        return self


def _secrets(value: object) -> tuple[SecretStr, ...]:
    """Hide every entry before anything checks it: a message about a wrong value would show it."""
    entries = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
    return tuple(SecretStr(str(entry)) for entry in entries)


_URL = re.compile(r"[A-Za-z0-9]+://\S+")


class PipelineConfig(FileModel):
    """pipeline.yaml: where prices come from and which of them a night works on."""

    venue: Venue
    """Venue that nights work on."""
    start: Month
    """First month of the partitions of the asset `candles`."""
    intervals: Annotated[tuple[Interval, ...], Field(min_length=1)]
    """Intervals that an ingest fetches: those of the sweeps' features, and the finest that each decides on."""
    anchors: dict[Interval, Timestamp]
    """For each interval, the bar at which recursive features start. A backfill does not move it; changing it changes
    every feature and makes stored evidence incomparable."""
    universe: Annotated[
        Annotated[Literal["all"], Tag("word")] | Annotated[tuple[Symbol, ...], Tag("list"), Field(min_length=1)],
        Discriminator(shape),
    ] = "all"
    """Symbols that nights may use: `all` of the lake, or a list."""
    sources: tuple[SourceConfig, ...] = ()
    """Where an ingest fetches from, in order; each names its venue."""
    window: WindowConfig = WindowConfig()
    """The slice of the lake that a night works on."""
    compute: Compute = Compute()
    """Where the combos of a sweep run."""
    profiles: Annotated[dict[Name, Profile], Field(min_length=1)]
    """Kinds of night by name: `mei nightly --profile NAME`."""
    automation: Switch = False
    """Whether schedules start by themselves: on or off."""
    alerts: Annotated[
        tuple[SecretStr, ...],
        BeforeValidator(_secrets),
        WithJsonSchema({"type": "array", "items": {"type": "string", "x-allowed": "an Apprise URL"}}),
    ] = ()
    """Apprise URLs of who is told of failed runs, moves of lanes and holds, such as `ntfy://topic`. They hold secrets:
    keep the file from others. They need the extra `alerts`."""
    retention: Retention = Retention()
    """What old state is kept."""

    @model_validator(mode="after")
    def _consistent(self) -> "PipelineConfig":
        missing = [interval for interval in self.intervals if interval not in self.anchors]
        found = {f"anchors.{name}": "missing; every interval that is fetched has an anchor" for name in missing}
        for interval, anchor_ms in self.anchors.items():
            if anchor_ms % INTERVALS[interval]:
                found[f"anchors.{interval}"] = f"{iso(anchor_ms)} is not the open time of a bar of {interval}"
        for key, listed in (("intervals", self.intervals), ("universe", self.universe)):
            twice = next((name for name in listed if list(listed).count(name) > 1), None) if listed != "all" else None
            if twice:
                found[key] = f"{twice} is listed twice"
        for index, receiver in enumerate(self.alerts):
            if not _URL.fullmatch(receiver.get_secret_value()):
                found[f"alerts.{index}"] = "not an Apprise URL such as ntfy://topic"
        if found:
            raise flaws(found)
        return self

    @property
    def venues(self) -> tuple[str, ...]:
        """Venues that are worked on or fetched from, the one of nights first."""
        return tuple(dict.fromkeys((self.venue, *(source.venue for source in self.sources))))
