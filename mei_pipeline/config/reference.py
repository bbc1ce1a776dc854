"""The reference page of the configuration: the file models and the parameter tables, in `templates/config.md`."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mei_pipeline.config.keys import keys_of
from mei_pipeline.config.models import LaneConfig, Overrides, PipelineConfig, PolicyConfig, SweepSpec
from mei_pipeline.params.table import Catalog

_FILES = (PipelineConfig, PolicyConfig, SweepSpec, LaneConfig, Overrides)


def reference(catalog: Catalog) -> str:
    """Return the page as Markdown."""
    environment = Environment(
        loader=PackageLoader("mei_pipeline"),
        autoescape=False,  # noqa: S701 - Markdown, of our own text alone
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "section": _section}
    environment.tests["within"] = _within  # pyrefly: ignore[unsupported-operation]  # Jinja declares its own tests alone
    titles = {model: " ".join((model.__doc__ or "").split()).partition(": ") for model in _FILES}
    page = environment.get_template("config.md").render(
        files=[(name, text[:1].upper() + text[1:], keys_of(model)) for model, (name, _, text) in titles.items()],
        catalog=catalog,
    )
    return f"{page.rstrip()}\n"


def _section(path: str) -> str:
    return path.rpartition(".")[0]


def _within(parameter: Any, section: str) -> bool:
    return _section(parameter.path) == section


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value).replace("|", "\\|")
