"""The code location: what `workspace.yaml` names."""

import dagster as dg

from assets.graph import definitions
from mei_pipeline.config.load import load_config
from mei_pipeline.settings import read_settings


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions for the configuration of this home."""
    return definitions(load_config(read_settings().config))
