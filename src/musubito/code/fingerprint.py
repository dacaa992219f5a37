"""Compute the code fingerprint: one digest of a step's function and all that it reaches.

A `CodeTracker` is kept with a step, and `current()` is asked at each call. The code is walked once
(`musubito.code.walk`). The walk also returns a check, generated as code: nothing that was walked has been bound,
replaced or changed since. While the check holds, the kept fingerprint is returned. Otherwise the code is walked again.
So these count at the next call: a helper defined again in a notebook cell, a patched attribute, a prompt dictionary
changed in place. A call in between costs a fraction of a microsecond.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

from musubito.code.annotations import classes_that_rebuild
from musubito.code.classes import class_text, fields_declared
from musubito.code.installed_packages import parts_of_packages
from musubito.code.live import ABSENT
from musubito.code.made import Sent
from musubito.code.own_values import OwnValues
from musubito.code.ownership import Owner, owners_seen_from
from musubito.code.parts import CodePart, PartKind
from musubito.code.state import changeable, may_have_changed
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.source import File, codes
from musubito.code.syntax.words import words_in, words_of
from musubito.code.walk import ANY_NAME, Walk
from musubito.errors import CodeError, MusubitoError
from musubito.locks import cached_property, fork_safe
from musubito.values.class_instances import lies_in_its_module
from musubito.values.class_names import SCRIPT, Ambiguous, find_module, is_of_script, is_script, qualified_name

VERSION: Final = b"musubito code 2"
"""The beginning of every digest: it names this way of describing code."""
MAX_NAMED: Final = 5
"""Number of parts that a reason names."""
MAX_CLASSES: Final = 1024
"""Number of classes whose trackers are kept."""
_LOCK: Final = fork_safe(Lock())
"""Held while a tracker learns, or keeps what it has found."""
MAX_THREADS: Final = 16
"""Number of fingerprints that a tracker keeps, if threads find several."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """The description of a function and all that it reaches."""

    digest: bytes
    """The same in every process that reaches the same code and values."""
    parts: tuple[CodePart, ...]
    """The things that were reached, sorted by name."""
    untracked: tuple[str, ...]
    """One sentence for each thing that does not count by its value, or that cannot be followed."""
    state: tuple[str, ...]
    """The parts that the step changes itself: they count by their names."""
    packages: str | None
    """The choice of installed packages that count (see `StepConfiguration`)."""
    walk: Walk
    """The walk that has found all this."""
    code: bytes
    """The digest of the functions and classes alone: what a step changes itself is remembered by it.

    Those that are reached through values which the step may change are left out: it may have put them there.
    """

    @property
    def steps(self) -> AbstractSet[str]:
        """The names of the steps that the code reaches."""
        return self.walk.steps

    @property
    def met(self) -> Sequence[Any]:
        """Objects that an adapter knows."""
        return self.walk.met

    @property
    def modules(self) -> AbstractSet[str]:
        """The full names of the modules of packages that the code names, and of their attributes."""
        return self.walk.modules

    @property
    def never(self) -> str | None:
        """The mock that the code reaches: no result is replayed then."""
        return self.walk.never

    @cached_property
    def mentioned(self) -> frozenset[str]:
        """The names that the reached code mentions."""
        return ANY_NAME if self.walk.reads_all_fields else frozenset(self.walk.mentioned)

    @property
    def reached(self) -> Mapping[tuple[str, str], Sequence[type]]:
        """The user's classes that the code reaches, by module and qualified name."""
        return self.walk.reached

    @cached_property
    def classes(self) -> Mapping[tuple[str, str], type]:
        """The classes that may rebuild results, by module and qualified name."""
        reached = {name: classes[0] if len(classes) == 1 else Ambiguous for name, classes in self.reached.items()}
        every = [cls for classes in self.reached.values() for cls in classes]
        return {**classes_that_rebuild(self.walk.function, self.walk.owner, every), **reached}

    @property
    def functions(self) -> tuple[FunctionType, ...]:
        """The user's functions that were reached."""
        return tuple(reached.function for reached in self.walk.functions.values())

    @cached_property
    def codes(self) -> frozenset[tuple[str, CodeType]]:
        """The code of these functions with its files: code of two files may be equal."""
        return frozenset((code.co_filename, code) for function in self.functions for code in codes(function.__code__))

    @cached_property
    def words(self) -> frozenset[str]:
        """The words that the user's reached functions, constants and classes mention."""
        words: set[str] = set()
        for function in self.functions:
            words |= words_of(function.__code__)
        for reached in self.walk.classes.values():
            words |= fields_declared(reached.cls)
        for binding in self.walk.bindings.values():
            words.update(words_in(tuple(_texts_of(binding.value))))
        return frozenset(words)

    @property
    def others(self) -> frozenset[str]:
        """The packages whose things the code reaches and that count by name."""
        return frozenset(name.partition(".")[0] for name in self.modules)

    def holds(self) -> bool:
        """Tell whether it is certain that nothing has changed since the walk."""
        return self.walk.unchanged()

    def changes_until(self, now: Fingerprint) -> Changes:
        """Return the names of the parts that differ in `now`."""
        names = parts_that_differ(self, now)
        mine = [name for name in names if may_have_changed(self.walk, now.walk, name)]
        below: set[str] = set()  # the parts that are reached through those alone
        if mine:
            below = self.walk.below(mine) - now.walk.without(mine) | now.walk.below(mine) - self.walk.without(mine)
        of_context = self.walk.of_context() | now.walk.of_context()
        own = tuple(name for name in mine if name not in of_context)
        others = tuple(name for name in names if name not in mine and name not in below)
        return Changes(own, tuple(name for name in mine if name in of_context), others)


