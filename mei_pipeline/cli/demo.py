"""`mei demo`: run the whole pipeline offline, on a synthetic market, in a home of its own."""

import shlex
from pathlib import Path

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.options import result_options


@click.command()
@click.option("--no-edge", is_flag=True, help="Use a market without edge: no config may be promoted.")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to make the demo in. Default: demo/ in MEI_HOME.",
)
@result_options
def demo(no_edge: bool, home: Path | None, as_json: bool) -> None:
    """Run the whole pipeline once on a synthetic market with a planted edge.

    The market's seed and edge are fixed, so every run gives the same result. Each run replaces the demo's home.
    """
    from mei_pipeline.cli.nightly import run_night, show
    from mei_pipeline.demo import EDGE_SHARPE, PROFILE, SYMBOLS, Demo, make_home
    from mei_pipeline.files import locked
    from mei_pipeline.settings import check_home, enter_home, read_settings

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
    if as_json:
        output.print_json(summary.as_dict() | {"home": str(definition.home), "edge_sharpe": definition.edge_sharpe})
        return
    show(summary)
    output.echo(f"home        {definition.home}")
    output.echo(f"            open it: MEI_HOME={shlex.quote(str(definition.home))} mei ui")


COMMANDS: list[click.Command] = [demo]
