"""Settings of a lane that may change while it runs: its file in the configuration, and strategy_overrides.yaml.

`poll_settings` looks at the files by their metadata and reads only those that changed. A file that can't be read
changes nothing: the lane keeps what the file said before.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from live.hold_files import Mark, mark_of
from mei_pipeline.config.document import read_yaml
from mei_pipeline.config.load import LANES, OVERRIDES
from mei_pipeline.config.models import LaneConfig, Overrides
from mei_pipeline.errors import ConfigError
from mei_pipeline.execution.commands import Alert
from mei_pipeline.execution.events import NO_OVERRIDES, OverridesChanged
from mei_pipeline.execution.state import LaneState
from mei_pipeline.settings import Settings

FOLLOWED = ("max_late_ms", "warmup", "role", "manual")
"""Keys of a lane's file whose change a running lane follows; the executor itself does not read the last two."""

LANE_ALERT = "lane-file"
"""Key of the alerts about a lane's file."""

OVERRIDES_ALERT = "overrides-file"
"""Key of the alerts about strategy_overrides.yaml."""


@dataclass(frozen=True)
class SettingsFiles:
    """The settings of a lane as they were read last.

    Attributes:
        folder: The configuration folder.
        lane: The lane.
        lane_config: Its file as the lane follows it.
        overrides: Limits in force.
        lane_mark: Metadata of the lane's file when it was read.
        lane_problem: Reason why the lane does not follow a part of its file; empty without one.
        overrides_mark: Metadata of strategy_overrides.yaml when it was read.
        overrides_problem: Reason why the lane does not follow a part of it; empty without one.
    """

    folder: Path
    lane: str
    lane_config: LaneConfig
    overrides: OverridesChanged = NO_OVERRIDES
    lane_mark: Mark | Literal["unread"] = "unread"
    lane_problem: str = ""
    overrides_mark: Mark | Literal["unread"] = "unread"
    overrides_problem: str = ""

    @cached_property
    def lane_path(self) -> Path:
        """Path of the lane's file; kept, because making it takes longer than looking at the file."""
        return self.folder / LANES / f"{self.lane}.yaml"

    @cached_property
    def overrides_path(self) -> Path:
        """Path of strategy_overrides.yaml; kept as well."""
        return self.folder / OVERRIDES


class PolledSettings(NamedTuple):
    """The result of `poll_settings`.

    Attributes:
        files: The settings as they are now.
        events: Events for the core.
        alerts: Alerts about changes, and one per problem.
    """

    files: SettingsFiles
    events: tuple[OverridesChanged, ...] = ()
    alerts: tuple[Alert, ...] = ()


def watch_settings(settings: Settings, lane: str, lane_config: LaneConfig, state: LaneState) -> SettingsFiles:
    """Return the settings of a lane as a recovered state knows them; the first poll reads both files."""
    return SettingsFiles(settings.config, lane, lane_config, state.overrides)


def poll_settings(files: SettingsFiles) -> PolledSettings:
    """Return the events and alerts of the files that changed since the last call.

    `files` of the result is the same object if no file has changed.
    """
    files, _, told = _poll_lane(files)
    files, events, warned = _poll_overrides(files)
    return PolledSettings(files, events, told + warned)


def _poll_lane(files: SettingsFiles) -> PolledSettings:
    path = files.lane_path
    mark = mark_of(path)
    if mark == files.lane_mark:
        return PolledSettings(files)
    before = files.lane_config
    try:
        now = read_yaml(path, LaneConfig)
    except ConfigError as error:
        problem = f"{error}; lane {files.lane} goes on with its last settings"
        return _with_problem(replace(files, lane_mark=mark, lane_problem=problem), LANE_ALERT, files.lane_problem)
    changes = {key: value for key, value in now if value != getattr(before, key)}
    followed = before.model_copy(update={key: value for key, value in changes.items() if key in FOLLOWED})
    problem = "; ".join(
        f"{path}: {key}: {value}, but lane {files.lane} goes on with {getattr(before, key)}; flatten and stop the "
        "lane, and start it with a new journal"
        for key, value in changes.items()
        if key not in FOLLOWED
    )
    known = replace(files, lane_config=followed, lane_mark=mark, lane_problem=problem)
    told = tuple(
        Alert(LANE_ALERT, "info", f"{path}: {key}: {value} is in force")
        for key, value in changes.items()
        if key in FOLLOWED
    )
    problems = _with_problem(known, LANE_ALERT, files.lane_problem)
    return PolledSettings(known, (), told + problems.alerts)


def _poll_overrides(files: SettingsFiles) -> PolledSettings:
    path = files.overrides_path
    mark = mark_of(path)
    if mark == files.overrides_mark:
        return PolledSettings(files)
    files, before = replace(files, overrides_mark=mark, overrides_problem=""), files.overrides_problem
    if mark is None and files.overrides == NO_OVERRIDES:
        return PolledSettings(files)
    try:
        found = read_yaml(path, Overrides)
    except ConfigError as error:
        problem = f"{error}; its last limits stay in force; `promoted: {{}}` in this file lifts them"
        return _with_problem(replace(files, overrides_problem=problem), OVERRIDES_ALERT, before)
    limits = OverridesChanged(
        excluded=tuple(sorted(set(found.promoted.exclude))), size_multiplier=found.promoted.size_multiplier
    )
    events = () if limits == files.overrides else (limits,)
    known = replace(files, overrides=limits, overrides_problem=_refusal(files, found))
    return PolledSettings(known, events, _with_problem(known, OVERRIDES_ALERT, before).alerts)


def _refusal(files: SettingsFiles, found: Overrides) -> str:
    """Return why the lane does not follow the parameters of the file; empty if none are for this lane."""
    refused = ", ".join(_layers_of(files.lane_config, found))
    if not refused or files.lane_config.manual:
        return ""
    return (
        f"{files.overrides_path}: {refused}: lane {files.lane} follows only `promoted` of this file; promote a config "
        "with these parameters"
    )


def _layers_of(lane_config: LaneConfig, found: Overrides) -> Iterator[str]:
    """Yield the keys of the layers that have parameters for a lane."""
    for keys, values in found.sections():
        of_lane = keys[0] in {"base", "symbols"} or keys in {("modes", lane_config.role), (lane_config.mode,)}
        if values and of_lane:
            yield ".".join(keys)


def _with_problem(files: SettingsFiles, key: str, before: str) -> PolledSettings:
    """Return the settings with an alert about their problem, if it is another one than before."""
    problem = files.lane_problem if key == LANE_ALERT else files.overrides_problem
    return PolledSettings(files, (), (Alert(key, "warning", problem),) if problem and problem != before else ())
