"""How far a result can be told from luck: numbers in, numbers out.

`sharpe` judges one track record, `trials` counts how many were really tried, `overfitting` judges the search itself,
`bootstrap` and `spa` resample days, `drawdowns` shuffles trades, `proportions` and `concentration` count. NaN always
means that there is no evidence: no function turns missing or degenerate data into a verdict.
"""
