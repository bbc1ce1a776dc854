"""The registry: configs, their evidence, the verdicts on them, trials, and the config that each lane holds.

`store` reads and writes the database, `lanes` reads a lane's folder and `render` writes it. Package `promotion` moves
the pointers of lanes.
"""
