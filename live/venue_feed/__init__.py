"""Feed of a venue: a core without I/O that declares steps, and a service that connects it to Hyperliquid."""
