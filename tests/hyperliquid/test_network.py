import pytest

from mei_pipeline.errors import ConfigError
from mei_pipeline.hyperliquid.network import Endpoints, endpoints_of


def test_real_networks_have_their_own_hosts_whatever_the_simulator_s_url_is():
    assert endpoints_of("mainnet", "nonsense") == Endpoints(
        "mainnet", "https://api.hyperliquid.xyz", "wss://api.hyperliquid.xyz/ws"
    )
    assert endpoints_of("testnet") == Endpoints(
        "testnet", "https://api.hyperliquid-testnet.xyz", "wss://api.hyperliquid-testnet.xyz/ws"
    )


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "http://127.0.0.1:9000/"])
def test_the_simulator_answers_on_one_port(url):
    assert endpoints_of("simulator", url) == Endpoints("simulator", "http://127.0.0.1:9000", "ws://127.0.0.1:9000/ws")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.53", "[::1]"])
def test_every_name_of_this_machine_is_allowed(host):
    assert endpoints_of("simulator", f"http://{host}:80").rest_url == f"http://{host}:80"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://api.hyperliquid.xyz", "base URL"),
        ("http://api.hyperliquid.xyz:80", "this machine"),
        ("http://10.0.0.1:3001", "this machine"),
        ("http://0.0.0.0:3001", "this machine"),
        ("http://127.0.0.1.example.org:3001", "this machine"),
        ("http://:3001", "this machine"),
        ("http://user@127.0.0.1:3001", "base URL"),
        ("http://127.0.0.1:3001/info", "base URL"),
        ("http://127.0.0.1:3001?x=1", "base URL"),
        ("http://127.0.0.1:3001#x", "base URL"),
        ("127.0.0.1:3001", "base URL"),
        ("http://127.0.0.1", "no port"),
        ("http://127.0.0.1:0", "no port"),
        ("http://127.0.0.1:99999", "no URL"),
        ("http://127.0.0.1:x", "no URL"),
        ("http://[::1", "no URL"),
        ("", "base URL"),
    ],
)
def test_a_simulator_elsewhere_is_refused(url, problem):
    with pytest.raises(ConfigError, match=problem) as raised:
        endpoints_of("simulator", url)
    assert repr(url) in str(raised.value)
    assert "http://127.0.0.1:PORT" in str(raised.value)


@pytest.mark.parametrize("network", ["", "Mainnet", "main", "https://api.hyperliquid.xyz"])
def test_an_unknown_network_is_refused_with_the_allowed_ones(network):
    with pytest.raises(ConfigError, match="mainnet, testnet, simulator") as raised:
        endpoints_of(network)
    assert repr(network) in str(raised.value)
