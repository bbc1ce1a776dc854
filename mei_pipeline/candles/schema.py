"""The three tables of the lake: columns, types, keys and pandera schemas.

A schema checks the names and types of an eager frame, because pandera ignores the types of a lazy frame. `quality`
checks the values: it refuses single rows, never a frame.
"""

from dataclasses import dataclass

import polars as pl

from mei_pipeline.errors import DataError


@dataclass(frozen=True)
class LakeTable:
    """One table of the lake.

    Attributes:
        name: Its folder in the lake.
        columns: Column name to type, in storage order.
        key: Columns that identify a row within one venue (and interval); also the sort order of its files.
        values: Columns that a revision may change. `source` is provenance, neither key nor value.
        nullable: Columns that may be null.
    """

    name: str
    columns: dict[str, pl.DataType]
    key: tuple[str, str]
    values: tuple[str, ...]
    nullable: tuple[str, ...]

    def empty(self) -> pl.DataFrame:
        """Return a frame of this table without rows."""
        return pl.DataFrame(schema=self.columns)

    def validate(self, frame: pl.DataFrame, where: str = "") -> pl.DataFrame:
        """Return `frame` with this table's columns in order; values are not checked.

        Args:
            frame: An eager frame.
            where: Origin of the frame, for the message.

        Raises:
            DataError: A column is missing or of another type.
        """
        import pandera.polars as pa  # noqa: PLC0415 - importing pandera takes 1.4 s, and only an ingest needs it
        from pandera.errors import SchemaErrors  # noqa: PLC0415 - as above

        # Every column may be null here: `quality` refuses a row with a missing value by name, and keeps the others.
        schema = pa.DataFrameSchema(
            {name: pa.Column(kind, nullable=True, required=True) for name, kind in self.columns.items()}
        )
        prefix = f"{where}: " if where else ""
        try:
            return schema.validate(frame, lazy=True).select(*self.columns)
        except SchemaErrors as error:
            first = error.failure_cases.row(0, named=True)
            absent = [name for name in self.columns if name not in frame.columns]
            if absent:
                raise DataError(
                    f"{prefix}column {absent[0]!r} of {self.name} is missing; found: {', '.join(frame.columns)}"
                ) from None
            column = first["column"]
            raise DataError(
                f"{prefix}column {column!r} of {self.name} is {frame.schema.get(column)}, "
                f"expected {self.columns.get(column)}"
            ) from None


CANDLES = LakeTable(
    name="candles",
    columns={
        "venue": pl.String(),
        "symbol": pl.String(),
        "interval": pl.String(),
        "open_ms": pl.Int64(),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
        "trades": pl.Int64(),
        "source": pl.String(),
    },
    key=("symbol", "open_ms"),
    values=("open", "high", "low", "close", "volume", "trades"),
    nullable=("trades",),
)

FUNDING = LakeTable(
    name="funding",
    columns={
        "venue": pl.String(),
        "symbol": pl.String(),
        "time_ms": pl.Int64(),
        "rate": pl.Float64(),
        "premium": pl.Float64(),
        "source": pl.String(),
    },
    key=("symbol", "time_ms"),
    values=("rate", "premium"),
    nullable=("premium",),
)

INSTRUMENTS = LakeTable(
    name="instruments",
    columns={
        "venue": pl.String(),
        "symbol": pl.String(),
        "from_ms": pl.Int64(),
        "size_decimals": pl.Int64(),
        "price_decimals": pl.Int64(),
        "price_significant": pl.Int64(),
        "min_notional_usd": pl.Float64(),
        "max_leverage": pl.Float64(),
        "maintenance_margin_frac": pl.Float64(),
        "listed_ms": pl.Int64(),
        "delisted_ms": pl.Int64(),
        "source": pl.String(),
    },
    key=("symbol", "from_ms"),
    values=(
        "size_decimals",
        "price_decimals",
        "price_significant",
        "min_notional_usd",
        "max_leverage",
        "maintenance_margin_frac",
        "listed_ms",
        "delisted_ms",
    ),
    nullable=("listed_ms", "delisted_ms"),
)

TABLES = {table.name: table for table in (CANDLES, FUNDING, INSTRUMENTS)}
