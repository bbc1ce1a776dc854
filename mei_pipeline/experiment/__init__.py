"""What the selection lets through: all of it, on many markets whose edge is known."""
