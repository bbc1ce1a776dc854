"""`mei doctor`: check that this machine, checkout and home can run the pipeline, and print remedies."""

import contextlib
import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.doctor_check import DoctorCheck, some
from mei_pipeline.cli.doctor_home import check_home, check_lanes, check_nights, check_writable, judge_cache, room
from mei_pipeline.cli.options import result_options
from mei_pipeline.errors import ConfigError, MeiError
from mei_pipeline.settings import CHECKOUT, Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

PACKAGES = ("mei_pipeline", "assets", "kernels", "live")
_TOOL_WITHIN_S = 5


@click.command()
@result_options
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check this machine, checkout and home, and print a remedy for each problem.

    The command changes nothing. It exits with 1 if a line says fail.
    """
    results = examine(read_settings())
    healthy = all(result.level != "fail" for result in results)
    if as_json:
        output.print_json({"ok": healthy, "checks": [asdict(result) for result in results]})
    else:
        rows = [(result.level, result.name, result.state, result.remedy) for result in results]
        output.table("", ("", "check", "state", "remedy"), rows)
    context.exit(0 if healthy else 1)


def examine(settings: Settings, only: "Container[str] | None" = None) -> list[DoctorCheck]:
    """Run all checks, or those that `only` names; a check that can't run counts as failed."""
    checks: tuple[tuple[str, Callable[[Settings], Iterable[DoctorCheck]]], ...] = (
        ("python", _python),
        ("dependencies", _dependencies),
        ("packages", _packages),
        ("home", check_home),
        ("config", _config),
        ("lake", _lake),
        ("instruments", _assumed),
        ("universe", _universe),
        ("registry", _registry),
        ("nightly runs", check_nights),
        ("lanes", check_lanes),
        ("dagster", _dagster),
        ("kernels", _kernels),
        ("gpu", _gpu),
        ("clock", _clock),
    )
    results: list[DoctorCheck] = []
    for name, check in checks:
        if only is not None and name not in only:
            continue
        try:
            results += check(settings)
        except MeiError as error:
            results.append(DoctorCheck(name, "fail", str(error)))
        except (OSError, ImportError) as error:
            results.append(
                DoctorCheck(name, "fail", f"{type(error).__name__}: {error}", "repair it and run `mei doctor` again")
            )
    return results


def differing(wanted: dict[str, set[str]], installed: dict[str, str]) -> list[str]:
    """Return installed distributions whose version is not in the lock, as `name version`.

    Args:
        wanted: Versions in the lock by normalised name; several if they depend on the Python version.
        installed: Version by normalised name.
    """
    return sorted(
        f"{name} {version}" for name, version in installed.items() if name in wanted and version not in wanted[name]
    )


def _python(_: Settings) -> list[DoctorCheck]:
    return [DoctorCheck("python", "ok", f"{platform.python_version()} in {sys.prefix}")]


def _dependencies(_: Settings) -> list[DoctorCheck]:
    wanted: dict[str, set[str]] = defaultdict(set)
    own: dict[str, list[dict[str, str]]] = {}
    for package in tomllib.loads((CHECKOUT / "uv.lock").read_text())["package"]:
        if "version" in package:
            wanted[package["name"]].add(package["version"])
        else:
            own[package["name"]] = package["dependencies"]
    # Each look at `metadata` reads a file.
    about = [distribution.metadata for distribution in importlib.metadata.distributions()]
    installed = {each["Name"].lower().replace("_", "-").replace(".", "-"): each["Version"] for each in about}
    missing = sorted(entry["name"] for entry in own["mei"] if entry["name"] not in installed)
    if missing:
        return [DoctorCheck("dependencies", "fail", f"missing: {some(missing)}", "uv sync")]
    others = differing(wanted, installed)
    if others:
        return [DoctorCheck("dependencies", "warn", f"not as in uv.lock: {some(others)}", "uv sync")]
    return [DoctorCheck("dependencies", "ok", "as in uv.lock")]


