"""The search: a plan of combos, chunks of results on disk, metrics of each combo."""
