"""The executor without processes and sockets: events, orders, books, the core, and the journal of a lane.

`core.step` moves a lane by one event. `journal` keeps each event before it takes effect outside. The processes that
feed events to a lane and execute its commands are in the package `live`.
"""
