"""Networks of Hyperliquid, and the addresses of each.

The network is configuration. It is never derived from a URL, because orders are signed for a network.
"""

import ipaddress
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import SplitResult, urlsplit

from mei_pipeline.errors import ConfigError
from mei_pipeline.text import printable

Network = Literal["mainnet", "testnet", "simulator"]
NETWORKS: tuple[Network, ...] = get_args(Network)

_HOSTS: dict[str, str] = {"mainnet": "api.hyperliquid.xyz", "testnet": "api.hyperliquid-testnet.xyz"}


@dataclass(frozen=True)
class Endpoints:
    """Addresses of a network.

    Attributes:
        network: The network.
        rest_url: Base URL of the REST interface, without a slash at its end.
        socket_url: URL of the WebSocket.
    """

    network: Network
    rest_url: str
    socket_url: str


def endpoints_of(network: str, simulator_url: str = "http://127.0.0.1:3001") -> Endpoints:
    """Return the addresses of a network.

    Args:
        network: Name of the network.
        simulator_url: Base URL of the exchange simulator; used for the network `simulator` only.

    Raises:
        ConfigError: The network is unknown, or the simulator's URL is not one of this machine.
    """
    if network == "mainnet" or network == "testnet":  # noqa: PLR1714 - the type checker narrows no membership
        host = _HOSTS[network]
        return Endpoints(network, f"https://{host}", f"wss://{host}/ws")
    if network == "simulator":
        address = _loopback(simulator_url)
        return Endpoints("simulator", f"http://{address}", f"ws://{address}/ws")
    raise ConfigError(f"network: unknown: {printable(network)!r}; allowed: {', '.join(NETWORKS)}")


def _loopback(url: str) -> str:
    """Return host and port of the simulator's URL."""
    wrong = f"simulator URL: {{}}: {printable(url)!r}; allowed: http://127.0.0.1:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(wrong.format("no URL")) from None
    if parts.scheme != "http" or parts.path not in {"", "/"} or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(wrong.format("not the form of a base URL"))
    if not _is_loopback(parts):
        # Another machine could pass for the simulator, and the simulator is open to everyone who reaches it.
        raise ConfigError(wrong.format("not an address of this machine"))
    if not port:
        raise ConfigError(wrong.format("no port"))
    return parts.netloc


def _is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
