"""The executor. It never imports Dagster."""
