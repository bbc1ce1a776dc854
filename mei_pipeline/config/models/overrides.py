"""strategy_overrides.yaml."""

from collections.abc import Iterator
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from kernels.params import Value
from mei_pipeline.config.fields import FileModel, Role, Scalar, StrategyName, Symbol, SymbolValues, Values, flaws
from mei_pipeline.params.resolve import Layer, merge_symbols
from mei_pipeline.params.table import Table

_EMPTY: dict[str, Any] = {"maxProperties": 0}
_WITHOUT_STRATEGY: dict[str, Any] = {
    "base": _EMPTY,
    "symbols": {"additionalProperties": _EMPTY},
    "modes": {"additionalProperties": _EMPTY},
    "live": _EMPTY,
}


class Overrides(FileModel):
    """strategy_overrides.yaml: parameters by hand, in layers; a later layer wins: base, symbols, modes, live."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"strategy": {"type": "null"}}},  # also where the key is missing
            "then": {"properties": _WITHOUT_STRATEGY},
        }
    )

    strategy: StrategyName | None = None
    """Strategy whose parameters these are; required as soon as a layer has a value."""
    base: Values = Field(default_factory=dict)
    """For everything."""
    symbols: dict[Symbol, SymbolValues] = Field(default_factory=dict)
    """For one symbol; parameters of the whole book can't be here."""
    modes: dict[Role, Values] = Field(default_factory=dict)
    """For lanes of one role."""
    live: Values = Field(default_factory=dict)
    """For lanes that trade real money."""

    @model_validator(mode="after")
    def _says_whose(self) -> "Overrides":
        if self.strategy is None and (self.base or self.live or any(self.symbols.values()) or any(self.modes.values())):
            raise flaws({"strategy": "missing; the strategy whose parameters these are"})
        return self

    def sections(self) -> Iterator[tuple[tuple[str, ...], dict[str, Scalar]]]:
        """Every layer of the file with the keys that lead to it, the ones that win last."""
        yield ("base",), self.base
        for symbol, values in self.symbols.items():
            yield ("symbols", symbol), values
        for role, values in self.modes.items():
            yield ("modes", role), values
        yield ("live",), self.live

    def layers(self, *, symbol: str | None = None, mode: str | None = None, live: bool = False) -> tuple[Layer, ...]:
        """The layers that apply, in the order in which they win: base, symbols, modes, live.

        Args:
            symbol: Symbol whose layer applies; None for none.
            mode: Role whose layer applies; None for none.
            live: Whether the layer of real money applies.
        """
        chosen = {("base",), ("symbols", symbol), ("modes", mode), *([("live",)] if live else [])}
        return tuple(
            Layer(".".join(keys), values, of_symbol=keys[0] == "symbols")
            for keys, values in self.sections()
            if keys in chosen
        )

    def of_symbols(self, table: Table, *, mode: str | None = None, live: bool = False) -> dict[str, dict[str, Value]]:
        """Values of single symbols that differ from those of all, by symbol and path.

        Modes and real money win over a symbol's layer too: what they say is the same for every symbol.

        Args:
            table: Parameters of the strategy.
            mode: As for `layers`.
            live: As for `layers`.

        Raises:
            ConfigError: A layer names an unknown path or a value that is not allowed.
        """
        stacks = {symbol: self.layers(symbol=symbol, mode=mode, live=live) for symbol in self.symbols}
        return merge_symbols(table, self.layers(mode=mode, live=live), stacks)
