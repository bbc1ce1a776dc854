"""Registries of earlier versions become the present one, whole, or stay as they were."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest
import registry_kit as kit
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect, text

from mei_pipeline.errors import DataError, Refused
from mei_pipeline.registry import store, tables
from mei_pipeline.registry.database import read_transaction, registry_is_empty, schema_version
from mei_pipeline.registry.lanes import drift, parse_pointer, pointer_path
from mei_pipeline.registry.migrate import REVISIONS
from mei_pipeline.registry.render import render
from mei_pipeline.registry.trials import add_trial, trials_between
from mei_pipeline.selection.gates import gate_names

WITH_CONFIGS = ("lanes", "transitions", "proposals", "verdicts", "evidence")
"""Tables with rows that name a config."""

pytestmark = pytest.mark.usefixtures("database")

VERSION1 = Path(__file__).parent / "version1"
ROWS, ROWS2 = kit.rows_of(1), kit.rows_of(2)


make_version1 = partial(kit.make_version, version=1)
make_version2 = partial(kit.make_version, version=2)


def content(folder):
    """Every row of every table as it lies there."""
    with kit.connected(folder) as connection:
        found = MetaData()
        found.reflect(connection)
        return {
            table.name: sorted(tuple(map(str, row)) for row in connection.execute(table.select()))
            for table in found.sorted_tables
        }


def test_the_newest_revision_is_the_version_of_the_tables():
    config = Config()
    config.set_main_option("script_location", str(REVISIONS))
    script = ScriptDirectory.from_config(config)
    assert [revision.revision for revision in script.walk_revisions()] == [
        str(version) for version in range(tables.SCHEMA_VERSION, 0, -1)
    ]


@pytest.mark.parametrize("make_before", [None, make_version1, make_version2])
def test_the_revisions_make_the_tables_that_the_code_knows(tmp_path, make_before):
    if make_before:
        make_before(tmp_path)
    registry = kit.opened(tmp_path)
    with read_transaction(registry) as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.METADATA) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["3"]


def test_a_registry_of_version_1_comes_with_everything(tmp_path):
    make_version1(tmp_path)
    assert schema_version(kit.url(tmp_path)) == 1
    before = content(tmp_path)
    registry = kit.opened(tmp_path)
    assert schema_version(kit.url(tmp_path)) == 3
    after = content(tmp_path)
    for name in ("configs", "evidence", "verdicts", "proposals"):
        assert after[name] == before[name]
    histories = store.list_configs(registry)
    assert [story.config.config_id for story in histories] == [row["config_id"] for row in ROWS["configs"]]
    assert [pointer.state for pointer in store.lane_pointers(registry)] == ["paper", "paper"]
    steps = store.history(registry)
    for step, row in zip(steps, ROWS["transitions"], strict=True):
        assert {key: getattr(step, key) for key in row if key != "seq"} == {k: v for k, v in row.items() if k != "seq"}
        assert step.size_multiplier is None
    actions = {(step.to_state, step.action) for step in steps}
    assert actions == {
        ("candidate", "added"),
        ("validated", "validated"),
        ("paper", "promoted"),
        ("replaced", "replaced"),
    }


def test_a_registry_of_version_2_comes_with_everything(tmp_path):
    make_version2(tmp_path)
    assert schema_version(kit.url(tmp_path)) == 2
    before = content(tmp_path)
    assert not registry_is_empty(kit.url(tmp_path))
    registry = kit.opened(tmp_path)
    after = content(tmp_path)
    assert after.pop("trials") == before.pop("looks")
    for name, version in (("alembic_version", "3"), ("schema_version", "3")):
        assert after.pop(name) == [(version,)] != before.pop(name)
    assert after == before
    assert {story.state for story in store.list_configs(registry)} == {"paper", "candidate"}
    assert [(pointer.lane, pointer.size_multiplier) for pointer in store.lane_pointers(registry)] == [
        ("paper1", 1.0),
        ("paper2", 0.5),
    ]


def test_trials_of_version_2_keep_their_ids(tmp_path):
    make_version2(tmp_path)
    registry = kit.opened(tmp_path)
    found = trials_between(registry, "synthetic", date(2026, 3, 1), date(2026, 3, 1))
    assert [(trial.rank, trial.trial_id) for trial in found] == [
        (row["slot"], row["look_id"]) for row in ROWS2["looks"] if row["venue"] == "synthetic"
    ]
    assert not add_trial(registry, replace(found[0], rank="another"), 1)  # the same trial, whoever repeats it
    assert add_trial(registry, replace(found[0], data_hash="e" * 64), 1)
    assert len(trials_between(registry, "synthetic", date(2026, 3, 1), date(2026, 3, 1))) == 3


def test_gates_and_metrics_of_version_2_keep_their_names(tmp_path):
    make_version2(tmp_path)
    (story, *_) = store.list_configs(kit.opened(tmp_path))
    stored = json.loads(ROWS2["verdicts"][0]["gates"])
    assert [gate.name for gate in story.verdicts[0].gates] == [gate["name"] for gate in stored]
    assert not {gate["name"] for gate in stored} & set(gate_names())
    assert dict(story.evidence[0].metrics) == json.loads(ROWS2["evidence"][0]["metrics"])


def test_a_registry_of_version_2_that_has_trials_alone_is_not_empty(tmp_path):
    make_version2(tmp_path, *map("DELETE FROM {}".format, (*WITH_CONFIGS, "configs")))
    assert not registry_is_empty(kit.url(tmp_path))
    with kit.connected(tmp_path) as connection:
        connection.execute(text("DELETE FROM looks"))
    assert registry_is_empty(kit.url(tmp_path))


def test_the_files_of_version_1_are_still_those_of_the_registry(tmp_path):
    make_version1(tmp_path)
    registry, lanes = kit.opened(tmp_path), tmp_path / "lanes"
    path = pointer_path(lanes, "paper1")
    path.parent.mkdir(parents=True)
    path.write_bytes((VERSION1 / "promoted.yaml").read_bytes())
    assert [words for words in drift(registry, lanes, "paper1").differences if "promoted.yaml" in words] == []
    old = parse_pointer(path, path.read_bytes())
    render(registry, lanes, "paper1")
    assert parse_pointer(path, path.read_bytes()) == old
    assert b"state: paper" in path.read_bytes()


def test_a_registry_of_version_1_goes_on(tmp_path):
    make_version1(tmp_path)
    registry, lanes = kit.opened(tmp_path), tmp_path / "lanes"
    config_id = kit.judged(registry, 7)
    done = kit.promote(registry, lanes, kit.PAPER1, config_id, kit.POLICY, 3, kit.at(99))
    assert (done.pointer.generation, done.transition.action) == (4, "promoted")
    assert drift(registry, lanes, "paper1").differences == ()


def test_a_second_opening_changes_nothing(tmp_path):
    make_version1(tmp_path)
    kit.opened(tmp_path)
    before = content(tmp_path)
    kit.opened(tmp_path)
    assert content(tmp_path) == before


def test_many_bring_one_registry_forward(tmp_path):
    make_version1(tmp_path)
    barrier = Barrier(4)

    def enter(_number):
        barrier.wait()
        return len(store.list_configs(kit.opened(tmp_path)))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(enter, range(4))) == [5] * 4


@pytest.mark.parametrize(
    ("make_before", "name", "configs"),
    # Version 2 makes this table last, after its columns are filled; version 3 renames another one to it.
    [(make_version1, "looks", 5), (make_version2, "trials", 3)],
)
def test_a_migration_that_fails_half_way_changes_nothing(tmp_path, make_before, name, configs):
    make_before(tmp_path)
    with kit.connected(tmp_path) as connection:
        connection.execute(text(f"CREATE TABLE {name} (of_somebody_else INTEGER)"))
    before = content(tmp_path)
    with pytest.raises(DataError, match=r"(already exists|already another table).*; restore it from a backup"):
        kit.opened(tmp_path)
    assert content(tmp_path) == before
    with kit.connected(tmp_path) as connection:
        connection.execute(text(f"DROP TABLE {name}"))
    assert len(store.list_configs(kit.opened(tmp_path))) == configs


KILLED = """
import os, signal, sys
from pathlib import Path
import registry_kit as kit
from sqlalchemy import Engine, event
def look(connection, cursor, statement, *_):
    if statement.lstrip().startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
