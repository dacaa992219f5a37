"""The `musubito` command: what ran, why, and what it saved."""

from __future__ import annotations

import sys
from io import TextIOWrapper

__all__ = ["main"]


def main() -> None:
    """Runs the command; says what is missing if the extra is not installed."""
    try:
        from musubito.cli.root import root  # noqa: PLC0415 - what it needs is an extra
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(f"musubito: the command needs {error.name}; install it with: pip install 'musubito[cli]'")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that cannot show a letter shows another one.
            stream.reconfigure(errors="replace")
    root(prog_name="musubito")
