"""Parameters of strategies and of the market model: paths, layers, validation, identity."""
