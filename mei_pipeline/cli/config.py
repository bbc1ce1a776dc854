"""`mei config`: check the configuration, explain a key, print schemas and the reference page."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.groups import Group
from mei_pipeline.cli.options import result_options
from mei_pipeline.cli.symbols import check_option
from mei_pipeline.settings import read_settings

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter

    from mei_pipeline.config.load import Configuration
    from mei_pipeline.config.models import Overrides, SweepSpec


@click.group("config", cls=Group)
def config() -> None:
    """Check the configuration files, and look up keys and parameters."""


@config.command()
@result_options
def check(as_json: bool) -> None:
    """Read all files, check them against each other, and show their values.

    Each problem of each file is one line; the exit code is then 2.
    """
    from mei_pipeline.config.load import load_config

    configuration = load_config(read_settings().config)
    if as_json:
        output.print_json(
            {
                "folder": str(configuration.folder),
                "pipeline": _dump(configuration.pipeline),
                "policy": _dump(configuration.policy),
                "overrides": _dump(configuration.overrides),
                "sweeps": {name: _dump(spec) for name, spec in configuration.sweeps.items()},
                "lanes": {name: _dump(lane) for name, lane in configuration.lanes.items()},
                "no_evidence": list(_no_evidence(configuration)),
            }
        )
        return
    output.table(f"{configuration.folder}: no problem found", ("file", "content"), list(_summary(configuration)))


@config.command()
@click.argument("path")
@click.option("--strategy", help="Strategy whose parameter is meant.")
@click.option("--symbol", callback=check_option, help="Apply the overrides of this symbol.")
@click.option(
    "--mode", type=click.Choice(["primary", "fallback", "conservative"]), help="Apply the overrides of this role."
)
@click.option("--live", is_flag=True, help="Apply the overrides of lanes that trade real money.")
@result_options
def explain(path: str, strategy: str | None, symbol: str | None, mode: str | None, live: bool, as_json: bool) -> None:
    """Show the value of PATH, its origin, the allowed values and the effect.

    PATH is a parameter such as trade.sl_atr_mult, or a key of pipeline.yaml or policy.yaml such as window.days.
    """
    from mei_pipeline.config import explain
    from mei_pipeline.config.load import load_config
    from mei_pipeline.params.table import read_catalog

    explanation = explain.explain(
        load_config(read_settings().config),
        read_catalog(),
        path,
        strategy=strategy,
        symbol=symbol,
        mode=mode,
        live=live,
    )
    if as_json:
        output.print_json(vars(explanation))
        return
    rows = [
        ("effect", explanation.doc),
        ("strategy", explanation.strategy or None),
        ("value", _text(explanation.value, explanation.unit)),
        ("from", explanation.origin),
        ("default", _text(explanation.default, explanation.unit)),
        ("allowed", explanation.allowed),
        ("affects", explanation.role or None),
        (
            "per symbol",
            None
            if explanation.per_symbol is None
            else "yes"
            if explanation.per_symbol
            else "no, one for the whole book",
        ),
        *((f"symbol {name}", _text(value, explanation.unit)) for name, value in explanation.symbols.items()),
        *((f"sweep {name}", _of_sweep(value)) for name, value in explanation.sweeps.items()),
    ]
    output.table(explanation.path, ("", ""), [row for row in rows if row[1] is not None])


@config.command()
@click.argument(
    "name",
    type=click.Choice(["pipeline", "policy", "overrides", "lane", "sweep", "backtest", "promoted", "candidate"]),
    metavar="NAME",
)
@click.option(
    "--json", is_flag=True, expose_value=False, help="Print errors as a JSON object too; a schema always is one."
)
def schema(name: str) -> None:
    """Print the JSON Schema (2020-12) of a file, for editors and other programs.

    NAME is pipeline, policy, overrides (strategy_overrides.yaml), lane, sweep, backtest (what `mei backtest` reads),
    promoted (a config of a lane) or candidate (candidates.json of a nightly run).
    """
    from mei_pipeline.config.strategy_schema import json_schema
    from mei_pipeline.params.table import read_catalog

    title, form = _form(name)
    output.print_json(json_schema(form, read_catalog(), title))


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print the page as the text `markdown` of one JSON object.")
def reference(as_json: bool) -> None:
    """Print the reference page of all files and parameters as Markdown."""
    from mei_pipeline.config.reference import reference as reference_page
    from mei_pipeline.params.table import read_catalog

    text = reference_page(read_catalog())
    if as_json:
        output.print_json({"markdown": text})
        return
    output.echo(text, end="")


COMMANDS: list[click.Command] = [config]


def _form(name: str) -> "tuple[str, TypeAdapter[Any]]":
    """Return the title and the type of a kind of file."""
    from pydantic import TypeAdapter

    from mei_pipeline.config import models
    from mei_pipeline.config.promoted import PromotedFile
    from mei_pipeline.replay.spec import BacktestSpec
    from mei_pipeline.selection.io import CANDIDATES

    if name == "candidate":
        return "candidates.json: candidates of a nightly run", CANDIDATES
    forms: dict[str, type[BaseModel]] = {
        "pipeline": models.PipelineConfig,
        "policy": models.PolicyConfig,
        "overrides": models.Overrides,
        "lane": models.LaneConfig,
        "sweep": models.SweepSpec,
        "backtest": BacktestSpec,
        "promoted": PromotedFile,
    }
    return " ".join((forms[name].__doc__ or "").split()), TypeAdapter(forms[name])


def _dump(model: "BaseModel") -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True)


def _summary(configuration: "Configuration") -> Iterator[tuple[str, str]]:
    pipeline, selection = configuration.pipeline, configuration.policy.selection
    universe = "all symbols" if pipeline.universe == "all" else f"{len(pipeline.universe)} symbols"
    profiles = ", ".join(f"{name} runs {profile.sweep}" for name, profile in pipeline.profiles.items())
    bars = f"{pipeline.venue} {', '.join(pipeline.intervals)} since {pipeline.start}"
    automation = "on" if pipeline.automation else "off"
    sources = f"{len(pipeline.sources)} {'source' if len(pipeline.sources) == 1 else 'sources'}"
    yield "pipeline.yaml", f"{bars}, {universe}, {sources}; {profiles}; automation {automation}"
    gates = selection.gates
    least = f"Sharpe {gates.min_sharpe:g}, deflated {gates.min_deflated_sharpe:g}, {gates.min_trades} trades"
    most = f"drawdown {gates.max_drawdown_pct:g} %"
    yield "policy.yaml", f"{selection.candidates} candidates; out of sample at least {least}, at most {most}"
    for text in _no_evidence(configuration):
        yield "policy.yaml", text
    yield "strategy_overrides.yaml", _summary_of_overrides(configuration.overrides)
    for name, spec in configuration.sweeps.items():
        yield f"sweeps/{name}.yaml", _summary_of_sweep(spec, pipeline.venue)
    for name, lane in configuration.lanes.items():
        owner = ", manual" if lane.manual else ""
        yield f"lanes/{name}.yaml", f"{lane.mode}, {lane.role}, {lane.venue}, {lane.equity_usd:,.0f} USD{owner}"


def _no_evidence(configuration: "Configuration") -> tuple[str, ...]:
    """Return the gates that the universe of pipeline.yaml can't pass, and how many symbols they need."""
    from mei_pipeline.config.evidence import least_symbols, missing_evidence

    selection, universe = configuration.policy.selection, configuration.pipeline.universe
    if universe != "all":
        return missing_evidence(selection, len(universe))
    least = max(2, least_symbols(selection))
    missing = missing_evidence(selection, least - 1)
    always = missing_evidence(selection, least)
    return always or (
        (f"no config can pass all gates with fewer than {least} symbols; `mei doctor` prints their number",)
        if missing
        else ()
    )


