"""Compute the code fingerprint: one digest of a step's function and all that it reaches.

A `CodeTracker` is kept with a step, and `current()` is asked at each call. The closure (`musubito.code.reachability`)
is walked once. The walk also returns a check, generated as code: nothing that was walked has been bound, replaced or
changed since. While the check holds, the kept fingerprint is returned. Otherwise the closure is walked again. So these
count at the next call: a helper defined again in a notebook cell, a patched attribute, a prompt dictionary changed in
place. A call in between costs a fraction of a microsecond.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from hashlib import sha256
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.code.describers.object_policies import may_remember
from musubito.code.graph_record import ATOMS, contents, fields_of
from musubito.code.installed_packages import parts_of_packages
from musubito.code.ownership import Owner, Owners
from musubito.code.reachability import reach, thing_name
from musubito.code.reachable_code import CodePart, ReachableCode
from musubito.code.state.access_paths import Observation
from musubito.code.state.own_changes import Changes, ObservedRun, changed_by_others, noted_changes, settle_open_runs
from musubito.code.state.unsettled import is_unsettled, note_in_vain
from musubito.code.syntax.ast_digest import normalised_bytecode, tokens
from musubito.code.syntax.function_text import script_of
from musubito.code.syntax.source import statement_of
from musubito.code.world.compiled_readers import PathsNamed
from musubito.code.world.unrepeatable import Unrepeatable
from musubito.errors import CodeError, MusubitoError, warn
from musubito.model import StepConfiguration, StepType
from musubito.values.class_instances import lies_in_its_module
from musubito.values.class_names import SCRIPT, Ambiguous, find_module, is_of_script, is_script, qualified_name
from musubito.values.redaction import without_secrets_in

ATTEMPTS = 6
"""Number of walks while other threads change what is walked."""
ALIKE = 3
"""Number of walks in a row that are right if they find the same."""
MOST_NAMED = 5
"""Number of parts that a reason names."""
MOST_CLASSES = 1024
"""Number of classes whose trackers are kept."""
DEPTH = 4
"""Levels at which functions are looked for in the things that a function is bound to."""
CODE = (FunctionType, MethodType, partial)
"""Types of the callables that tell one function from another."""


class Fingerprint(NamedTuple):
    """The description of a function and all that it reaches.

    - `digest` is the same in every process that reaches the same code and constants.
    - `parts` are the things that were reached.
    - `untracked` are the things that count by their type alone.
    - `state` does not count: the step's own runs have changed it, or add to it without reading it.
    - `classes` are the classes that may rebuild results, by module and qualified name.
    - `reached` are the user's classes that the code reaches. Classes of one name are in the order in which the code
      reaches them.
    - `steps` are the names of the steps that the code reaches.
    - `met` are the objects that may remember what was done with them (see `register_policy`).
    - `others` are the packages whose things the code reaches and that count by name.
    - `unrepeatable` are the code's own requests whose answer differs each time: the clock, random numbers, ids. The
      requests of the steps that the code reaches are not among them.
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
    unreadable: tuple[str, ...] = ()
    """The names of databases in memory whose content cannot be read."""
    unsettled: tuple[str, ...] = ()
    """The names of things that other threads change while they are walked. They count by their type alone."""
    unrepeatable: tuple[Unrepeatable, ...] = ()
    modules: frozenset[str] = frozenset()
    """The full names of the modules of other packages that the code names, and of their attributes."""
    packages: str | None = None
    """The choice of installed packages that count (see `StepConfiguration`)."""
    whole: bool = False
    """Whether nothing is left out of the walk (see `CodeTracker`)."""
    paths: PathsNamed | None = None
    """The paths that the code names, if it reaches a package that opens files unseen."""
    words: frozenset[str] = frozenset()
    """The words that the user's reached functions, constants and classes mention."""
    kept: tuple[tuple[Changes, Hashable], ...] = ()
    """The changes of state that the digest leaves out."""
    observations: Sequence[Observation] = ()
    """The places that the walk has read."""
    seconds: float = 0.0
    """The seconds of CPU that the walk took."""

    def identity(self) -> bytes:
        """Return the digest, or bytes that are new each time while something is unsettled.

        An equal digest may then hide a change.
        """
        return uuid.uuid4().bytes if self.unsettled else self.digest

    def sources(self) -> Iterator[dict[Any, Any]]:
        """Yield the sources of each state that does not count (see `OwnChange`)."""
        for changes, key in self.kept:
            change = changes.by_key.get(key)
            if change is not None:
                yield change.sources


