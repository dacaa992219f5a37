"""Make step calls: the protocol of one call, and the drivers that perform its requests."""