def _summary_of_overrides(overrides: "Overrides") -> str:
    layers = [f"{len(values)} in {'.'.join(keys)}" for keys, values in overrides.sections() if values]
    parts = [f"{overrides.strategy}: {', '.join(layers)}"] if layers else []
    limits = overrides.promoted
    if limits.exclude:
        parts.append(f"promoted lanes enter no {', '.join(limits.exclude)}")
    if limits.size_multiplier != 1.0:
        parts.append(f"promoted lanes: sizes times {limits.size_multiplier:g}")
    return "; ".join(parts) or "no values"


def _summary_of_sweep(spec: "SweepSpec", venue: str) -> str:
    from mei_pipeline.config.axes import grid_of
    from mei_pipeline.params.table import read_catalog

    combos = grid_of(spec, read_catalog().strategy(spec.strategy)).combos
    sampled = f"{spec.method}, {spec.budget:,} of " if spec.budget is not None else ""
    grid = f"{sampled}{combos:,} combos of {len(spec.axes)} axes"
    return f"{spec.strategy} on {spec.venue or venue} {spec.interval}: {grid}"


def _of_sweep(value: object) -> str | None:
    """Return a sentence on how a sweep uses a parameter."""
    if isinstance(value, dict):
        conditions = ", ".join(f"{path} is {_text(required)}" for path, required in value["when"].items())
        return f"axis: {_text(value['values'])}, when {conditions}"
    return f"axis: {_text(value)}" if isinstance(value, list) else f"fixed: {_text(value)}"


def _text(value: object, unit: str = "") -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(_text(item) or "" for item in value) or "none"
    if isinstance(value, dict):
        return json.dumps(value)
    return f"{value} {unit}".rstrip()
