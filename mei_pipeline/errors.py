"""Error classes of MEI, by the action that the caller must take.

    MeiError
    ├── ConfigError      a file or option is wrong: correct it and try again
    ├── DataError        data is missing, damaged or unfit: ingest, repair or restore it
    ├── Refused          a rule of MEI or of the exchange forbids it: trying again changes nothing
    ├── Retryable        nothing happened, and it may succeed later: try again
    │   └── Busy         another process holds the lock
    ├── OutcomeUnknown   it may have happened: find out before doing anything else
    └── Fatal            an invariant is broken: stop and investigate

Each message names the place, the problem and the action. `exit_code` is the exit code of a command that ends with the
error; `EXIT_CODES` lists all of them. An unknown venue, lane or file in an option is a ConfigError.
"""

from collections.abc import Mapping


class MeiError(Exception):
    """Base class of MEI's errors."""

    exit_code = 1


class ConfigError(MeiError):
    """A configuration file, an option or an environment variable is wrong."""

    exit_code = 2


class DataError(MeiError):
    """Data is missing, damaged, stale or breaks its schema."""

    exit_code = 3


class Refused(MeiError):
    """A rule forbids the request; repeating it can't succeed."""

    exit_code = 4


class Retryable(MeiError):
    """Nothing happened; the same request may succeed later."""

    exit_code = 5


class Busy(Retryable):
    """Another process holds the lock."""


class OutcomeUnknown(MeiError):
    """The request may have taken effect; find out before doing anything else."""

    exit_code = 6


class Fatal(MeiError):
    """An invariant is broken; continuing could do damage."""

    exit_code = 7


INTERRUPTED = 128 + 2
"""Exit code after Ctrl-C: 128 and the number of SIGINT, as shells report it."""

EXIT_CODES: Mapping[int, str] = {
    0: "done",
    MeiError.exit_code: "a defect of MEI, or a failed check",
    ConfigError.exit_code: "wrong configuration or usage: correct it",
    DataError.exit_code: "missing or damaged data: ingest, repair or restore it",
    Refused.exit_code: "refused by a rule: trying again changes nothing",
    Retryable.exit_code: "busy, or a full disk: try again later",
    OutcomeUnknown.exit_code: "outcome unknown: find out what happened before anything else",
    Fatal.exit_code: "an invariant is broken: stop and investigate",
    INTERRUPTED: "interrupted by Ctrl-C",
}
"""Every exit code of `mei`, and its meaning."""
