"""Provide what users call: steps, merge contexts, runs and streams."""
