"""Simulator of Hyperliquid on loopback: REST and WebSocket, a virtual clock, and faults."""
