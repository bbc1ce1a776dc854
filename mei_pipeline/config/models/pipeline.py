"""Model of pipeline.yaml."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, SecretStr, Tag, WithJsonSchema, model_validator

from mei_pipeline.candles.intervals import INTERVALS, iso
from mei_pipeline.config.fields import FileModel, Interval, Month, Name, Switch, Symbol, Timestamp, Venue, flaws, shape
from mei_pipeline.config.models.sources import SourceConfig


class WindowConfig(FileModel):
    """The days that a nightly run uses, and its requirements on their data."""

    days: Annotated[int, Field(ge=2, le=3650)] = 300
    """Days before the as-of time."""
    holdout_days: Annotated[int, Field(ge=1, le=3650)] = 42
    """Last days of the window, which the search never sees. They select nothing, but a significant loss on them is a
    veto."""
    min_coverage_frac: Annotated[float, Field(ge=0, le=1)] = 0.98
    """Share of the window's bars that a symbol must have to be used."""
    stale_after_hours: Annotated[float, Field(gt=0, le=8760)] = 3.0
    """Greatest age of the newest bar at the as-of time; a nightly run fails on older data."""

    @model_validator(mode="after")
    def _leaves_a_sample(self) -> "WindowConfig":
        if self.holdout_days >= self.days:
            raise flaws({"holdout_days": f"{self.holdout_days} leaves none of {self.days} days for the search"})
        return self


class Profile(FileModel):
    """A kind of nightly run."""

    sweep: Name
    """Sweep to run: the name of a file in sweeps/, without `.yaml`."""
    as_of: Literal["now", "last"] = "now"
    """As-of time of a nightly run that sets none: `now`, or `last`, the end of the last bar that all symbols have.
    `last` is for a market that has ended; with it, data is never too old."""


class Retention(FileModel):
    """Retention of old state.

    Sweeps and features are always kept if the evidence of a config that ever passed every gate names them.
    """

    ticks_days: Annotated[int, Field(ge=1, le=3650)] = 7
    """Days that Dagster keeps the ticks of schedules and sensors."""
    sweeps_keep: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Number of finished sweeps whose results and features are kept. The sweeps that a nightly run makes with `tpe`,
    one for each fold, count as one."""
    unfinished_days: Annotated[int, Field(ge=1, le=3650)] = 14
    """Days after its last chunk for which an unfinished sweep is kept, so that it can be resumed."""


_ADDRESS = re.compile(r"auto|(ray://)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


class Compute(FileModel):
    """Compute of sweeps: this machine, or an existing Ray cluster."""

    backend: Literal["local", "ray"] = "local"
    """`local`: this machine; `ray`: the cluster at `address`."""
    address: str = "auto"
    """Address of the cluster: `HOST:PORT` of its head, for a machine that has joined it; `auto` for the cluster that
    this machine has joined; `ray://HOST:PORT` from any other machine."""
    cpus_per_task: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processors of a task, and threads that run one chunk. Results do not depend on it."""
    gpus_per_task: Annotated[float, Field(ge=0, le=64)] = 0.0
    """GPUs of a task; below 1 several tasks share one."""
    chunks_ahead: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Tasks that are submitted at a time: one chunk each, or with `gpus_per_task` as many chunks as fill a GPU. 0:
    twice as many as the cluster can run at a time."""

    @model_validator(mode="after")
    def _possible(self) -> "Compute":
        problems = {}
        if not _ADDRESS.fullmatch(self.address):
            problems["address"] = f"{self.address!r} is not allowed; auto, HOST:PORT or ray://HOST:PORT"
        if self.gpus_per_task > 1 and not self.gpus_per_task.is_integer():
            problems["gpus_per_task"] = f"{self.gpus_per_task} is not allowed; above 1 only whole GPUs"
        if problems:
            raise flaws(problems)
        return self


def _secrets(value: object) -> tuple[SecretStr, ...]:
    """Hide every entry before anything validates it, because a message about a wrong value would show it."""
    entries = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
    return tuple(SecretStr(str(entry)) for entry in entries)


_URL = re.compile(r"[A-Za-z0-9]+://\S+")


class PipelineConfig(FileModel):
    """pipeline.yaml: sources of prices, and the data and profiles of nightly runs."""

    venue: Venue
    """Venue of nightly runs."""
    start: Month
    """First month of the partitions of the asset `candles`."""
    intervals: Annotated[tuple[Interval, ...], Field(min_length=1)]
    """Intervals that an ingest fetches: those of the features of the sweeps, and the shortest interval of each."""
    anchors: dict[Interval, Timestamp]
    """For each interval, the bar at which recursive features start. A backfill does not move it. Changing it changes
    every feature and makes stored evidence incomparable."""
    universe: Annotated[
        Annotated[Literal["all"], Tag("word")] | Annotated[tuple[Symbol, ...], Tag("list"), Field(min_length=1)],
        Discriminator(shape),
    ] = "all"
    """Symbols that nightly runs may use: `all` of the lake, or a list."""
    sources: tuple[SourceConfig, ...] = ()
    """Sources that an ingest fetches from, in order; each names its venue."""
    window: WindowConfig = WindowConfig()
    """The days that a nightly run uses."""
    compute: Compute = Compute()
    """Where the combos of a sweep run."""
    profiles: Annotated[dict[Name, Profile], Field(min_length=1)]
    """Kinds of nightly runs by name: `mei nightly --profile NAME`."""
    automation: Switch = False
    """Start schedules automatically: on or off."""
    alerts: Annotated[
        tuple[SecretStr, ...],
        BeforeValidator(_secrets),
        WithJsonSchema({"type": "array", "items": {"type": "string", "x-allowed": "an Apprise URL"}}),
    ] = ()
    """Apprise URLs that receive messages about failed runs, moves of lanes and holds, such as `ntfy://topic`. They
    contain secrets: keep the file private. They need the extra `alerts`."""
    retention: Retention = Retention()
    """Retention of old state."""

    @model_validator(mode="after")
    def _consistent(self) -> "PipelineConfig":
        missing = [interval for interval in self.intervals if interval not in self.anchors]
        problems = {f"anchors.{name}": "missing; every interval of `intervals` needs an anchor" for name in missing}
        # Bars open at multiples of their interval since 1970.
        for interval, anchor_ms in self.anchors.items():
            if anchor_ms % INTERVALS[interval]:
                problems[f"anchors.{interval}"] = f"{iso(anchor_ms)} is not the open time of a bar of {interval}"
        for key, names in (("intervals", self.intervals), ("universe", self.universe)):
            repeated = next((name for name in names if list(names).count(name) > 1), None) if names != "all" else None
            if repeated:
                problems[key] = f"{repeated} is listed twice"
        for index, receiver in enumerate(self.alerts):
            if not _URL.fullmatch(receiver.get_secret_value()):
                problems[f"alerts.{index}"] = "not an Apprise URL such as ntfy://topic"
        if problems:
            raise flaws(problems)
        return self

    @property
    def venues(self) -> tuple[str, ...]:
        """Venues of nightly runs and sources, the one of nightly runs first."""
        return tuple(dict.fromkeys((self.venue, *(source.venue for source in self.sources))))
