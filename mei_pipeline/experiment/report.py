"""Result of an experiment: rates over all markets, and rejections by gate."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mei_pipeline.config.axes import grid_of
from mei_pipeline.experiment.run import Experiment, NightOutcome, folds, promoted
from mei_pipeline.params.table import read_catalog
from mei_pipeline.selection.statistics.proportions import clopper_pearson
from mei_pipeline.selection.walk_forward import test_days


def summary(experiment: Experiment, outcomes: Sequence[Sequence[NightOutcome]]) -> dict[str, Any]:
    """Return the result of an experiment as JSON values: its size, rates, and rejections by gate."""
    all_nights = [night for nights in outcomes for night in nights]
    return {
        "markets": len(outcomes),
        "runs": experiment.nights,
        "symbols": len(experiment.source.searched),
        "holdout_symbols": len(experiment.source.holdout_symbols),
        "combos": grid_of(experiment.spec, read_catalog().strategy(experiment.spec.strategy)).combos,
        "days_out_of_sample": test_days(folds(experiment)),
        "policy": experiment.policy.id,
        **rates(outcomes),
        **counts(all_nights),
        "gates": rejections(all_nights),
    }


def rate(passed: int, markets: int) -> dict[str, Any]:
    """Return count and share of the markets with a promotion, and the exact 95 % interval of the share."""
    return {"promoted": passed, "rate": passed / markets, "ci95": list(clopper_pearson(passed, markets))}


def rates(outcomes: Sequence[Sequence[NightOutcome]]) -> dict[str, Any]:
    """Return the rate of markets with a promotion in any nightly run, in the first, and in the last."""
    markets = len(outcomes)
    return {
        **rate(sum(any(promoted(night) for night in nights) for nights in outcomes), markets),
        "first_run": rate(sum(promoted(nights[0]) for nights in outcomes), markets),
        "last_run": rate(sum(promoted(nights[-1]) for nights in outcomes), markets),
    }


def rejections(nights: Iterable[NightOutcome]) -> dict[str, dict[str, int]]:
    """Count by gate, the most frequent first, the candidates that failed, had no evidence, and missed no other gate."""
    failed: Counter[str] = Counter()
    no_evidence: Counter[str] = Counter()
    only_failure: Counter[str] = Counter()
    for night in nights:
        for verdict in night:
            missed = (*verdict.failed, *verdict.no_evidence)
            failed.update(verdict.failed)
            no_evidence.update(verdict.no_evidence)
            if len(missed) == 1:
                only_failure.update(missed)
    return {
        name: {"failed": failed[name], "no_evidence": no_evidence[name], "only_failure": only_failure[name]}
        for name, _ in (failed + no_evidence).most_common()
    }


def counts(nights: Iterable[NightOutcome]) -> dict[str, int]:
    """Count candidates, candidates that passed every gate, and nightly runs without a candidate."""
    all_nights = list(nights)
    return {
        "candidates": sum(len(night) for night in all_nights),
        "passed": sum(verdict.passed for night in all_nights for verdict in night),
        "without_candidate": sum(not night for night in all_nights),
    }
