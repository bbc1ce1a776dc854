"""A small parameter table with one parameter of each kind."""

from kernels.params import Parameter
from mei_pipeline.params.table import Catalog, make_market, make_table

TABLE = make_table(
    (
        Parameter("indicators.window", "int", 10, 1, 500, "bars", "feature", "Window of the mean."),
        Parameter("trade.sl_atr_mult", "float", 2.0, 0.5, 10, "atr", "exit", "Distance of the stop."),
        Parameter("trade.trail", "bool", default=False, low=0, high=1, unit="", role="exit", doc="The stop follows."),
        Parameter(
            "trade.side", "choice", "both", 0, 0, "", "entry", "Sides that are traded.", ("both", "long", "short")
        ),
        Parameter("trade.places", "int", 5, 1, 50, "", "sizing", "Open positions.", per_symbol=False),
    )
)
MARKET = make_table(
    (
        Parameter("market.fee_bps", "float", 4.5, 0, 100, "bps", "market", "Fee of a fill."),
        Parameter("market.delay_bars", "int", 0, 0, 9, "bars", "market", "Bars that an order waits."),
        Parameter("market.stops", "choice", "intrabar", 0, 0, "", "market", "Prices.", ("close", "intrabar")),
    )
)
SHY_MARKET = make_market(
    MARKET,
    "shy",
    {"market.stops": "close"},
    {"market.stops": ("close",)},
    {"market.stops": "shy tests stops at closes"},
)
CATALOG = Catalog({"toy": TABLE, "shy": TABLE}, MARKET, {"shy": SHY_MARKET})