class ShownParts:
    """The parts of a fingerprint as they are stored and shown: without secrets, as far as they can be recognised.

    The texts are made when the parts are read. A call whose code is stored already reads none.
    """

    def __init__(self, parts: Sequence[CodePart]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[tuple[str, bytes, str | None]]:
        for part in self._parts:
            yield part.name, part.digest, None if part.source is None else without_secrets_in(part.source)


THREADS: Final = 16
"""Number of fingerprints that a tracker keeps, if threads find several."""
Held: TypeAlias = "tuple[Callable[[], bool], Fingerprint, ReachableCode, int]"
"""A check that nothing has changed, the fingerprint, what was reached, and the thread that has walked."""


class CodeTracker:
    """Keeps the fingerprint of one function and notices when it is no longer true.

    - `owner` is the receiver's class if the function is a method. Then the members that it reaches through its first
      parameter count too.
    - `module` is the module from which it is judged whose code is the user's. By default it is the function's own.
    - `step` is the step's name. With the step's code it tells the step's own runs from those of other steps.
    - `packages` is explained at `StepConfiguration`.
    - `whole`: nothing is left out of the walk, though other threads change it again and again (see `walked_whole`).
    - `released` are modules of released packages that the step runs as its own. Such modules count by version and
      contents.

    Nothing is read before the first call of `current()`.
    """

    __slots__ = (
        *("_held", "_module", "_of_threads", "_owner", "_released", "_step", "_whose"),
        *("function", "packages", "whole"),
    )

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        owner: type | None = None,
        module: str | None = None,
        step: str = "",
        packages: str | None = None,
        whole: bool = False,
        released: Collection[str] = (),
    ) -> None:
        self.function = function
        self.packages = packages
        self.whole = whole
        self._released = released
        self._owner = owner
        self._module = module
        self._step = step
        self._whose: str | None = None
        self._held: Held | None = None
        self._of_threads: deque[Held] = deque(maxlen=THREADS)
        """The latest that were found, if the code reads a `threading.local`: threads call in turn."""

    def current(self) -> Fingerprint:
        """Return the present fingerprint, or raise `CodeError`.

        The call is cheap while nothing has changed, and safe from any thread. While something is unsettled, the
        fingerprint may be an earlier one: no call with it is replayed, so a further walk would be of no use.
        """
        return self._latest()[1]

    def _latest(self) -> Held:
        kept = self._held
        if kept is not None and (kept[0]() or any(map(is_unsettled, kept[2].unsettled.values()))):
            return kept
        return self._renew()

    def begin(self) -> tuple[Fingerprint, ObservedRun]:
        """Observe a run of the function that begins now: places that it has changed by its end are its own state.

        The fingerprint is the latest one. If nothing has changed when the run ends, it holds for all of the run. While
        something is unsettled, the places may have been read long ago: no change is taken for the run's own.
        """
        kept = self._held
        # A run in this thread sets none of the fields that another thread has read.
        if kept is None or (kept[2].is_of_thread and (kept[3] != threading.get_ident() or not kept[0]())):
            kept = self._walk()
        observations = [] if kept[2].unsettled else kept[2].observations
        return kept[1], ObservedRun(self._name(), kept[2].unchanged, observations, kept[2].limits)

    def note_in_vain(self, code: Fingerprint) -> None:
        """Note that something else has changed what this fingerprint tells before it was of use."""
        note_in_vain(changed_by_others(code.observations, self._name()), code.seconds)

    def statements(self) -> tuple[str, ...]:
        """Return the source statements of functions that another process finds in no module.

        That process passes them to `register_source_text`. It is sent only the code of these functions. The methods of
        classes whose instances it may be given are among them.
        """
        closure = self._reached()
        if closure is None:
            return ()
        reached = (_tracker_of(cls)._reached() for cls in dict.fromkeys(_classes_sent(closure.classes.values())))
        functions = (
            function for reachable in (closure, *reached) if reachable is not None for function in reachable.functions
        )
        statements = (
            None if _is_of_a_module(function) else statement_of(function.__code__, script_of(function))
            for function in functions
        )
        return tuple(dict.fromkeys(statement for statement in statements if statement is not None))

    def _reached(self) -> ReachableCode | None:
        try:
            self.current()
        except MusubitoError:
            return None  # its first call will say why
        return None if self._held is None else self._held[2]

    def _renew(self) -> Held:
        """Return what was found earlier, if it is true again, or walk."""
        for kept in tuple(self._of_threads):
            if kept[0]():
                self._held = kept
                return kept
        return self._walk()

    def _walk(self) -> Held:
        """Walk again, without a lock: the walk may import, and two threads that walk at once find the same."""
        try:
            closure, seconds = self._walked()
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
            closure.unreadable,
            tuple(sorted(closure.unsettled)),
            closure.unrepeatable,
            closure.modules,
            self.packages,
            self.whole,
            closure.paths,
            closure.words,
            tuple(closure.kept),
            closure.observations,
            seconds,
        )
        held = self._held = closure.unchanged, fingerprint, closure, threading.get_ident()
        if closure.is_of_thread:
            self._of_threads.append(held)
        _warn_of_unidentified(self.function, closure.unidentified)
        return held

    def _walked(self) -> tuple[ReachableCode, float]:
        """Walk until nothing has changed meanwhile; return what was reached, and the seconds of CPU of that walk.

        Walks that find the same again and again are right, too: then something is only set anew to what it was, as the
        classes that a worker of Dask unpickles with each task. What the step's runs alone change does not count: a walk
        that met such a change too early finds what no other walk has found. The last walk may be in vain, and may have
        found together what never was at one time.
        """
        walks, alike, earlier = 0, 0, b""
        found = set() if self._held is None else {self._held[2].digest}
        while True:
            began = time.thread_time()
            closure, is_settled = self._reach()
            seconds = time.thread_time() - began
            walks, alike = walks + 1, alike + 1 if closure.digest == earlier else 1
            if is_settled or closure.unsettled:
                return closure, seconds
            others = changed_by_others(closure.observations, self._name())
            if alike >= ALIKE or (not others and closure.digest in found):
                return closure, seconds
            if walks == ATTEMPTS:
                return closure._replace(unsettled={thing_name(self.function): None}), seconds
            if earlier and alike == 1:
                note_in_vain(others, seconds)
            earlier = closure.digest
            found.add(earlier)

    def _name(self) -> str:
        """Return the text that tells this step's runs from those of other steps."""
        if self._whose is None:
            self._whose = f"{self._step} {distinguishing_code(self.function)}"
        return self._whose

    def _reach(self) -> tuple[ReachableCode, bool]:
        """Walk the code; tell whether nothing changed meanwhile.

        A run beside the walk may have changed its state before the walk came to it. Then the walk took the state for
        somebody else's, and the run is first known to have changed it afterwards.
        """
        settle_open_runs()
        with noted_changes() as changed:
            closure = reach(
                self.function, self._owner, self._module, self._name(), released=self._released, whole=self.whole
            )
            if not closure.unchanged():
                return closure, False
            settle_open_runs()
        return closure, not any(id(each.container) in changed for each in closure.observations)


