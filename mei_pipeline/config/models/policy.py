"""policy.yaml."""

from typing import Annotated

from pydantic import Field

from mei_pipeline.config.base import FileModel
from mei_pipeline.files import sha256_json


class Selection(FileModel):
    """What a combo must show, in the search and on days the search never saw, to be deployed."""

    finalists: Annotated[int, Field(ge=1, le=1000)] = 5
    """How many of the best combos of the search are judged out of sample. Each one is a further try at luck, so more
    finalists make each one's significance test stricter."""
    min_trades: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Fewest closed trades in sample."""
    min_trades_out_of_sample: Annotated[int, Field(ge=0, le=1_000_000)] = 30
    """Fewest closed trades out of sample."""
    max_drawdown_pct: Annotated[float, Field(gt=0, le=100)] = 35.0
    """Greatest drawdown of mark-to-market equity out of sample, percent of its peak."""
    min_sharpe_out_of_sample: Annotated[float, Field(ge=-20, le=20)] = 1.0
    """Least annual Sharpe ratio of daily returns out of sample."""
    significance: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """Chance that a worthless night passes: the level of the one-sided test that the mean daily return out of sample is
    above zero, divided by the number of finalists judged (Bonferroni)."""

    @property
    def id(self) -> str:
        """SHA-256 of the thresholds: a verdict holds under the policy that it was reached by."""
        return sha256_json(self.model_dump(mode="json"))


class PolicyConfig(FileModel):
    """policy.yaml: every threshold that decides."""

    selection: Selection
    """From search results to candidates."""
