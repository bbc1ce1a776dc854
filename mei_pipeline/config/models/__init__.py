"""Models of the config files. Field docstrings appear in the reference page and in `mei config explain`."""

from mei_pipeline.config.fields import MarketValues
from mei_pipeline.config.models.lane import FeedKind, LaneConfig
from mei_pipeline.config.models.overrides import Overrides
from mei_pipeline.config.models.pipeline import Compute, PipelineConfig, Profile, Retention, WindowConfig
from mei_pipeline.config.models.policy import Gates, PolicyConfig, Roles, Selection, Spikes, Stress, WalkForward
from mei_pipeline.config.models.sources import FileSourceConfig, SourceConfig, SyntheticSourceConfig
from mei_pipeline.config.models.sweep import AxisList, AxisRange, SweepSpec

__all__ = [
    "AxisList",
    "AxisRange",
    "Compute",
    "FeedKind",
    "FileSourceConfig",
    "Gates",
    "LaneConfig",
    "MarketValues",
    "Overrides",
    "PipelineConfig",
    "PolicyConfig",
    "Profile",
    "Retention",
    "Roles",
    "Selection",
    "SourceConfig",
    "Spikes",
    "Stress",
    "SweepSpec",
    "SyntheticSourceConfig",
    "WalkForward",
    "WindowConfig",
]
