"""The option `--config` of commands that replay a config: a file, a lane, or the beginning of a config's id."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mei_pipeline.candles.lake import Lake
    from mei_pipeline.config.load import Configuration
    from mei_pipeline.params.identity import ResolvedConfig
    from mei_pipeline.registry.store import Registry
    from mei_pipeline.replay.record import PromotionRecord
    from mei_pipeline.settings import Settings

CONFIG = click.option(
    "--config",
    "name",
    metavar="FILE|LANE|ID",
    required=True,
    help="A file with strategy and params, a lane (the config that holds it), or the beginning of a config's id.",
)


@dataclass(frozen=True)
class NamedConfig:
    """A config that `--config` names.

    Attributes:
        resolved: The config.
        anchor_ms: Anchor of its features, in milliseconds.
        record: The measurements on which it was accepted; None if no nightly run judged it.
        benchmark: Benchmark symbol that its file names; empty if it names none.
    """

    resolved: "ResolvedConfig"
    anchor_ms: int
    record: "PromotionRecord | None" = None
    benchmark: str = ""


def read_named(name: str, settings: "Settings", lake: "Lake", config: "Configuration") -> NamedConfig:
    """Return the config that `--config` names.

    A name of an existing file, with a slash, or ending in .yaml or .yml is a path. A lane precedes an id.

    Args:
        name: The value of the option.
        settings: Where the registry is.
        lake: Resolves `symbols: all` of a file.
        config: The configuration folder.

    Raises:
        ConfigError: There is no such file, lane or config, the lane holds none, or the file is wrong.
        DataError: The lake has no bars for it, or the registry is lost.
    """
    from mei_pipeline.replay.spec import read_benchmark, read_config, read_record

    path = Path(name)
    if path.is_file() or path.suffix in {".yaml", ".yml"} or path.name != name:
        return NamedConfig(*read_config(path, lake, config), read_record(path), read_benchmark(path))

    from mei_pipeline.config.promoted import from_yaml, to_yaml
    from mei_pipeline.registry.home import open_home_registry
    from mei_pipeline.registry.store import config_history
    from mei_pipeline.replay.record import parse_record
    from mei_pipeline.replay.spec import anchor_of

    book = open_home_registry(settings)
    story = config_history(book, _replayed_id(name, book, config))
    text = to_yaml(story.config.resolved, evidence={}, provenance={})
    place = Path(f"config {story.config.config_id}")
    resolved, _ = from_yaml(text.encode(), place)  # checks it against the parameters
    if not story.evidence:
        return NamedConfig(resolved, anchor_of(config, resolved.interval, None))
    latest = story.evidence[-1]
    record = parse_record({"metrics": latest.metrics}, place)
    return NamedConfig(resolved, anchor_of(config, resolved.interval, latest.basis.anchor_ms), record)


def config_id_of(name: str, book: "Registry") -> str:
    """Return the id of the config in lane `name`, or else the id that begins with `name`.

    Raises:
        ConfigError: No lane and no config match, or several ids begin with `name`.
    """
    from mei_pipeline.registry.store import lane_pointer, resolve_id

    pointer = lane_pointer(book, name)
    return pointer.config_id if pointer else resolve_id(book, name)


def _replayed_id(name: str, book: "Registry", config: "Configuration") -> str:
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.registry.store import lane_pointers

    held = [pointer.lane for pointer in lane_pointers(book)]
    if name in config.lanes and name not in held:
        raise ConfigError(f"--config {name}: the lane holds no config; `mei registry list` shows the configs")
    if name not in held and not re.fullmatch(r"[0-9a-f]+", name):
        raise ConfigError(
            f"--config {name}: no such file and no lane that holds a config; lanes that hold one: "
            f"{', '.join(held) or 'none'}; `mei registry list` shows the ids of configs"
        )
    return config_id_of(name, book)
