"""The `musubito` command: what ran, why, and what replays saved."""

from __future__ import annotations

import codecs
import gc
import logging
import sys
from io import TextIOWrapper
from typing import Final

from musubito.errors import LOGGER

__all__ = ["main"]


OBJECTS: Final = 50_000
"""New objects after which Python looks for unreachable circles.

Rows of a store form none. With Python's default of 700, these looks take a third of the time among 200,000 rows.
"""
MARKS: Final = dict(zip("●○✗·▸×✓…→├│└─━", "*ox.>xv~>|||-=", strict=True))
"""Marks for terminals that know ASCII alone, each as wide as the mark that it replaces.

None of them is "_", the mark of an unknown character.
"""


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(MARKS.get(character, "_") for character in error.object[error.start : error.end]), error.end


codecs.register_error("plainer", _plainer)


def main() -> None:
    """Run the command.

    If the extra is not installed, the process ends with the name of the missing package.
    """
    gc.set_threshold(OBJECTS)
    try:
        from musubito.cli.root import root  # noqa: PLC0415 - what it needs is an extra
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(f"musubito: the command needs {error.name}; install it with: pip install 'musubito[cli]'")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that cannot show a character shows another one, and no traceback.
            stream.reconfigure(errors="plainer")
    # The library prints nothing, and the command has no program around it that would show its warnings.
    warnings = logging.StreamHandler()
    warnings.setLevel(logging.WARNING)
    LOGGER.addHandler(warnings)
    root(prog_name="musubito")
