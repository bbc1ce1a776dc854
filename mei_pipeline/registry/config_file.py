"""The file of a promoted config: the config, whole, with the evidence and the verdict that let it in."""

from pathlib import Path

import yaml

from mei_pipeline.errors import DataError
from mei_pipeline.params.identity import Resolved
from mei_pipeline.registry.records import Config, Evidence, Verdict, as_dict, from_dict

FILE_VERSION = 1


def config_bytes(config: Config, evidence: Evidence, verdict: Verdict) -> bytes:
    """The bytes of `configs/<config id>.yaml`: the same for the same content."""
    content = {
        "schema_version": FILE_VERSION,
        "config_id": config.config_id,
        "config": as_dict(config.resolved),
        "evidence": {
            "evidence_id": evidence.evidence_id,
            **evidence.basis.as_dict(),
            "metrics": dict(evidence.metrics),
        },
        "provenance": {"policy_id": verdict.policy_id, "night_id": verdict.night_id, "judged_ms": verdict.at_ms},
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()


def parse_config(path: Path, data: bytes) -> Resolved:
    """The resolved config of such a file, its content checked against its id.

    Args:
        path: Where the bytes come from, for messages.
        data: The bytes.

    Raises:
        DataError: The file is damaged, of another version, or its content has another id.
    """
    try:
        content = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no YAML: {error}; the registry can render it again") from error
    if not isinstance(content, dict) or content.get("schema_version") != FILE_VERSION:
        raise DataError(f"{path}: not a config file of version {FILE_VERSION}; the registry can render it again")
    try:
        return from_dict(content.get("config"), str(content.get("config_id")))
    except DataError as error:
        raise DataError(f"{path}: {error}; the registry can render it again") from error
