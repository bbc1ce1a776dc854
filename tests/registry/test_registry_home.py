"""A home whose registry is lost: noticed by what it left behind, and given up by a person alone."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import registry_kit as kit
from sqlalchemy import NullPool, create_engine, delete

from mei_pipeline.cli import main
from mei_pipeline.cli.doctor import examine
from mei_pipeline.errors import DataError, Refused
from mei_pipeline.registry import tables
from mei_pipeline.registry.database import write_transaction
from mei_pipeline.registry.home import (
    RESETS_NAME,
    check_registry,
    open_home_registry,
    read_resets,
    reset_registry,
)
from mei_pipeline.registry.lanes import pointer_path
from mei_pipeline.registry.store import lane_pointer
from mei_pipeline.registry.trials import add_trial

pytestmark = pytest.mark.usefixtures("database")

WHY = ("--why", "the disk died", "--who", "anna")


@pytest.fixture
def settings(mei_settings, monkeypatch, database, tmp_path):
    """Settings of a home with nothing in it."""
    if database == "postgres":
        monkeypatch.setenv("MEI_REGISTRY_URL", kit.url(tmp_path))
        return mei_settings.model_copy(update={"registry_url": kit.url(tmp_path)})
    return mei_settings


def night(settings, name: str, judgements: list) -> None:
    folder = settings.nights / name
    folder.mkdir(parents=True)
    (folder / "gates.json").write_text(json.dumps({"judgements": judgements}))


def held(settings) -> str:
    """Let a config hold paper1, by a night that judged it."""
    registry = open_home_registry(settings)
    config_id = kit.judged(registry)
    kit.promote(registry, settings.lanes, kit.PAPER1, config_id, kit.POLICY, 0, kit.at())
    night(settings, "n1", [{"config_id": config_id}])
    return config_id


def delete_rows(settings) -> None:
    with write_transaction(open_home_registry(settings)) as connection:
        for table in reversed(tables.METADATA.sorted_tables):
            connection.execute(delete(table))


def delete_tables(settings) -> None:
    if settings.registry_url:
        database = create_engine(settings.registry, poolclass=NullPool)
        with database.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        return
    for path in settings.home.glob("registry.db*"):
        path.unlink()


def truncate(settings) -> None:
    delete_tables(settings)
    if not settings.registry_url:
        (settings.home / "registry.db").touch()


LOSSES = pytest.mark.parametrize("lose", [delete_tables, delete_rows, truncate])


def test_a_new_home_is_not_damaged_and_stays_untouched(settings):
    check_registry(settings)
    assert not settings.home.exists()
    assert lane_pointer(open_home_registry(settings), "paper1") is None


def test_a_night_that_judged_nothing_needs_no_registry(settings):
    night(settings, "n1", [])
    check_registry(settings)


@LOSSES
@pytest.mark.parametrize("trace", ["lane", "night", "damaged night", "damaged pointer"])
def test_a_registry_that_is_lost_opens_for_nothing(settings, lose, trace):
    held(settings)
    lose(settings)
    gates, pointer = settings.nights / "n1" / "gates.json", pointer_path(settings.lanes, "paper1")
    if "night" in trace:
        pointer.unlink()
    else:
        gates.unlink()
    if "damaged" in trace:
        (gates if "night" in trace else pointer).write_text("{")
    before = sorted(settings.home.rglob("*"))
    for _ in range(2):  # the first refusal does not make the second one pass
        with pytest.raises(DataError, match=r"the registry is lost.*mei registry reset --why") as refused:
            open_home_registry(settings)
        assert ("n1" if "night" in trace else "paper1") in str(refused.value)
    assert [path for path in sorted(settings.home.rglob("*")) if "registry.db" not in path.name] == [
        path for path in before if "registry.db" not in path.name
    ]


def test_a_registry_that_holds_trials_alone_is_not_lost(settings):
    add_trial(open_home_registry(settings), kit.trial(), 1)
    night(settings, "n1", [{}])
    check_registry(settings)


@LOSSES
def test_commands_and_the_doctor_refuse_a_home_whose_registry_is_lost(settings, lose, capsys):
    config_id = held(settings)
    lose(settings)
    (finding,) = examine(settings, {"registry"})
    assert (finding.level, "the registry is lost" in finding.state) == ("fail", True)
    for command in (
        ["registry", "list"],
        ["registry", "promote", config_id, "--lane", "paper1", *WHY],
        ["registry", "pause", "--lane", "paper1", *WHY],
        ["registry", "rollback", "--lane", "paper1", *WHY],
        ["registry", "retire", config_id, *WHY],
        ["lane", "list"],
        ["lane", "set", "paper1", "--size-multiplier", "0.5", *WHY],
    ):
        assert main.run(command) == DataError.exit_code, command
        assert "the registry is lost" in capsys.readouterr().err
    assert main.run(["lane", "set", "paper1", "--hold", "incident", "halt", *WHY]) == 0


@LOSSES
def test_a_person_gives_up_a_lost_registry(settings, lose, capsys):
    held(settings)
    lose(settings)
    old = pointer_path(settings.lanes, "paper1").read_bytes()
    assert main.run(["registry", "reset", "--json", *WHY]) == 0
    told = json.loads(capsys.readouterr().out)
    (kept,) = map(Path, told["files"])
    assert kept.read_bytes() == old
    assert (told["reset"]["who"], told["reset"]["lanes"], told["reset"]["nights"]) == ("anna", ["paper1"], ["n1"])
    (reset,) = read_resets(settings)
    assert (reset.why, reset.nights) == ("the disk died", ("n1",))
    registry = open_home_registry(settings)
    assert lane_pointer(registry, "paper1") is None
    config_id = kit.judged(registry)  # the lane is free, and its moves count on
    kit.promote(registry, settings.lanes, kit.PAPER1, config_id, kit.POLICY, 0, kit.at())
    assert lane_pointer(registry, "paper1").generation == 2
    assert main.run(["registry", "reset", *WHY]) == Refused.exit_code


def journal_with(settings, lane: str, *generations: int) -> None:
    """Write the journal of a lane that has seen generations, as far as another program reads it."""
    with closing(sqlite3.connect(settings.lanes / lane / "journal.db")) as connection:
        connection.execute("CREATE TABLE config_changes (generation INTEGER)")
        connection.execute("CREATE VIEW v_config_changes AS SELECT * FROM config_changes")
        connection.executemany("INSERT INTO config_changes VALUES (?)", [(number,) for number in generations])
        connection.commit()


def write_status(settings, lane: str, generation: int | None) -> None:
    fields = {"config_id": None, "since_bar_ms": None, "written_ms": 1, "health": "ok"}
    text = json.dumps({"schema_version": 2, "lane": lane, "generation": generation, **fields})
    (settings.lanes / lane / "status.json").write_text(text)


@pytest.mark.parametrize(
    ("leave", "expected"),
    [
        (lambda _settings: None, 2),
        (lambda settings: write_status(settings, "paper1", 5), 6),
        (lambda settings: write_status(settings, "paper1", None), 2),
        (lambda settings: journal_with(settings, "paper1", 3, 7, 4), 8),
        (lambda settings: journal_with(settings, "paper1"), 2),
        (lambda settings: (journal_with(settings, "paper1", 3), write_status(settings, "paper1", 9)), 10),
        (lambda settings: pointer_path(settings.lanes, "paper1").write_text("{"), 1),
        (lambda settings: (settings.lanes / "paper1" / "journal.db").write_text("no database"), 2),
        (lambda settings: (settings.lanes / "Not a lane").mkdir(), 2),
    ],
    ids=["pointer", "status", "no status", "journal", "empty journal", "both", "damaged", "no journal", "folder"],
)
def test_the_moves_of_a_lane_count_on_from_the_highest_generation_that_a_file_has(settings, leave, expected):
    held(settings)
    delete_tables(settings)
    leave(settings)
    reset_registry(settings, kit.at())
    registry = open_home_registry(settings)
    assert lane_pointer(registry, "paper1") is None
    kit.promote(registry, settings.lanes, kit.PAPER1, kit.judged(registry), kit.POLICY, 0, kit.at())
    assert lane_pointer(registry, "paper1").generation == expected


def test_a_reset_does_not_cover_what_is_lost_after_it(settings):
    held(settings)
    delete_tables(settings)
    reset_registry(settings, kit.at())
    check_registry(settings)
    night(settings, "n2", [{}])
    with pytest.raises(DataError, match="nightly runs judged configs: n2;"):
        check_registry(settings)
    reset_registry(settings, kit.at())
    assert [reset.nights for reset in read_resets(settings)] == [("n1",), ("n2",)]


def test_a_reset_that_was_cut_off_is_repeated(settings):
    held(settings)
    delete_tables(settings)
    place = pointer_path(settings.lanes, "paper1").with_name(f"promoted-before-reset-{kit.at().now_ms}.yaml")
    place.mkdir()
    with pytest.raises(DataError, match=r"not renamed: .* and reset again"):
        reset_registry(settings, kit.at())
    with pytest.raises(DataError, match="the registry is lost"):
        check_registry(settings)
    place.rmdir()
    reset_registry(settings, kit.at())
    assert [(reset.nights, reset.lanes) for reset in read_resets(settings)] == [
        (("n1",), ("paper1",)),
        ((), ("paper1",)),
    ]
    check_registry(settings)


def test_only_a_lost_registry_is_reset(settings):
    with pytest.raises(Refused, match="not lost"):
        reset_registry(settings, kit.at())
    held(settings)
    with pytest.raises(Refused, match="not lost"):
        reset_registry(settings, kit.at())
    assert pointer_path(settings.lanes, "paper1").exists()
    assert not (settings.home / RESETS_NAME).exists()


def test_a_damaged_file_of_resets_covers_nothing(settings):
    held(settings)
    delete_tables(settings)
    (settings.home / RESETS_NAME).write_text("[{}]")
    with pytest.raises(DataError, match=RESETS_NAME):
        check_registry(settings)
