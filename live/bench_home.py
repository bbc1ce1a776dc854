"""A home with a synthetic lake and one paper lane, for measurements and tests of the executor.

The lane's config is written as a promotion writes it, but nothing has measured it.
"""

from collections.abc import Mapping
from pathlib import Path

from kernels.cache import source_hash
from kernels.params import Value
from mei_pipeline import files
from mei_pipeline.candles.ingest import ingest
from mei_pipeline.candles.lake import Lake
from mei_pipeline.candles.sources.synthetic import SyntheticMarket, SyntheticSource
from mei_pipeline.config.promoted import to_yaml
from mei_pipeline.config.writer import yaml_text
from mei_pipeline.params.identity import ResolvedConfig, config_id, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.registry.lanes import PointerFile, Provenance, config_path, pointer_path
from mei_pipeline.settings import CHECKOUT, Settings

LANE = "bench"
VENUE = "synthetic"
_NONE = "0" * 64
_NOW_MS = 4_000_000_000_000  # all bars of the market are closed by then

_LANE_FILE = """\
mode: paper
venue: synthetic
role: primary
equity_usd: {equity}
"""


def make_lane_home(settings: Settings, market: SyntheticMarket, resolved: ResolvedConfig, *, lane: str = LANE) -> None:
    """Write a lake with the bars of a market, and a lane with a config, into an empty home.

    Args:
        settings: Settings of the home; its configuration folder is `config/` of the home.
        market: The market; its venue is that of the config.
        resolved: The config; its features begin with the market.
        lane: Name of the lane.
    """
    config = settings.home / "config"
    for name in ("pipeline.yaml", "policy.yaml"):
        files.write_bytes(config / name, (CHECKOUT / "config" / name).read_bytes())
    lane_file = _LANE_FILE.format(equity=resolved.initial_balance_usd)
    files.write_bytes(config / "lanes" / f"{lane}.yaml", lane_file.encode())
    ingest(Lake(settings.lake), SyntheticSource(market), resolved.intervals.read, now_ms=_NOW_MS)
    promote_config(settings, resolved, market.from_ms, lane=lane)


def promote_config(
    settings: Settings,
    resolved: ResolvedConfig,
    anchor_ms: int,
    *,
    lane: str = LANE,
    generation: int = 1,
    kernel_hash: str = "",
) -> str:
    """Write the files of a lane that hold a config, and return its id.

    Args:
        settings: Settings of the home.
        resolved: The config.
        anchor_ms: First bar of its features.
        lane: Name of the lane.
        generation: Generation of the pointer.
        kernel_hash: Kernels of its evidence; empty for those of this process.
    """
    name = config_id(resolved)
    kernels = kernel_hash or source_hash()
    evidence = {"evidence_id": _NONE, "kernel_hash": kernels, "venue": resolved.venue, "anchor_ms": anchor_ms}
    text = to_yaml(resolved, evidence=evidence, provenance={})
    pointer = PointerFile(
        schema_version=1,
        lane=lane,
        config_id=name,
        generation=generation,
        size_multiplier=1.0,
        transition_id=_NONE,
        state="paper",
        provenance=Provenance(
            evidence_id=_NONE,
            kernel_hash=kernels,
            venue=resolved.venue,
            data_hash=_NONE,
            policy_id=_NONE,
            night_id="none",
            promoted_ms=0,
            trigger="bench",
            who="bench",
            why="a measurement",
        ),
    )
    files.write_bytes(config_path(settings.lanes, lane, name), text.encode())
    files.write_bytes(pointer_path(settings.lanes, lane), yaml_text(pointer.model_dump()).encode())
    return name


def lane_config(
    strategy: str,
    symbols: tuple[str, ...],
    params: Mapping[str, Value],
    market: Mapping[str, Value] | None = None,
    *,
    initial_balance_usd: float = 10_000.0,
    exit_interval: str = "",
) -> ResolvedConfig:
    """Return a config on hourly bars of the synthetic venue; parameters that are not named have their defaults."""
    return resolve_config(
        read_catalog(),
        strategy=strategy,
        venue=VENUE,
        interval="1h",
        symbols=symbols,
        initial_balance_usd=initial_balance_usd,
        params=params,
        market=market or {},
        exit_interval=exit_interval,
    )


def home_settings(home: Path, cache: Path | None = None) -> Settings:
    """Return the settings of a home with its own configuration."""
    settings = Settings(home=home, config=home / "config")
    return settings if cache is None else settings.model_copy(update={"cache": cache})