def _packages(_: Settings) -> list[DoctorCheck]:
    strays = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin != (CHECKOUT / name / "__init__.py"):
            strays.append(f"{name} from {origin or 'nowhere'}")
    if strays:
        advice = "run mei from the environment of this checkout alone: uv sync, then uv run mei doctor"
        return [DoctorCheck("packages", "fail", f"outside {CHECKOUT}: {some(strays)}", advice)]
    return [DoctorCheck("packages", "ok", f"{', '.join(PACKAGES)} from {CHECKOUT}")]


def _config(settings: Settings) -> list[DoctorCheck]:
    from mei_pipeline.config.load import load_config

    try:
        config = load_config(settings.config)
    except ConfigError as error:
        return [DoctorCheck("config", "fail", str(error), "edit it; mei config check reads it again")]
    return [DoctorCheck("config", "ok", f"{config.folder}: venue {config.pipeline.venue}, {len(config.lanes)} lanes")]


def _lake(settings: Settings) -> list[DoctorCheck]:
    from mei_pipeline.candles.store import Lake, checked_path, folders, parse_part, read_manifest

    lake = Lake(settings.lake)
    paths = [folder for table in ("candles", "funding", "instruments") for folder in folders(lake, table)]
    if not paths:
        return [DoctorCheck("lake", "warn", "empty", "mei ingest, or mei demo for a synthetic market")]
    damaged: list[str] = []
    newest: list[str] = []
    for folder in paths:
        entries = read_manifest(lake, folder).files
        for file, entry in entries.items():
            try:
                checked_path(lake, f"{folder}/{file}", entry)
            except MeiError as error:
                damaged.append(str(error))
        if entries and folder.startswith("candles/"):
            part = parse_part(f"{folder}/any.parquet")
            last = max(entry.last_ms for entry in entries.values())
            newest.append(f"{part.venue} {part.interval} to {_utc(last)}")
    if damaged:
        return [DoctorCheck("lake", "fail", some(damaged), "mei lake verify")]
    return [DoctorCheck("lake", "ok", some(newest) or "no candles yet")]


def _assumed(settings: Settings) -> list[DoctorCheck]:
    """Check for symbols without instrument data from a source: lots, leverage and margin."""
    from mei_pipeline.candles.instruments import SOURCE, drop_replaced_defaults
    from mei_pipeline.candles.lake import read_instruments
    from mei_pipeline.candles.store import Lake, folders

    lake = Lake(settings.lake)
    venues = sorted(folder.partition("/")[2] for folder in folders(lake, "instruments"))
    assumed = []
    for venue in venues:
        known = drop_replaced_defaults(read_instruments(lake, venue))
        names = sorted(known.filter(known["source"] == SOURCE)["symbol"].unique())
        if names:
            assumed.append(f"{venue}: {some(names)}")
    if not assumed:
        return [DoctorCheck("instruments", "ok", "stated by a source" if venues else "none yet")]
    advice = "ingest the venue's instruments: lots, least notional, leverage and maintenance margin are assumed"
    return [DoctorCheck("instruments", "warn", "; ".join(assumed), advice)]


def _universe(settings: Settings) -> list[DoctorCheck]:
    """Check which gates, by profile, lack evidence because the lake has too few symbols."""
    from mei_pipeline.config.evidence import missing_evidence
    from mei_pipeline.config.load import load_config
    from mei_pipeline.night.universe import searchable_symbols

    try:
        config = load_config(settings.config)
        numbers = {name: len(searchable_symbols(settings, config, name)) for name in config.pipeline.profiles}
    except MeiError:  # the lines of configuration and lake say why
        return []
    missing: list[str] = []
    counts: list[str] = []
    for profile, symbols in numbers.items():
        counts.append(f"{profile}: {symbols} symbols")
        missing += [
            f"{profile}: {text}" for text in (missing_evidence(config.policy.selection, symbols) if symbols else ())
        ]
    if missing:
        return [DoctorCheck("universe", "warn", some(missing), "ingest more symbols, or edit policy.yaml")]
    return [DoctorCheck("universe", "ok", ", ".join(counts))]


