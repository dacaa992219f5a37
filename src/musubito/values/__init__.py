"""Encode values: for identity, for storage and for readers."""
