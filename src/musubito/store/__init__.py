"""Where lineage is kept: the narrow `Store` protocol and the stores that speak it."""
