"""Where the registries of these tests are: in files, and in the tier `postgres` on a server of their own."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import registry_kit as kit


def binary(name):
    """A program of PostgreSQL: from PATH, or of the newest version where Debian puts them."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = shutil.which(name) or (str(places[-1]) if places else None)
    if found is None:
        pytest.fail(f"{name} is not there: the tier postgres needs a server; apt-get install postgresql")
    return found


@pytest.fixture(scope="session")
def server():
    """URL of a throwaway server on a socket in a temporary folder; it stops with the tests."""
    if importlib.util.find_spec("psycopg") is None:
        pytest.fail("psycopg is not there: uv sync --extra postgres")
    # The server refuses to run as root, and is then given to the user that comes with its package.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="mei-pg-") as folder:
        if user:
            found = pwd.getpwnam("postgres")
            os.chown(folder, found.pw_uid, found.pw_gid)

        def call(name, *options):
            done = subprocess.run(
                [binary(name), "-D", f"{folder}/data", *options],
                **user, cwd=folder, check=False, capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"

        call("initdb", "--auth=trust", "--username=mei", "--encoding=UTF8", "--no-locale", "--no-sync")
        settings = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=60"
        call("pg_ctl", "--wait", "-o", settings, "-l", f"{folder}/log", "start")
        try:
            yield f"postgresql+psycopg://mei@/postgres?host={folder}"
        finally:
            call("pg_ctl", "--mode=immediate", "stop")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request, monkeypatch):
    """Every registry that `registry_kit` opens is in this database; the test runs once for each."""
    monkeypatch.delenv(kit.SERVER, raising=False)
    if request.param == "postgres":
        monkeypatch.setenv(kit.SERVER, request.getfixturevalue("server"))
    return request.param


@pytest.fixture
def registry(tmp_path):
    """An empty registry."""
    return kit.fresh(tmp_path)


@pytest.fixture
def lanes(tmp_path):
    """The folder of the lanes' files; not made yet."""
    return tmp_path / "lanes"
