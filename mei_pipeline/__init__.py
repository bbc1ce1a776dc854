"""Domain of MEI: the stages from candles to a promoted config, in plain Python."""
