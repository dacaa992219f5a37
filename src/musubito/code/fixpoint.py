"""Keep the discoveries of a walk, and the questions that were asked in vain before a discovery.

If something was asked for in vain and is found later in the same round, the question was answered wrongly: another
round is needed. If there is nothing of the kind, another round would find the same.

Of things that are shown, each answer is kept: another round is needed if any of them would be another one now.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self


class Discoveries:
    """A set of names, or of things by their ids, that only grows and remembers each question answered with no."""

    def __init__(self) -> None:
        self._things: dict[Any, Any] = {}
        """The things are kept, so that their ids stay their own."""
        self._missed: set[Any] = set()
        """Keys that were asked for in vain in this round."""

    def __contains__(self, key: Any) -> bool:
        if key in self._things:
            return True
        self._missed.add(key)
        return False

    def __len__(self) -> int:
        return len(self._things)

    def __ior__(self, keys: Iterable[Any]) -> Self:
        self._things.update(dict.fromkeys(keys))
        return self

    def __copy__(self) -> Discoveries:
        copied = Discoveries()
        copied._things = dict(self._things)
        return copied

    def add(self, key: Any, thing: Any = None) -> None:
        """Note that a key is found."""
        self._things[key] = thing

    def meets(self, keys: Iterable[Any]) -> bool:
        """Return whether any of these keys is found, and remember the question."""
        return any(key in self for key in keys)

    def holds(self, keys: Iterable[Any]) -> bool:
        """Return whether any of these keys is found, without remembering the question: for use after the walk."""
        return not self._things.keys().isdisjoint(keys)

    def all(self) -> list[Any]:
        """Return the keys that are found, without remembering a question: for use after the walk."""
        return list(self._things)

    def lacks(self, keys: Iterable[Any]) -> set[Any]:
        """Return the keys that are not found."""
        return {key for key in keys if key not in self}

    def ask_anew(self) -> None:
        """Forget the questions that were answered with no."""
        self._missed.clear()

    @property
    def is_settled(self) -> bool:
        """Return whether all that was asked for in vain is still not found."""
        return self._missed.isdisjoint(self._things)


class Showings:
    """The things that are reached to be shown, and which of them are reached in another way, too."""

    def __init__(self) -> None:
        self._shown: dict[int, Any] = {}
        """The shown things by id; they are kept, so that their ids stay their own."""
        self._used: set[int] = set()
        """The ids of the shown things that are reached in another way."""
        self._reached: dict[int, Any] = {}
        """The things that were reached in another way in this round, before anything showed them, by id."""
        self._answers: set[tuple[int, bool]] = set()
        """The answers of this round, each with the id of its thing."""

    def __len__(self) -> int:
        return len(self._shown) + len(self._used)

    def __copy__(self) -> Showings:
        copied = Showings()
        copied._shown, copied._used = dict(self._shown), self._used | self._shown_and_reached()
        return copied

    def settle(self) -> None:
        """Keep what this round has found, since there is no other one."""
        self._used |= self._shown_and_reached()

    def _shown_and_reached(self) -> set[int]:
        return self._shown.keys() & self._reached.keys()

    def show(self, thing: Any) -> None:
        """Note that a thing is reached to be shown."""
        self._shown[id(thing)] = thing

    def use(self, thing: Any) -> None:
        """Note that a thing is reached in another way."""
        if id(thing) in self._shown:
            self._used.add(id(thing))
        else:
            self._reached[id(thing)] = thing  # kept: the id of a thing that is gone may be another one's

    def only_show(self, thing: Any) -> bool:
        """Return whether a thing is reached to be shown alone, and remember the answer."""
        answer = self._only_show(id(thing))
        self._answers.add((id(thing), answer))
        return answer

    def _only_show(self, key: int) -> bool:
        return key in self._shown and key not in self._used and key not in self._reached

    def ask_anew(self) -> None:
        """Forget the answers, and what was reached in this round."""
        self._answers.clear()
        self._reached.clear()

    @property
    def is_settled(self) -> bool:
        """Return whether each answer of this round would be the same now."""
        return all(self._only_show(key) == answer for key, answer in self._answers)
