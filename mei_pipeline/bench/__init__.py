"""How fast this machine is: fixed pieces of work on invented markets, in memory, through the engine that nights use."""
