"""The official SDK, as it is, reads the exchange simulator."""

import time
from collections.abc import Callable
from typing import Any

from hyperliquid.info import Info
from hyperliquid.utils.types import Cloid
from simulator_kit import ACCOUNT, in_thread, small_market

from mei_pipeline.candles.intervals import HOUR_MS


def _until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_sdk_asks_everything_over_rest() -> None:
    loaded = small_market()
    with in_thread(loaded) as url:
        info = Info(url, skip_ws=True, timeout=10.0)
        assert info.name_to_asset("BTC") == 0
        assert info.asset_to_sz_decimals[0] == 5
        assert sorted(info.all_mids()) == ["BTC", "ETH"]
        assert [asset["name"] for asset in info.meta()["universe"]] == ["BTC", "ETH"]
        assert len(info.meta_and_asset_ctxs()[1]) == 2
        assert info.perp_dexs() == [None]
        assert info.spot_meta()["universe"][0]["name"] == "PURR/USDC"
        candles = info.candles_snapshot("BTC", "1h", loaded.start_ms - 5 * HOUR_MS, loaded.start_ms - 1)
        assert len(candles) == 5
        assert info.funding_history("BTC", loaded.start_ms - 5 * HOUR_MS, None)[0]["coin"] == "BTC"
        assert len(info.funding_history("BTC", loaded.start_ms - 5 * HOUR_MS, loaded.start_ms)) == 6
        assert len(info.l2_snapshot("ETH")["levels"]) == 2
        assert info.user_state(ACCOUNT)["assetPositions"] == []
        assert info.spot_user_state(ACCOUNT) == {"balances": []}
        empty: tuple[Callable[[str], Any], ...] = (
            info.open_orders,
            info.frontend_open_orders,
            info.user_fills,
            info.historical_orders,
            info.extra_agents,
            info.user_twap_slice_fills,
            info.query_sub_accounts,
        )
        assert [each(ACCOUNT) for each in empty] == [[]] * len(empty)
        assert info.user_fills_by_time(ACCOUNT, 0) == []
        assert info.user_funding_history(ACCOUNT, 0) == []
        assert info.user_non_funding_ledger_updates(ACCOUNT, 0) == []
        assert info.query_order_by_oid(ACCOUNT, 1) == {"status": "unknownOid"}
        assert info.query_order_by_cloid(ACCOUNT, Cloid.from_int(1)) == {"status": "unknownOid"}
        assert info.user_role(ACCOUNT) == {"role": "missing"}
        assert info.user_rate_limit(ACCOUNT)["nRequestsCap"] == 10_000
        assert float(info.user_fees(ACCOUNT)["userCrossRate"]) > 0.0
        assert info.query_user_abstraction_state(ACCOUNT) == "disabled"


def test_the_sdk_follows_the_streams() -> None:
    loaded = small_market()
    got: dict[str, list[Any]] = {}
    with in_thread(loaded, speed=3600.0) as url:
        info = Info(url, timeout=10.0)
        try:
            subscriptions: tuple[dict[str, Any], ...] = (
                {"type": "allMids"},
                {"type": "bbo", "coin": "BTC"},
                {"type": "l2Book", "coin": "BTC"},
                {"type": "trades", "coin": "BTC"},
                {"type": "candle", "coin": "BTC", "interval": "1h"},
                {"type": "activeAssetCtx", "coin": "ETH"},
                {"type": "userFills", "user": ACCOUNT},
                {"type": "activeAssetData", "user": ACCOUNT, "coin": "BTC"},
            )
            for subscription in subscriptions:
                kept = got.setdefault(subscription["type"], [])
                info.subscribe(subscription, kept.append)
            _until(lambda: all(got.values()) and len({each["data"]["t"] for each in got["candle"]}) > 3)
        finally:
            info.disconnect_websocket()
    assert all(each["channel"] == kind for kind, messages in got.items() for each in messages)
    assert got["userFills"][0]["data"]["isSnapshot"] is True
    assert got["activeAssetData"][0]["data"]["leverage"] == {"type": "cross", "value": 40}
    assert float(got["activeAssetCtx"][0]["data"]["ctx"]["funding"]) != 0.0
