"""strategy_overrides.yaml."""

from collections.abc import Iterator

from pydantic import Field, model_validator

from mei_pipeline.config.base import FileModel, Name, Role, Scalar, Symbol, Values, flaws
from mei_pipeline.params.resolve import Layer


class Overrides(FileModel):
    """strategy_overrides.yaml: parameters by hand, in layers; a later layer wins: base, symbols, modes, live."""

    strategy: Name | None = None
    """Strategy whose parameters these are; required as soon as a layer has a value."""
    base: Values = Field(default_factory=dict)
    """For everything."""
    symbols: dict[Symbol, Values] = Field(default_factory=dict)
    """For one symbol."""
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
        return tuple(Layer(".".join(keys), values) for keys, values in self.sections() if keys in chosen)
