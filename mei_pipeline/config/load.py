"""Read the whole configuration folder and check the files against each other, before anything runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from mei_pipeline.config.base import Name
from mei_pipeline.config.checks import Files, check, check_sweep
from mei_pipeline.config.models import (
    FilesSource,
    LaneConfig,
    Overrides,
    PipelineConfig,
    PolicyConfig,
    Profile,
    SweepSpec,
)
from mei_pipeline.config.nodes import Tree
from mei_pipeline.config.reader import Document, read_document, report
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
class Config:
    """What the configuration folder says; every part was checked against the others.

    Attributes:
        folder: The folder, absolute.
        pipeline: pipeline.yaml.
        policy: policy.yaml.
        overrides: strategy_overrides.yaml; empty when the file does not exist.
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
        """A kind of night.

        Raises:
            ConfigError: pipeline.yaml has no such profile.
        """
        if name not in self.pipeline.profiles:
            raise ConfigError(f"{self.folder / PIPELINE}: {_unknown('profile', name, self.pipeline.profiles)}")
        return self.pipeline.profiles[name]

    def sweep(self, name: str) -> SweepSpec:
        """A search.

        Raises:
            ConfigError: There is no file of that name in sweeps/.
        """
        if name not in self.sweeps:
            raise ConfigError(f"{self.folder / SWEEPS}: {_unknown('sweep', name, self.sweeps)}")
        return self.sweeps[name]


def load_config(folder: Path, catalog: Catalog | None = None) -> Config:
    """Read every file of the configuration folder.

    Args:
        folder: The folder; `config/` of the checkout unless MEI_CONFIG says otherwise.
        catalog: Parameter tables to check against; those of the kernels by default.

    Raises:
        ConfigError: Something is missing or wrong; one line per problem of all files.
    """
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; set MEI_CONFIG to the folder with {PIPELINE}")
    problems = list(_strangers(folder))
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
    return Config(
        folder=folder,
        pipeline=_anchored(files.pipeline.model, folder),
        policy=files.policy.model,
        overrides=files.overrides.model,
        sweeps={name: found.model for name, found in files.sweeps.items() if found},
        lanes={name: found.model for name, found in files.lanes.items() if found},
    )


def read_sweep(path: Path, catalog: Catalog | None = None) -> SweepSpec:
    """Read one search from a file of its own, checked against the parameter tables.

    Raises:
        ConfigError: The file is missing or wrong; one line per problem.
    """
    document = read_document(path, SweepSpec)
    if problems := list(check_sweep(document, catalog or read_catalog())):
        raise ConfigError(report(problems))
    return document.model


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
        return Document(path, Overrides(), Tree({}, {}, ()))
    return _read(path, Overrides, problems)


def _read_all(folder: Path, model: type[ModelT], problems: list[str]) -> dict[str, Document[ModelT] | None]:
    found = {}
    for path in _yaml_files(folder):
        try:
            _NAME.validate_python(path.stem)
        except ValidationError:
            problems.append(f"{path}: the file's name is not allowed; a name in lower case such as nightly.yaml")
        else:
            found[path.stem] = _read(path, model, problems)
    return found


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.yaml") if not path.name.startswith("."))


def _strangers(folder: Path) -> Iterator[str]:
    """Files that look like configuration and that nobody would read."""
    known = {Path(name).stem: name for name in (PIPELINE, POLICY, OVERRIDES)}
    for path in _yaml_files(folder):
        if path.stem not in known:
            yield f"{path}: unknown file; {closest(path.stem, known)}allowed: {', '.join(known.values())}"
    for place in (folder, folder / SWEEPS, folder / LANES):
        for path in sorted(place.glob("*.yml")):
            yield f"{path}: name it {path.stem}.yaml, or remove it; .yml is not read"


def _anchored(pipeline: PipelineConfig, folder: Path) -> PipelineConfig:
    """Relative paths of sources start at the configuration folder, wherever the process runs."""
    sources = tuple(
        source.model_copy(update={"path": str(folder / Path(source.path).expanduser())})
        if isinstance(source, FilesSource)
        else source
        for source in pipeline.sources
    )
    return pipeline.model_copy(update={"sources": sources})
