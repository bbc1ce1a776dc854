"""`mei sweep`: run and resume sweeps over the lake."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.days import FROM, TO, days
from mei_pipeline.cli.groups import Group
from mei_pipeline.cli.options import result_options
from mei_pipeline.cli.sweep_forms import left_out, main_columns, table_of_best
from mei_pipeline.cli.sweeps import STORED_COMMANDS
from mei_pipeline.cli.tables import show_members

if TYPE_CHECKING:
    from mei_pipeline.config.models import SweepSpec
    from mei_pipeline.simulation.bars import Bars
    from mei_pipeline.simulation.device import DeviceName
    from mei_pipeline.sweep.plan import SweepPlan

_DEVICE = click.option(
    "--device",
    type=click.Choice(("auto", "cpu", "cuda")),
    default="auto",
    show_default=True,
    help="Device; `auto` selects the faster one and prints the reason.",
)
_THREADS = click.option("--threads", type=click.IntRange(0), default=0, help="Threads; default: one per processor.")
_TOP = click.option(
    "--top", "count", type=click.IntRange(1), default=10, help="How many of the best combos to show; default 10."
)


class _Sweeps(Group):
    """A group that adds the word `run` if the first word is no command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        # Two words in a row can only have been meant as a command and its argument.
        two_words = len(args) > 1 and not any(word.startswith("-") for word in args[:2])
        return super().parse_args(ctx, args if not args or args[0] in known or two_words else ["run", *args])


@click.group("sweep", cls=_Sweeps)
def sweep() -> None:
    """Run sweeps over the lake, and list, inspect, resume and compare them.

    `mei sweep SPEC` is short for `mei sweep run SPEC`. The first digits of an id name a sweep, as many as make it
    unique in `mei sweep list`.
    """


@sweep.command("run")
@click.argument("spec")
@FROM
@TO
@_DEVICE
@_THREADS
@_TOP
@result_options
def run(spec: str, start: Any, end: Any, device: "DeviceName", threads: int, count: int, as_json: bool) -> None:
    """Run SPEC, a name in config/sweeps or the path of such a file, over the lake; a killed sweep resumes."""
    from mei_pipeline.sweep.plan import make_plan

    search, bars, from_ms, to_ms = find_search(spec, start, end)
    _run_plan(make_plan(search, bars, from_ms, to_ms), bars, device, threads, count, as_json)


@sweep.command("resume")
@click.argument("sweep_id", metavar="SWEEP")
@_DEVICE
@_THREADS
@_TOP
@result_options
def resume(sweep_id: str, device: "DeviceName", threads: int, count: int, as_json: bool) -> None:
    """Resume SWEEP from its stored plan, even if its file has changed since.

    Rules and data must be those of the plan; otherwise the error names the difference.
    """
    from mei_pipeline.settings import read_settings
    from mei_pipeline.sweep.catalog import find_sweep
    from mei_pipeline.sweep.resume import planned_bars

    settings = read_settings()
    _, plan = find_sweep(settings.sweeps, sweep_id)
    _run_plan(plan, planned_bars(settings, plan), device, threads, count, as_json)


def _run_plan(plan: "SweepPlan", bars: "Bars", device: "DeviceName", threads: int, count: int, as_json: bool) -> None:
    """Run the rest of a plan, and show the best combos."""
    from mei_pipeline.candles.intervals import iso
    from mei_pipeline.config.document import read_yaml
    from mei_pipeline.config.load import PIPELINE
    from mei_pipeline.config.models import PipelineConfig
    from mei_pipeline.notes import data_notes
    from mei_pipeline.settings import read_settings
    from mei_pipeline.simulation.device import choose_device
    from mei_pipeline.simulation.feature_sets import build_features
    from mei_pipeline.simulation.kernel_cache import use_kernels
    from mei_pipeline.simulation.members import member_dicts, members_of
    from mei_pipeline.simulation.window import cut_window
    from mei_pipeline.sweep.results import open_results, write_notes
    from mei_pipeline.sweep.run import run_sweep
    from mei_pipeline.sweep.top import find_best

    settings = read_settings()
    cut = cut_window(bars, plan.from_ms, plan.to_ms)
    members = member_dicts(members_of(bars, plan.from_ms, plan.to_ms))
    notes = data_notes(bars, plan.from_ms, plan.to_ms)
    compute = read_yaml(settings.config / PIPELINE, PipelineConfig).compute  # a resumed sweep needs no other file
    chosen = str(choose_device(settings, device, plan.strategy)) if compute.backend == "local" else ""
    if chosen:
        output.note(f"device: {chosen}")
    with output.bar() as progress:
        use_kernels(settings)
        features = build_features(bars, plan.columns(), settings.features, progress)
        done = run_sweep(
            settings, plan, cut, features, threads=threads, device=device, compute=compute, progress=progress
        )
    write_notes(done.folder, notes)
    best = find_best(open_results(done.folder, plan), count)
    if as_json:
        output.print_json(
            {
                "sweep": done.id,
                "device": done.device,
                "folder": str(done.folder),
                "combos": done.combos,
                "resumed": done.resumed,
                "seconds": done.seconds,
                "combos_per_s": done.combos_per_s,
                "bar_steps_per_s": done.bar_steps_per_s,
                "members": members,
                "notes": notes,
                "top": main_columns(plan, best).to_dicts(),
                **left_out(best),
            }
        )
        return
    table_of_best(plan, best, "sharpe", done.combos)
    show_members(members, iso(plan.from_ms), iso(plan.to_ms))
    for note in notes:
        output.note(note)
    if chosen and done.device != chosen:
        output.note(f"device: {done.device}")
    output.note(f"{done.combos:,} combos in {done.seconds:.1f} s, {done.speed or 'all done before'}; {done.folder}")
    output.note(f"`mei sweep show {done.id[:8]}` shows the details")


