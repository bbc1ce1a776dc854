"""`mei why`: gates, signal, book and orders behind one decision."""

from typing import Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.configs import CONFIG, read_named
from mei_pipeline.cli.days import utc_ms
from mei_pipeline.cli.options import result_options
from mei_pipeline.cli.symbols import check_option

MOMENTS = ("%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d")


@click.command()
@CONFIG
@click.option("--symbol", required=True, callback=check_option, help="Symbol of the book.")
@click.option(
    "--at",
    "moment",
    type=click.DateTime(MOMENTS),
    metavar="TIME",
    required=True,
    help="UTC time, such as 2026-05-01T13:00, at which the bar opens; the decision is made at its close.",
)
@click.option("--from", "start", type=click.DateTime(["%Y-%m-%d"]),
              help="First UTC day of the replay; default: the day after the anchor.")  # fmt: skip
@result_options
def why(name: str, symbol: str, moment: Any, start: Any, as_json: bool) -> None:
    """Explain the decision of a config on one symbol at one bar: gates, signal, book and orders.

    The config is replayed up to that bar, so position, equity and margin equal those of a backtest from the same day.
    """
    from mei_pipeline.candles.findings import refuse_spikes
    from mei_pipeline.candles.intervals import DAY_MS
    from mei_pipeline.candles.lake import Lake
    from mei_pipeline.config.load import load_config
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.night.universe import spike_bounds
    from mei_pipeline.replay.run import make_replay_inputs
    from mei_pipeline.replay.why import explain_step
    from mei_pipeline.settings import read_settings
    from mei_pipeline.simulation.extents import stored_extent_ms
    from mei_pipeline.simulation.loading import load_bars

    settings = read_settings()
    lake = Lake(settings.lake)
    config = load_config(settings.config)
    named = read_named(name, settings, lake, config)
    resolved, anchor_ms = named.resolved, named.anchor_ms
    from_ms = utc_ms(start) if start else -(-anchor_ms // DAY_MS) * DAY_MS
    if from_ms < anchor_ms:
        raise ConfigError(f"--from {start:%Y-%m-%d}: before the anchor, where features start; choose a later day")
    # The end does not depend on the step that is asked about, so all questions share their feature columns.
    ends = min(stored_extent_ms(lake, resolved.venue, interval)[1] for interval in resolved.intervals.read)
    to_ms = -(-ends // DAY_MS) * DAY_MS
    names, read = resolved.symbols, resolved.intervals.read
    refuse_spikes(lake, resolved.venue, read, names, (anchor_ms, to_ms), spike_bounds(config))
    bars = load_bars(lake, resolved.venue, resolved.intervals, names, anchor_ms, to_ms)
    inputs = make_replay_inputs(settings, bars, resolved, from_ms, to_ms)
    explanation = explain_step(settings, inputs, symbol, utc_ms(moment))
    if as_json:
        output.print_json(explanation)
    else:
        _show(explanation)


def _show(explanation: dict[str, Any]) -> None:
    show_gates(explanation)
    lines = [
        ("signal", signal_text(explanation["signal"])),
        ("rank", explanation["rank"]),
        ("verdict", explanation["verdict"]),
    ]
    lines += [("done", _fill_text(fill)) for fill in explanation["done"]] or [("done", "nothing")]
    output.table(
        "Decision" if explanation["gates"] else f"{explanation['symbol']} {explanation['bar']}",
        ("part", "value"),
        lines,
    )
    before, after = (_flat(explanation[key]) for key in ("before", "after"))
    names = list(dict.fromkeys((*before, *after)))
    output.table("Book", ("", "before", "after"), [(name, before.get(name), after.get(name)) for name in names])


def show_gates(explanation: dict[str, Any]) -> None:
    """Print the gates of a decision with their values; nothing if the step decides no entries."""
    verdicts = {True: "open", False: "closed", None: None}
    if not explanation["gates"]:
        return
    rows = [(gate["gate"], gate["value"], gate["threshold"], verdicts[gate["open"]]) for gate in explanation["gates"]]
    decision = f"decided {explanation['decided']} at {explanation['price']:g}"
    title = f"{explanation['symbol']} {explanation['bar']}, {decision}"
    output.table(title, ("gate", "value", "threshold", ""), rows, important=("gate", ""))


def signal_text(signal: dict[str, Any] | None) -> str:
    """Return the side, tier and mode of a signal in words."""
    return ", ".join(str(signal[key]) for key in ("side", "tier", "mode") if signal[key]) if signal else "none"


def _fill_text(fill: dict[str, Any]) -> str:
    where = f"{fill['reason']} at the bar's {fill['moment']}"
    return f"{where}: {fill['size']:g} at {fill['price']:g}, cash {fill['cash_usd']:+,.2f} USD"


def _flat(state: dict[str, Any]) -> dict[str, Any]:
    """Yield one line per figure; figures of a position or an order carry its name."""
    flat: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": part for name, part in value.items()}
        elif key not in {"position", "order"}:
            flat[key] = value
        else:
            flat[key] = "none"
    return flat


COMMANDS: list[click.Command] = [why]
