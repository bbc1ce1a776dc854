"""Do something as a user to whom file modes apply, also where the tests run as root."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_VERSION_3 = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1 << 1, 1 << 2

Result = TypeVar("Result")


def as_plain_user(action: Callable[[], Result]) -> Result:
    """Run `action` in a thread that has given up root's right to ignore file modes, and return or raise as it does."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_without_override, action).result()


def _without_override(action: Callable[[], Result]) -> Result:
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
        data = (ctypes.c_uint32 * 6)()
        if libc.capget(header, data):
            raise OSError(ctypes.get_errno(), "capget")
        data[0] &= ~(_DAC_OVERRIDE | _DAC_READ_SEARCH)
        if libc.capset(header, data):
            raise OSError(ctypes.get_errno(), "capset")
    return action()
