"""Assets, jobs, schedules and sensors of Dagster. Each asset calls one stage of `mei_pipeline`."""
