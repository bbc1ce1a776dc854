"""The folder of compiled kernels, and the checks that no other user can write to it.

numba stores machine code together with pickled Python objects, and unpickles them when it loads a kernel. A user who
can write a file to this folder could therefore run code as the user of MEI.
"""

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from functools import cache as once
from pathlib import Path

from kernels.cache import source_hash, use_cache
from mei_pipeline.errors import ConfigError
from mei_pipeline.log import stderr_log
from mei_pipeline.settings import Settings

_OTHERS, _GROUP = stat.S_IWOTH, stat.S_IWGRP


def use_kernels(settings: Settings) -> Path:
    """Keep compiled kernels in the cache.

    Returns:
        The folder in use. The first call in a process decides.

    Raises:
        ConfigError: Another user may write to the cache, or owns a part of it.
    """
    check_cache(settings.cache, settings.kernel_cache / source_hash()[:16])
    # numba compiles at any later time and writes with the umask of the process, so the umask changes for good.
    os.umask(os.umask(_OTHERS | _GROUP) | _OTHERS | _GROUP)
    return use_cache(settings.kernel_cache)


def is_compiled(folder: Path, strategy: str, function: str = "simulate.run") -> bool:
    """Return whether a folder of `use_kernels` has the machine code of a function of a strategy.

    Args:
        folder: The folder.
        strategy: Name of the strategy.
        function: File and name of the function, below `kernels/`.
    """
    module, _, name = function.partition(".")
    return any(folder.rglob(f"{module}.kernels.{module}_{strategy}.{name}-*.nbi"))


@once
def announce_compiling(folder: Path, strategy: str, function: str = "simulate.run") -> None:
    """Announce on stderr, once per process, that the kernels of a strategy are compiled on their first call.

    numba compiles for up to a minute, and nothing else is printed meanwhile. Arguments as for `is_compiled`.
    """
    if not is_compiled(folder, strategy, function):
        stderr_log().info("compiling kernels, once; this takes up to a minute", strategy=strategy, folder=str(folder))


def check_cache(cache: Path, used: Path, user: int | None = None) -> None:
    """Refuse a cache that other users can write to, or may have written to. Nothing is changed.

    Folders above the cache are checked too: a user who can rename a folder can replace it.

    Args:
        cache: The folder of `MEI_CACHE`; it need not exist.
        used: The folder below the cache whose files are loaded; every file in it is checked.
        user: Id of the user who runs the kernels; by default the user of this process.

    Raises:
        ConfigError: Another user can write to the cache; the message names the folder or file, and what to do.
    """
    allowed = {0, os.geteuid() if user is None else user}
    below = [path for path in (used, *used.parents) if path != cache and path.is_relative_to(cache)]
    inside = [cache, *reversed(below), *_below(used)]
    problems = (
        *(_problem_above(path, allowed) for path in _above(cache)),
        *(_problem_inside(cache, path, allowed) for path in inside if os.path.lexists(path)),
    )
    if problem := next(filter(None, problems), ""):
        raise ConfigError(f"MEI_CACHE={cache}: {problem}, or set MEI_CACHE to a folder of your own")


def _problem_above(path: Path, allowed: set[int]) -> str:
    """Return the problem with a folder above the cache, and the command that corrects it; else an empty text."""
    mode = path.stat().st_mode
    # In a sticky folder such as /tmp, users can add files but rename only their own.
    if mode & _OTHERS and not mode & stat.S_ISVTX:
        return (
            f"{path} may be written by other users (mode {stat.S_IMODE(mode):o}), who could replace the cache below "
            f"it, and MEI runs the machine code in it as you; type `chmod o-w {shlex.quote(str(path))}`"
        )
    owner = path.lstat().st_uid
    if _in_shared(path) and owner not in allowed:
        return (
            f"{path} belongs to user {_name(owner)}, who could replace the cache below it, and MEI runs the machine "
            f"code in it as you; type `chown {_name(os.geteuid())} {shlex.quote(str(path))}` as root"
        )
    return ""


def _problem_inside(cache: Path, path: Path, allowed: set[int]) -> str:
    """Return the problem with a file or folder of the cache, and the command that corrects it; else an empty text."""
    wrong = _wrong_inside(path, allowed, linked=path == cache)
    return wrong and (
        f"{wrong}, and MEI runs the machine code in the cache as you; type `rm -r {shlex.quote(str(cache))}` "
        "(MEI compiles it anew)"
    )


def _wrong_inside(path: Path, allowed: set[int], *, linked: bool) -> str:
    """Return the problem with a file or folder of the cache; only the cache itself may be a link (`linked`)."""
    if path.is_symlink() and not linked:
        return f"{path} is a link"
    for status in (path.lstat(), path.stat()):
        if status.st_uid not in allowed:
            return f"{path} belongs to user {_name(status.st_uid)}"
    mode = status.st_mode
    if mode & _OTHERS or (mode & _GROUP and not _alone_in_group(status)):
        return f"{path} may be written by other users (mode {stat.S_IMODE(mode):o})"
    return ""


def _above(cache: Path) -> Iterator[Path]:
    """Return the existing folders above a cache, by their names and after following links."""
    folders = dict.fromkeys([*reversed(cache.parents), *reversed(cache.resolve().parents)])
    return (path for path in folders if path.is_dir())


def _below(folder: Path) -> Iterator[Path]:
    """Return all files and folders below a folder."""
    return folder.rglob("*") if folder.is_dir() else iter(())


def _in_shared(path: Path) -> bool:
    """Return whether the parent folder is sticky and writable by all users, such as /tmp."""
    mode = path.parent.stat().st_mode
    return bool(mode & stat.S_ISVTX and mode & _OTHERS)


def _alone_in_group(status: os.stat_result) -> bool:
    """Return whether the owner is the only member of the group; many systems give each user a group of their own."""
    try:
        members = {
            *grp.getgrgid(status.st_gid).gr_mem,
            *(each.pw_name for each in pwd.getpwall() if each.pw_gid == status.st_gid),
        }
    except KeyError:
        return False
    return members == {_name(status.st_uid)}


def _name(user: int) -> str:
    """Return the name of a user, or the id if there is no name."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
