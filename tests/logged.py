"""What is said to the logger `musubito`."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from musubito import MusubitoWarning

__all__ = ["fault_said", "said"]


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
    """A failing store says so meanwhile, once, and warns of nothing."""
    with said() as texts, warnings.catch_warnings():
        warnings.simplefilter("error", MusubitoWarning)
        yield
    assert len(texts) == 1, texts
    assert re.search(match, texts[0]), texts
