"""Settings from environment variables, and the folders of a home. No other module reads MEI's variables."""

import hashlib
import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mei_pipeline.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parent.parent

VARIABLES = {
    "MEI_HOME": "home",
    "MEI_CONFIG": "config",
    "MEI_CACHE": "cache",
    "MEI_KERNELS": "kernels",
    "MEI_LOG": "log_format",
    "MEI_REGISTRY_URL": "registry_url",
    "MEI_SWEEPS": "sweeps_at",
    "MEI_UI_TOKEN": "ui_token",
}


_OF_TESTS = "MEI_TEST_"
"""Prefix of variables for tests; no command reads them."""

_PATTERN = frozenset("*?[]%")
"""Characters that Dagster treats as a pattern or an escape in the path of its home."""
_SECRET_CHARACTERS = 32
_SECRET = re.compile(rf"[A-Za-z0-9_-]{{{_SECRET_CHARACTERS},}}")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


class Settings(BaseModel):
    """Settings of this process. Folders are absolute.

    Attributes:
        home: Folder of all state (`MEI_HOME`, default `var/` of the checkout).
        config: Folder of the operator's YAML files (`MEI_CONFIG`). By default `config/` of the home if it exists, as in
            the home of `mei demo`, else `config/` of the checkout.
        cache: Folder of compiled kernels, shared by all homes (`MEI_CACHE`, default `var/cache/` of the checkout).
        kernels: Folder of kernels for GPUs, written by `mei kernels build` (`MEI_KERNELS`, default `cuda/` of the
            cache).
        log_format: `console` for people, `json` for services (`MEI_LOG`).
        registry_url: SQLAlchemy URL of the registry (`MEI_REGISTRY_URL`); empty for `registry.db` in the home.
        sweeps_at: Storage of the results of sweeps (`MEI_SWEEPS`): a folder that several machines share, or
            `s3://bucket/prefix`; empty for `sweeps/` of the home.
        ui_token: Token for the page of `mei ui` (`MEI_UI_TOKEN`). If empty, loopback needs no token, and any other
            address gets a new token at each start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = CHECKOUT / "var"
    config: Path = CHECKOUT / "config"
    cache: Path = CHECKOUT / "var" / "cache"
    kernels: Path = CHECKOUT / "var" / "cache" / "cuda"
    log_format: Literal["console", "json"] = "console"
    registry_url: str = ""
    sweeps_at: str = ""
    ui_token: str = Field(default="", repr=False)

    @field_validator("ui_token")
    @classmethod
    def _long_enough(cls, value: str) -> str:
        if value and not _SECRET.fullmatch(value):
            raise ValueError(
                f"must be at least {_SECRET_CHARACTERS} of A-Z a-z 0-9 - _, as `openssl rand -hex 32` makes"
            )
        return value

    @field_validator("sweeps_at")
    @classmethod
    def _folder_or_bucket(cls, value: str) -> str:
        scheme, found, _ = value.partition("://")
        if found and scheme != "s3":
            raise ValueError("must be a folder or s3://bucket/prefix")
        return value if found or not value else str(Path(value).expanduser().absolute())

    @property
    def lake(self) -> Path:
        """Candles, funding and instruments."""
        return self.home / "lake"

    @property
    def nights(self) -> Path:
        """One folder per nightly run: its plan, its results and its report."""
        return self.home / "nights"

    @property
    def features(self) -> Path:
        """Feature columns, memory-mapped by sweeps."""
        return self.home / "features"

    @property
    def sweeps(self) -> Path:
        """One folder per sweep: its plan and chunks of results, or a copy of them if they are kept in a bucket."""
        return self.home / "sweeps" if self.sweeps_bucket or not self.sweeps_at else Path(self.sweeps_at)

    @property
    def sweeps_bucket(self) -> str:
        """`s3://bucket/prefix` of the results of sweeps; empty if they are kept in a folder."""
        return self.sweeps_at if self.sweeps_at.startswith("s3://") else ""

    @property
    def feeds(self) -> Path:
        """One socket per running feed of a venue and network."""
        return self.home / "feeds"

    @property
    def lanes(self) -> Path:
        """One folder per lane: its configs, its pointer and the files of its executor."""
        return self.home / "lanes"

    @property
    def dagster(self) -> Path:
        """Folder of Dagster's runs and events."""
        return self.home / "dagster"

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME: the folder `dagster`, or a link to it in the cache if its path has characters of patterns."""
        if not _PATTERN & set(str(self.dagster)):
            return self.dagster
        return self.cache / "homes" / hashlib.sha256(str(self.dagster).encode()).hexdigest()[:16]

    @property
    def logs(self) -> Path:
        """Log files and alerts."""
        return self.home / "logs"

    @property
    def kernel_cache(self) -> Path:
        """Compiled kernels."""
        return self.cache / "kernels"

    @property
    def registry(self) -> str:
        """SQLAlchemy URL of the registry."""
        # In a URL of SQLAlchemy, % in a path starts an escape and ? ends the path.
        path = str(self.home / "registry.db").replace("%", "%25").replace("?", "%3F")
        return self.registry_url or f"sqlite:///{path}"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Args:
        environ: The environment; that of the process by default.

    Raises:
        ConfigError: A variable has a wrong value, an unknown `MEI_` variable is set, or Dagster can't use the home.
    """
    environ = os.environ if environ is None else environ
    unknown = sorted(
        name for name in environ if name.startswith("MEI_") and not name.startswith(_OF_TESTS) and name not in VARIABLES
    )
    if unknown:
        raise ConfigError(f"environment: unknown variable {unknown[0]}; allowed: {', '.join(sorted(VARIABLES))}")
    values = {field: environ[name] for name, field in VARIABLES.items() if environ.get(name)}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = next(name for name, field in VARIABLES.items() if field == first["loc"][0])
        value = "(not shown)" if name == "MEI_UI_TOKEN" else repr(first["input"])
        raise ConfigError(f"environment: {name}={value}: {first['msg']}") from None
    home = settings.home.expanduser().absolute()
    own = home / "config"
    config = own if "config" not in values and own.is_dir() else settings.config.expanduser().absolute()
    cache = settings.cache.expanduser().absolute()
    kernels = settings.kernels.expanduser().absolute() if "kernels" in values else cache / "cuda"
    complete = settings.model_copy(update={"home": home, "config": config, "cache": cache, "kernels": kernels})
    check_home(complete, home)
    return complete


