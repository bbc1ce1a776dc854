"""The home that `mei demo` made, for test modules that name this one in `pytest_plugins`: it runs once for all."""

import contextlib
import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mei_pipeline.cli.main import run


@dataclass(frozen=True)
class Demos:
    """A demo, and what it printed.

    Attributes:
        homes: Finished homes by the command that makes them.
        with_edge: JSON of `mei demo`.
    """

    homes: Mapping[tuple[str, ...], Path]
    with_edge: Mapping[str, Any]

    def copy(self, command: tuple[str, ...], home: Path) -> None:
        """Put at `home` what `command` makes."""
        shutil.copytree(self.homes[command], home)


def printed(*words: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run(list(words))
    assert code == 0, f"{' '.join(words)} exits with {code}"
    return out.getvalue()


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Demos:
    """The demo, made in a home `var` as a newcomer has it."""
    folder = tmp_path_factory.mktemp("demos")
    with pytest.MonkeyPatch.context() as patch:  # a demo stays in its home, by the environment
        patch.setenv("MEI_HOME", str(folder / "var"))
        patch.setenv("DAGSTER_HOME", str(folder / "dagster"))
        patch.setenv("COLUMNS", "160")
        shown = json.loads(printed("demo", "--json"))
    return Demos({("demo",): folder / "var" / "demo"}, shown)
