"""Commands and pages about journals."""

import json
import re
import sqlite3
from contextlib import closing

import journal_kit as kit
import polars as pl
import pytest

from mei_pipeline.backup.run import backup, restore
from mei_pipeline.cli.doctor_home import check_lanes
from mei_pipeline.cli.main import run
from mei_pipeline.errors import DataError, Refused
from mei_pipeline.execution.journal import opening, reader, schema
from mei_pipeline.execution.journal.machine import machine_id
from mei_pipeline.files import locked
from mei_pipeline.settings import CHECKOUT, read_settings

PAGE = (CHECKOUT / "docs" / "reference" / "journal.md").read_text()


@pytest.fixture
def lane(home):
    """The folder of paper1, with a journal from another machine."""
    folder = home / "lanes" / "paper1"
    with closing(kit.create(folder)) as journal:
        journal.append(kit.fill(), kit.NOW, kit.every_row())
        journal.commit()
    return folder


def printed(capsys, *arguments, code=0):
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_an_export_lists_its_files_and_their_rows(form, tmp_path, capsys):
    out = tmp_path / "out"
    told = printed(capsys, "lane", "export", "paper1", "--to", str(out), "--format", form)
    assert told == {
        "lane": "paper1",
        "format": form,
        "files": {name: {"path": str(out / f"{name}.{form}"), "rows": 1} for name in schema.VIEWS},
    }
    assert {path.name for path in out.iterdir()} == {f"{name}.{form}" for name in schema.VIEWS}
    assert run(["lane", "export", "paper1", "--to", str(out)]) == 0
    assert re.search(r"trades\.parquet +1 *\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("export", "paper2", "--to", "out"), 3, "paper2/journal.db: no journal"),
        (("export", "paper9", "--to", "out"), 2, "lane paper9: "),
        (("export", "../paper1", "--to", "out"), 2, "the name is not allowed"),
        (("export", "paper1", "--to", "a file"), 3, "a file is in the place of a folder"),
        (("take-over", "paper2", "--yes"), 3, "paper2/journal.db: no journal"),
        (("take-over", "paper9", "--yes"), 2, "lane paper9: "),
    ],
)
def test_a_journal_that_is_not_there_is_an_error(arguments, code, words, lane, tmp_path, monkeypatch, capsys):
    (lane.parent / "paper2").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").touch()
    assert words in printed(capsys, "lane", *arguments, code=code)["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_a_lane_is_taken_over_on_purpose(lane, monkeypatch, capsys):
    path = lane / "journal.db"
    with closing(reader.connect_read_only(path)) as connection:
        before = reader.read_meta(connection, path)
    monkeypatch.setattr("sys.stdin", None)
    assert run(["lane", "take-over", "paper1"]) != 0
    with closing(kit.reopen(path)) as journal:  # a question without an answer changes nothing
        assert journal.meta == before
    told = printed(capsys, "lane", "take-over", "paper1", "--yes")
    here = machine_id(read_settings().cache)
    with closing(kit.reopen(path, machine_id=here)) as journal:
        assert told == {
            "lane": "paper1",
            "book_id": journal.meta.book_id,
            "former_book_ids": [before.book_id],
        }
    assert run(["lane", "take-over", "paper1", "--yes"]) == 0
    assert before.book_id in capsys.readouterr().out


def test_a_lane_that_runs_is_not_taken_over(lane, capsys):
    with locked(opening.lock_path(lane.parent, "paper1"), "running lane paper1"):
        told = printed(capsys, "lane", "take-over", "paper1", "--yes", code=5)
    assert "running lane paper1" in told["error"]["message"]


def test_a_backup_takes_the_committed_state_of_a_journal_in_use(lane, home, tmp_path):
    with closing(kit.reopen(lane / "journal.db")) as journal:
        journal.append(kit.timer(), kit.NOW)
        journal.commit()
        journal.append(kit.timer(), kit.NOW)
        backup(home, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", tmp_path / "new")
    path = tmp_path / "new" / "lanes" / "paper1" / "journal.db"
    with pytest.raises(Refused, match=r"another home .*mei lane take-over paper1"):
        kit.reopen(path)
    opening.adopt_journal(path, kit.LANE["machine_id"])
    with closing(kit.reopen(path)) as restored:
        assert (restored.last_seq, restored.meta.former_book_ids) == (2, (journal.meta.book_id,))
        restored.append(kit.timer(), kit.NOW)
        restored.commit()


def test_the_doctor_reads_each_journal(lane):
    [sound] = check_lanes(read_settings())
    assert sound.level == "ok"
    path = lane / "journal.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # The index of fill keys lacks a row, so the same fill could be journaled again.
        connection.executescript("PRAGMA writable_schema = ON; DROP TRIGGER fills_update;"
                                 "CREATE INDEX odd ON events (event);"
                                 "UPDATE sqlite_schema SET sql = 'CREATE INDEX odd ON events (seen_ms)'"
                                 " WHERE name = 'odd'")  # fmt: skip
    with pytest.raises(DataError, match=r"damaged: .*odd"):
        reader.check_integrity(path)
    [found] = check_lanes(read_settings())
    assert (found.level, f"{path}: damaged" in found.state) == ("fail", True)


def test_the_page_lists_every_column_of_every_view(lane):
    with closing(reader.connect_read_only(lane / "journal.db")) as connection:
        for name in schema.VIEWS:
            [columns] = re.findall(rf"^\| `v_{name}` \| .+? \| (.+) \|$", PAGE, flags=re.MULTILINE)
            named = re.findall(r"`([a-z_]+)`", columns)
            assert set(schema.columns(connection, f"v_{name}")) <= set(named), name


def test_the_queries_of_the_page_run(lane, tmp_path, monkeypatch):
    [queries] = re.findall(r"^```sql\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    with closing(reader.connect_read_only(lane / "journal.db")) as connection:
        results = [connection.execute(query).fetchall() for query in queries.split(";\n") if query.strip()]
    assert [len(rows) for rows in results] == [1, 1, 0]
    monkeypatch.chdir(tmp_path)
    assert run(["lane", "export", "paper1", "--to", "out"]) == 0
    [script] = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(script, names)  # noqa: S102 - a page of this checkout
    daily = names["daily"]
    assert isinstance(daily, pl.DataFrame)
    assert daily.height == 1