class Changes(NamedTuple):
    """The names of the parts that differ between two fingerprints of a step."""

    own: tuple[str, ...]
    """Those that the step's code may have changed."""
    of_context: tuple[str, ...]
    """Those of them that belong to a context or to a thread: their values at the call count all the same."""
    others: tuple[str, ...]
    """Those that something else has changed."""


def _texts_of(value: Any) -> Iterator[str]:
    """Yield the texts in a value of plain containers."""
    pending, count = [value], 0
    while pending and count < 1000:
        each, count = pending.pop(), count + 1
        if isinstance(each, str):
            yield each
        elif type(each) is dict:
            pending += [inner for pair in list(each.items()) for inner in pair]
        elif type(each) in (list, tuple, set, frozenset):
            pending += each


def digest_of_parts(parts: Iterable[CodePart]) -> bytes:
    """Return the digest over parts that are sorted by name."""
    digest = sha256(VERSION)
    for part in parts:
        digest.update(tokens(part.name, part.digest))
    return digest.digest()


def _digest_of_code(walk: Walk) -> bytes:
    reached = walk.without(changeable(walk))
    return digest_of_parts(part for part in walk.parts() if part.kind is not PartKind.VALUE and part.name in reached)


class Held(NamedTuple):
    """A fingerprint, the check that nothing has changed since, and the thread that has walked."""

    unchanged: Callable[[], bool]
    fingerprint: Fingerprint
    thread: int


