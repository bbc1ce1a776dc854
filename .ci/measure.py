"""Measure which lines and branches of MEI the tests reach: a plugin of pytest, which a process loads before MEI.

    COVERAGE=FOLDER PYTHONPATH=.ci pytest -p measure ...

Each process that runs tests leaves a report in FOLDER, which file_coverage.py reads; one that only hands them out to
others leaves none. slipcover counts by code that it puts into modules as they are imported: a tracer would slow down
the lines of all packages.

Environment:
    COVERAGE: The folder of the reports.
    COVERAGE_OMIT: Patterns of files that are not measured, separated by commas.
"""

import gc
import json
import os
import sys
import tomllib
from pathlib import Path

import pytest
import slipcover

if sys.version_info < (3, 12):  # from 3.12 on slipcover puts no probes into code
    from instrumented import keep_in

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["slipcover"]
NAME = os.environ.get("PYTEST_XDIST_WORKER", "")

# slipcover looks through all functions of all modules to take its counters out of lines that ran often. At its default,
# 50 times, this took 7 % to 10 % of the time of the tests.
OFTEN = 2_000

measured = slipcover.Slipcover(branch=OPTIONS["branch"], exclude_also=OPTIONS["exclude-also"], d_miss_threshold=OFTEN)
begun = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Begin, before the first conftest.py imports MEI."""
    if NAME or not early_config.known_args_namespace.numprocesses:
        omitted = [pattern for pattern in os.environ.get("COVERAGE_OMIT", "").split(",") if pattern]
        files = slipcover.FileMatcher(sources=OPTIONS["source"], omit=omitted)
        if sys.version_info < (3, 12):
            keep_in(ROOT / ".pytest_cache" / "d" / "instrumented")
        slipcover.ImportManager(measured, files).__enter__()
        slipcover.wrap_spec_from_file_location(measured, files)  # so does Alembic load migrations
        early_config.stash[begun] = True
        gc.disable()  # all that is imported stays; tests/conftest.py enables it after the collection


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave the report."""
    if begun in session.config.stash:
        report = Path(os.environ["COVERAGE"]) / f"{NAME or 'alone'}-{os.getpid()}.json"
        report.write_text(json.dumps(measured.get_coverage()))
