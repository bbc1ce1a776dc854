"""Reading of the whole configuration folder, with checks across its files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from mei_pipeline.config.document import Document, read_document
from mei_pipeline.config.fields import Name
from mei_pipeline.config.messages import report
from mei_pipeline.config.models import (
    FileSourceConfig,
    LaneConfig,
    Overrides,
    PipelineConfig,
    PolicyConfig,
    Profile,
    SweepSpec,
)
from mei_pipeline.config.venues import check_venues
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.paths import closest
from mei_pipeline.params.table import Catalog, read_catalog

PIPELINE = "pipeline.yaml"
POLICY = "policy.yaml"
OVERRIDES = "strategy_overrides.yaml"
SWEEPS = "sweeps"
LANES = "lanes"

ModelT = TypeVar("ModelT", bound=BaseModel)

_NAME: TypeAdapter[str] = TypeAdapter(Name)


@dataclass(frozen=True)
class Configuration:
    """The content of the configuration folder, checked across files.

    Attributes:
        folder: The folder, absolute.
        pipeline: pipeline.yaml.
        policy: policy.yaml.
        overrides: strategy_overrides.yaml; empty if the file does not exist.
        sweeps: sweeps/*.yaml by name.
        lanes: lanes/*.yaml by name.
    """

    folder: Path
    pipeline: PipelineConfig
    policy: PolicyConfig
    overrides: Overrides
    sweeps: Mapping[str, SweepSpec]
    lanes: Mapping[str, LaneConfig]

    def profile(self, name: str) -> Profile:
        """Return a profile.

        Raises:
            ConfigError: pipeline.yaml has no such profile.
        """
        if name not in self.pipeline.profiles:
            raise ConfigError(f"{self.folder / PIPELINE}: {_unknown('profile', name, self.pipeline.profiles)}")
        return self.pipeline.profiles[name]

    def sweep(self, name: str) -> SweepSpec:
        """Return a sweep.

        Raises:
            ConfigError: There is no file of that name in sweeps/.
        """
        if name not in self.sweeps:
            raise ConfigError(f"{self.folder / SWEEPS}: {_unknown('sweep', name, self.sweeps)}")
        return self.sweeps[name]


@dataclass(frozen=True)
class LaneConfigs:
    """The configuration that moves of lanes need; an invalid lane file leaves the others usable.

    Attributes:
        folder: The configuration folder, absolute.
        policy: policy.yaml.
        lanes: lanes/*.yaml by name.
        unusable: Error message by lane with an invalid file.
    """

    folder: Path
    policy: PolicyConfig
    lanes: Mapping[str, LaneConfig]
    unusable: Mapping[str, str]


def load_config(folder: Path, catalog: Catalog | None = None) -> Configuration:
    """Read every file of the configuration folder.

    Args:
        folder: The folder; by default `config/` of the checkout, or MEI_CONFIG.
        catalog: Parameter tables to check against; those of the kernels by default.

    Raises:
        ConfigError: A file or key is missing or invalid; one line per problem of all files.
    """
    from mei_pipeline.config.checks import Files, check  # noqa: PLC0415 - brings numpy, which lanes do without

    folder = _existing(folder)
    problems = list(_unread_files(folder))
    files = Files(
        pipeline=_read(folder / PIPELINE, PipelineConfig, problems),
        policy=_read(folder / POLICY, PolicyConfig, problems),
        overrides=_read_overrides(folder / OVERRIDES, problems),
        sweeps=_read_all(folder / SWEEPS, SweepSpec, problems),
        lanes=_read_all(folder / LANES, LaneConfig, problems),
        sweeps_folder=folder / SWEEPS,
    )
    problems += check(files, catalog or read_catalog())
    if problems or files.pipeline is None or files.policy is None or files.overrides is None:
        raise ConfigError(report(problems))
    return Configuration(
        folder=folder,
        pipeline=_resolve_source_paths(files.pipeline.model, folder),
        policy=files.policy.model,
        overrides=files.overrides.model,
        sweeps={name: found.model for name, found in files.sweeps.items() if found},
        lanes={name: found.model for name, found in files.lanes.items() if found},
    )


def load_lanes(folder: Path) -> LaneConfigs:
    """Read policy.yaml, pipeline.yaml and each lane file, for commands on one lane.

    Sweeps and overrides are not read: an error in one must not block the rollback of a lane.

    Raises:
        ConfigError: policy.yaml or pipeline.yaml is missing or invalid.
    """
    folder = _existing(folder)
    problems: list[str] = []
    pipeline = _read(folder / PIPELINE, PipelineConfig, problems)
    policy = _read(folder / POLICY, PolicyConfig, problems)
    if pipeline is None or policy is None:
        raise ConfigError(report(problems))
    lanes: dict[str, LaneConfig] = {}
    unusable = {path.stem: line for path, line in _misnamed(folder / LANES)}
    for path in _yaml_files(folder / LANES):
        flaws: list[str] = []
        document = _read_named(path, LaneConfig, flaws)
        if document:
            flaws += check_venues(pipeline, [document])
        if document is None or flaws:
            unusable[path.stem] = report(flaws)
        else:
            lanes[path.stem] = document.model
    return LaneConfigs(folder, policy.model, lanes, unusable)


def read_sweep(path: Path, catalog: Catalog | None = None) -> SweepSpec:
    """Read one sweep file, checked against the parameter tables.

    Raises:
        ConfigError: The file is missing or invalid; one line per problem.
    """
    from mei_pipeline.config.checks import check_sweep  # noqa: PLC0415 - as above

    document = read_document(path, SweepSpec)
    if problems := list(check_sweep(document, catalog or read_catalog())):
        raise ConfigError(report(problems))
    return document.model


def _existing(folder: Path) -> Path:
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; set MEI_CONFIG to the folder with {PIPELINE}")
    return folder


def _unknown(what: str, name: str, known: Mapping[str, object]) -> str:
    return f"no {what} {name!r}; {closest(name, known)}known: {', '.join(known) or 'none'}"


def _read(path: Path, model: type[ModelT], problems: list[str]) -> Document[ModelT] | None:
    try:
        return read_document(path, model)
    except ConfigError as error:
        problems += str(error).splitlines()
        return None


def _read_overrides(path: Path, problems: list[str]) -> Document[Overrides] | None:
    if not path.exists() and not path.is_symlink():
        return Document(path, Overrides())
    return _read(path, Overrides, problems)


def _read_all(folder: Path, model: type[ModelT], problems: list[str]) -> dict[str, Document[ModelT] | None]:
    found = {}
    for path in _yaml_files(folder):
        document = _read_named(path, model, problems)
        if _is_name(path.stem):
            found[path.stem] = document
    return found


def _read_named(path: Path, model: type[ModelT], problems: list[str]) -> Document[ModelT] | None:
    """Read a file whose name is the name of a sweep or lane."""
    if not _is_name(path.stem):
        problems.append(f"{path}: the file's name is not allowed; a name in lower case such as nightly.yaml")
        return None
    return _read(path, model, problems)


def _is_name(text: str) -> bool:
    try:
        _NAME.validate_python(text)
    except ValidationError:
        return False
    return True


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.yaml") if not path.name.startswith("."))


def _unread_files(folder: Path) -> Iterator[str]:
    """Yield files that look like configuration but are not read."""
    known = {Path(name).stem: name for name in (PIPELINE, POLICY, OVERRIDES)}
    for path in _yaml_files(folder):
        if path.stem not in known:
            yield f"{path}: unknown file; {closest(path.stem, known)}allowed: {', '.join(known.values())}"
    for place in (folder, folder / SWEEPS, folder / LANES):
        yield from (line for _, line in _misnamed(place))


def _misnamed(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.glob("*.yml")):
        yield path, f"{path}: name it {path.stem}.yaml, or remove it; .yml is not read"


def _resolve_source_paths(pipeline: PipelineConfig, folder: Path) -> PipelineConfig:
    """Resolve relative paths of sources against the configuration folder."""
    sources = tuple(
        source.model_copy(update={"path": str(folder / Path(source.path).expanduser())})
        if isinstance(source, FileSourceConfig)
        else source
        for source in pipeline.sources
    )
    return pipeline.model_copy(update={"sources": sources})
