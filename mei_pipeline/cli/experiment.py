"""`mei experiment`: measure how often the selection promotes noise, and how often it finds an edge."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.groups import Group
from mei_pipeline.cli.options import result_options

if TYPE_CHECKING:
    from mei_pipeline.config.load import Configuration
    from mei_pipeline.experiment.calibration import EdgeResult
    from mei_pipeline.experiment.markets import ShuffledMarkets, SyntheticMarkets
    from mei_pipeline.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

_SWEEP = "experiment"


@click.group("experiment", cls=Group)
def experiment() -> None:
    """Run the whole selection on many markets of known edge, and count the promotions.

    The seeds of the markets start at --seed. Each market is searched, walked forward and judged under the current
    policy.yaml; no file is written.
    """


def _options(command: Command) -> Command:
    for option in (
        result_options,
        click.option("--workers", type=click.IntRange(0), default=0, help="Processes; default: one per processor."),
        click.option(
            "--nights", type=click.IntRange(1, 400), default=1, show_default=True, help="Consecutive nightly runs."
        ),
        click.option("--sweep", "sweep", default=_SWEEP, show_default=True, help="The search: a file of sweeps/."),
        click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the first market."),
        click.option("--markets", type=click.IntRange(1), default=200, show_default=True, help="How many markets."),
    ):
        command = option(command)
    return command


@experiment.command()
@click.option(
    "--candles",
    type=click.Choice(["synthetic", "lake"]),
    default="synthetic",
    show_default=True,
    help="Random walks, or days of the lake's hourly candles, shuffled and mirrored at random.",
)
@_options
def null(candles: str, **options: Any) -> None:
    """Measure how often noise is promoted, on markets without edge."""
    from mei_pipeline.config.load import load_config
    from mei_pipeline.experiment.markets import shuffled_markets, synthetic_markets
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    config = load_config(settings.config)
    others = config.policy.selection.holdout_symbols
    if candles == "lake":
        from mei_pipeline.candles.lake import Lake

        spec = config.sweep(options["sweep"])
        source: SyntheticMarkets | ShuffledMarkets = shuffled_markets(
            Lake(settings.lake), config.pipeline.venue, others, spec
        )
    else:
        source = synthetic_markets(0.0, others)
    _run(settings, config, source, {"kind": "null", "candles": candles, "edge": 0.0}, **options)


_edge = click.option(
    "--edge",
    type=click.FloatRange(0, min_open=True),
    required=True,
    help="Net annual Sharpe ratio that the best parameters of the search's strategy earn in the long run.",
)


@experiment.command()
@_edge
@_options
def planted(edge: float, **options: Any) -> None:
    """Measure how often an edge of stated size is found."""
    _run_planted("planted", edge, options)


@experiment.command()
@_edge
@click.option(
    "--until",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of the market's days after which the edge ends.",
)
@_options
def decayed(edge: float, until: float, **options: Any) -> None:
    """Measure how often an edge is promoted after it has ended."""
    _run_planted("decayed", edge, options, alive_frac=until)


@experiment.command("one-symbol")
@_edge
@_options
def one_symbol(edge: float, **options: Any) -> None:
    """Measure how often the book of ten symbols is promoted if only one of them has an edge.

    --edge holds for that symbol traded alone.
    """
    _run_planted("one-symbol", edge, options, one_symbol=True)


def _run_planted(kind: str, edge: float, options: dict[str, Any], **edge_options: Any) -> None:
    from mei_pipeline.config.load import load_config
    from mei_pipeline.experiment.markets import synthetic_markets
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    config = load_config(settings.config)
    strategy = config.sweep(options["sweep"]).strategy
    source = synthetic_markets(edge, config.policy.selection.holdout_symbols, strategy=strategy, **edge_options)
    until = {"until": edge_options["alive_frac"]} if "alive_frac" in edge_options else {}
    description = {
        "kind": kind,
        "candles": "synthetic",
        "edge": edge,
        "strategy": strategy,
        "drift": source.edge_size,
        **until,
    }
    _run(settings, config, source, description, **options)


@experiment.command()
@click.option("--sweep", default=_SWEEP, show_default=True, help="The search: a file of sweeps/.")
@click.option("--drift", "drifts", multiple=True, type=click.FloatRange(0), help="A planted drift; may be repeated.")
@click.option("--symbols", "books", multiple=True, type=click.IntRange(1), help="Symbols; may be repeated.")
@click.option("--years", type=click.IntRange(2), default=60, show_default=True, help="Of the measurement; even.")
@click.option("--seed", type=click.IntRange(0), default=80_000, show_default=True, help="Of the first market.")
@click.option("--workers", "threads", type=click.IntRange(0), default=0, help="Threads; default: one per processor.")
@result_options
def calibrate(
    *,
    sweep: str,
    drifts: tuple[float, ...],
    books: tuple[int, ...],
    years: int,
    seed: int,
    threads: int,
    as_json: bool,
) -> None:
    """Measure the Sharpe ratio of the best combo of a search for each planted drift.

    The tables behind --edge of the other commands come from this command. The unit of a drift is hourly standard
    deviations per hour of a trend. The defaults are those of the table of the search's strategy.
    """
    from mei_pipeline.candles.sources.synthetic_edge import TABLES
    from mei_pipeline.config.load import load_config
    from mei_pipeline.experiment.calibration import Rounds, measure
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    spec = load_config(settings.config).sweep(sweep)
    table = TABLES.get(spec.strategy, TABLES["ema_cross"])
    rounds = Rounds(years=years, seed=seed)
    edges: list[EdgeResult] = []
    with output.bar() as progress:
        for drift in drifts or tuple(table.sharpe):
            edges += measure(settings, spec, drift, books or table.symbols, rounds, threads, progress)
    if as_json:
        output.print_json(
            {"sweep": sweep, "strategy": spec.strategy, "years": years, "earned": list(map(asdict, edges))}
        )
        return
    rows = [(f"{each.drift:g}", each.symbols, f"{each.sharpe:.2f}", f"{each.trades_per_year:.0f}") for each in edges]
    title = f"The best combo of {sweep}.yaml ({spec.strategy}) on {years} years"
    output.table(title, ("drift", "symbols", "net Sharpe ratio", "trades per year"), rows)


COMMANDS: list[click.Command] = [experiment]


def _run(  # noqa: PLR0913 - the options of both commands
    settings: "Settings",
    config: "Configuration",
    source: "SyntheticMarkets | ShuffledMarkets",
    description: dict[str, Any],
    *,
    markets: int,
    seed: int,
    sweep: str,
    nights: int,
    workers: int,
    as_json: bool,
) -> None:
    from mei_pipeline.experiment.report import summary
    from mei_pipeline.experiment.run import Experiment, run_markets

    definition = Experiment(settings, config.sweep(sweep), config.policy.selection, source, nights)
    start = time.monotonic()
    with output.bar() as progress:
        outcomes = run_markets(definition, range(seed, seed + markets), workers, progress)
    result = description | {"sweep": sweep, "seed": seed} | summary(definition, outcomes)
    result["seconds"] = round(time.monotonic() - start, 1)
    if as_json:
        output.print_json(result)
    else:
        show(result)


def _edge_text(result: dict[str, Any]) -> str:
    if not result["edge"]:
        return "no edge"
    where = {
        "planted": "",
        "decayed": f" until {result.get('until', 1.0):.0%} of the days",
        "one-symbol": " in one symbol",
    }
    return f"Sharpe ratio {result['edge']:g} of {result['strategy']} planted{where[result['kind']]}"


def show(result: dict[str, Any]) -> None:
    """Print the result of an experiment for people."""
    parts = ("any run", result), ("first run", result["first_run"]), ("last run", result["last_run"])
    rows = [
        (name, part["promoted"], f"{part['rate']:.1%}", "{:.1%} to {:.1%}".format(*part["ci95"]))
        for name, part in (parts if result["runs"] > 1 else parts[:1])
    ]
    title = f"{result['markets']} {result['candles']} markets, {_edge_text(result)}: promoted"
    output.table(title, ("", "markets", "rate", "95 % interval"), rows)
    gates = [
        (name, each["failed"], each["no_evidence"], each["only_failure"]) for name, each in result["gates"].items()
    ]
    output.table(
        f"Gates that the {result['candidates']:,} candidates of all nightly runs did not pass",
        ("gate", "failed", "no evidence", "only failed gate"),
        gates,
    )
    output.note(
        f"{result['symbols']} symbols and {result['holdout_symbols']} held out, {result['combos']:,} combos of "
        f"{result['sweep']}.yaml, {result['runs']} nightly runs, {result['days_out_of_sample']} days out of sample; "
        f"{result['without_candidate']} runs without a candidate; policy {result['policy'][:12]}; "
        f"{result['seconds']:.0f} s"
    )
