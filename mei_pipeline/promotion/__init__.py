"""Promotion: assign accepted configs to lanes, propose them, and move the pointers of lanes."""
