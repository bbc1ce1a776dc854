"""Keys of earlier versions. A file that still has one is refused, and the error names the key to write instead."""

from collections.abc import Mapping

RENAMED: Mapping[str, Mapping[str, str]] = {
    "Compute": {"run": "backend"},
    "PipelineConfig": {"engine": "compute"},
}
"""By class name of the section's model: old key to new key of the same section."""
