"""Treat the files that a step reads as dependencies."""
