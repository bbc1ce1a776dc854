"""The model of policy.yaml: the thresholds that decide which config may trade."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kernels.blocks import BLOCKS
from mei_pipeline.config.fields import FileModel, Name, Timestamp, flaws
from mei_pipeline.files import sha256_json

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(gt=0, le=100)]
Bps = Annotated[float, Field(gt=0, le=1000)]
Probability = Annotated[float, Field(gt=0, lt=1)]


class WalkForward(FileModel):
    """Folds of the search's days: each selects combos on its train days and judges them on its test days."""

    window: Literal["anchored", "rolling"]
    """Start of the train days: `anchored` at the first day of the search, so that every fold has more of them;
    `rolling` `train_blocks` before the test days."""
    train_blocks: Annotated[int, Field(ge=1, le=BLOCKS - 1)]
    """Train days of the first fold, in sixteenths of the search's days; with `rolling`, of every fold."""
    test_blocks: Annotated[int, Field(ge=1, le=BLOCKS - 1)]
    """Test days of each fold, in sixteenths of the search's days."""
    embargo_days: Annotated[int, Field(ge=0, le=30)]
    """Days left out between train and test days, so that no position and no feature of the train days reaches into the
    test days."""

    @model_validator(mode="after")
    def _leaves_a_fold(self) -> "WalkForward":
        if self.train_blocks + self.test_blocks > BLOCKS:
            raise flaws(
                {"test_blocks": f"{self.test_blocks} after {self.train_blocks} train blocks; there are {BLOCKS} blocks"}
            )
        return self


class Crisis(FileModel):
    """Days of a market crash."""

    from_ms: Annotated[Timestamp, Field(alias="from")]
    """First day."""
    to_ms: Annotated[Timestamp, Field(alias="to")]
    """Day after the last one."""

    @model_validator(mode="after")
    def _ascending(self) -> "Crisis":
        if self.to_ms <= self.from_ms:
            raise flaws({"to": "not after `from`"})
        return self


class Stress(FileModel):
    """Markets that are worse than the market that the search assumes; each is a gate of its own."""

    slippage_bps: Annotated[tuple[Bps, ...], Field(min_length=1, max_length=5)]
    """Slippage of entries and exits on top of the assumed slippage, in basis points: a gate for each level."""
    fee_multiples: Annotated[tuple[Annotated[float, Field(gt=1, le=10)], ...], Field(min_length=1, max_length=5)]
    """Multiples of the fee: a gate for each level."""
    delay_bars: Annotated[int, Field(ge=1, le=24)]
    """Bars that every order waits in addition."""
    min_return_pct: Annotated[float, Field(ge=-100, le=1000)]
    """Least net return out of sample in each of these markets, percent."""


class Gates(FileModel):
    """Thresholds for the stitched out-of-sample equity. `null` turns a gate off."""

    min_trades: Count
    """Fewest closed trades out of sample."""
    min_sharpe: Annotated[float, Field(ge=-20, le=20)]
    """Least annual Sharpe ratio of daily returns out of sample."""
    min_median_day_pct: Annotated[float, Field(ge=-100, le=100)]
    """Least median of the daily returns out of sample on which a position was held or closed, percent."""
    max_drawdown_pct: Percent
    """Greatest drawdown of mark-to-market equity out of sample, percent of its peak."""
    min_profit_factor: Annotated[float, Field(ge=0, le=100)]
    """Profits of winning trades over losses of the others, both after fees and funding."""
    stress: Stress
    """Worse markets."""
    max_symbol_share: Share
    """Greatest share of the best symbol in the profits of all symbols that made one."""
    max_trade_share: Share
    """Greatest share of the best trade in the profits of all trades that made one."""
    max_day_share: Share
    """Greatest share of the best day in the profits of all days that made one."""
    min_plateau_frac: Share
    """Least share of the neighbours, one step up or down on one axis, that keep at least half of the candidate's Sharpe
    ratio on the days of the search."""
    max_bootstrap_p: Probability
    """Greatest probability, by the stationary bootstrap, that the mean daily return out of sample is not above zero."""
    max_monte_carlo_drawdown_pct: Percent
    """Drawdown that 95 of 100 random orders of the trades stay within, percent of the peak."""
    min_sharpe_without_best_symbol: Annotated[float | None, Field(ge=-20, le=20)] = 1.0
    """Least annual Sharpe ratio out of sample of the closed trades of all symbols but the best one, by day of exit."""
    min_recent_probability: Probability | None = 0.8
    """Least probability that the true Sharpe ratio is above zero, by the later half of the days out of sample."""
    min_holdout_probability: Probability | None = 0.05
    """Least probability that the true Sharpe ratio is above zero, by the holdout: a veto on a candidate that loses
    significantly there. It is 0.5 if the candidate did not trade there. The holdout ranks nothing."""
    min_holdout_symbols_sharpe: Annotated[float | None, Field(ge=-20, le=20)]
    """Least annual Sharpe ratio out of sample on the symbols that the search never sees; see `holdout_symbols`."""
    max_crisis_drawdown_pct: Annotated[float | None, Field(gt=0, le=100)]
    """Greatest drawdown in each of the `crises` that lie in the days of the nightly run, percent of the peak."""
    max_overfitting_probability: Probability
    """Greatest probability of backtest overfitting (CSCV) of the search that the candidate comes from."""
    max_search_loss_probability: Probability
    """Greatest share of the splits of the same cross-validation in which the best combo of one half of the search's
    days loses money on the other half."""
    min_deflated_sharpe: Probability
    """Least deflated Sharpe ratio: the probability that the true Sharpe ratio out of sample is above zero, given the
    number of independent trials on these days, by this nightly run and those before it."""
    max_spa_cash_p: Probability
    """Greatest p-value of the test for superior predictive ability (SPA) against cash."""
    max_spa_buy_and_hold_p: Probability
    """Greatest p-value of the same test against buying and holding all symbols, at the volatility of the candidates."""


