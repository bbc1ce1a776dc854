"""One config over the lake: the trades it made, its equity, its metrics."""
