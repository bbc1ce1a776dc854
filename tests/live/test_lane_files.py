"""Files of a lane as events: the promoted config and the holds."""

import os
import shutil
from functools import partial
from pathlib import Path

import msgspec
import pytest
import registry_kit as kit

from live.hold_files import CONTROL_HOLD
from live.lane_files import (
    POINTER_ALERT,
    LaneFiles,
    offered_config,
    poll,
    poll_holds,
    read_lane_config,
    watch_files,
)
from mei_pipeline.config.models import LaneConfig
from mei_pipeline.errors import ConfigError, DataError, Refused
from mei_pipeline.execution.books import make_plan
from mei_pipeline.execution.events import AnyEvent, ConfigOffered, HoldsChanged, HoldState
from mei_pipeline.execution.state import LaneSetup, LaneState
from mei_pipeline.registry.holds import Hold, control_path, lift_hold, set_hold
from mei_pipeline.registry.lanes import config_path, pointer_path
from mei_pipeline.registry.records import from_dict
from mei_pipeline.settings import Settings

LANE = LaneConfig(mode="paper", venue="synthetic", role="primary")
NOW = 5_000


@pytest.fixture(scope="module")
def promoted_lanes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of lanes in which paper1 holds a config; not to be changed."""
    folder = tmp_path_factory.mktemp("promoted")
    registry = kit.fresh(folder)
    kit.promote(registry, folder / "lanes", kit.PAPER1, kit.judged(registry), kit.POLICY, 0, kit.at())
    return folder / "lanes"


@pytest.fixture
def promoted(mei_settings: Settings, promoted_lanes: Path) -> Settings:
    """A home whose lane paper1 holds a config."""
    shutil.copytree(promoted_lanes, mei_settings.lanes)
    return mei_settings


def pointer_of(settings: Settings) -> Path:
    return pointer_path(settings.lanes, "paper1")


def config_of(settings: Settings) -> Path:
    return config_path(settings.lanes, "paper1", kit_id(settings))


def kit_id(settings: Settings) -> str:
    return next((settings.lanes / "paper1" / "configs").glob("*.yaml")).stem


def edit(path: Path, *changes: tuple[str, str]) -> None:
    """Replace texts of a file; the new file has another inode, as an atomic replacement gives it."""
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(path)


def started(settings: Settings, **fields: object) -> LaneFiles:
    setup = LaneSetup("paper1", "paper", ("00c0ffee",), 10_000.0, "k", partial(make_plan, settings))
    return watch_files(settings, "paper1", LANE, LaneState(setup, **fields))


def followed(settings: Settings) -> LaneFiles:
    """The files after the first poll."""
    return poll(started(settings), NOW).files


def hold(effect: str = "close_only", symbol: str | None = None) -> Hold:
    return Hold.model_validate({
        "owner": "anna", "effect": effect, "reason": "maintenance", "since_ms": 1_000, "symbol": symbol
    })  # fmt: skip


# The configuration of a lane


def test_the_configuration_of_a_lane_needs_no_other_file(mei_settings: Settings, tmp_path: Path) -> None:
    settings = mei_settings.model_copy(update={"config": tmp_path / "config"})
    (settings.config / "lanes").mkdir(parents=True)
    (settings.config / "lanes" / "paper1.yaml").write_text("mode: paper\nvenue: synthetic\nrole: primary\n")
    (settings.config / "policy.yaml").write_text("a: [")
    assert read_lane_config(settings, "paper1") == LANE
    (settings.config / "lanes" / "paper1.yaml").write_text("mode: loud\n")
    with pytest.raises(ConfigError, match=r"paper1\.yaml:1:1: mode: loud is not allowed"):
        read_lane_config(settings, "paper1")


@pytest.mark.parametrize(
    ("lane", "words"),
    [
        ("papr1", r"lane 'papr1': .*lanes has no file of it; did you mean 'paper1'\? known: paper1, paper2, paper3"),
        ("../paper1", "the name is not allowed"),
    ],
)
def test_an_unknown_lane_names_the_known_ones(mei_settings: Settings, lane: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_lane_config(mei_settings, lane)


def test_a_home_without_lanes_has_none(mei_settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known: none"):
        read_lane_config(mei_settings.model_copy(update={"config": tmp_path}), "paper1")


# The promoted config


def test_the_offer_of_a_promoted_config(promoted: Settings) -> None:
    offer = offered_config(promoted, "paper1", LANE)
    assert (offer.generation, offer.state, offer.size_multiplier, offer.anchor_ms) == (1, "paper", 1.0, 1_000)
    assert offer.kernel_hash == kit.basis().kernel_hash
    assert from_dict(offer.config, offer.config_id) == kit.resolved()
    assert msgspec.json.decode(msgspec.json.encode(offer), type=AnyEvent) == offer


def test_a_lane_without_a_config_says_how_to_get_one(mei_settings: Settings) -> None:
    with pytest.raises(Refused, match=r"lane paper1: no config is promoted to it; run `mei nightly`"):
        offered_config(mei_settings, "paper1", LANE)


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda home: pointer_of(home).write_text("a: ["), DataError, r"promoted\.yaml: damaged"),
        (lambda home: edit(pointer_of(home), ("paper1", "paper2")), DataError, "belongs to lane paper2"),
        (lambda home: config_of(home).unlink(), DataError, r"configs/.*\.yaml: missing; the next hand-over"),
        (lambda home: config_of(home).write_text(""), DataError, r"configs/.*\.yaml: damaged"),
        (lambda home: edit(config_of(home), ("4.5", "4.6")), DataError, "another id"),
        (lambda home: edit(config_of(home), ("anchor_ms: 1000", "anchor_ms: soon")), DataError, "anchor_ms: .*'soon'"),
        (lambda home: edit(config_of(home), ("anchor_ms: 1000\n", "b: 1\n")), DataError, "anchor_ms: .*None"),
    ],
)
def test_a_config_that_can_not_be_read_says_why(promoted: Settings, damage, error: type[Exception], words: str) -> None:
    damage(promoted)
    with pytest.raises(error, match=words):
        offered_config(promoted, "paper1", LANE)


def test_the_file_of_another_config_is_refused(promoted: Settings, tmp_path: Path) -> None:
    other = kit.fresh(tmp_path / "other")
    second = kit.judged(other, 1)
    kit.promote(other, tmp_path / "lanes", kit.PAPER1, second, kit.POLICY, 0, kit.at())
    shutil.copy(config_path(tmp_path / "lanes", "paper1", second), config_of(promoted))
    with pytest.raises(DataError, match=f"config_id: {second}, not that of its name"):
        offered_config(promoted, "paper1", LANE)


def test_a_config_of_another_venue_is_refused(promoted: Settings) -> None:
    with pytest.raises(Refused, match="venue: synthetic, but lane paper1 is on binance"):
        offered_config(promoted, "paper1", LANE.model_copy(update={"venue": "binance"}))


def test_a_new_lane_takes_its_config_once(promoted: Settings) -> None:
    files, events, alerts = poll(started(promoted), NOW)
    assert (events, alerts) == ((offered_config(promoted, "paper1", LANE),), ())
    assert poll(files, NOW) == (files, (), ())


def test_a_recovered_lane_takes_no_config_that_it_has(promoted: Settings) -> None:
    offer = offered_config(promoted, "paper1", LANE)
    config_of(promoted).unlink()
    assert poll(started(promoted, waiting=offer), NOW)[1:] == ((), ())


def test_a_new_generation_is_taken(promoted: Settings) -> None:
    files = followed(promoted)
    edit(pointer_of(promoted), ("generation: 1", "generation: 4"), ("size_multiplier: 1.0", "size_multiplier: 0.5"))
    files, events, alerts = poll(files, NOW)
    assert [(event.generation, event.size_multiplier) for event in events] == [(4, 0.5)]
    assert alerts == ()
    pointer_of(promoted).touch()
    os.utime(pointer_of(promoted), ns=(1, 1))
    assert poll(files, NOW)[1:] == ((), ())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("generation: 3", "generation: 2")], "generation 2 is older than generation 3, which the lane has"),
        ([("state: paper", "state: paused")], "state: paused, but the lane has paper under the same generation 3"),
        ([("size_multiplier: 1.0", "size_multiplier: 0.5")], "size_multiplier: 0.5, but the lane has 1.0"),
    ],
)
def test_an_older_or_edited_pointer_is_refused(promoted: Settings, changes, words: str) -> None:
    edit(pointer_of(promoted), ("generation: 1", "generation: 3"))
    files = followed(promoted)
    edit(pointer_of(promoted), *changes)
    files, events, (alert,) = poll(files, NOW)
    assert (events, alert.key, files.pointer_problem) == ((), POINTER_ALERT, alert.text)
    assert words in alert.text


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "no config is promoted"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "unreadable"),
        (lambda path: (path.unlink(), path.symlink_to(path)), "unreadable"),
    ],
    ids=["gone", "empty", "half", "folder", "loop"],
)
def test_a_damaged_pointer_changes_nothing_and_alerts_once(promoted: Settings, damage, words: str) -> None:
    files, kept = followed(promoted), pointer_of(promoted).read_bytes()
    damage(pointer_of(promoted))
    files, events, (alert,) = poll(files, NOW)
    assert (events, alert.severity, words in alert.text) == ((), "warning", True)
    assert poll(files, NOW) == (files, (), ())
    if pointer_of(promoted).is_file():
        pointer_of(promoted).write_text("b: [")
        files, events, alerts = poll(files, NOW)
        assert (events, alerts) == ((), ())
        assert "b: [" not in alert.text
    if pointer_of(promoted).is_dir():
        pointer_of(promoted).rmdir()
    pointer_of(promoted).unlink(missing_ok=True)
    pointer_of(promoted).write_bytes(kept)
    files, events, alerts = poll(files, NOW)
    assert (events, alerts, files.pointer_problem) == ((), (), "")


def test_a_config_that_arrives_after_its_pointer_is_taken(promoted: Settings) -> None:
    path, files = config_of(promoted), followed(promoted)
    data = path.read_bytes()
    path.unlink()
    edit(pointer_of(promoted), ("generation: 1", "generation: 2"))
    files, events, (alert,) = poll(files, NOW)
    assert (events, "missing" in alert.text) == ((), True)
    path.write_bytes(data[:200])
    files, events, alerts = poll(files, NOW)
    assert (events, alerts, "damaged" in files.pointer_problem) == ((), (), True)
    path.write_bytes(data)
    files, (event,), alerts = poll(files, NOW)
    assert (event.generation, alerts, files.pointer_problem) == (2, (), "")


# Holds


def test_holds_are_followed(promoted: Settings) -> None:
    files = followed(promoted)
    set_hold(promoted.lanes, "paper1", "exchange", hold())
    set_hold(promoted.lanes, "paper1", "btc", hold("halt", "BTC"))
    files, (event,), alerts = poll(files, NOW)
    first = HoldState(owner="anna", effect="close_only", reason="maintenance", since_ms=NOW)
    assert event == HoldsChanged(
        holds={"btc": msgspec.structs.replace(first, effect="halt", symbol="BTC"), "exchange": first}
    )
    assert (alerts, poll(files, NOW)) == ((), (files, (), ()))
    lift_hold(promoted.lanes, "paper1", "btc")
    files, events, alerts = poll(files, NOW)
    assert (events, alerts) == ((HoldsChanged(holds={"exchange": first}),), ())
    lift_hold(promoted.lanes, "paper1", "exchange")
    assert poll(files, NOW).events == (HoldsChanged(holds={}),)


def test_a_hold_begins_on_the_clock_of_the_lane(promoted: Settings) -> None:
    set_hold(promoted.lanes, "paper1", "exchange", hold())
    files, (_, event), _ = poll(started(promoted), NOW)
    assert [each.since_ms for each in event.holds.values()] == [NOW]
    # The same hold under another time of the machine goes on, also after a restart; another hold begins.
    set_hold(promoted.lanes, "paper1", "exchange", hold().model_copy(update={"since_ms": 2_000}))
    assert poll(files, NOW + 1).events == ()
    assert poll(started(promoted, holds=event.holds, waiting=files.offer), NOW + 1).events == ()
    set_hold(promoted.lanes, "paper1", "exchange", hold("halt"))
    assert poll(files, NOW + 2).events[0].holds["exchange"].since_ms == NOW + 2


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "missing, although holds are in force: exchange"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:40]), "damaged"),
        (lambda path: path.write_text(path.read_text().replace("paper1", "paper2")), "belongs to lane paper2"),
        (lambda path: (path.unlink(), path.mkdir()), "unreadable"),
    ],
    ids=["gone", "empty", "half", "other lane", "folder"],
)
def test_holds_that_can_not_be_read_stay_and_the_lane_opens_nothing(promoted: Settings, damage, words: str) -> None:
    set_hold(promoted.lanes, "paper1", "exchange", hold("halt"))
    files, path = followed(promoted), control_path(promoted.lanes, "paper1")
    kept = path.read_bytes()
    damage(path)
    files, (event,), (alert,) = poll(files, NOW)
    assert (alert.key, alert.severity, words in alert.text) == (CONTROL_HOLD, "critical", True)
    added = event.holds[CONTROL_HOLD]
    assert (added.owner, added.effect, added.since_ms, added.symbol) == ("executor", "close_only", NOW, "")
    assert {name: held.effect for name, held in event.holds.items()} == {
        "exchange": "halt", CONTROL_HOLD: "close_only"
    }  # fmt: skip
    assert poll(files, NOW + 1) == (files, (), ())
    # A restart finds the same file and the same holds.
    again = poll(started(promoted, holds=event.holds, waiting=files.offer), NOW + 2)
    assert (again.events, [alert.key for alert in again.alerts]) == ((), [CONTROL_HOLD])
    if path.is_dir():
        path.rmdir()
    path.write_bytes(kept)
    for then in (files, again.files):
        good = poll(then, NOW + 3)
        assert [list(event.holds) for event in good.events] == [["exchange"]]
        assert (good.alerts, list(good.files.in_force)) == ((), ["exchange"])


def test_another_damage_is_the_same_problem(promoted: Settings) -> None:
    files, path = followed(promoted), control_path(promoted.lanes, "paper1")
    path.write_text("a: [")
    files, events, alerts = poll(files, NOW)
    assert (len(events), len(alerts)) == (1, 1)
    path.write_text("")
    files, events, alerts = poll(files, NOW + 1)
    assert (events, alerts, list(files.in_force)) == ((), (), [CONTROL_HOLD])
    # A damaged file may have held the lane: it is not enough to remove it.
    path.unlink()
    files, events, alerts = poll(files, NOW + 2)
    assert (events, alerts, CONTROL_HOLD in files.in_force) == ((), (), True)
    set_hold(promoted.lanes, "paper1", "exchange", hold())
    assert [list(event.holds) for event in poll(files, NOW + 3).events] == [["exchange"]]


def test_a_lane_without_holds_needs_no_file(promoted: Settings) -> None:
    set_hold(promoted.lanes, "paper1", "exchange", hold())
    lift_hold(promoted.lanes, "paper1", "exchange")
    files = followed(promoted)
    control_path(promoted.lanes, "paper1").unlink()
    assert poll(files, NOW)[1:] == ((), ())


def test_a_recovered_lane_keeps_the_holds_of_its_journal(promoted: Settings) -> None:
    known = HoldState(owner="anna", effect="halt", reason="maintenance", since_ms=1)
    gone = poll(started(promoted, holds={"risk": known}), NOW)
    assert [list(event.holds) for event in gone.events if isinstance(event, HoldsChanged)] == [["risk", CONTROL_HOLD]]
    set_hold(promoted.lanes, "paper1", "exchange", hold())
    changed = poll(started(promoted, holds={"risk": known}), NOW)
    assert isinstance(changed.events[0], ConfigOffered)
    assert [list(event.holds) for event in changed.events[1:]] == [["exchange"]]


def test_holds_of_all_lanes_stand_beside_those_of_the_lane(promoted: Settings) -> None:
    set_hold(promoted.lanes, "paper1", "halt", hold())
    set_hold(promoted.lanes, None, "halt", hold("halt"))
    files, (_, event), _ = poll(started(promoted), NOW)
    assert {name: each.effect for name, each in event.holds.items()} == {"all/halt": "halt", "halt": "close_only"}
    # Another lane follows the same file, and a recovered one knows which hold is of which file.
    again = poll(started(promoted, holds=event.holds, waiting=files.offer), NOW)
    assert (again.events, again.alerts) == ((), ())
    lift_hold(promoted.lanes, None, "halt")
    for then in (files, again.files):
        assert [list(event.holds) for event in poll(then, NOW).events] == [["halt"]]


def test_a_file_of_all_lanes_that_can_not_be_read_holds_each_lane(promoted: Settings) -> None:
    set_hold(promoted.lanes, "paper1", "exchange", hold())
    set_hold(promoted.lanes, None, "halt", hold("halt"))
    files, path = followed(promoted), control_path(promoted.lanes, None)
    kept = path.read_bytes()
    path.unlink()
    files, (event,), (alert,) = poll(files, NOW)
    assert list(event.holds) == ["all/halt", f"all/{CONTROL_HOLD}", "exchange"]
    assert ("mei lane halt --all" in alert.text, alert.key) == (True, f"all/{CONTROL_HOLD}")
    path.write_bytes(control_path(promoted.lanes, "paper1").read_bytes())
    assert poll(files, NOW).events == ()
    path.write_bytes(kept)
    assert [list(event.holds) for event in poll(files, NOW).events] == [["all/halt", "exchange"]]


def test_a_hold_ends_by_itself_on_the_clock_of_the_machine(promoted: Settings) -> None:
    ends = hold().model_copy(update={"expires_ms": 7_000})
    set_hold(promoted.lanes, "paper1", "pause", ends)
    set_hold(promoted.lanes, "paper1", "exchange", hold())
    files, (_, event), _ = poll(started(promoted), NOW, 6_999)
    assert event.holds["pause"].expires_ms == 7_000
    assert poll(files, NOW, 6_999).files is files
    files, events, alerts = poll(files, NOW, 7_000)
    assert ([list(event.holds) for event in events], alerts) == ([["exchange"]], ())
    assert poll(files, NOW, 7_001) == (files, (), ())
    # Also while the file can't be read, and after a restart.
    control_path(promoted.lanes, "paper1").write_text("a: [")
    again = poll(started(promoted, holds=event.holds, waiting=files.offer), NOW, 7_000)
    assert [list(event.holds) for event in again.events] == [["exchange", CONTROL_HOLD]]


def test_holds_are_followed_without_the_pointer(promoted: Settings) -> None:
    set_hold(promoted.lanes, "paper1", "exchange", hold())
    (event,) = poll_holds(started(promoted), NOW).events
    assert list(event.holds) == ["exchange"]
