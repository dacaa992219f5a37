"""Plan what an invocation of a graph would replay and run."""