class CodeTracker:
    """Keeps the fingerprint of one function and notices when it is no longer true.

    - `owner` is the receiver's class if the function is a method. Then the members that it reaches through its first
      parameter count too.
    - `module` is the module from which it is judged whose code is the user's. By default it is the function's own.
    - `packages` is explained at `StepConfiguration`.
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
    ) -> None:
        self.function = function
        self._mentioned = mentioned
        self.packages = packages
        self._released = released
        self._owner = owner
        self._module = module
        self._held: Held | None = None
        self._of_threads: deque[Held] = deque(maxlen=MAX_THREADS)
        """The latest that were found, if the code reads a `threading.local`: threads call in turn."""
        self._own_values = OwnValues()
        self._state: dict[bytes, set[str]] = {}
        """The parts that the step changes itself, by the digest of its functions."""

    def current(self) -> Fingerprint:
        """Return the present fingerprint, or raise `CodeError`.

        The call is cheap while nothing has changed, and safe from any thread.
        """
        held = self._held
        if held is not None and held[0]():
            return held[1]
        return self._renew().fingerprint

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
                self._forget()

    def learn_own_values(self, before: Fingerprint, after: Fingerprint) -> None:
        """Note what a run of the step has put into its context and its thread, where nothing else had put anything."""
        own = self._own_values
        for name, (holder, value) in after.walk.context.items():
            was = before.walk.context.get(name, (holder, ABSENT))[1]
            if value is not was and own.has_put(name, holder, was):
                own.note(name, holder, value)
                self._forget()

    def _renew(self) -> Held:
        """Return what was found earlier, if it is true again, or walk."""
        for held in tuple(self._of_threads):
            if held[0]():
                with _LOCK:
                    if held in self._of_threads:
                        self._held = held
                return held
        try:
            return self._walk()
        except MusubitoError:
            raise
        except Exception as error:
            raise CodeError(getattr(self.function, "__qualname__", type(self.function).__qualname__), error) from error

    def _walk(self) -> Held:
        """Walk again, without a lock: the walk may import, and two threads that walk at once find the same."""
        fingerprint = self._fingerprint(frozenset())
        code, state = fingerprint.code, self._state_of(fingerprint.code)
        if state:
            fingerprint = self._fingerprint(state, code=code)
        if not fingerprint.walk.unchanged():
            again = self._fingerprint(state, code=code)
            # What fails again though it is found the same cannot be compared: it would fail at each call.
            failing = fingerprint.walk.guard.failing() & again.walk.guard.failing()
            failing.difference_update(parts_that_differ(fingerprint, again))
            fingerprint = self._fingerprint(state, failing, code) if failing else again
        held = Held(fingerprint.walk.unchanged, fingerprint, threading.get_ident())
        with _LOCK:
            if self._state_of(code) == state:
                self._held = held
                if any(issubclass(type(thing), threading.local) for thing in fingerprint.met):
                    self._of_threads.append(held)
                return held
        return self._walk()  # another thread has learned more meanwhile

    def _forget(self) -> None:
        self._held = None
        self._of_threads.clear()

    def counted_as(self, code: Fingerprint) -> Fingerprint:
        """Return the present fingerprint with the state of an earlier one, so that both can be compared."""
        now = self.current()
        return now if now.state == code.state else self._fingerprint(frozenset(code.state), code=code.code)

    def _fingerprint(
        self, state: frozenset[str], unwatched: Collection[str] = (), code: bytes | None = None
    ) -> Fingerprint:
        """Return the fingerprint without this state. `code` is the digest of the functions, if it is known."""
        how = self._owner, self._module, state, {*state, *unwatched}, self._mentioned, self._own_values
        walk = Walk(self.function, *how).run()
        packages, unread = parts_of_packages(walk.modules, self.packages, self._released)
        parts = tuple(sorted((*walk.parts(), *packages), key=lambda part: part.name))
        return Fingerprint(
            digest_of_parts(parts),
            parts,
            tuple(sorted((*walk.untracked(), *unread))),
            tuple(sorted(state)),
            self.packages,
            walk,
            _digest_of_code(walk) if code is None else code,
        )


def sent(*trackers: CodeTracker) -> Sent:
    """Return what another process needs that is sent this code, or the script's classes, without their modules."""
    codes: list[Fingerprint] = []
    for tracker in trackers:
        with suppress(MusubitoError):  # its first call will say why
            codes.append(tracker.current())
    reached = [reached.cls for code in codes for reached in code.walk.classes.values()]
    classes = {cls.__name__: cls for cls in reached if is_of_script(cls) and lies_in_its_module(cls)}
    for cls in dict.fromkeys(_classes_sent(cls for code in codes for cls in code.classes.values())):
        with suppress(MusubitoError):
            codes.append(_tracker_of(cls).current())
    found: list[tuple[File, Any]] = []
    for code in codes:
        sources = [text_of(each).source for each in code.functions if not _is_of_a_module(each)]
        found += [(source.file, source.node) for source in sources if source is not None]
        for cls in [each.cls for each in code.walk.classes.values()]:
            text = class_text(cls)
            if text is not None and (is_of_script(cls) or not lies_in_its_module(cls)):
                found.append((text.file, text.node))
        found += [(lines.file, made.node) for lines in code.walk.lines_sent() for made in lines.made]
    files = {id(file): file for file, _ in found}
    return Sent(
        tuple(file.statements(node for its, node in found if its is file) for file in files.values()),
        classes,
        {name: value for code in codes for name, value in code.walk.values_sent().items()},
    )


def shown_names(names: Sequence[str]) -> str:
    """Return names of parts as one text, which names the first few."""
    more = f" and {len(names) - MAX_NAMED} more" if names[MAX_NAMED:] else ""
    return ", ".join(names[:MAX_NAMED]) + more


def parts_that_differ(before: Fingerprint, after: Fingerprint) -> tuple[str, ...]:
    """Return the names of the parts that differ between two fingerprints of a function."""
    parts = [{part.name: part.digest for part in fingerprint.parts} for fingerprint in (before, after)]
    names = dict.fromkeys(name for part in parts for name in part)
    return tuple(name for name in names if parts[0].get(name) != parts[1].get(name))


def _is_of_a_module(function: FunctionType) -> bool:
    name = function.__globals__.get("__name__")
    value: Any = find_module(str(name))
    for attribute in function.__qualname__.split("."):
        value = getattr(value, attribute, None)
    return not is_script(name) and value is not None and getattr(value, "__wrapped__", value) is function


@lru_cache(MAX_CLASSES)
def _tracker_of(cls: type, packages: str | None = None, mentioned: frozenset[str] = ANY_NAME) -> CodeTracker:
    return CodeTracker(cls, packages=packages, mentioned=mentioned)


