"""Tables as files that a person names: .csv or .parquet."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def check_suffix(path: Path | None, *allowed: str) -> None:
    """Refuse a name that says another format, before any work is done.

    Raises:
        ConfigError: The name ends otherwise than in one of `allowed`, by default .csv and .parquet.
    """
    from mei_pipeline.errors import ConfigError

    endings = allowed or (".csv", ".parquet")
    if path is not None and path.suffix not in endings:
        raise ConfigError(f"{path}: the name must end in {' or '.join(endings)}")


def write_frame(path: Path | None, frame: "pl.DataFrame") -> None:
    """Write a table in the format that the name says; nothing where there is no name."""
    from mei_pipeline import files

    if path is None:
        return
    with files.replacing(path) as temporary:
        if path.suffix == ".csv":
            frame.write_csv(temporary)
        else:
            frame.write_parquet(temporary)
