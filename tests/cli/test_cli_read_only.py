"""Commands on a home that is mounted read-only: what reads works, what writes says what to do."""

import shutil
from pathlib import Path

import pytest
import registry_kit as kit
from candle_kit import NOW, bars, contents
from plain_user import as_plain_user

from mei_pipeline.candles.lake import Lake, merge_candles
from mei_pipeline.cli.main import run
from mei_pipeline.settings import CHECKOUT


@pytest.fixture
def closed(home: Path):
    """A home with a lake, a registry and a lane, none of whose folders and files can be written."""
    merge_candles(Lake(home / "lake"), bars(), now_ms=NOW)
    registry = kit.fresh(home)
    kit.promote(registry, home / "lanes", kit.PAPER1, kit.judged(registry), kit.POLICY, 0, kit.at())
    shutil.copytree(CHECKOUT / "config", home / "config")
    everything = [home, *home.rglob("*")]
    for path in everything:
        path.chmod(0o500 if path.is_dir() else 0o400)
    yield home
    for path in everything:
        path.chmod(0o700 if path.is_dir() else 0o600)


READING = ("lane list", "lane show paper1", "registry list", "registry history", "registry export", "sweep list",
           "lake show", "lake verify", "lake revisions", "coverage", "config check")  # fmt: skip
WRITING = ("lane set paper1 --hold x halt --why y", "registry pause --lane paper1 --why x", "lake undo {ingest} --yes",
           "restore {archive} --force")  # fmt: skip


def test_lists_work_on_a_home_that_is_read_only_and_a_backup_saves_it(closed, tmp_path, capsys):
    before = contents(closed)
    for command in (*READING, f"backup {tmp_path / 'b.tar'}"):
        assert as_plain_user(lambda command=command: run(command.split())) == 0, (command, capsys.readouterr().err)
    ingest = next((closed / "lake" / "ingests").iterdir()).stem
    capsys.readouterr()
    for command in WRITING:
        words = command.format(ingest=ingest, archive=tmp_path / "b.tar").split()
        assert as_plain_user(lambda words=words: run(words)) == 3, command
        message = capsys.readouterr().err
        assert "writable" in message, command
        assert "defect" not in message, command
    assert contents(closed) == before
