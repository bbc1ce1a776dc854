"""The estimator beside Optuna's at equal budgets; `pytest -m long tests/sweep/test_search_optuna.py -rP` shows it."""

import time

import numpy as np
import optuna
import pytest
from functions import AXES, CATEGORIES, FUNCTIONS, VALUES, best_of_random, best_of_tpe, categories

BUDGET, BATCH, SEEDS = 1000, 20, 2


def best_of_optuna(function, seed):
    """Its own defaults, asked for batches of the same size; it knows each batch's results before the next."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = optuna.distributions
    if function is categories:
        one = distributions.CategoricalDistribution(list(range(CATEGORIES)))
    else:
        one = distributions.IntDistribution(0, VALUES - 1)
    names = [f"a{index}" for index in range(AXES)]
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for _ in range(0, BUDGET, BATCH):
        trials = [study.ask(dict.fromkeys(names, one)) for _ in range(BATCH)]
        digits = np.array([[trial.params[name] for trial in trials] for name in names])
        for trial, value in zip(trials, function(digits), strict=True):
            study.tell(trial, float(value))
    return study.best_value


@pytest.mark.long
@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_about_as_good_as_optuna_at_small_budgets(name):
    function = FUNCTIONS[name]
    chance = np.mean([best_of_random(function, BUDGET, seed) for seed in range(SEEDS)])
    start = time.process_time()
    own = np.mean([best_of_tpe(function, BUDGET, BATCH, seed) for seed in range(SEEDS)])
    own_s = time.process_time() - start
    start = time.process_time()
    optuna = np.mean([best_of_optuna(function, seed) for seed in range(SEEDS)])
    optuna_s = time.process_time() - start
    trials = SEEDS * BUDGET / 1000.0
    print(  # noqa: T201 - the table of docs/explanation/search.md
        f"{name}: random {chance:.4g}, own {own:.4g} at {own_s / trials:.2f} ms, "
        f"Optuna {optuna:.4g} at {optuna_s / trials:.1f} ms a trial"
    )
    assert own > chance
    assert (own - chance) > 0.85 * (optuna - chance)
