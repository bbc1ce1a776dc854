"""Commands of `mei`."""
