"""Check a day of a lane: decide and fill each of its steps again, and name the cause of every difference."""