def check_home(settings: Settings, home: Path) -> None:
    """Raise if a home can't be used, before anything is written into it.

    Args:
        settings: Settings of this process, for the cache.
        home: The home; it may differ from that of the settings.

    Raises:
        ConfigError: Its path has control characters, or both its path and the cache's have characters of patterns.
    """
    if not str(home).isprintable():
        raise ConfigError(f"home {str(home)!a}: the path has control characters; choose another folder")
    strange = sorted(_PATTERN & set(str(settings.model_copy(update={"home": home}).dagster_home)))
    if strange:
        raise ConfigError(
            f"home {home}: Dagster treats {' '.join(strange)} in its path as a pattern, and a link to it in "
            f"MEI_CACHE={settings.cache} would have the same problem; choose another home, or a cache without * ? [ ] %"
        )


def enter_home(home: Path) -> Settings:
    """Make `home` the home of this process and of its children, with its own configuration and registry."""
    os.environ["MEI_HOME"] = str(home.absolute())
    for name in ("MEI_CONFIG", "MEI_REGISTRY_URL", "MEI_SWEEPS"):
        os.environ.pop(name, None)
    return read_settings()


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of a process that works in the home of `settings` with its own configuration."""
    own = {"MEI_HOME": str(settings.home), "MEI_CACHE": str(settings.cache), "MEI_CONFIG": str(settings.config)}
    return {**os.environ, **own}


@contextmanager
def one_thread_for_children() -> Generator[None]:
    """Start processes within this context with one thread each: sums in another order have other last digits."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
