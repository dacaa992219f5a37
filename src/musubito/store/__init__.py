"""The `Store` protocol, and the stores that implement it."""