def find_search(spec: str, start: Any, end: Any) -> "tuple[SweepSpec, Bars, int, int]":
    """Return the sweep, its bars and its window, all checked before a combo runs."""
    from mei_pipeline.candles.findings import symbols_with_spikes
    from mei_pipeline.candles.lake import Lake
    from mei_pipeline.config.benchmark import sweep_benchmark
    from mei_pipeline.config.load import load_config, read_sweep
    from mei_pipeline.errors import ConfigError, DataError
    from mei_pipeline.night.universe import spike_bounds
    from mei_pipeline.params.table import read_catalog
    from mei_pipeline.settings import read_settings
    from mei_pipeline.simulation.extents import common_symbols, extents_ms, last_bar_ms
    from mei_pipeline.simulation.loading import load_bars

    settings = read_settings()
    config = load_config(settings.config)
    search = read_sweep(Path(spec)) if spec.endswith((".yaml", ".yml")) else config.sweep(spec)
    lake = Lake(settings.lake)
    venue = search.venue or config.pipeline.venue
    names, absent = common_symbols(lake, venue, search.intervals)
    universe = config.pipeline.universe
    if universe != "all":
        names = [name for name in names if name in universe]
        absent = {name: why for name, why in absent.items() if name in universe}
    if not names:
        raise DataError(
            f"lake {lake.root}: no symbol of the universe has {' and '.join(search.intervals.read)} bars of {venue}; "
            f"run `mei ingest`, or name other symbols under `universe` in pipeline.yaml"
        )
    if absent:
        output.note("excluded: " + "; ".join(f"{name}, {why}" for name, why in absent.items()))
    sweep_benchmark(search, names, read_catalog())
    if search.interval not in config.pipeline.anchors:
        raise ConfigError(f"pipeline.yaml: anchors: no anchor for {search.interval}; add one")
    anchor_ms = config.pipeline.anchors[search.interval]
    extents = extents_ms(lake, venue, search.intervals, names)
    from_ms, to_ms = days(anchor_ms, last_bar_ms(extents), start, end)
    spiked = symbols_with_spikes(lake, venue, search.intervals.read, names, (anchor_ms, to_ms), spike_bounds(config))
    names = [name for name in names if name not in spiked]
    for name, why in spiked.items():
        output.warn(f"{name} is excluded: {why}")
    if not names:
        raise DataError(
            f"lake {lake.root}: every symbol has implausible bars of {venue}; `mei lake spikes` lists them: "
            "ingest them again with the right prices, or confirm them with `mei lake confirm`"
        )
    if spiked:  # an excluded symbol does not set the end
        extents = [{name: each[name] for name in names} for each in extents]
        from_ms, to_ms = days(anchor_ms, last_bar_ms(extents), start, end)
    with_bars = [name for name in names if all(each[name][0] < to_ms and each[name][1] > anchor_ms for each in extents)]
    if without_bars := sorted(set(names) - set(with_bars)):
        output.note(f"excluded, without a bar from the anchor to the end of the window: {', '.join(without_bars)}")
    return search, load_bars(lake, venue, search.intervals, with_bars, anchor_ms, to_ms), from_ms, to_ms


for command in STORED_COMMANDS:
    sweep.add_command(command)

COMMANDS: list[click.Command] = [sweep]