event.listen(Engine, "after_cursor_execute", look)
kit.opened(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    "after",
    [
        pytest.param("ALTER TABLE lanes", marks=pytest.mark.long),
        pytest.param("CREATE TABLE looks", marks=pytest.mark.long),
        "ALTER TABLE looks RENAME",
        pytest.param("UPDATE alembic_version", marks=pytest.mark.long),
    ],
)
def test_a_process_that_is_killed_in_a_migration_leaves_the_old_registry(tmp_path, after):
    make_version1(tmp_path)
    before = content(tmp_path)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    died = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), after], env={**os.environ, "PYTHONPATH": paths}, check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert content(tmp_path) == before
    assert len(store.history(kit.opened(tmp_path))) == len(ROWS["transitions"])


def test_an_mei_of_version_1_is_told_that_it_is_too_old(tmp_path):
    kit.opened(tmp_path)
    with kit.connected(tmp_path) as connection:
        assert connection.execute(text("SELECT version FROM schema_version")).scalars().all() == [3]


def test_a_newer_registry_is_refused_and_left(tmp_path):
    kit.opened(tmp_path)
    with kit.connected(tmp_path) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '4'"))
    before = content(tmp_path)
    for look in (kit.opened, lambda folder: schema_version(kit.url(folder))):
        with pytest.raises(Refused, match=r"schema version 4, this one knows 3\); update MEI"):
            look(tmp_path)
    assert content(tmp_path) == before


def test_looking_at_the_version_makes_no_tables(tmp_path):
    assert schema_version(kit.url(tmp_path)) == 0
    with kit.connected(tmp_path) as connection:
        assert inspect(connection).get_table_names() == []
