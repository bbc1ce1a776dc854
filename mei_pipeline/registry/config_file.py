"""The file of a promoted config: the complete config with its evidence and verdict."""

from pathlib import Path

from mei_pipeline.config.document import parse_document
from mei_pipeline.config.promoted import PromotedFile, from_yaml, to_yaml
from mei_pipeline.errors import ConfigError, DataError, Refused
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.registry.records import Evidence, StoredConfig, Verdict, from_dict

_AGAIN = "the next hand-over writes it again from the registry"


def config_bytes(config: StoredConfig, evidence: Evidence, verdict: Verdict) -> bytes:
    """Return the bytes of `configs/<config id>.yaml`; equal content gives equal bytes."""
    return to_yaml(
        config.resolved,
        evidence={
            "evidence_id": evidence.evidence_id,
            **evidence.basis.as_dict(),
            "metrics": dict(evidence.metrics),
        },
        provenance={"policy_id": verdict.policy_id, "night_id": verdict.night_id, "judged_ms": verdict.at_ms},
    ).encode()


def check_runnable(path: Path, data: bytes) -> None:
    """Raise if this checkout can't run the config in a file.

    Raises:
        Refused: A parameter is unknown, missing or not allowed, or a name is not allowed; the message names it.
    """
    try:
        from_yaml(data, path)
    except ConfigError as error:
        raise Refused(f"{error}\nthis version can't run the config; judge it again by a nightly run") from error


def parse_config(path: Path, data: bytes) -> ResolvedConfig:
    """Return the resolved config of a file, after a check of its content against its id.

    The parameter tables of this checkout are not used, so a config in force can be rendered after they change.

    Args:
        path: Where the bytes come from, for messages.
        data: The bytes.

    Raises:
        DataError: The file is damaged, of another version, or its content has another id.
    """
    return _parse(path, data)[1]


def parse_anchored(path: Path, data: bytes, expected_id: str) -> tuple[ResolvedConfig, int]:
    """As `parse_config`, with the anchor of the evidence: the open time of the first bar of the features.

    Raises:
        DataError: As `parse_config`, the file has another config than `expected_id`, or its evidence names no anchor.
    """
    file, resolved = _parse(path, data)
    if file.config_id != expected_id:
        raise DataError(f"{path}: config_id: {file.config_id}, not that of its name; {_AGAIN}")
    anchor_ms = file.evidence.get("anchor_ms")
    if type(anchor_ms) is not int:
        raise DataError(f"{path}: evidence.anchor_ms: not a time in milliseconds: {anchor_ms!r}; {_AGAIN}")
    return resolved, anchor_ms


def _parse(path: Path, data: bytes) -> tuple[PromotedFile, ResolvedConfig]:
    try:
        file = parse_document(data, path, PromotedFile).model
        return file, from_dict(file.config.parts, file.config_id)
    except (ConfigError, DataError) as error:
        raise DataError(f"{path}: damaged; {_AGAIN}: {error}") from error
