"""The code fingerprint: what a step's function is, with all that it reaches, as one digest.

A `CodeTracker` is kept with a step. `current()` is asked at each call: the closure
(`musubito.identity.closure`) is walked once, and with it comes a check, generated as code, that nothing of
what was walked has been bound, replaced or changed since. While the check holds, the fingerprint that is kept
is the answer; else the closure is walked again. So a helper defined again in a notebook cell, a patched
attribute and a prompt dictionary changed in place count at the next call, and a call in between costs a
fraction of a microsecond.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from musubito.errors import CodeError, MusubitoError
from musubito.identity.closure import Closure, CodePart, reach
from musubito.identity.foreign import may_remember
from musubito.identity.functions import module_of
from musubito.identity.origin import Origin, Origins
from musubito.identity.secrets import without_secrets_in
from musubito.identity.source import statement_of

__all__ = ["CodePart", "CodeTracker", "Fingerprint", "code_of_classes", "fingerprints_of_classes", "shown_source"]

ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a function and all that it reaches amount to.

    `digest` is the same in every process that reaches the same code and constants. `parts` says what was
    reached, `untracked` what could only be counted by its type, `state` what the reached code itself writes
    and what therefore does not count as a constant. `classes` are the classes by which results may be
    rebuilt, by module and qualname. `steps` are the names of the operations that the code reaches, `met` the
    objects that may remember what was done with them (see `register_kind`), `others` the packages that it reaches
    things of which count by name.
    """

    digest: bytes
    parts: tuple[CodePart, ...]
    untracked: tuple[str, ...]
    state: tuple[str, ...]
    classes: Mapping[tuple[str, str], type]
    steps: frozenset[str]
    met: tuple[Any, ...]
    others: frozenset[str]


def shown_source(part: CodePart) -> str | None:
    """The text of a part as it is stored and shown: without secrets, as far as they can be told."""
    return None if part.source is None else without_secrets_in(part.source)


class CodeTracker:
    """Keeps the fingerprint of one function and notices when it is no longer true.

    `owner` is the receiver's class where the function is a method: the members that it reaches through its
    first parameter count too. `module`: whose code is the user's is judged as from there, by default from where the
    function was written. Nothing is looked at before the first call of `current()`.
    """

    __slots__ = ("_held", "_module", "_owner", "function")

    def __init__(self, function: Callable[..., Any], *, owner: type | None = None, module: str | None = None) -> None:
        self.function = function
        self._owner = owner
        self._module = module
        self._held: tuple[Callable[[], bool], Fingerprint, Closure] | None = None

    def current(self) -> Fingerprint:
        """The fingerprint as of now, or `CodeError`. Cheap while nothing has changed; safe to call from any thread."""
        held = self._held
        if held is not None and held[0]():
            return held[1]
        return self._renew()

    def statements(self) -> tuple[str, ...]:
        """What those functions were written in that no module gives back, for another process to `bring`: it is sent
        their code alone."""
        try:
            self.current()
        except MusubitoError:
            return ()  # its first call will say why
        assert self._held is not None  # noqa: S101 - it has just been looked at
        sent = (each for each in self._held[2].functions if not _is_of_a_module(each))
        found = (statement_of(each.__code__) for each in sent)
        return tuple(dict.fromkeys(each for each in found if each is not None))

    def _renew(self) -> Fingerprint:
        """Walks without a lock: the walk may import, and two threads that walk at once find the same."""
        try:
            closure = reach(self.function, self._owner, self._module)
            for _ in range(ATTEMPTS):
                if closure.unchanged():
                    break
                closure = reach(self.function, self._owner, self._module)  # another thread changed something meanwhile
        except MusubitoError:
            raise
        except Exception as error:
            raise CodeError(getattr(self.function, "__qualname__", type(self.function).__qualname__), error) from error
        fingerprint = Fingerprint(
            closure.digest,
            closure.parts,
            closure.untracked,
            closure.state,
            closure.classes,
            closure.steps,
            tuple(filter(may_remember, closure.met)),
            closure.others,
        )
        self._held = closure.unchanged, fingerprint, closure
        return fingerprint


def _is_of_a_module(function: FunctionType) -> bool:
    name = module_of(function)
    found: Any = sys.modules.get(name)
    for each in function.__qualname__.split("."):
        found = getattr(found, each, None)
    return name != "__main__" and found is not None and getattr(found, "__wrapped__", found) is function


_CLASSES: WeakKeyDictionary[type, CodeTracker] = WeakKeyDictionary()
_origins = cache(Origins)


def fingerprints_of_classes(classes: Iterable[type], seen_from: str) -> list[Fingerprint]:
    """What the user's among these classes amount to, for a step of the module `seen_from`.

    A step that is given an instance may call its methods without ever naming its class.
    """
    whose = _origins(seen_from)
    found: dict[bytes, Fingerprint] = {}
    for cls in classes:
        if whose.of_class(cls) is Origin.USER:
            tracker = _CLASSES.get(cls)
            if tracker is None:
                tracker = _CLASSES[cls] = CodeTracker(cls)
            fingerprint = tracker.current()
            found[fingerprint.digest] = fingerprint
    return [found[digest] for digest in sorted(found)]


def code_of_classes(classes: Iterable[type], seen_from: str) -> bytes:
    """All of them as one; empty if there are none."""
    return b"".join(fingerprint.digest for fingerprint in fingerprints_of_classes(classes, seen_from))
