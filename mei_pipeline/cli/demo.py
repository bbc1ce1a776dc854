"""`mei demo`: run the whole pipeline offline, on a synthetic market, in a home of its own."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.options import result_options

if TYPE_CHECKING:
    from mei_pipeline.cli.demo_trade import Trading


@click.command()
@click.option(
    "--trade",
    "trades",
    is_flag=True,
    help="Then trade on paper for four weeks: a kill, a second config, all days repeated.",
)
@click.option("--no-edge", is_flag=True, help="Use a market without edge: no config may be promoted.")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to make the demo in. Default: demo/ in MEI_HOME.",
)
@result_options
def demo(trades: bool, no_edge: bool, home: Path | None, as_json: bool) -> None:
    """Run the whole pipeline once on a synthetic market with a planted edge.

    The market's seed and edge are fixed, so every run gives the same result. Each run replaces the demo's home.
    """
    from mei_pipeline.cli.demo_trade import trade
    from mei_pipeline.cli.nightly import run_night, show
    from mei_pipeline.demo import EDGE_SHARPE, PROFILE, SYMBOLS, Demo, make_home
    from mei_pipeline.files import locked
    from mei_pipeline.settings import check_home, enter_home, read_settings

    if trades and no_edge:
        raise click.UsageError("--trade needs a promoted config, and --no-edge promotes none; use one of them")
    name = "demo-no-edge" if no_edge else "demo"
    definition = Demo(home or read_settings().home / name, 0.0 if no_edge else EDGE_SHARPE)
    check_home(read_settings(), definition.home.absolute())
    output.note(f"a synthetic market of {SYMBOLS} symbols: {definition.edge}")
    with locked(definition.home.parent / f".{definition.home.name}.lock", f"a demo is running in {definition.home}"):
        make_home(definition)
        settings = enter_home(definition.home)
        if not any(settings.kernel_cache.rglob("*.nbi")):
            output.note("the kernels are compiled now, once; later runs take them from disk")
        with output.bar() as progress:
            summary = run_night(settings, PROFILE, progress=progress)
        trading = trade(settings, definition, output.note) if trades else None
    if as_json:
        traded = {} if trading is None else {"trading": trading.as_dict()}
        output.print_json(
            summary.as_dict() | {"home": str(definition.home), "edge_sharpe": definition.edge_sharpe} | traded
        )
        return
    show(summary)
    if trading is not None:
        _show_trading(trading)
    output.echo(f"home        {definition.home}")
    output.echo(f"            open it: MEI_HOME={shlex.quote(str(definition.home))} mei ui")


def _show_trading(trading: "Trading") -> None:
    equal = "equal to" if trading.equal else "DIFFERENT from"
    drained = "has drained" if trading.drained else "still drains"
    output.echo(f"trading     lane {trading.lane}, config {trading.config_id[:12]}: {trading.steps} steps")
    output.echo(f"            {trading.trades} trades closed, {trading.open_positions} positions open")
    output.echo(f"            profit {trading.pnl_usd:.2f} USD, open positions included")
    output.echo(f"            {trading.restarts} restart after SIGKILL in the middle of a position")
    output.echo(f"            fills and trades of three weeks {equal} those of a replay of the same bars")
    output.echo(f"            config {trading.second_config_id[:12]} was promoted while it ran; the first {drained}")
    output.echo(f"            {trading.days} days repeated from the journal: {trading.verdict}")


COMMANDS: list[click.Command] = [demo]
