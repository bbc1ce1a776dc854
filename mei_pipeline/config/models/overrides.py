"""Model of strategy_overrides.yaml."""

from collections.abc import Iterator
from typing import Annotated, Any

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


class PromotedLimits(FileModel):
    """Limits of lanes that hold a promoted config; a lane that runs follows them from the next step on."""

    exclude: tuple[Symbol, ...] = ()
    """Symbols in which these lanes open no position; exits continue."""
    size_multiplier: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on the size of new positions and additions."""


class Overrides(FileModel):
    """strategy_overrides.yaml: parameters set by hand, in layers; a later layer wins: base, symbols, modes, live."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"strategy": {"type": "null"}}},  # also where the key is missing
            "then": {"properties": _WITHOUT_STRATEGY},
        }
    )

    strategy: StrategyName | None = None
    """Strategy of these parameters; required if a layer has a value."""
    base: Values = Field(default_factory=dict)
    """Parameters of all lanes and symbols."""
    symbols: dict[Symbol, SymbolValues] = Field(default_factory=dict)
    """Parameters of single symbols, except parameters of the whole book."""
    modes: dict[Role, Values] = Field(default_factory=dict)
    """Parameters of lanes of one role."""
    live: Values = Field(default_factory=dict)
    """Parameters of lanes that trade real money."""
    promoted: PromotedLimits = PromotedLimits()
    """Limits of lanes that hold a promoted config. Such a lane follows no other key of this file: its parameters change
    by a promotion."""

    @model_validator(mode="after")
    def _has_strategy(self) -> "Overrides":
        if self.strategy is None and (self.base or self.live or any(self.symbols.values()) or any(self.modes.values())):
            raise flaws({"strategy": "missing; the strategy whose parameters these are"})
        return self

    def sections(self) -> Iterator[tuple[tuple[str, ...], dict[str, Scalar]]]:
        """Yield every layer of the file with the keys that lead to it, in order of increasing priority."""
        yield ("base",), self.base
        for symbol, values in self.symbols.items():
            yield ("symbols", symbol), values
        for role, values in self.modes.items():
            yield ("modes", role), values
        yield ("live",), self.live

    def layers(self, *, symbol: str | None = None, mode: str | None = None, live: bool = False) -> tuple[Layer, ...]:
        """Return the layers that apply, in order of increasing priority: base, symbols, modes, live.

        Args:
            symbol: Symbol of the lane; None to omit layers of symbols.
            mode: Role of the lane; None to omit layers of roles.
            live: True if the lane trades real money.
        """
        chosen = {("base",), ("symbols", symbol), ("modes", mode), *([("live",)] if live else [])}
        return tuple(
            Layer(".".join(keys), values, of_symbol=keys[0] == "symbols")
            for keys, values in self.sections()
            if keys in chosen
        )

    def of_symbols(self, table: Table, *, mode: str | None = None, live: bool = False) -> dict[str, dict[str, Value]]:
        """Return values of single symbols that differ from the common ones, by symbol and path.

        Layers of modes and of real money override the layer of a symbol; they are the same for every symbol.

        Args:
            table: Parameters of the strategy.
            mode: As for `layers`.
            live: As for `layers`.

        Raises:
            ConfigError: A layer names an unknown path or a value that is not allowed.
        """
        stacks = {symbol: self.layers(symbol=symbol, mode=mode, live=live) for symbol in self.symbols}
        return merge_symbols(table, self.layers(mode=mode, live=live), stacks)
