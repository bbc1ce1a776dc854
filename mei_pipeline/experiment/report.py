"""What the nights of all markets say together."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mei_pipeline.config.axes import grid_of
from mei_pipeline.experiment.run import Experiment, NightOutcome, folds, promoted
from mei_pipeline.params.table import read_catalog
from mei_pipeline.selection.statistics.proportions import clopper_pearson
from mei_pipeline.selection.walk_forward import test_days


def summary(experiment: Experiment, outcomes: Sequence[Sequence[NightOutcome]]) -> dict[str, Any]:
    """The result of an experiment by name, as JSON values: what was run, rates, and what fell where."""
    every = [night for nights in outcomes for night in nights]
    return {
        "markets": len(outcomes),
        "nights": experiment.nights,
        "symbols": len(experiment.source.searched),
        "holdout_symbols": len(experiment.source.holdout_symbols),
        "combos": grid_of(experiment.spec, read_catalog().strategy(experiment.spec.strategy)).combos,
        "days_out_of_sample": test_days(folds(experiment)),
        "policy": experiment.policy.id,
        **rates(outcomes),
        **counts(every),
        "gates": rejections(every),
    }


def rate(passed: int, markets: int) -> dict[str, Any]:
    """How many markets were promoted: count, share, and its exact 95 % interval."""
    return {"promoted": passed, "rate": passed / markets, "ci95": list(clopper_pearson(passed, markets))}


def rates(outcomes: Sequence[Sequence[NightOutcome]]) -> dict[str, Any]:
    """Promotion of any night, under `first_night` of the first and under `last_night` of the last one alone."""
    markets = len(outcomes)
    return {
        **rate(sum(any(promoted(night) for night in nights) for nights in outcomes), markets),
        "first_night": rate(sum(promoted(nights[0]) for nights in outcomes), markets),
        "last_night": rate(sum(promoted(nights[-1]) for nights in outcomes), markets),
    }


def rejections(nights: Iterable[NightOutcome]) -> dict[str, dict[str, int]]:
    """By gate, the most frequent first: candidates that fell at it, had no evidence for it, and missed it alone."""
    failed: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    only_failure: Counter[str] = Counter()
    for night in nights:
        for verdict in night:
            missed = (*verdict.failed, *verdict.no_evidence)
            failed.update(verdict.failed)
            unknown.update(verdict.no_evidence)
            if len(missed) == 1:
                only_failure.update(missed)
    return {
        name: {"failed": failed[name], "no_evidence": unknown[name], "only_failure": only_failure[name]}
        for name, _ in (failed + unknown).most_common()
    }


def counts(nights: Iterable[NightOutcome]) -> dict[str, int]:
    """Candidates that were judged, those that passed every gate, and nights in which nothing could be chosen."""
    every = list(nights)
    return {
        "candidates": sum(len(night) for night in every),
        "passed": sum(verdict.passed for night in every for verdict in night),
        "nothing_chosen": sum(not night for night in every),
    }
