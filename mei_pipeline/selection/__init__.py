"""Judgement of the combos that a search found, on days that the search never saw."""
