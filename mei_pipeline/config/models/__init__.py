"""What the operator's files may say. Field docstrings are the reference page and what `mei config explain` prints."""

from mei_pipeline.config.base import MarketValues
from mei_pipeline.config.models.lane import LaneConfig
from mei_pipeline.config.models.overrides import Overrides
from mei_pipeline.config.models.pipeline import Engine, PipelineConfig, Profile, Retention, Window
from mei_pipeline.config.models.policy import Gates, PolicyConfig, Roles, Selection, Spikes, Stress, WalkForward
from mei_pipeline.config.models.sources import FileSourceConfig, SourceConfig, SyntheticSourceConfig
from mei_pipeline.config.models.sweep import Listed, Range, SweepSpec

__all__ = [
    "Engine",
    "FileSourceConfig",
    "Gates",
    "LaneConfig",
    "Listed",
    "MarketValues",
    "Overrides",
    "PipelineConfig",
    "PolicyConfig",
    "Profile",
    "Range",
    "Retention",
    "Roles",
    "Selection",
    "SourceConfig",
    "Spikes",
    "Stress",
    "SweepSpec",
    "SyntheticSourceConfig",
    "WalkForward",
    "Window",
]
