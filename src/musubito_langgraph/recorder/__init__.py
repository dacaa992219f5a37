"""Record what a node does besides returning a value."""
