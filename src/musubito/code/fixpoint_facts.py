"""Keep the facts about all the reached code together, which are known only when all of it was walked."""

from __future__ import annotations

from copy import copy
from typing import Any, Final

from musubito.code.fixpoint import Discoveries, Showings
from musubito.code.state.write_limits import WriteLimits

DOCS: Final = "docstrings"
"""Reached code reads docstrings: all of them count."""
ANNOTATIONS: Final = "annotations"
"""Reached code reads annotations: all of them count."""
ORDER: Final = "order"
"""Reached code gets names in the order in which they were defined."""
TEXT: Final = "text"
"""Reached code reads the text of code: comments count, too."""
FIELDS: Final = "fields"
"""Reached code may read fields in other ways than by name."""
SHOWING: Final = "showing"
"""Reached code of the user's may be given what is shown: it may run it."""
RUNNING: Final = "running"
"""A class of the user's has a method that is given what is shown, and a method that may run it."""


class FixpointFacts:
    """Facts about all the reached code together, which are known only when all of it was walked."""

    def __init__(self) -> None:
        self.limits = WriteLimits()
        self.given = Discoveries()
        """Functions that are handed on or held: their docstrings and annotations count."""
        self.handed = Discoveries()
        """Names and attributes that code which can run hands on, and does not merely call."""
        self.running: dict[int, Any] = {}
        """Things that code which can run leads to, by id. Only such code writes."""
        self.mentioned = Discoveries()
        """Attributes that code which can run gets, and the special methods that its operators may call."""
        self.called = Discoveries()
        """Classes whose objects are called by code which can run; a class is an object of its metaclass."""
        self.made = Discoveries()
        """Classes that code which can run calls, and their bases."""
        self.late = 0
        """How often code that can run was found to lead to something only after that had been described."""
        self.looks = Discoveries()
        """How reached code looks at code and objects: `DOCS`, `ANNOTATIONS`, `ORDER`, `TEXT`, `FIELDS` and the like."""
        self.fields = Discoveries()
        """Names by which reached code may read fields."""
        self.whole = Discoveries()
        """The user's objects that are reached in other ways than by the names of their fields, by id."""
        self.handing = Discoveries()
        """Classes whose methods hand on the object that they belong to."""
        self.showings = Showings()
        self.given_shown: set[tuple[str, str]] = set()
        """Modules and names of classes with a method that is given what is shown."""
        self.may_run_shown: set[tuple[str, str]] = set()
        """Modules and names of classes with a method that may run what is shown."""
        self.offered = Discoveries()
        """Containers that the user's code hands to a method which only shows what it is given, by id."""
        self.ordered = Discoveries()
        """Shown containers whose order counts, by id."""
        self.walked_apart = False
        """Whether this round walked what a run has left, with the facts that were known then."""
        self._before: tuple[int, ...] = ()
        """The size at the beginning of this round."""

    def apart(self) -> FixpointFacts:
        """Return a copy of the facts for a walk of what a run has left: additions to the copy do not count here."""
        self.walked_apart = True
        facts = FixpointFacts()
        vars(facts).update({name: copy(fact) for name, fact in vars(self).items()}, limits=self.limits.beside())
        return facts

    def ask_anew(self) -> None:
        """Begin a round: forget all questions whose answer was no."""
        for discoveries in self._discoveries():
            discoveries.ask_anew()
        self.limits.ask_anew()
        self.walked_apart, self._before = False, self._size()

    def settle(self) -> None:
        """Keep what was found: questions from now on belong to no round."""
        self.showings.settle()
        self.ask_anew()

    @property
    def is_settled(self) -> bool:
        """Return whether another round would find the same."""
        if self._size() == self._before:
            return True
        if self.walked_apart or self.late != self._before[0]:
            return False
        return self.limits.is_settled and all(discoveries.is_settled for discoveries in self._discoveries())

    def _discoveries(self) -> tuple[Discoveries | Showings, ...]:
        names = self.mentioned, self.limits.fields, self.limits.called_names, self.fields, self.handed
        classes = self.called, self.made, self.handing
        shown = self.showings, self.offered, self.ordered
        return *names, *classes, *shown, self.given, self.looks, self.whole

    def _size(self) -> tuple[int, ...]:
        return self.late, self.limits.size, *map(len, self._discoveries())
