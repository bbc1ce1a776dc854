"""Statistics of selection: functions of numbers, without files or settings.

`sharpe` tests one track record, `trials` counts effective trials, `overfitting` tests the search, `bootstrap` and `spa`
resample days, `drawdowns` reshuffles trades, `proportions` and `concentration` count. NaN always means no evidence: no
function turns missing or degenerate data into a verdict.
"""
