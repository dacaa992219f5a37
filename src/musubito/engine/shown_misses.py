"""Show a call that was not replayed as the last thing on the screen, below the user's own frames."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final

from musubito.code.ownership import Owner, owner_of_path
from musubito.errors import NotReplayed

OWN: Final = ("musubito", "musubito_langgraph")


def shortened(miss: NotReplayed) -> NotReplayed:
    """Return the error with the frames of the user's files alone, and without the notes that frameworks add.

    LangGraph and asyncio stand between a program and its step with forty lines, which hide what is to be read.
    """
    vars(miss).pop("__notes__", None)
    entries: list[TracebackType] = []
    trace = miss.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in OWN and owner_of_path(frame.f_code.co_filename) is Owner.USER:
            entries.append(trace)
        trace = trace.tb_next
    short = None
    for entry in reversed(entries):
        short = TracebackType(short, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return miss if short is None else miss.with_traceback(short)


def show_misses_last() -> None:
    """Let Python print such an error shortened if it ends the program, unless the program prints errors by itself."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_error


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, NotReplayed):
        trace = shortened(error.with_traceback(trace)).__traceback__
    sys.__excepthook__(kind, error, trace)
