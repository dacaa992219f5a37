"""Keep the fingerprint of a step's function, and notice when it is no longer true.

A `CodeTracker` is kept with a step, and `current()` is asked at each call. The code is walked once
(`musubito.code.walk`). The walk also returns a check, generated as code: nothing that was walked has been bound,
replaced or changed since. While the check holds, the kept fingerprint is returned. Otherwise the code is walked again.
So these count at the next call: a helper defined again in a notebook cell, a patched attribute, a prompt dictionary
changed in place. A call in between costs a fraction of a microsecond.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from threading import Lock
from typing import Any, Final

from musubito.code.fingerprint import Fingerprint, digest_of_parts, parts_that_differ
from musubito.code.installed_packages import parts_of_packages
from musubito.code.live import ABSENT
from musubito.code.own_values import OwnValues
from musubito.code.parts import CodePart, PartKind
from musubito.code.state import MADE, changeable, may_have_made
from musubito.code.walk import ANY_NAME, Walk
from musubito.errors import CodeError, MusubitoError
from musubito.locks import fork_safe

MAX_CLASSES: Final = 1024
"""Number of classes whose trackers are kept."""
MAX_THREADS: Final = 16
"""Number of fingerprints that a tracker keeps, if threads find several."""
_MADE: Final[set[str]] = set()
"""What runs of any step have made of variables that were None: a step that may make them, too, finds them made."""
_LOCK: Final = fork_safe(Lock())
"""Held while a tracker learns, or keeps what it has found."""


class CodeTracker:
    """Keeps the fingerprint of one function and notices when it is no longer true.

    - `owner` is the receiver's class if the function is a method. Then the members that it reaches through its first
      parameter count too.
    - `module` is the module from which it is judged whose code is the user's. By default it is the function's own.
    - `packages` and `ignore_settings` are explained at `StepConfiguration`.
    - `mentioned`, for a class of which code is given instances: the names that the code mentions.
    - `released` are modules of released packages that the step runs as its own. Such modules count by version and
      contents.

    Nothing is read before the first call of `current()`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        owner: type | None = None,
        module: str | None = None,
        packages: str | None = None,
        released: Collection[str] = (),
        mentioned: Collection[str] | None = None,
        ignore_settings: Collection[str] = (),
    ) -> None:
        self.function = function
        self._mentioned = mentioned
        self.ignored = frozenset(ignore_settings)
        self.packages = packages
        self._released = released
        self._owner = owner
        self._module = module
        self.held: Fingerprint | None = None
        """The latest fingerprint, if there is one; it may be true no longer."""
        self._of_threads: deque[Fingerprint] = deque(maxlen=MAX_THREADS)
        """The latest that were found, if the code reads a `threading.local`: threads call in turn."""
        self._own_values = OwnValues()
        self._state: dict[bytes, set[str]] = {}
        """The parts that the step changes itself, by the digest of its functions."""

    def current(self) -> Fingerprint:
        """Return the present fingerprint, or raise `CodeError`.

        The call is cheap while nothing has changed, and safe from any thread.
        """
        held = self.held
        if held is not None and held.walk.unchanged():
            return held
        return self._renew()

    def state_of(self, code: Fingerprint) -> frozenset[str]:
        """Return the parts that the step is known to change itself."""
        return self._state_of(code.code)

    def _state_of(self, code: bytes) -> frozenset[str]:
        return frozenset(self._state.get(code, ()))

    def learn_state(self, code: Fingerprint, parts: Collection[str]) -> None:
        """Let parts count by their names alone: the step changes them itself."""
        if not frozenset(code.state).issuperset(parts):
            with _LOCK:
                self._state.setdefault(code.code, set()).update(parts)
                _MADE.update(place for place in parts if MADE in place)
                self._forget()

    def learn_own_values(self, before: Fingerprint, after: Fingerprint) -> None:
        """Note what a run of the step has put into its context and its thread, where nothing else had put anything."""
        own = self._own_values
        for name, (holder, value) in after.walk.context.items():
            was = before.walk.context.get(name, (holder, ABSENT))[1]
            if value is not was and own.has_put(name, holder, was):
                own.note(name, holder, value)
                self._forget()

    def _renew(self) -> Fingerprint:
        """Return what was found earlier, if it is true again, or walk."""
        for held in tuple(self._of_threads):
            if held.walk.unchanged():
                with _LOCK:
                    if held in self._of_threads:
                        self.held = held
                return held
        try:
            return self._walk()
        except MusubitoError:
            raise
        except Exception as error:
            raise CodeError(getattr(self.function, "__qualname__", type(self.function).__qualname__), error) from error

    def _walk(self) -> Fingerprint:
        """Walk again, without a lock: the walk may import, and two threads that walk at once find the same."""
        fingerprint = self._fingerprint(frozenset())
        code = fingerprint.code
        with _LOCK:
            if made := may_have_made(fingerprint.walk, _MADE):
                self._state.setdefault(code, set()).update(made)
            state = self._state_of(code)
        if state:
            fingerprint = self._fingerprint(state, code=code)
        if not fingerprint.walk.unchanged():
            again = self._fingerprint(state, code=code)
            # What fails again though it is found the same cannot be compared: it would fail at each call.
            failing = fingerprint.walk.guard.failing() & again.walk.guard.failing()
            failing.difference_update(parts_that_differ(fingerprint, again))
            fingerprint = self._fingerprint(state, failing, code) if failing else again
        with _LOCK:
            if self._state_of(code) == state:
                self.held = fingerprint
                if any(issubclass(type(thing), threading.local) for thing in fingerprint.met):
                    self._of_threads.append(fingerprint)
                return fingerprint
        return self._walk()  # another thread has learned more meanwhile

    def _forget(self) -> None:
        self.held = None
        self._of_threads.clear()

    def counted_as(self, code: Fingerprint) -> Fingerprint:
        """Return the present fingerprint with the state of an earlier one, so that both can be compared."""
        now = self.current()
        return now if now.state == code.state else self._fingerprint(frozenset(code.state), code=code.code)

    def _fingerprint(
        self, state: frozenset[str], unwatched: Collection[str] = (), code: bytes | None = None
    ) -> Fingerprint:
        """Return the fingerprint without this state. `code` is the digest of the functions, if it is known."""
        how = self._owner, self._module, state, {*state, *unwatched}, self._mentioned, self._own_values, self.ignored
        walk = Walk(self.function, *how).run()
        packages, unread = parts_of_packages(walk.modules, self.packages, self._released)
        reached = walk.parts()
        parts = tuple(sorted((*reached, *packages), key=lambda part: part.name))
        return Fingerprint(
            digest_of_parts(parts),
            parts,
            tuple(sorted((*walk.untracked(), *unread))),
            tuple(sorted(state)),
            self.packages,
            walk,
            _digest_of_code(walk, reached) if code is None else code,
        )


def _digest_of_code(walk: Walk, parts: Iterable[CodePart]) -> bytes:
    names = walk.graph.without(changeable(walk))
    return digest_of_parts(part for part in parts if part.kind is not PartKind.VALUE and part.name in names)


@lru_cache(MAX_CLASSES)
def tracker_of_class(cls: type, packages: str | None = None, mentioned: frozenset[str] = ANY_NAME) -> CodeTracker:
    """Return the tracker of a class, seen by code that is given instances and mentions these names."""
    return CodeTracker(cls, packages=packages, mentioned=mentioned)
