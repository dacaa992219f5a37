"""Keep answers while one round of a walk lasts, such as the properties of a class.

A class can be changed at any time, and a check for changes would cost as much as a new answer. So no answer is kept
longer than a round. The guard of the round notes the members of the classes that the walk meets.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class _Round(threading.local):
    answers: dict[tuple[Any, ...], tuple[tuple[Any, ...], Any]] | None = None
    """The answers of the round that runs in this thread, by function and by the ids of its arguments.

    The arguments are kept, so that their ids stay their own.
    """


_round = _Round()


@contextmanager
def one_round() -> Iterator[None]:
    """Keep answers while the block runs; a round inside another one shares its answers."""
    if _round.answers is not None:
        yield
        return
    _round.answers = {}
    try:
        yield
    finally:
        _round.answers = None


def kept_for_a_round(function: F) -> F:
    """Make a function answer once in a round for the same arguments.

    The arguments must stay the same objects for the whole round, as classes do.
    """

    @functools.wraps(function)
    def answer(*args: Any) -> Any:
        answers = _round.answers
        if answers is None:
            return function(*args)
        key = (function, *map(id, args))
        cached = answers.get(key)
        if cached is None:
            cached = answers[key] = args, function(*args)
        return cached[1]

    return answer  # type: ignore[return-value]
