"""Identify code: find all that a step reaches, and describe it."""
