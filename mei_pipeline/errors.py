"""The errors MEI raises, split by what the caller must do.

    MeiError
    ├── ConfigError      a file or option is wrong: edit it and try again
    ├── DataError        an artefact is missing, damaged or unfit: ingest, repair or restore it
    ├── Refused          a rule of MEI or of the exchange said no: doing it again changes nothing
    ├── Retryable        it did not happen and may succeed later: try again
    │   └── Busy         another process holds the lock
    ├── OutcomeUnknown   it may have happened: find out before doing anything else
    └── Fatal            an invariant broke: stop and look

Each message says what is wrong, where, and what to do. `exit_code` is what a command of `mei` exits with; `EXIT_CODES`
lists all of them. An option or argument that names what does not exist (a venue, a lane, a file) is a ConfigError.
"""

from collections.abc import Mapping


class MeiError(Exception):
    """Root of every error MEI raises on purpose."""

    exit_code = 1


class ConfigError(MeiError):
    """A configuration file, an option or an environment variable is wrong."""

    exit_code = 2


class DataError(MeiError):
    """An artefact is missing, damaged, stale or breaks its schema."""

    exit_code = 3


class Refused(MeiError):
    """A rule said no; repeating the request cannot succeed."""

    exit_code = 4


class Retryable(MeiError):
    """Nothing happened; the same request may succeed later."""

    exit_code = 5


class Busy(Retryable):
    """Another process is doing this right now."""


class OutcomeUnknown(MeiError):
    """The request may or may not have taken effect; it must be looked up before anything else is done."""

    exit_code = 6


class Fatal(MeiError):
    """An invariant does not hold; continuing would make it worse."""

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
    Fatal.exit_code: "an invariant does not hold: stop and look",
    INTERRUPTED: "interrupted by Ctrl-C",
}
"""Every exit code of `mei`, and its meaning."""
