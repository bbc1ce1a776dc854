"""Exchange simulator: market data of Hyperliquid on loopback, from candles of the lake or synthetic ones."""
