"""Merge contexts: who the parents of a step are, said explicitly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from musubito.engine.scope import SCOPE
from musubito.model import MusubitoResult

__all__ = ["musubito_merge"]


@contextmanager
def musubito_merge(*results: MusubitoResult[object]) -> Iterator[None]:
    """Give the steps called inside exactly these parents: a set, and an empty one means no parents.

    It does not reach into a step's body. Anything but a `MusubitoResult` is a `TypeError`.
    """
    for result in results:
        if not isinstance(result, MusubitoResult):
            raise TypeError(
                f"musubito_merge takes what steps gave back, MusubitoResults, not a {type(result).__name__}"
            )
    token = SCOPE.set(SCOPE.get()._replace(parents=results))
    try:
        yield
    finally:
        SCOPE.reset(token)
