"""The file of a promoted config: the config, whole, with the evidence and the verdict that let it in."""

from pathlib import Path

from mei_pipeline.config.document import parse_document
from mei_pipeline.config.promoted import PromotedFile, from_yaml, to_yaml
from mei_pipeline.errors import ConfigError, DataError, Refused
from mei_pipeline.params.identity import ResolvedConfig
from mei_pipeline.registry.records import Evidence, StoredConfig, Verdict, from_dict


def config_bytes(config: StoredConfig, evidence: Evidence, verdict: Verdict) -> bytes:
    """The bytes of `configs/<config id>.yaml`: the same for the same content."""
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
    """Let a config pass whose file this checkout reads and can run.

    Raises:
        Refused: A parameter is unknown, missing or not allowed, or a name is not allowed; the message says which.
    """
    try:
        from_yaml(data, path)
    except ConfigError as error:
        raise Refused(f"{error}\nno lane can take a config whose file this version refuses; judge it again") from error


def parse_config(path: Path, data: bytes) -> ResolvedConfig:
    """The resolved config of such a file, its content checked against its id.

    It is not held against the parameter tables of this checkout: what is in force can be rendered after they change.

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
        raise DataError(f"{path}: damaged; the registry can render it again: {error}") from error