def _registry(settings: Settings) -> list[DoctorCheck]:
    from mei_pipeline.registry.database import schema_version
    from mei_pipeline.registry.home import check_registry
    from mei_pipeline.registry.store import list_configs, open_registry
    from mei_pipeline.registry.tables import SCHEMA_VERSION

    check_registry(settings)
    if not settings.registry_url and not (settings.home / "registry.db").exists():
        return [DoctorCheck("registry", "ok", "none yet; the first nightly run creates it")]
    version = schema_version(settings.registry)
    if version < SCHEMA_VERSION:
        advice = f"nothing; the next command that opens it brings it to {SCHEMA_VERSION}"
        return [DoctorCheck("registry", "ok", f"schema version {version}", advice)]
    registry = open_registry(settings.registry)
    state = f"{registry.url}: {len(list_configs(registry))} configs, schema version {version}"
    return check_writable(settings, registry) or [DoctorCheck("registry", "ok", state)]


def _dagster(settings: Settings) -> list[DoctorCheck]:
    from mei_pipeline import dagster_home

    if not (settings.dagster / "dagster.yaml").exists():
        return [DoctorCheck("dagster", "ok", "no home yet; mei ui makes it")]
    if dagster_home.is_edited(settings.dagster):
        advice = "nothing, if you meant to; delete the file to have it made again"
        return [DoctorCheck("dagster", "warn", f"{settings.dagster / 'dagster.yaml'} was edited by hand", advice)]
    return [DoctorCheck("dagster", "ok", str(settings.dagster))]


def _kernels(settings: Settings) -> list[DoctorCheck]:
    from kernels.cache import source_hash
    from mei_pipeline.simulation.kernel_cache import check_cache

    folder = settings.kernel_cache / source_hash()[:16]
    check_cache(settings.cache, folder)
    if any(folder.rglob("*.nbi")):
        return [DoctorCheck("kernels", "ok", f"compiled, in {folder}")]
    return [judge_cache(settings.cache, *room(settings.cache))]


def _gpu(settings: Settings) -> list[DoctorCheck]:
    from mei_pipeline.params.table import read_catalog
    from mei_pipeline.simulation.device import choose_device

    choices = {name: choose_device(settings, "auto", name) for name in read_catalog().strategies}
    by_choice = {str(choice): [name for name in choices if choices[name] == choice] for choice in choices.values()}
    state = [f"{some(names)}: {why}" if len(by_choice) > 1 else why for why, names in by_choice.items()]
    on_cpu = any(choice.name == "cpu" for choice in choices.values())
    names = _request("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    if on_cpu and names:
        return [DoctorCheck("gpu", "warn", f"{some(names)}, but sweeps run on {some(state)}", "see docs/how-to/gpu.md")]
    return [DoctorCheck("gpu", "ok", f"sweeps run on {some(state)}")]


def _clock(_: Settings) -> list[DoctorCheck]:
    now_s = time.time()
    checkout_s = (CHECKOUT / "uv.lock").stat().st_mtime
    if now_s < checkout_s:
        state = f"{_utc(round(now_s * 1000))}, before this checkout was made ({_utc(round(checkout_s * 1000))})"
        return [DoctorCheck("clock", "fail", state, "set the clock, and let the system keep it by NTP")]
    if _request("timedatectl", "show", "--property=NTPSynchronized", "--value") == ["no"]:
        return [
            DoctorCheck(
                "clock", "warn", "not kept by NTP", "timedatectl set-ntp true; a late clock takes open bars for closed"
            )
        ]
    return [DoctorCheck("clock", "ok", f"{_utc(round(now_s * 1000))} UTC")]


def _request(*command: str) -> list[str]:
    """Return the lines that a system tool prints; empty if it is missing, fails or hangs."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        process = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TOOL_WITHIN_S)  # noqa: S603 - fixed words
        return process.stdout.splitlines()
    return []


def _utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


COMMANDS = [doctor]
