"""Hyperliquid: wire format, client and market data of the venue, and a simulator of it."""
