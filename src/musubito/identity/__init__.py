"""Identify a call: by its input, and by the code that it reaches."""
