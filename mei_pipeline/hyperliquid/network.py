"""Networks of Hyperliquid and their addresses. A network is named, and never derived from an address."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from mei_pipeline.errors import ConfigError

Network = Literal["mainnet", "testnet", "simulator"]

SIMULATOR_URL = "http://127.0.0.1:3001"
"""Address of a simulator that was started with its default port."""

_HOSTS: dict[str, str] = {
    "mainnet": "https://api.hyperliquid.xyz",
    "testnet": "https://api.hyperliquid-testnet.xyz",
}


@dataclass(frozen=True)
class Endpoints:
    """Addresses of a network.

    Attributes:
        network: The network.
        rest_url: Address of the REST interface, without a slash at its end.
        socket_url: Address of the WebSocket.
    """

    network: Network
    rest_url: str
    socket_url: str


def endpoints_of(network: str, simulator_url: str = SIMULATOR_URL) -> Endpoints:
    """Return the addresses of a network.

    Args:
        network: `mainnet`, `testnet` or `simulator`.
        simulator_url: Address of the simulator; other networks ignore it.

    Raises:
        ConfigError: The network is unknown, or the simulator is not on this machine.
    """
    match network:
        case "mainnet" | "testnet":
            url = _HOSTS[network]
        case "simulator":
            url = _loopback(simulator_url)
        case _:
            raise ConfigError(f"network: {network!r} is unknown; allowed are mainnet, testnet and simulator")
    return Endpoints(network, url, f"ws{url.removeprefix('http')}/ws")


def _loopback(url: str) -> str:
    """Return the address of a simulator without a slash at its end."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        local = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        local, port, parts = False, None, None
    if parts is None or not local or port is None or parts.scheme != "http" or parts.path not in {"", "/"}:
        raise ConfigError(f"simulator: {url!r}: write an address on this machine, such as {SIMULATOR_URL}")
    return url.rstrip("/")
