"""A network is named; its address follows from the name, and never the other way round."""

import pytest

from mei_pipeline.errors import ConfigError
from mei_pipeline.hyperliquid.network import endpoints_of


def test_addresses() -> None:
    main, test = endpoints_of("mainnet", "http://example.com"), endpoints_of("testnet")
    assert (main.rest_url, main.socket_url) == ("https://api.hyperliquid.xyz", "wss://api.hyperliquid.xyz/ws")
    assert (test.network, test.socket_url) == ("testnet", "wss://api.hyperliquid-testnet.xyz/ws")
    simulator = endpoints_of("simulator", "http://127.0.0.1:9000/")
    assert (simulator.rest_url, simulator.socket_url) == ("http://127.0.0.1:9000", "ws://127.0.0.1:9000/ws")
    assert endpoints_of("simulator", "http://[::1]:9000").socket_url == "ws://[::1]:9000/ws"


@pytest.mark.parametrize("name", ["", "main", "Mainnet", "replay"])
def test_an_unknown_network_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="allowed are mainnet, testnet and simulator"):
        endpoints_of(name)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:9000",
        "http://127.0.0.1",
        "https://127.0.0.1:9000",
        "http://10.0.0.1:9000",
        "http://api.hyperliquid.xyz:80",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:9000/info",
        "http://[::1:9000",
    ],
)
def test_a_simulator_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="write an address on this machine"):
        endpoints_of("simulator", url)
