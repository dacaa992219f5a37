"""Merge contexts: who the parents of a step are, said explicitly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from musubito.engine.scope import SCOPE, in_scope
from musubito.model import MusubitoResult


@contextmanager
def musubito_merge(*results: MusubitoResult[object]) -> Iterator[None]:
    """Make these results the parents of the steps that are called inside. Their order does not count.

    Without an argument, these steps have no parents. Calls in a step's body are not concerned: they have parents of
    their own. Raise TypeError for an argument that is no `MusubitoResult`.
    """
    for result in results:
        if not isinstance(result, MusubitoResult):
            raise TypeError(
                f"musubito_merge takes what steps gave back, MusubitoResults, not a {type(result).__name__}"
            )
    with in_scope(SCOPE.get()._replace(parents=results)):
        yield
