"""What is said to the logger `musubito`."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from musubito import MusubitoWarning

__all__ = ["RECOVERY", "fault_said", "said"]

RECOVERY = "the store works again"


@contextmanager
def said() -> Iterator[list[str]]:
    """What is said aloud meanwhile."""
    texts: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    logger, listening = logging.getLogger("musubito"), Listening(logging.WARNING)
    logger.addHandler(listening)
    try:
        yield texts
    finally:
        logger.removeHandler(listening)


@contextmanager
def fault_said(match: str) -> Iterator[None]:
    """A failing store says so meanwhile, once, and warns of nothing. If it works again, it says so after that, once."""
    with said() as texts, warnings.catch_warnings():
        warnings.simplefilter("error", MusubitoWarning)
        yield
    assert len(texts) == 1 or (len(texts) == 2 and texts[1].startswith(RECOVERY)), texts
    assert re.search(match, texts[0]), texts
