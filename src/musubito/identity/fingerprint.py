"""The code fingerprint: what a step's function is, with all that it reaches, as one digest.

A `CodeTracker` is kept with a step. `current()` is asked at each call: the closure
(`musubito.identity.closure`) is walked once, and with it comes a check, generated as code, that nothing of
what was walked has been bound, replaced or changed since. While the check holds, the fingerprint that is kept
is the answer; else the closure is walked again. So a helper defined again in a notebook cell, a patched
attribute and a prompt dictionary changed in place count at the next call, and a call in between costs a
fraction of a microsecond.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from hashlib import sha256
from types import FunctionType, MethodType
from typing import Any

from musubito.errors import CodeError, MusubitoError, warn
from musubito.identity.closure import Closure, CodePart, reach
from musubito.identity.description import ATOMS, contents, fields_of
from musubito.identity.foreign import may_remember
from musubito.identity.functions import module_of, script_of
from musubito.identity.installed import parts_of_packages
from musubito.identity.names import SCRIPT, Ambiguous, loaded, name_of
from musubito.identity.normalise import normalised_bytecode, tokens
from musubito.identity.origin import Origin, Origins
from musubito.identity.own_changes import Changes, ObservedRun, settle_open_runs
from musubito.identity.records import lies_in_its_module
from musubito.identity.secrets import without_secrets_in
from musubito.identity.source import statement_of
from musubito.identity.unrepeatable import Unrepeatable

__all__ = [
    "CodePart",
    "CodeTracker",
    "Fingerprint",
    "classes_at_hand",
    "code_of_classes",
    "fingerprints_of_classes",
    "parts_that_differ",
    "shown_source",
    "told_apart",
]

ATTEMPTS = 5
MOST_CLASSES = 1024
DEPTH = 4
"""How deep functions are looked for in what a function is bound to."""
CODE = (FunctionType, MethodType, partial)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a function and all that it reaches amount to.

    `digest` is the same in every process that reaches the same code and constants. `parts` says what was
    reached, `untracked` what could only be counted by its type, `state` what does not count, since the step's own runs
    have changed it or add to it without reading it.
    `classes` are the classes by which results may be rebuilt, by module and qualname; `reached` those of the user that
    the code reaches, of one name in the order in which it does. `steps` are the names of the operations that the code
    reaches, `met` the objects that may remember what was done with them (see `register_kind`), `others` the packages
    that it reaches things of which count by name, `unrepeatable` what its own code asks for that is another each time
    (the clock, random numbers, ids), without that of the steps that it reaches.
    """

    digest: bytes
    parts: tuple[CodePart, ...]
    untracked: tuple[str, ...]
    state: tuple[str, ...]
    classes: Mapping[tuple[str, str], type]
    reached: Mapping[tuple[str, str], tuple[type, ...]]
    steps: frozenset[str]
    met: tuple[Any, ...]
    others: frozenset[str]
    unseen: tuple[str, ...] = ()
    unrepeatable: tuple[Unrepeatable, ...] = ()
    modules: frozenset[str] = frozenset()
    """The modules of other packages that it names, and attributes of these, in full."""
    packages: str | None = None
    """Which installed packages count in it (see `StepConfiguration`)."""
    words: frozenset[str] = frozenset()
    """What the user's reached functions, constants and classes mention by name."""
    kept: tuple[tuple[Changes, Hashable], ...] = field(default=(), repr=False, compare=False)
    """The changes of state that it counts without."""

    def sources(self) -> Iterator[dict[Any, Any]]:
        """Yield, for each state that does not count, what the runs that left it have read (see `Change`)."""
        for changes, key in self.kept:
            change = changes.by_key.get(key)
            if change is not None:
                yield change.sources


def shown_source(part: CodePart) -> str | None:
    """The text of a part as it is stored and shown: without secrets, as far as they can be told."""
    return None if part.source is None else without_secrets_in(part.source)


