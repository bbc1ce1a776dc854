"""The file of a promoted config: the complete config with its evidence and verdict."""

from pathlib import Path

from mei_pipeline.config.document import parse_document
from mei_pipeline.config.promoted import PromotedFile, from_yaml, to_yaml
from mei_pipeline.errors import ConfigError, DataError, Refused
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.registry.records import Evidence, StoredConfig, Verdict, from_dict


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
    try:
        file = parse_document(data, path, PromotedFile).model
        return from_dict(file.config.parts, file.config_id)
    except (ConfigError, DataError) as error:
        raise DataError(f"{path}: damaged; the next hand-over writes it again from the registry: {error}") from error
