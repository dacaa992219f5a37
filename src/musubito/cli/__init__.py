"""The `musubito` command: what ran, why, and what it saved."""

from __future__ import annotations

import codecs
import sys
from io import TextIOWrapper
from typing import Final

__all__ = ["main"]


MARKS: Final = dict(zip("●○✗·▸×✓…→├│└─━", "*ox.>xv~>|||-=", strict=True))
"""For terminals that know ASCII alone; each as wide as what it stands for, and none is the mark of what is unknown."""


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(MARKS.get(each, "_") for each in error.object[error.start : error.end]), error.end


codecs.register_error("plainer", _plainer)


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
            stream.reconfigure(errors="plainer")
    root(prog_name="musubito")