def walked_whole(semantics: StepConfiguration) -> bool:
    """Return whether the code of a step is always walked whole.

    A call of any other step is never replayed while a part of its code is left out. An effect that was done stays done
    even then. The calls of a step that counts by its version may be replayed even then. Neither may miss what its code
    reads.
    """
    return semantics.code == "version" or semantics.step_type is StepType.EXTERNAL_EFFECT


def shown_names(names: Sequence[str]) -> str:
    """Return names of parts as one text, which names the first few."""
    more = f" and {len(names) - MOST_NAMED} more" if names[MOST_NAMED:] else ""
    return ", ".join(names[:MOST_NAMED]) + more


def parts_that_differ(before: Fingerprint, after: Fingerprint) -> tuple[str, ...]:
    """Return the names of the parts that differ between two fingerprints of a function."""
    parts = [{part.name: part.digest for part in fingerprint.parts} for fingerprint in (before, after)]
    names = dict.fromkeys(name for part in parts for name in part)
    return tuple(name for name in names if parts[0].get(name) != parts[1].get(name))


def distinguishing_code(value: Any, depth: int = 0) -> str:
    """Return a text that differs between functions of one name, by their code and by what they are bound to.

    It is the same for a function that the same code makes again.
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
    return sha256(tokens(*parts, *(distinguishing_code(each, depth + 1) for each in inner))).hexdigest()[:16]


def _with_packages(digest: bytes, packages: Sequence[CodePart]) -> bytes:
    if not packages:
        return digest
    return sha256(b"packages" + digest + b"".join(package.digest for package in packages)).digest()


_warned: set[str] = set()
"""The texts of the warnings that were given."""


def _warn_of_unidentified(function: Callable[..., Any], unidentified: Iterable[str]) -> None:
    """Warn once for each step and each thing that it reaches, if the thing is data of which only the type is known."""
    # An object is not asked for a name: it may make one, or run code of its class.
    step = function.__qualname__ if isinstance(function, FunctionType | type) else type(function).__qualname__
    for thing in unidentified:
        text = (
            f"{step}: what it reaches as {thing} counts by its type alone: if it holds something else, stored results "
            "are replayed all the same. Hold the plain data that it is made of instead, or pass that as an argument."
        )
        if text not in _warned:
            _warned.add(text)
            warn(text)


def _is_of_a_module(function: FunctionType) -> bool:
    name = function.__globals__.get("__name__")
    value: Any = find_module(str(name))
    for attribute in function.__qualname__.split("."):
        value = getattr(value, attribute, None)
    return not is_script(name) and value is not None and getattr(value, "__wrapped__", value) is function


_origins = cache(Owners)
"""Tells whose code a thing is, seen from a module."""


@lru_cache(MOST_CLASSES)
def _tracker_of(cls: type, packages: str | None = None, *, whole: bool = False) -> CodeTracker:
    return CodeTracker(cls, packages=packages, whole=whole)


def is_users_code(thing: Any, seen_from: str) -> bool:
    """Tell whether a thing is a class, a function or a module of the user's, for a step of the module `seen_from`."""
    whose = _origins(seen_from)
    if isinstance(thing, ModuleType):
        return whose.of_module(thing) is Owner.USER
    if isinstance(thing, type):
        return whose.of_class(thing) is Owner.USER
    return isinstance(thing, FunctionType) and whose.of_function(thing) is Owner.USER


