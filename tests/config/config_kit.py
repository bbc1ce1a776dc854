"""A small configuration folder, and a parameter table to check it against."""

from pathlib import Path

from policy_kit import policy_text

from kernels.params import Parameter
from mei_pipeline.params.table import Catalog, make_market, make_table

TABLE = make_table(
    (
        Parameter("indicators.window", "int", 10, 1, 500, "bars", "feature", "Window of the mean."),
        Parameter("trade.sl_atr_mult", "float", 2.0, 0.5, 10, "atr", "exit", "Distance of the stop."),
        Parameter("trade.trail", "bool", default=False, low=0, high=1, unit="", role="exit", doc="The stop follows."),
        Parameter("trade.side", "choice", "both", 0, 0, "", "entry", "Sides traded.", ("both", "long", "short")),
        Parameter("trade.places", "int", 5, 1, 50, "", "sizing", "Open positions.", per_symbol=False),
    )
)
MARKET = make_table(
    (
        Parameter("market.fee_bps", "float", 4.5, 0, 100, "bps", "market", "Fee of a fill."),
        Parameter("market.delay_bars", "int", 0, 0, 9, "bars", "market", "Bars that an order waits."),
    )
)
CATALOG = Catalog(
    {"toy": TABLE, "shy": TABLE},
    MARKET,
    {"shy": make_market(MARKET, "shy", {}, {"market.delay_bars": (0,)}, {"market.delay_bars": "shy never waits"})},
)

FILES = {
    "pipeline.yaml": """\
venue: binance
start: 2025-05
intervals: [1h]
anchors: {1h: 2025-05-01T00:00:00Z}
universe: [BTC, ETH]
sources:
  - {kind: synthetic, venue: made_up, seed: 7, symbols: 3, from: 2025-01-01}
profiles:
  smoke: {sweep: smoke}
""",
    "policy.yaml": policy_text(),
    "sweeps/smoke.yaml": """\
strategy: toy
interval: 1h
market: {fee_bps: 5}
params:
  trade: {trail: true}
axes:
  indicators.window: [5, 8]
  trade.sl_atr_mult: {from: 1, to: 2, step: 0.5}
""",
    "lanes/paper1.yaml": "mode: paper\nvenue: binance\nrole: primary\n",
}


def write_folder(folder: Path, **changes: str | None) -> Path:
    """Write `FILES` with some of them replaced, added or (None) left out."""
    for name, text in {**FILES, **changes}.items():
        if text is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return folder