class CodeTracker:
    """Keeps the fingerprint of one function and notices when it is no longer true.

    `owner` is the receiver's class where the function is a method: the members that it reaches through its
    first parameter count too. `module`: whose code is the user's is judged as from there, by default from where the
    function was written. `step`: the step's name, by which, with its code, its own runs are told from those of
    others. `packages`: see `StepConfiguration`. `released`: modules of released packages that the step runs as its own;
    they count by version and contents. Nothing is looked at before the first call of `current()`.
    """

    __slots__ = ("_held", "_module", "_owner", "_released", "_step", "_whose", "function", "packages")

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        owner: type | None = None,
        module: str | None = None,
        step: str = "",
        packages: str | None = None,
        released: Collection[str] = (),
    ) -> None:
        self.function = function
        self.packages = packages
        self._released = released
        self._owner = owner
        self._module = module
        self._step = step
        self._whose: str | None = None
        self._held: tuple[Callable[[], bool], Fingerprint, Closure] | None = None

    def current(self) -> Fingerprint:
        """The fingerprint as of now, or `CodeError`. Cheap while nothing has changed; safe to call from any thread."""
        held = self._held
        if held is not None and held[0]():
            return held[1]
        return self._renew()

    def begin(self) -> ObservedRun:
        """Observe a run of the function that begins now. What it has changed when it ends is its own state."""
        held = self._held
        if held is None:
            self._renew()
            held = self._held
        assert held is not None  # noqa: S101 - `_renew` sets it, or raises
        return ObservedRun(self._name(), held[2].unchanged, held[2].observations, held[2].limits)

    def statements(self) -> tuple[str, ...]:
        """What those functions were written in that no module gives back, for another process to `bring`: it is sent
        their code alone. With the methods of whatever it may be given an instance of."""
        closure = self._reached()
        if closure is None:
            return ()
        reached = (_tracker_of(cls)._reached() for cls in dict.fromkeys(_sent(closure.classes.values())))
        functions = (function for each in (closure, *reached) if each is not None for function in each.functions)
        found = (None if _is_of_a_module(each) else statement_of(each.__code__, script_of(each)) for each in functions)
        return tuple(dict.fromkeys(each for each in found if each is not None))

    def _reached(self) -> Closure | None:
        try:
            self.current()
        except MusubitoError:
            return None  # its first call will say why
        return None if self._held is None else self._held[2]

    def _renew(self) -> Fingerprint:
        """Walks without a lock: the walk may import, and two threads that walk at once find the same."""
        try:
            closure = self._reach()
            for _ in range(ATTEMPTS):
                if closure.unchanged():
                    break
                closure = self._reach()  # another thread changed something meanwhile
            packages, unread = parts_of_packages(closure.modules, self.packages, self._released)
        except MusubitoError:
            raise
        except Exception as error:
            raise CodeError(getattr(self.function, "__qualname__", type(self.function).__qualname__), error) from error
        fingerprint = Fingerprint(
            _with_packages(closure.digest, packages),
            (*closure.parts, *packages),
            tuple(sorted((*closure.untracked, *unread))),
            closure.state,
            closure.classes,
            closure.reached,
            closure.steps,
            tuple(filter(may_remember, closure.met)),
            closure.others,
            closure.unseen,
            closure.unrepeatable,
            closure.modules,
            self.packages,
            closure.words,
            tuple(closure.kept),
        )
        self._held = closure.unchanged, fingerprint, closure
        _warn_of_unidentified(self.function, closure.unidentified)
        return fingerprint

    def _name(self) -> str:
        """Return what tells this step's runs from those of others."""
        if self._whose is None:
            self._whose = f"{self._step} {told_by_code(self.function)}"
        return self._whose

    def _reach(self) -> Closure:
        settle_open_runs()
        return reach(self.function, self._owner, self._module, self._name())


def parts_that_differ(before: Fingerprint, after: Fingerprint) -> tuple[str, ...]:
    """Return the names of what is another in one of two fingerprints of a function."""
    parts = [{part.name: part.digest for part in each.parts} for each in (before, after)]
    names = dict.fromkeys(name for each in parts for name in each)
    return tuple(name for name in names if parts[0].get(name) != parts[1].get(name))


def told_by_code(value: Any, depth: int = 0) -> str:
    """Return what tells a function from others of its name: its code, and functions and constants that it is bound to.

    It is the same for a function that is made again by the same code.
    """
    if depth > DEPTH:
        return ""
    parts: list[Any] = [type(value).__qualname__]
    inner: Iterable[Any] = ()
    if isinstance(value, FunctionType):
        parts += [value.__module__, value.__qualname__, normalised_bytecode(value.__code__)]
        inner = map(contents, value.__closure__ or ())
    elif isinstance(value, partial):
        inner = (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, MethodType):
        inner = (value.__func__, value.__self__)
    elif isinstance(value, list | tuple):
        inner = value
    elif type(value) in ATOMS:
        parts.append(value)
    else:
        inner = (each for each in (fields_of(value) or {}).values() if isinstance(each, CODE))
    return sha256(tokens(*parts, *(told_by_code(each, depth + 1) for each in inner))).hexdigest()[:16]


def _with_packages(digest: bytes, packages: Sequence[CodePart]) -> bytes:
    if not packages:
        return digest
    return sha256(b"packages" + digest + b"".join(package.digest for package in packages)).digest()


