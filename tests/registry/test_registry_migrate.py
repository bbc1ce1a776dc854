"""Registries of earlier versions become the present one, whole, or stay as they were."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import registry_kit as kit
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, NullPool, create_engine, insert, inspect, text

from mei_pipeline.errors import DataError, Refused
from mei_pipeline.registry import store, tables
from mei_pipeline.registry.database import reading, schema_version
from mei_pipeline.registry.lanes import drift, parse_pointer, pointer_path
from mei_pipeline.registry.migrate import REVISIONS
from mei_pipeline.registry.render import render

pytestmark = pytest.mark.usefixtures("database")

VERSION1 = Path(__file__).parent / "version1"
ROWS = json.loads((VERSION1 / "rows.json").read_text())


def connected(folder):
    """A connection of its own, as another program would have it."""
    return create_engine(kit.url(folder), poolclass=NullPool).begin()


def make_version1(folder, *extra):
    """A registry as version 1 of the tables had it, in whichever database the test runs."""
    with connected(folder) as connection:
        script = VERSION1 / f"{connection.dialect.name}.sql"
        for statement in script.read_text().split(";\n"):
            if statement.strip():
                connection.execute(text(statement))
        found = MetaData()
        found.reflect(connection)
        for table in found.sorted_tables:
            rows = [{key: value for key, value in row.items() if key != "seq"} for row in ROWS[table.name]]
            for row in rows:
                connection.execute(insert(table), row)  # in their order, so that the database counts as it did
        for statement in extra:
            connection.execute(text(statement))


def content(folder):
    """Every row of every table as it lies there."""
    with connected(folder) as connection:
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


@pytest.mark.parametrize("from_version1", [False, True])
def test_the_revisions_make_the_tables_that_the_code_knows(tmp_path, from_version1):
    if from_version1:
        make_version1(tmp_path)
    registry = kit.opened(tmp_path)
    with reading(registry) as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.METADATA) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["2"]


def test_a_registry_of_version_1_comes_with_everything(tmp_path):
    make_version1(tmp_path)
    assert schema_version(kit.url(tmp_path)) == 1
    before = content(tmp_path)
    registry = kit.opened(tmp_path)
    assert schema_version(kit.url(tmp_path)) == 2
    after = content(tmp_path)
    for name in ("configs", "evidence", "verdicts", "proposals"):
        assert after[name] == before[name]
    stories = store.list_configs(registry)
    assert [story.config.config_id for story in stories] == [row["config_id"] for row in ROWS["configs"]]
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


def test_a_migration_that_fails_half_way_changes_nothing(tmp_path):
    # The last thing that version 2 makes is there already: its columns and its back-filling are done by then.
    make_version1(tmp_path, "CREATE TABLE looks (of_somebody_else INTEGER)")
    before = content(tmp_path)
    with pytest.raises(DataError, match=r"looks.* already exists; restore it from a backup"):
        kit.opened(tmp_path)
    assert content(tmp_path) == before
    with connected(tmp_path) as connection:
        connection.execute(text("DROP TABLE looks"))
    assert len(store.list_configs(kit.opened(tmp_path))) == 5


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
        "CREATE TABLE looks",
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
    with connected(tmp_path) as connection:
        assert connection.execute(text("SELECT version FROM schema_version")).scalars().all() == [2]


def test_a_newer_registry_is_refused_and_left(tmp_path):
    kit.opened(tmp_path)
    with connected(tmp_path) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '3'"))
    before = content(tmp_path)
    for look in (kit.opened, lambda folder: schema_version(kit.url(folder))):
        with pytest.raises(Refused, match=r"schema version 3, this one knows 2\); update MEI"):
            look(tmp_path)
    assert content(tmp_path) == before


def test_looking_at_the_version_makes_no_tables(tmp_path):
    assert schema_version(kit.url(tmp_path)) == 0
    with connected(tmp_path) as connection:
        assert inspect(connection).get_table_names() == []