def _classes_sent(classes: Iterable[type]) -> Iterator[type]:
    """Yield the user's classes that are sent to another process, since it finds them in no module.

    The script's classes are among them: an instance of any of them may be an argument.
    """
    whose, script = owners_seen_from(SCRIPT), find_module(SCRIPT)
    for cls in (*classes, *(() if script is None else vars(script).values())):
        if not isinstance(cls, type) or whose.of_class(cls) is not Owner.USER:
            continue
        if is_of_script(cls) or not lies_in_its_module(cls):
            yield cls


def fingerprints_of_classes(
    classes: Iterable[type], seen_from: str, code: Fingerprint | None = None
) -> list[Fingerprint]:
    """Return the fingerprints of the user's classes among these, for a step of the module `seen_from`.

    A step that is given an instance may call its methods without ever naming its class. `code`: the step's fingerprint,
    which mentions the methods that it may call. None: any of them.
    """
    return _fingerprints_of(_user_classes(classes, seen_from), code)


def code_of_classes(classes: Iterable[type], seen_from: str, code: Fingerprint | None = None) -> bytes:
    """Return the fingerprints of these classes as one; empty without a class of the user's.

    `code`: the step's fingerprint, which may know other classes of the same names.
    """
    mine = _user_classes(classes, seen_from)
    fingerprints = _fingerprints_of(mine, code)
    state = frozenset() if code is None else frozenset(code.state)
    digests = b"".join(digest_without(fingerprint, state) for fingerprint in fingerprints)
    return digests + _told_apart(mine, fingerprints if code is None else [code, *fingerprints])


def digest_without(code: Fingerprint, state: frozenset[str]) -> bytes:
    """Return the digest of the code of a class, without what the step that is given an instance changes itself."""
    if state.isdisjoint(part.name for part in code.parts):
        return code.digest
    return digest_of_parts(part for part in code.parts if part.name not in state)


def changed_in_classes(classes: Iterable[type], seen_from: str, code: Fingerprint) -> frozenset[str]:
    """Return the parts of the user's classes among these that their code has changed since they were last looked at."""
    names: set[str] = set()
    for cls in _user_classes(classes, seen_from):
        tracker = _tracker_of(cls, code.packages, code.mentioned)
        held = tracker._held
        if held is not None and not held.unchanged():
            names.update(held.fingerprint.changes_until(tracker.current()).own)
    return frozenset(names)


def told_apart(classes: Iterable[type], seen_from: str, codes: Sequence[Fingerprint]) -> bytes:
    """Return bytes that tell these classes from others of the same names that these codes reach.

    The bytes are empty if the codes reach no such class. Two classes of one name may be the same in all else. So are
    local classes that were made twice, and classes that were nested in others in the process that they came from.
    """
    return _told_apart(_user_classes(classes, seen_from), codes)


def _told_apart(classes: Iterable[type], codes: Sequence[Fingerprint]) -> bytes:
    named: dict[tuple[str, str], type] = {}
    for cls in classes:
        if named.setdefault(qualified_name(cls), cls) is not cls:
            return uuid.uuid4().bytes  # it is not known of which of the two classes an instance is
    result: list[bytes] = []
    for name, cls in named.items():
        for code in codes:
            alike = code.reached.get(name)
            if alike is not None and (len(alike) > 1 or alike[0] is not cls):
                every = dict.fromkeys(id(alike_class) for code in codes for alike_class in code.reached.get(name, ()))
                result.append(tokens(*name, [*every, id(cls)].index(id(cls))))
                break
    return b"".join(sorted(result))


def _user_classes(classes: Iterable[type], seen_from: str) -> list[type]:
    whose = owners_seen_from(seen_from)
    return [cls for cls in classes if whose.of_class(cls) is Owner.USER]


def _fingerprints_of(classes: Iterable[type], code: Fingerprint | None = None) -> list[Fingerprint]:
    result: dict[bytes, Fingerprint] = {}
    how = () if code is None else (code.packages, code.mentioned)
    for cls in classes:
        fingerprint = _tracker_of(cls, *how).current()
        result[fingerprint.digest] = fingerprint
    return [result[digest] for digest in sorted(result)]


def classes_at_hand(code: Fingerprint, arguments: Collection[type]) -> Mapping[tuple[str, str], type]:
    """Return the classes that may rebuild a result of this code, among them the classes of its arguments.

    A step may return its arguments, and what they hold.
    """
    at_hand = dict(code.classes)
    for cls in arguments:
        name = qualified_name(cls)
        at_hand[name] = cls if at_hand.get(name, cls) is cls else Ambiguous
    return at_hand if arguments else code.classes
