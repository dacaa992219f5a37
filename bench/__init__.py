"""Musubito side by side with other caches, in one process and one run. `python -m bench`, or `make bench`.

Machines differ and so do minutes: only ratios between contenders that were measured in turns, round by round,
say anything. `measure` does that; `replay`, `tasks`, `effects` and `growth` hold the rows, `goals` what these
are held to.
"""
