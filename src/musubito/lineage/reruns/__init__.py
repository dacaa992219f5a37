"""Rerun recorded runs against today's code, at the price of what was edited and what follows it."""
