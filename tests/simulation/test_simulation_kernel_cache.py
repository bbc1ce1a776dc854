"""The folder of compiled kernels: whose files numba may unpickle."""

import grp
import os
import pwd
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.cache import source_hash
from mei_pipeline.cli.doctor import examine
from mei_pipeline.cli.main import run
from mei_pipeline.errors import ConfigError
from mei_pipeline.settings import CHECKOUT, read_settings
from mei_pipeline.simulation.kernel_cache import announce_compiling, check_cache, use_kernels

NOBODY = 65_534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other users")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds a kernel of this source, as MEI makes it."""
    folder = tmp_path / "above" / "cache"
    used = used_in(folder)
    used.mkdir(parents=True)
    (used / "features.nbc").write_text("machine code")
    monkeypatch.setenv("MEI_CACHE", str(folder))
    for path in (folder.parent, folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def used_in(cache: Path) -> Path:
    return cache / "kernels" / source_hash()[:16]


def check(cache: Path, user: int | None = None) -> None:
    check_cache(cache, used_in(cache), user)


def mend(cache: Path, why: str) -> None:
    """Have a cache refused, and type the command that the message names."""
    with pytest.raises(ConfigError, match=why) as refused:
        check(cache)
    [command] = re.findall(r"type `(.*?)`", str(refused.value))
    subprocess.run(shlex.split(command), check=True)


def test_a_cache_of_one_s_own_is_used(cache: Path, compiled_kernels: Path) -> None:
    check(cache)
    assert use_kernels(read_settings()) == compiled_kernels  # the first call of this process decides
    check(cache.with_name("new"))
    link = cache.with_name("link")
    link.symlink_to(cache)
    check(link)


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o1777])
@pytest.mark.parametrize("place", [".", "kernels", "kernels/{hash}"])
def test_a_folder_of_the_cache_that_others_may_write_is_refused(cache: Path, place: str, mode: int) -> None:
    folder = cache / place.format(hash=source_hash()[:16])
    folder.chmod(mode)
    mend(cache, rf"{folder} may be written by other users \(mode {mode:o}\)")
    check(cache)


def test_a_file_that_others_may_write_is_refused(cache: Path) -> None:
    (used_in(cache) / "features.nbc").chmod(0o666)
    with pytest.raises(ConfigError, match=r"features\.nbc may be written by other users"):
        check(cache)


def test_a_folder_above_that_others_may_rename_in_is_refused(cache: Path) -> None:
    cache.parent.chmod(0o777)
    mend(cache, f"{cache.parent} may be written by other users")
    check(cache)
    cache.parent.chmod(0o1777)  # as /tmp
    check(cache)


def test_a_link_in_the_cache_is_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("machine code")
    (used_in(cache) / "engine.nbc").symlink_to(tmp_path / "elsewhere")
    mend(cache, r"engine\.nbc is a link")
    check(cache)


@as_root
@pytest.mark.parametrize("place", [".", "kernels", "kernels/{hash}", "kernels/{hash}/features.nbc"])
def test_what_another_user_owns_is_refused(cache: Path, place: str) -> None:
    path = cache / place.format(hash=source_hash()[:16])
    os.chown(path, NOBODY, -1)
    mend(cache, f"{path} belongs to user")
    check(cache)


@as_root
def test_a_cache_that_root_made_serves_other_users(cache: Path) -> None:
    check(cache, NOBODY)


@as_root
def test_a_stranger_s_folder_in_a_shared_one_is_refused(cache: Path) -> None:
    cache.parent.parent.chmod(0o1777)
    os.chown(cache.parent, NOBODY, -1)
    mend(cache, f"{cache.parent} belongs to user")
    check(cache)


@as_root
def test_a_group_may_write_only_if_it_has_no_other_member(cache: Path) -> None:
    used_in(cache).chmod(0o775)
    os.chown(used_in(cache), -1, max(each.gr_gid for each in grp.getgrall()) + 1)
    with pytest.raises(ConfigError, match="may be written by other users"):
        check(cache)
    user = pwd.getpwnam("nobody")
    members = {
        *grp.getgrgid(user.pw_gid).gr_mem,
        *(each.pw_name for each in pwd.getpwall() if each.pw_gid == user.pw_gid),
    }
    os.chown(used_in(cache), user.pw_uid, user.pw_gid)
    if members == {"nobody"}:
        check(cache, user.pw_uid)
    else:
        with pytest.raises(ConfigError, match="may be written by other users"):
            check(cache, user.pw_uid)


def test_commands_refuse_the_cache_and_the_doctor_names_it(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.chmod(0o777)
    assert run(["warmup"]) == ConfigError.exit_code
    message = capsys.readouterr().err
    assert f"MEI_CACHE={cache}" in message
    assert f"type `rm -r {cache}`" in message
    assert "set MEI_CACHE to a folder of your own" in message
    [finding] = examine(read_settings(), {"kernels"})
    assert (finding.level, "may be written by other users" in finding.state) == ("fail", True)


def test_what_is_compiled_is_not_for_the_group_to_write(cache: Path) -> None:
    code = (
        "import os; os.umask(0); from mei_pipeline.simulation.kernel_cache import use_kernels; "
        "from mei_pipeline.settings import read_settings; (use_kernels(read_settings()) / 'x').touch()"
    )
    made = cache.with_name("made")
    environment = {**os.environ, "MEI_CACHE": str(made)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=CHECKOUT)
    check(made)


def test_compiling_is_announced_once_on_stderr_and_only_where_there_is_no_machine_code(tmp_path, capsys):
    for _ in range(2):
        announce_compiling(tmp_path, "ema_cross")
    said = capsys.readouterr()
    assert (said.out, said.err.count("ema_cross")) == ("", 1)
    folder = tmp_path / "compiled"
    folder.mkdir()
    (folder / "simulate.kernels.simulate_ema_cross.run-646.py311.nbi").touch()
    announce_compiling(folder, "ema_cross")
    assert capsys.readouterr().err == ""