_warned: set[str] = set()


def _warn_of_unidentified(function: Callable[..., Any], unidentified: Iterable[str]) -> None:
    """Warn, once for each step and each thing that it reaches and that is data of which only the type is known."""
    # An object is not asked for a name: it may make one, or run code of its class.
    step = function.__qualname__ if isinstance(function, FunctionType | type) else type(function).__qualname__
    for each in unidentified:
        text = (
            f"{step}: what it reaches as {each} counts by its type alone: if it holds something else, stored results "
            "are replayed all the same. Hold the plain data that it is made of instead, or pass that as an argument."
        )
        if text not in _warned:
            _warned.add(text)
            warn(text)


def _is_of_a_module(function: FunctionType) -> bool:
    name = module_of(function)
    found: Any = loaded(name)
    for each in function.__qualname__.split("."):
        found = getattr(found, each, None)
    return name != SCRIPT and found is not None and getattr(found, "__wrapped__", found) is function


_origins = cache(Origins)


@lru_cache(MOST_CLASSES)
def _tracker_of(cls: type, packages: str | None = None) -> CodeTracker:
    return CodeTracker(cls, packages=packages)


def _sent(classes: Iterable[type]) -> Iterator[type]:
    """Those of the user that another process has no module to find in and is sent; and the script's, of whose instances
    any may be an argument."""
    whose, script = _origins(SCRIPT), loaded(SCRIPT)
    for cls in (*classes, *(() if script is None else vars(script).values())):
        if not isinstance(cls, type) or whose.of_class(cls) is not Origin.USER:
            continue
        if name_of(cls)[0] == SCRIPT or not lies_in_its_module(cls):
            yield cls


def fingerprints_of_classes(classes: Iterable[type], seen_from: str) -> list[Fingerprint]:
    """What the user's among these classes amount to, for a step of the module `seen_from`.

    A step that is given an instance may call its methods without ever naming its class.
    """
    return _fingerprints(_of_the_user(classes, seen_from))


def code_of_classes(classes: Iterable[type], seen_from: str, code: Fingerprint | None = None) -> bytes:
    """All of them as one; empty if there are none. `code`: the step's, which may know others of the same names."""
    mine = _of_the_user(classes, seen_from)
    fingerprints = _fingerprints(mine, None if code is None else code.packages)
    digests = b"".join(fingerprint.digest for fingerprint in fingerprints)
    return digests + _told_apart(mine, fingerprints if code is None else [code, *fingerprints])


def told_apart(classes: Iterable[type], seen_from: str, codes: Sequence[Fingerprint]) -> bytes:
    """Which classes these are, where these codes reach others that are called like them; empty where they do not.

    Two of one name may be the same in all else: local classes that were made twice, or classes that were nested in
    others in the process that they came from.
    """
    return _told_apart(_of_the_user(classes, seen_from), codes)


def _told_apart(classes: Iterable[type], codes: Sequence[Fingerprint]) -> bytes:
    named: dict[tuple[str, str], type] = {}
    for cls in classes:
        if named.setdefault(name_of(cls), cls) is not cls:
            return uuid.uuid4().bytes  # which of the two an instance is of is not known here
    found: list[bytes] = []
    for name, cls in named.items():
        for code in codes:
            alike = code.reached.get(name)
            if alike is not None and (len(alike) > 1 or alike[0] is not cls):
                every = dict.fromkeys(id(each) for code in codes for each in code.reached.get(name, ()))
                found.append(tokens(*name, [*every, id(cls)].index(id(cls))))
                break
    return b"".join(sorted(found))


def _of_the_user(classes: Iterable[type], seen_from: str) -> list[type]:
    whose = _origins(seen_from)
    return [cls for cls in classes if whose.of_class(cls) is Origin.USER]


def _fingerprints(classes: Iterable[type], packages: str | None = None) -> list[Fingerprint]:
    found: dict[bytes, Fingerprint] = {}
    for cls in classes:
        fingerprint = _tracker_of(cls, packages).current()
        found[fingerprint.digest] = fingerprint
    return [found[digest] for digest in sorted(found)]


def classes_at_hand(code: Fingerprint, given: Collection[type]) -> Mapping[tuple[str, str], type]:
    """The classes by which a result of this code may be rebuilt, if it was given instances of those classes: a step may
    give back what it was given, and what that holds."""
    at_hand = dict(code.classes)
    for cls in given:
        name = name_of(cls)
        at_hand[name] = cls if at_hand.get(name, cls) is cls else Ambiguous
    return at_hand if given else code.classes
