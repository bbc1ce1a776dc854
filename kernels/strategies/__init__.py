"""One module per strategy: its parameters, its features, its decision functions."""
