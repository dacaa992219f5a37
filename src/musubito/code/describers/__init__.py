"""Describe what code reaches, one module for each kind of thing."""
