"""Hand-over of configs from a registry to a lane that runs, and the state that must result."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hand_over_kit import Desk, changes, follow, holders, make_desk, rows, shown
from session_kit import CONFIG, FROM_MS, LANE, OTHER, START_MS, SYMBOLS, WINDOWS, left_in

from assets.lanes import check_acknowledgement
from live.bench_home import lane_config, promote_config
from mei_pipeline.candles.intervals import DAY_MS, HOUR_MS
from mei_pipeline.cli.main import run
from mei_pipeline.cli.registry import registry as registry_commands
from mei_pipeline.errors import Refused
from mei_pipeline.registry.lanes import config_path, drift, is_acknowledged, pointer_path, read_status
from mei_pipeline.registry.render import render
from mei_pipeline.registry.store import lane_pointer
from mei_pipeline.settings import Settings

THIRD = lane_config("ema_cross", SYMBOLS, {**WINDOWS, "indicators.ema_slow_window": 12})
HELD = 4
"""A step after which the first config holds a position, which it closes at step 10."""
LATER = 7
"""A step at which it still holds that position."""
WHY = ("--why", "I looked at it", "--who", "anna")


@pytest.fixture
def desk(lane_home: Settings) -> Desk:
    return make_desk(lane_home)


@pytest.fixture
def ids(desk: Desk) -> tuple[str, str]:
    """The ids of a config that holds the lane and of one that passed as well."""
    first, second = desk.judged(CONFIG), desk.judged(OTHER)
    desk.promote(first, 0)
    return first, second


def is_in_line(desk: Desk, config_id: str, generation: int) -> bool:
    """Whether registry, files and executor agree on a config and its generation."""
    pointer = lane_pointer(desk.registry, LANE)
    assert pointer is not None
    assert (pointer.config_id, pointer.generation) == (config_id, generation)
    return (
        drift(desk.registry, desk.settings.lanes, LANE).differences == ()
        and is_acknowledged(pointer, read_status(desk.settings.lanes, LANE))
        and shown(desk.settings)["offered"] is None
    )


def overlaps(desk: Desk) -> list[str]:
    """Symbols with two trades at once."""
    return [
        symbol
        for symbol, trades in holders(desk.settings).items()
        if any(after[0] < before[1] for before, after in pairwise(trades))
    ]


def test_a_promotion_is_followed_without_a_restart(desk: Desk, ids: tuple[str, str]) -> None:
    first, second = ids
    assert follow(desk.settings, {HELD: lambda: desk.promote(second, 1)}) == []
    assert is_in_line(desk, second, 2)
    assert (shown(desk.settings)["draining"], shown(desk.settings)["health"]) == ([], "ok")
    assert shown(desk.settings)["since_bar_ms"] == FROM_MS + (HELD + 2) * HOUR_MS
    assert [each for each in changes(desk.settings) if each[2] in {"opened", "draining", "closed"}] == [
        (first, 1, "opened"), (first, 1, "draining"), (second, 2, "opened"), (first, 1, "closed"),
    ]  # fmt: skip
    assert rows(desk.settings, "SELECT count(*) FROM events WHERE event = 'Started'") == [(1,)]


def test_a_flip_of_the_config_leaves_a_symbol_in_one_book(desk: Desk, ids: tuple[str, str]) -> None:
    """The old book exits by its own rules; until then no other book has the symbol, and no money is made or lost."""
    first, second = ids
    follow(desk.settings, {HELD: lambda: desk.promote(second, 1)})
    assert holders(desk.settings)["BTC"][-1] == (4, 10, first)
    assert overlaps(desk) == []
    # Both configs have a signal on the symbol at the step before the exit fills.
    blocked = rows(desk.settings, "SELECT config_id, note FROM decisions WHERE verdict = 'blocked' AND symbol = 'BTC'")
    assert blocked == [(first, "the config is draining"), (second, f"held by config {first[:12]}, which is draining")]
    assert holders(desk.settings)["ETH"] == [(10, 14, second)]
    [(cash,)] = rows(desk.settings, "SELECT cash_usd FROM equity ORDER BY step_ms DESC LIMIT 1")
    [(profit,)] = rows(desk.settings, "SELECT total(pnl_usd) FROM trades")
    assert cash == pytest.approx(10_000.0 + profit, abs=1e-6)


def test_a_hand_over_over_many_restarts_is_the_same(desk: Desk, ids: tuple[str, str]) -> None:
    _, second = ids
    for to_step in (HELD + 1, HELD + 2, LATER, 9, 10, 11, None):
        follow(desk.settings, to_step=to_step)
        if to_step == HELD + 1:
            desk.promote(second, 1)
    restarted = left_in(desk.settings)
    for path in (desk.settings.lanes / LANE).glob("journal*"):
        path.unlink()
    promote_config(desk.settings, CONFIG, START_MS)  # the files as they were before the promotion
    follow(desk.settings, {HELD: lambda: render(desk.registry, desk.settings.lanes, LANE)})
    assert left_in(desk.settings) == restarted


def test_a_return_to_the_config_that_drains_waits_for_its_end(desk: Desk, ids: tuple[str, str]) -> None:
    """A → B → A while A still exits: A opens a second time, once its first book is flat."""
    first, second = ids
    moves = {HELD: lambda: desk.promote(second, 1), LATER: lambda: desk.promote(first, 2)}
    follow(desk.settings, moves, to_step=9)
    waiting = shown(desk.settings)
    assert (waiting["config_id"], waiting["generation"], waiting["draining"]) == (second, 2, [first])
    assert waiting["offered"] == {
        "config_id": first, "generation": 3, "reason": f"it waits until {first[:12]} has drained"
    }  # fmt: skip
    follow(desk.settings)
    assert is_in_line(desk, first, 3)
    assert overlaps(desk) == []
    opened = [each[:2] for each in changes(desk.settings) if each[2] == "opened"]
    assert opened == [(first, 1), (second, 2), (first, 3)]
    assert shown(desk.settings)["since_bar_ms"] > FROM_MS + 10 * HOUR_MS


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "bad": lambda path: path.write_text("lane: [\n"),
    "wrong value": lambda path: path.write_text(path.read_text().replace("size_multiplier: 1.0", "size_multiplier: 2")),
    "truncated": truncated,
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pointer_keeps_the_config_until_it_is_repaired(desk: Desk, ids: tuple[str, str], damage: str) -> None:
    first, second = ids
    path = pointer_path(desk.settings.lanes, LANE)
    follow_to = {HELD: lambda: (desk.promote(second, 1), DAMAGES[damage](path))}
    [alert] = follow(desk.settings, follow_to, to_step=LATER)
    assert (alert.key, alert.severity, str(path) in alert.text or LANE in alert.text) == (
        "promoted-file",
        "warning",
        True,
    )
    status = shown(desk.settings)
    assert (status["config_id"], status["generation"], status["health"]) == (first, 1, "ok")
    assert status["offered"] == {"config_id": None, "generation": None, "reason": alert.text}
    assert not is_in_line(desk, second, 2)
    # The hand-over writes the files again; the lane needs no restart.
    [again] = follow(desk.settings, {LATER + 1: lambda: render(desk.registry, desk.settings.lanes, LANE)})
    assert again == alert
    assert is_in_line(desk, second, 2)


def test_a_config_that_is_half_written_is_not_opened(desk: Desk, ids: tuple[str, str]) -> None:
    first, second = ids
    path = config_path(desk.settings.lanes, LANE, second)
    [alert] = follow(desk.settings, {HELD: lambda: (desk.promote(second, 1), truncated(path))}, to_step=LATER)
    assert str(path) in alert.text
    assert shown(desk.settings)["config_id"] == first
    assert {each[0] for each in changes(desk.settings)} == {first}
    render(desk.registry, desk.settings.lanes, LANE)
    assert follow(desk.settings) == []
    assert is_in_line(desk, second, 2)


def test_a_lower_generation_is_refused(desk: Desk, ids: tuple[str, str]) -> None:
    """A pointer from a backup does not bring the earlier config back."""
    _, second = ids
    path = pointer_path(desk.settings.lanes, LANE)
    old = path.read_bytes()
    alerts = follow(
        desk.settings, {HELD: lambda: desk.promote(second, 1), LATER: lambda: path.write_bytes(old)}, to_step=9
    )
    assert ["generation 1 is older than generation 2" in alert.text for alert in alerts] == [True]
    assert (shown(desk.settings)["config_id"], shown(desk.settings)["generation"]) == (second, 2)
    assert {each[1] for each in changes(desk.settings) if each[2] == "opened"} == {1, 2}
    render(desk.registry, desk.settings.lanes, LANE)
    assert follow(desk.settings) == []
    assert is_in_line(desk, second, 2)


def test_of_two_promoters_at_once_the_lane_follows_the_one_that_won(desk: Desk, ids: tuple[str, str]) -> None:
    first, second = ids
    third = desk.judged(THIRD)
    refused: list[str] = []

    def attempt(config_id: str) -> None:
        try:
            desk.promote(config_id, 1)
        except Refused:
            refused.append(config_id)

    def race() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(attempt, (second, third)))

    assert follow(desk.settings, {HELD: race}) == []
    [loser] = refused
    winner = second if loser == third else third
    assert is_in_line(desk, winner, 2)
    assert {each[0] for each in changes(desk.settings)} == {first, winner}


def test_commands_hand_over_while_dagster_is_down(
    desk: Desk, ids: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = ids
    monkeypatch.setenv("MEI_CONFIG", str(desk.settings.config))
    done: list[int] = []

    def command(*arguments: str) -> Callable[[], None]:
        return lambda: done.append(run([*arguments, "--lane", LANE, *WHY], group=registry_commands))

    follow(desk.settings, {2: command("promote", second[:12]), 5: command("rollback")})
    assert (done, is_in_line(desk, first, 3)) == ([0, 0], True)
    assert "error" not in capsys.readouterr().err
    assert [each for each in changes(desk.settings) if each[2] == "opened"] == [
        (first, 1, "opened"), (second, 2, "opened"), (first, 3, "opened"),
    ]  # fmt: skip
    assert not desk.settings.dagster_home.exists()


def test_a_promotion_waits_for_an_executor_that_is_down(desk: Desk, ids: tuple[str, str]) -> None:
    first, second = ids
    assert check(desk) == (
        False,
        f"generation 1 of {first[:12]} is not acknowledged: the executor has not written its status yet",
    )
    follow(desk.settings, to_step=HELD)
    assert check(desk) == (True, f"generation 1 of {first[:12]} is in force")
    desk.promote(second, 1)
    passed, words = check(desk, later_ms=3 * HOUR_MS)
    assert not passed
    assert words == (
        f"generation 2 of {second[:12]} is not acknowledged: the executor runs generation 1 of {first[:12]}; "
        "the executor last wrote its status more than 3 h ago"
    )
    assert rows(desk.settings, "SELECT count(*) FROM config_changes WHERE generation = 2") == [(0,)]
    follow(desk.settings)
    assert check(desk) == (True, f"generation 2 of {second[:12]} is in force")


def check(desk: Desk, later_ms: int = 0) -> tuple[bool, str]:
    """The check of the lane, a time after the executor has written its status."""
    status = read_status(desk.settings.lanes, LANE)
    now_ms = 0 if status is None else status.written_ms + later_ms
    return check_acknowledgement(lane_pointer(desk.registry, LANE), status, now_ms)


def test_an_executor_on_older_kernels_exits_and_enters_nothing(desk: Desk, ids: tuple[str, str]) -> None:
    """MEI was updated while the lane runs: new evidence names kernels that this process does not have."""
    first, _ = ids
    newer = "b" * 64
    action = {HELD: lambda: promote_config(desk.settings, OTHER, START_MS, generation=2, kernel_hash=newer)}
    [alert] = follow(desk.settings, action, to_step=11)
    assert (alert.key, alert.severity) == ("hold-kernels", "critical")
    status = shown(desk.settings)
    assert (status["generation"], status["health"], list(status["holds"])) == (2, "degraded", ["kernels"])
    assert newer[:12] in status["holds"]["kernels"]["reason"]
    assert status["positions"] == {}
    trades = [trade for each in holders(desk.settings).values() for trade in each]
    assert (4, 10, first) in trades
    assert {config for *_, config in trades} == {first}
    # The executor that has those kernels takes the lane over.
    promote_config(desk.settings, OTHER, START_MS, generation=3)
    assert follow(desk.settings) == []
    status = shown(desk.settings)
    assert (status["generation"], status["holds"], status["health"]) == (3, {}, "ok")


def overrides(desk: Desk, text: str) -> Callable[[], object]:
    """What writes strategy_overrides.yaml."""
    return lambda: (desk.settings.config / "strategy_overrides.yaml").write_text(text)


def test_overrides_of_a_running_lane_only_make_it_trade_less(desk: Desk, ids: tuple[str, str]) -> None:
    """BTC is excluded while it is held: it exits and does not reverse. ETH is entered at half its size."""
    follow(desk.settings, {HELD: lambda: desk.promote(ids[1], 1)})
    [(full,)] = rows(desk.settings, "SELECT abs(size) FROM trades WHERE symbol = 'ETH'")
    for path in (desk.settings.lanes / LANE).glob("journal*"):
        path.unlink()
    promote_config(desk.settings, CONFIG, START_MS)
    actions = {
        1: overrides(desk, "strategy: ema_cross\nbase: {trade.leverage: 9}\npromoted: {exclude: [BTC]}\n"),
        HELD: lambda: render(desk.registry, desk.settings.lanes, LANE),
        LATER: overrides(desk, "promoted: {exclude: [BTC], size_multiplier: 0.5}\n"),
        LATER + 1: overrides(desk, "promoted: {exclude: [BTC], size_multiplier: 5}\n"),
    }
    alerts = follow(desk.settings, actions)
    assert [alert.key for alert in alerts] == ["overrides-file", "overrides", "overrides", "overrides-file"]
    assert "base: lane bench follows only `promoted`" in alerts[0].text
    assert "promoted.size_multiplier: 5" in alerts[3].text
    assert holders(desk.settings)["BTC"] == [(2, 4, ids[0])]
    blocked = rows(desk.settings, "SELECT DISTINCT note FROM decisions WHERE symbol = 'BTC' AND verdict = 'blocked'")
    assert ("excluded in strategy_overrides.yaml",) in blocked
    [(half,)] = rows(desk.settings, "SELECT abs(size) FROM trades WHERE symbol = 'ETH'")
    assert half == pytest.approx(full / 2, rel=0.01)


def test_settings_of_a_running_lane_change_without_a_restart(desk: Desk, ids: tuple[str, str]) -> None:
    path = desk.settings.config / "lanes" / f"{LANE}.yaml"
    text = path.read_text()
    changed = text.replace("venue: synthetic", "venue: binance") + "max_late_ms: 5\n"
    alerts = follow(desk.settings, {2: lambda: path.write_text(changed)})
    assert [(alert.key, alert.severity) for alert in alerts] == [("lane-file", "info"), ("lane-file", "warning")]
    assert "venue: binance, but lane bench goes on with synthetic" in alerts[1].text
    times = rows(desk.settings, "SELECT expires_ms - created_ms FROM orders ORDER BY created_ms")
    assert (times[0], times[-1]) == ((10_000,), (5,))
    assert is_in_line(desk, ids[0], 1)


@pytest.mark.usefixtures("ids")
def test_profit_counts_from_the_equity_of_the_first_start(desk: Desk) -> None:
    follow(desk.settings, to_step=HELD)
    earned = shown(desk.settings)["pnl_usd"]
    path = desk.settings.config / "lanes" / f"{LANE}.yaml"
    path.write_text(path.read_text().replace("equity_usd: 10000", "equity_usd: 50000"))
    [alert] = follow(desk.settings, to_step=HELD)
    assert (alert.key, alert.severity) == ("lane-file", "warning")
    assert "equity_usd: 50000.0, but lane bench goes on with 10000.0" in alert.text
    assert shown(desk.settings)["pnl_usd"] == earned != 0.0


def test_a_config_that_can_not_be_computed_leaves_the_lane_as_it_is(desk: Desk, ids: tuple[str, str]) -> None:
    """The lake lacks the bars since the anchor of its evidence; `warmup: approximate` then does without them."""
    first, second = ids
    early = {HELD: lambda: promote_config(desk.settings, OTHER, START_MS - 5 * DAY_MS, generation=2)}
    [alert] = follow(desk.settings, early, to_step=LATER)
    assert (alert.key, alert.severity) == ("warmup", "critical")
    assert "2024-12-27 00:00Z" in alert.text
    status = shown(desk.settings)
    assert (status["config_id"], status["draining"], status["health"]) == (first, [], "ok")
    assert status["offered"]["config_id"] == second
    assert "2024-12-27 00:00Z" in status["offered"]["reason"]
    [again] = follow(desk.settings, to_step=LATER + 1)
    assert again == alert
    path = desk.settings.config / "lanes" / f"{LANE}.yaml"
    approximate = {LATER + 2: lambda: path.write_text(path.read_text() + "warmup: approximate\n")}
    follow(desk.settings, approximate)
    status = shown(desk.settings)
    assert (status["config_id"], status["offered"]) == (second, None)