def _classes_sent(classes: Iterable[type]) -> Iterator[type]:
    """Yield the user's classes that are sent to another process, since it finds them in no module.

    The script's classes are among them: an instance of any of them may be an argument.
    """
    whose, script = _origins(SCRIPT), find_module(SCRIPT)
    for cls in (*classes, *(() if script is None else vars(script).values())):
        if not isinstance(cls, type) or whose.of_class(cls) is not Owner.USER:
            continue
        if is_of_script(cls) or not lies_in_its_module(cls):
            yield cls


def fingerprints_of_classes(classes: Iterable[type], seen_from: str, *, whole: bool) -> list[Fingerprint]:
    """Return the fingerprints of the user's classes among these, for a step of the module `seen_from`.

    A step that is given an instance may call its methods without ever naming its class. `whole` is explained at
    `CodeTracker`.
    """
    return _fingerprints_of(_user_classes(classes, seen_from), whole=whole)


def code_of_classes(classes: Iterable[type], seen_from: str, code: Fingerprint | None = None) -> bytes:
    """Return the fingerprints of these classes as one; empty without a class of the user's.

    `code`: the step's fingerprint, which may know other classes of the same names.
    """
    mine = _user_classes(classes, seen_from)
    fingerprints = _fingerprints_of(mine) if code is None else _fingerprints_of(mine, code.packages, whole=code.whole)
    digests = b"".join(fingerprint.identity() for fingerprint in fingerprints)
    return digests + _told_apart(mine, fingerprints if code is None else [code, *fingerprints])


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
    whose = _origins(seen_from)
    return [cls for cls in classes if whose.of_class(cls) is Owner.USER]


def _fingerprints_of(classes: Iterable[type], packages: str | None = None, *, whole: bool = False) -> list[Fingerprint]:
    result: dict[bytes, Fingerprint] = {}
    for cls in classes:
        fingerprint = _tracker_of(cls, packages, whole=whole).current()
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
