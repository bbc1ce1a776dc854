"""MEI's domain: the stations from candles to a promoted config, in plain Python."""
