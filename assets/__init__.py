"""Everything Dagster: thin assets over the stations of `mei_pipeline`, by station."""
