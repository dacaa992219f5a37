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

    >>> from musubito import musubito_merge, musubito_step
    >>> @musubito_step
    ... def find(topic: str) -> str:
    ...     return f"facts about {topic}"
    >>> @musubito_step
    ... def write(facts: list[str]) -> str:
    ...     return " and ".join(facts)
    >>> found = [find("knots"), find("ropes")]
    >>> with musubito_merge(*found):
    ...     write([each.value for each in found]).value
    'facts about knots and facts about ropes'
    """
    for result in results:
        if not isinstance(result, MusubitoResult):
            raise TypeError(
                f"musubito_merge takes what steps gave back, MusubitoResults, not a {type(result).__name__}"
            )
    with in_scope(SCOPE.get()._replace(parents=results)):
        yield
