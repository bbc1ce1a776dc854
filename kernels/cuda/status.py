"""Classes of CUDA status codes, which decide the reaction to an error of the runtime or the driver.

Runtime and driver share their codes. The table has all codes of CUDA 13.0. An unknown code counts as a lost device,
because the same command may then succeed later and loses nothing on disk.
"""

from typing import Any, Literal

StatusKind = Literal["memory", "busy", "lost", "driver", "defect"]
"""Class of a status code.

memory: too little memory is free. busy: another process uses the device exclusively, or a service is not ready.
lost: the device or its context is gone. driver: the driver is too old, or does not fit the device or the kernels.
defect: a kernel or its launch is wrong and will fail again.
"""

STATUSES: dict[StatusKind, tuple[int, ...]] = {
    "memory": (2,),
    # Exclusive mode, a context in use, a driver that starts up, the multi-process service and its limits.
    "busy": (46, 127, 216, 802, 805, 806, 807, 808, 809),
    # No device, shutdown, uncorrectable memory, links, the system, watchdogs, destroyed contexts, unknown causes.
    "lost": (3, 4, 53, 100, 101, 201, 214, 220, 226, 301, 304, 702, 709, 719, 800, 810, 909, 911, 999),
    # Too old, of another version than the system's, or without code for the device.
    "driver": (10, 34, 35, 36, 49, 102, 103, 200, 209, 215, 218, 221, 222, 223, 224, 225, 302, 303, 801, 803, 804),
    # Wrong values, handles, pointers and symbols; features that the kernels do not use; more resources than a launch
    # may have; illegal addresses and instructions. The cause is in the arguments or the code, so they come back.
    "defect": (
        *(1, 5, 6, 7, 8, 9, 12, 13, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 37, 43, 44, 45, 52),
        *(65, 66, 67, 68, 69, 98, 205, 206, 207, 208, 210, 211, 212, 213, 217, 219, 300, 400, 401, 402, 500, 600),
        *(700, 701, 703, 704, 705, 708, 710, 711, 712, 713, 714, 715, 716, 717, 718, 720, 721, 811, 812),
        *(900, 901, 902, 903, 904, 905, 906, 907, 908, 910, 912, 913, 914, 915, 917),
    ),
}
"""Status codes of each class."""

KINDS: dict[int, StatusKind] = {status: kind for kind, statuses in STATUSES.items() for status in statuses}
"""Class of each known status code."""


def kind_of(cupy: Any, error: BaseException) -> StatusKind | None:
    """Return the class of an error of CUDA; None for any other error."""
    if isinstance(error, cupy.cuda.memory.OutOfMemoryError):
        return "memory"
    if isinstance(error, (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)):
        return KINDS.get(getattr(error, "status", -1), "lost")
    return None
