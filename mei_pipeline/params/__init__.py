"""Parameters of strategies and of the market model: paths, layers, checks and ids."""