class Roles(FileModel):
    """Assignment of accepted configs to lanes, and the conditions to replace an incumbent."""

    max_correlation: Share
    """Greatest correlation of daily returns out of sample with the configs of other roles."""
    min_run_days: Annotated[int, Field(ge=0, le=365)]
    """Days that an incumbent keeps its lane, unless it fails."""
    min_gain_sharpe: Annotated[float, Field(ge=0, le=20)]
    """Least difference of the annual Sharpe ratios of a successor and the incumbent on the same days."""
    max_incumbent_drawdown_pct: Percent
    """Drawdown since it took the lane, replayed, above which an incumbent has failed, percent of the peak."""
    min_incumbent_profit_factor: Annotated[float, Field(ge=0, le=100)]
    """Profit factor since it took the lane, replayed, below which an incumbent has failed, from 30 trades on."""


class Selection(FileModel):
    """From the rows of a search to the configs that may trade, by walk-forward."""

    candidates: Annotated[int, Field(ge=1, le=20)]
    """Number of best combos that each fold selects and that are judged. Each is a further trial on the same days."""
    holdout_symbols: Annotated[int, Field(ge=0, le=100)]
    """Number of symbols that the search does not see, the same ones in every nightly run. Candidates are judged on them
    as well."""
    walk_forward: WalkForward
    """The folds."""
    gates: Gates
    """The thresholds."""
    crises: dict[Name, Crisis] = Field(default_factory=dict)
    """Named windows in which a candidate must not lose too much."""
    roles: Roles
    """Rules that assign accepted configs to lanes."""

    @property
    def id(self) -> str:
        """SHA-256 of the keys that shape a verdict: a verdict holds only under the policy that produced it.

        Roles are left out: they decide which lane takes a config, after every verdict.
        """
        return sha256_json(self.model_dump(mode="json", exclude={"roles"}))


class Spikes(FileModel):
    """Bounds between a crash and a data error. A bar beyond them is marked, and its symbol is not traded."""

    max_reach: Annotated[float, Field(gt=1, le=1_000_000)] = 10.0
    """Greatest multiple of the highs of both neighbours that the high of a bar may reach; its low may fall to the same
    fraction of their lows."""
    max_displacement: Annotated[float, Field(gt=1, le=1_000_000)] = 2.0
    """The same for open and close, where no bar is missing before and after."""
    max_bars: Annotated[int, Field(ge=1, le=24)] = 3
    """Longest run of bars that is judged as one spike, if prices come back after it."""


class RealMoney(FileModel):
    """Least time that a config trades at one stage before a person may bring it to the next."""

    min_paper_days: Annotated[float, Field(ge=0, le=3650)] = 28.0
    """Days on paper before it enters a live lane, at a quarter of the size."""
    min_stage_days: Annotated[float, Field(ge=0, le=3650)] = 14.0
    """Days in a live lane at 0.25 before 0.5, and at 0.5 before 1."""


class PolicyConfig(FileModel):
    """policy.yaml: every threshold that decides."""

    selection: Selection
    """From search results to lanes: folds, gates and roles."""
    spikes: Spikes = Field(default_factory=Spikes)
    """Bounds beyond which a bar is a data error."""
    real_money: RealMoney = Field(default_factory=RealMoney)
    """Least time at each stage on the way to real money."""
