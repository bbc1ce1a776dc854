"""How many examples a property gets: a fifth in the default tier, all with `--hypothesis-profile thorough`."""

from hypothesis import settings

THOROUGH = 100
"""Examples of a property that says nothing about their number, in the profile `thorough`."""


def examples(most: int) -> settings:
    """Settings of a property that gets `most` examples in the profile `thorough`, and fewer in proportion elsewhere."""
    return settings(max_examples=max(3, most * settings.default.max_examples // THOROUGH))
