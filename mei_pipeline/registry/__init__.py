"""The registry: configs, what was measured of them, what was judged, and which config holds which lane.

`store` reads and writes the database, `promote` moves a lane's pointer, `lanes` reads what lies in a lane's folder, and
`deploy` is what a night calls.
"""
