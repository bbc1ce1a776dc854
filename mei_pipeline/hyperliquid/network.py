"""Networks of Hyperliquid and their addresses."""

from dataclasses import dataclass
from typing import Literal

Network = Literal["mainnet", "testnet", "simulator"]


@dataclass(frozen=True)
class Endpoints:
    """Addresses of a network.

    Attributes:
        network: The network.
        rest_url: Address of the REST interface, without a trailing slash.
        socket_url: Address of the WebSocket.
    """

    network: Network
    rest_url: str
    socket_url: str
