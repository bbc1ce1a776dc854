"""Settings of a lane that change while it runs: its file in the configuration, and strategy_overrides.yaml."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from live.settings_files import LANE_ALERT, OVERRIDES_ALERT, SettingsFiles, poll_settings
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.execution.events import NO_OVERRIDES, OverridesChanged

LANE = {"mode": "paper", "venue": "synthetic", "role": "primary"}
LIMITS = OverridesChanged(excluded=("BTC", "ETH"), size_multiplier=0.5)
LIMITS_TEXT = "promoted: {exclude: [ETH, BTC, ETH], size_multiplier: 0.5}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration folder with a lane and no overrides."""
    (tmp_path / "lanes").mkdir()
    write_lane(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    """Replace a file as a program that writes it whole does: it has another inode."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(path)


def write_lane(folder: Path, **keys: object) -> Path:
    path = folder / "lanes" / "paper1.yaml"
    write(path, "".join(f"{key}: {value}\n" for key, value in (LANE | keys).items()))
    return path


def overrides(folder: Path) -> Path:
    return folder / "strategy_overrides.yaml"


def started(folder: Path, in_force: OverridesChanged = NO_OVERRIDES, **keys: object) -> SettingsFiles:
    return SettingsFiles(folder, "paper1", LaneConfig.model_validate(LANE | keys), in_force)


def test_a_lane_without_overrides_has_no_limits(folder: Path) -> None:
    polled = poll_settings(started(folder))
    assert (polled.events, polled.alerts) == ((), ())
    assert poll_settings(polled.files).files is polled.files


def test_limits_are_followed_and_lifted(folder: Path) -> None:
    files = poll_settings(started(folder)).files
    write(overrides(folder), LIMITS_TEXT)
    files, events, alerts = poll_settings(files)
    assert (events, alerts) == ((LIMITS,), ())
    os.utime(overrides(folder), ns=(1, 1))
    files, events, alerts = poll_settings(files)
    assert (events, alerts) == ((), ())
    write(overrides(folder), "promoted: {}\n")
    files, events, alerts = poll_settings(files)
    assert (events, alerts) == ((NO_OVERRIDES,), ())
    overrides(folder).unlink()
    assert poll_settings(files)[1:] == ((), ())


def test_a_recovered_lane_takes_no_limits_that_it_has(folder: Path) -> None:
    write(overrides(folder), LIMITS_TEXT)
    assert poll_settings(started(folder, LIMITS))[1:] == ((), ())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: write(path, "promoted: [\n"), "not yaml"),
        (lambda path: write(path, ""), "empty"),
        (lambda path: write(path, "promoted: {exclude: BTC}\n"), "promoted.exclude"),
        (lambda path: write(path, "promoted: {size_multiplier: 0}\n"), "promoted.size_multiplier: 0"),
        (lambda path: write(path, "promoted: {size_multiplier: 1.5}\n"), "promoted.size_multiplier: 1.5"),
        (lambda path: write(path, "promoted: {include: [BTC]}\n"), "promoted.include"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
        (lambda path: (path.unlink(), path.symlink_to(path)), "symbolic links"),
    ],
    ids=["not yaml", "empty", "no list", "zero", "larger", "unknown key", "gone", "folder", "loop"],
)
def test_a_bad_file_keeps_the_last_limits_and_alerts_once(
    folder: Path, damage: Callable[[Path], object], words: str
) -> None:
    write(overrides(folder), LIMITS_TEXT)
    files = poll_settings(started(folder)).files
    damage(overrides(folder))
    files, events, [alert] = poll_settings(files)
    assert (events, alert.key, alert.severity, files.overrides) == ((), OVERRIDES_ALERT, "warning", LIMITS)
    assert str(overrides(folder)) in alert.text
    assert words in alert.text.lower()
    assert poll_settings(files)[1:] == ((), ())
    # A restart finds the same problem, and the limits of the journal.
    again = poll_settings(started(folder, LIMITS))
    assert (again.events, again.alerts) == ((), (alert,))
    if overrides(folder).is_dir():
        overrides(folder).rmdir()
    write(overrides(folder), LIMITS_TEXT.replace("0.5", "0.25"))
    files, [event], alerts = poll_settings(files)
    assert (event.size_multiplier, alerts, files.overrides_problem) == (0.25, (), "")


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("base: {trade.leverage: 3}\n", "base"),
        ("symbols: {BTC: {trade.sl_atr_mult: 3}}\n", "symbols.BTC"),
        ("modes: {primary: {trade.leverage: 3}}\n", "modes.primary"),
        ("modes: {fallback: {trade.leverage: 3}}\nlive: {trade.leverage: 1}\n", ""),
        ("base: {}\n", ""),
    ],
)
def test_parameters_of_a_promoted_lane_are_refused(folder: Path, text: str, refused: str) -> None:
    write(overrides(folder), f"strategy: ema_cross\n{text}{LIMITS_TEXT}")
    files, events, alerts = poll_settings(started(folder))
    assert events == (LIMITS,)
    assert [f"yaml: {refused}: lane paper1 follows only `promoted`" in alert.text for alert in alerts] == (
        [True] if refused else []
    )
    assert poll_settings(files)[1:] == ((), ())
    write_lane(folder, manual="true")
    assert poll_settings(started(folder)).files.overrides_problem == ""


def test_parameters_of_real_money_are_refused_in_a_live_lane(folder: Path) -> None:
    write(overrides(folder), "strategy: ema_cross\nlive: {trade.leverage: 1}\n")
    [alert] = poll_settings(started(folder, mode="live")).alerts[-1:]
    assert "live: lane paper1 follows only `promoted`" in alert.text


def test_some_keys_of_a_lane_are_followed_and_others_need_a_new_start(folder: Path) -> None:
    files = poll_settings(started(folder)).files
    path = write_lane(folder, max_late_ms=50, warmup="approximate", venue="binance", equity_usd=5)
    files, events, alerts = poll_settings(files)
    assert (events, {alert.key for alert in alerts}) == ((), {LANE_ALERT})
    assert files.lane_config == LaneConfig.model_validate(LANE | {"max_late_ms": 50, "warmup": "approximate"})
    *told, problem = alerts
    assert [alert.text for alert in told] == [
        f"{path}: warmup: approximate is in force", f"{path}: max_late_ms: 50 is in force"
    ]  # fmt: skip
    assert problem.severity == "warning"
    for words in ("venue: binance, but lane paper1 goes on with synthetic", "equity_usd: 5.0, but", "10000.0"):
        assert words in problem.text
    assert poll_settings(files)[1:] == ((), ())
    write_lane(folder, max_late_ms=50, warmup="approximate")
    files, _, alerts = poll_settings(files)
    assert (alerts, files.lane_problem) == ((), "")


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: write(path, "mode: loud\n")])
def test_a_bad_lane_file_keeps_the_last_settings(folder: Path, damage: Callable[[Path], object]) -> None:
    path = write_lane(folder, max_late_ms=50)
    files = poll_settings(started(folder)).files
    damage(path)
    files, _, [alert] = poll_settings(files)
    assert (alert.severity, files.lane_config.max_late_ms) == ("warning", 50)
    assert str(path) in alert.text
    assert "goes on with its last settings" in alert.text
    assert poll_settings(files)[1:] == ((), ())
