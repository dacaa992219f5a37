"""What a function reaches: the walk over functions, classes, modules, constants and objects.

Everything that is reached becomes a record: bytes of its own, and labelled links to what it reaches in turn.
Plain data is written into the link; everything else is numbered as it is first met, so cycles end and neither
addresses nor hash order leave a trace. The digest is over all records in that order. As the walk reads, it
notes in a `Guard` what must stay as it is for the digest to stay true.

What is written by the reached code is known only when all of it is known; so the walk is repeated until it
finds nothing more that is written.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from musubito.identity.annotations import annotated_classes
from musubito.identity.copies import is_copy, may_be_copies
from musubito.identity.describe import describe, is_atom, plain
from musubito.identity.description import ABSENT, Description, fields_of
from musubito.identity.functions import Namespace, describe_function, describe_names, module_of, text_of
from musubito.identity.guard import Guard
from musubito.identity.names import known_as, name_of, the_one_of
from musubito.identity.normalise import tokens
from musubito.identity.objects import counts
from musubito.identity.origin import Origin, Origins, home_of, module_name
from musubito.identity.state import CONTAINERS, Written

__all__ = ["Closure", "CodePart", "Walk", "reach"]

VERSION = b"musubito code 1"
ROUNDS = 100
LONGEST_SHOWN = 1_000_000
SECRET = ("secret", "password", "passwd", "api_key", "apikey", "token", "credential", "private_key")


@dataclass(frozen=True, slots=True)
class CodePart:
    """One thing that was reached. `name` is stable and meant for people; `source` is its text where that may
    be shown. Only of a function is that a program.
    """

    name: str
    digest: bytes
    source: str | None
    is_function: bool = False


class Closure(NamedTuple):
    """What a walk found, and the check that it is still true.

    `functions` are those of the user. `written` is kept with it: it holds what containers held when they were first
    seen.
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
    functions: tuple[FunctionType, ...]
    unchanged: Callable[[], bool]
    written: Written


def reach(function: Callable[..., Any], owner: type | None, module: str | None = None) -> Closure:
    """Walks what `function` reaches; `owner` is the receiver's class where it is a method. `module`: see
    `CodeTracker`."""
    facts = Facts()
    for _ in range(ROUNDS):
        before = facts.size()
        walk = Walk(function, owner, facts, module)
        walk.run()
        if facts.size() == before:
            return walk.closure()
    raise RuntimeError(f"what {_called(function)} writes does not settle")  # each round adds to finitely many places


@dataclass(slots=True)
class Facts:
    """What holds for the closure as a whole, and is known only when all of it was walked."""

    written: Written = field(default_factory=Written)
    given: dict[int, FunctionType] = field(default_factory=dict)
    """Functions that are handed to somebody, or held: their docstrings and annotations count."""
    handed: set[str] = field(default_factory=set)
    """Names and attributes that code which can run gives away, and does not merely call."""
    running: dict[int, Any] = field(default_factory=dict)
    """What code that can run leads to, by id; only what such code writes is state."""
    mentioned: set[str] = field(default_factory=set)
    """Attributes that code which can run gets, and the special methods that its operators may call."""
    stored: set[str] = field(default_factory=set)
    """Attributes that code which can run sets."""
    called_names: set[str] = field(default_factory=set)
    called: dict[int, type] = field(default_factory=dict)
    """Classes that are called, or whose instances are, by code that can run."""
    late: int = 0
    """How often something was found to be led to only after it had been described."""
    annotations: bool = False
    """Whether reached code reads annotations: then all of them count."""
    docs: bool = False
    """Whether reached code reads docstrings: then all of them count."""

    def size(self) -> tuple[int | bool, ...]:
        names = (self.mentioned, self.stored, self.called_names, self.called, self.given, self.handed)
        return self.written.size, self.late, self.docs, self.annotations, *map(len, names)


class _Waiting(NamedTuple):
    value: Any
    name: str
    member: bool


class Walk:
    """One walk. `link` is how a record refers to what it reaches; the queue holds what is still to be
    described.
    """

    def __init__(self, function: Callable[..., Any], owner: type | None, facts: Facts, module: str | None) -> None:
        self.function = function
        self.owner = owner
        self.facts = facts
        self.written = facts.written
        self.docs = facts.docs
        """Whether docstrings count in this walk."""
        self.annotations = facts.annotations
        """Whether annotations do."""
        self.live = True
        """Whether what is being described is led to by code that can run."""
        self.guard = Guard()
        if module is None:
            if type(function) is FunctionType and "__wrapped__" not in function.__dict__:
                module = module_of(function)
            else:
                module = home_of(function)
        self.origins = Origins(module)
        self.reached: dict[tuple[str, str], list[type]] = {}
        """The user's classes, by what they are called."""
        self.steps: set[str] = set()
        self.met: list[Any] = []
        """Objects of kinds that an adapter has registered."""
        self.others: set[str] = set()
        """The packages of others that it reaches, which count by names."""
        self.owners: dict[int, tuple[type, bool]] = {}
        """Functions that are methods: of which class, and whether their receiver is the class itself."""
        self._originals: dict[tuple[type, object, str], list[tuple[Any, FunctionType]]] = {}
        """What was met, by whose code names it; with a function that was written where it was."""
        self._index: dict[tuple[int, bool], int] = {}
        self._names: list[str] = []
        self._kept: list[Any] = []
        """What was numbered, so that its id stays its own."""
        self._namespaces: dict[int, Namespace] = {}
        self._queue: deque[_Waiting] = deque()
        self._digest = sha256(VERSION)
        self._parts: dict[str, CodePart] = {}
        self._functions: list[FunctionType] = []
        self._untracked: set[str] = set()
        self._state: set[str] = set()

    def run(self) -> None:
        """Walks until nothing that was reached is left to be described."""
        self.link(self.function, _called(self.function), member=self.owner is not None)
        called = self.function.func if isinstance(self.function, functools.partial) else self.function
        if not isinstance(called, type | FunctionType):
            self.calls(called)
        while self._queue:
            waiting = self._queue.popleft()
            value, name, member = waiting
            text, is_function = None, False
            self.live = id(value) in self.facts.running
            if isinstance(value, FunctionType) and self.origins.of_function(value) is Origin.USER:
                description = describe_function(self, value, name, member)
                self._functions.append(value)
                source = text_of(value).source
                text, is_function = None if source is None else source.text, True
            elif isinstance(value, ModuleType) and self.origins.of_module(value) is Origin.USER:
                description = describe_names(self, value.__dict__, name)
            elif isinstance(value, Namespace):
                description = describe_names(self, value.names, name)
            else:
                description = describe(self, value, name)
                self._note_package(value)
                text = _prompt_of(value)
            self._record(name, description, text, is_function=is_function)

    def closure(self) -> Closure:
        """What was found."""
        reached = {name: tuple(classes) for name, classes in self.reached.items()}
        annotated = annotated_classes(self.function, self.owner, list(itertools.chain(*reached.values())))
        untracked, state = tuple(sorted(self._untracked)), tuple(sorted(self._state))
        parts = tuple(self._parts.values())
        return Closure(
            self._digest.digest(),
            parts,
            untracked,
            state,
            {**annotated, **{name: the_one_of(classes) for name, classes in reached.items()}},
            reached,
            frozenset(self.steps),
            tuple(self.met),
            frozenset(self.others),
            tuple(self._functions),
            self.guard.build(),
            self.written,
        )

    def _note_package(self, value: Any) -> None:
        if isinstance(value, FunctionType):
            origin, module = self.origins.of_function(value), module_of(value)
        elif isinstance(value, ModuleType):
            origin, module = self.origins.of_module(value), known_as(value.__name__)
        else:
            cls = value if isinstance(value, type) else type(value)
            origin, module = self.origins.of_class(cls), module_name(cls)
        if origin is Origin.OTHER:
            self.others.add(module.partition(".")[0])

    # -- for those who describe ----------------------------------------------------------------------------------------

    def link(self, value: Any, name: str, *, member: bool = False, runs: bool = True) -> bytes:
        """A reference to `value`: plain data is written out, all else is numbered and described later.

        `member`: a function that is reached through the receiver of the step. Not `runs`: nothing that can
        run seems to use it.
        """
        if is_atom(value):
            return b"a" + sha256(tokens(value)).digest()
        if type(value) is FunctionType:
            value = self.original(value)
        if (data := plain(self, value)) is not None:
            return b"p" + sha256(data).digest()
        key = id(value), member
        number = self._index.get(key)
        if self.live and runs and id(value) not in self.facts.running:
            self.facts.running[id(value)] = value
            self.facts.late += number is not None
        if number is None:
            number = self._index[key] = len(self._index)
            self._kept.append(value)
            self._names.append(name)
            self._queue.append(_Waiting(value, name, member))
        return b"r%d" % number

    def original(self, value: Any, reader: FunctionType | None = None, name: str = "") -> Any:
        """What `value` is a copy of, if that was met: a function by its own name, an object by that by which code reads
        it."""
        if type(value) is FunctionType:
            reader, name = value, value.__qualname__
            place, _, last = name.rpartition(".")
            if place and not place.endswith("<locals>") and last != "<lambda>":
                return value  # a method: its class is one in each process
        elif reader is None or isinstance(value, (*CONTAINERS, type, ModuleType)) or is_atom(value):
            return value
        met = self._originals.setdefault((type(value), module_of(reader), name), [])
        for each, other in met:
            if each is value:
                return value
            apart = may_be_copies(reader, other) and not (self.written.touches(each) or self.written.touches(value))
            if apart and is_copy(each, value, self.guard):
                return each
        met.append((value, reader))
        return value

    def constant(self, value: Any, name: str, *, runs: bool = True) -> bytes:
        """A reference to what is bound to a name; plain data becomes a part of its own."""
        reference = self.link(value, self.called(value, name), runs=runs)
        if not reference.startswith(b"r"):
            self._parts.setdefault(name, CodePart(name, sha256(reference).digest(), _escaped(_shown(name, value))))
        return reference

    def links(self, pairs: Iterable[tuple[Any, Any]], name: str) -> list[tuple[str, bytes]]:
        """References to several things that are reached from what is called `name`, by their labels."""
        return [(str(label), self.link(each, self.called(each, f"{name}.{label}"))) for label, each in pairs]

    def called(self, value: Any, name: str) -> str:
        """What a part is called: functions, classes and modules by their own name, all else by where it is
        bound.
        """
        if isinstance(value, ModuleType):
            return known_as(value.__name__)
        return _called(value) if isinstance(value, FunctionType | type) else name

    def namespace(self, names: dict[str, Any]) -> Namespace:
        """One and the same object for the same globals."""
        return self._namespaces.setdefault(id(names), Namespace(names))

    def not_tracked(self, name: str, value: Any) -> None:
        """`value` could only be counted by its type."""
        self._untracked.add(f"{name}: {module_name(type(value))}.{type(value).__qualname__}")

    def not_found(self, module: str, error: BaseException) -> None:
        """A module that the code imports itself cannot be looked into."""
        self._untracked.add(f"{module}: cannot be imported ({type(error).__name__})")

    def is_state(self, name: str) -> None:
        """The reached code itself writes this."""
        self._state.add(name)

    def state(self, container: Any, key: object, name: str) -> list[tuple[str, bytes]]:
        """What the reached code writes at a literal key counts with what was there at first sight."""
        first = self.written.first(container, key)
        self.is_state(name)
        if first is ABSENT:
            return []
        reference = self.link(first, self.called(first, name)) if counts(self, first) else b"state"
        return [(f"{key!r} at first", reference)]

    def calls(self, value: Any) -> None:
        """Code that can run calls `value`."""
        cls = value if isinstance(value, type) else type(value)
        for each in (*cls.__mro__, type(cls)):
            if self.origins.of_class(each) is Origin.USER:
                self.facts.called[id(each)] = each

    # -- records -------------------------------------------------------------------------------------------------------

    def _record(self, name: str, description: Description, text: str | None, *, is_function: bool) -> None:
        own, whole = sha256(description.own), sha256(description.own)
        for label, reference in description.links:
            own.update(tokens(label, self._names[int(reference[1:])] if reference.startswith(b"r") else reference))
            whole.update(tokens(label, reference))
        self._digest.update(whole.digest())
        if description.named:
            return
        part, number = name, 2
        while part in self._parts:
            part, number = f"{name}#{number}", number + 1
        self._parts[part] = CodePart(part, own.digest(), _escaped(text), is_function)


def _called(value: Any) -> str:
    # What cannot be called has no name of its own; to ask it for one may run code of its class.
    if issubclass(type(value), type):
        return f"{module_name(value)}.{name_of(value)[1]}"
    qualname = (getattr(value, "__qualname__", None) if callable(value) else None) or type(value).__qualname__
    module = module_of(value) if isinstance(value, FunctionType) else module_name(value)
    return f"{module}.{qualname}"


def _escaped(text: str | None) -> str | None:
    """Text that can be stored, whatever surrogates stand in it."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def _prompt_of(value: Any) -> str | None:
    """The text that an object holds to be read by a model, in a field that is called so; no other field is shown."""
    held = fields_of(value) or {}
    texts = [each for name, each in held.items() if type(each) is str and type(name) is str and _is_for_models(name)]
    return "\n".join(text for text in texts if _shown("", text)) or None


def _is_for_models(name: str) -> bool:
    return name in ("content", "template") or "prompt" in name or "instruction" in name


def _shown(name: str, value: Any) -> str | None:
    """The text of a constant, unless it is called like a secret or has something in it that is. What a default is
    called its parameter says, which is not known here."""
    if any(word in name.lower() for word in SECRET) or "(default " in name:
        return None
    try:
        shown = value if isinstance(value, str) else repr(value)
    except ValueError:  # an integer of more digits than are converted
        return None
    if len(shown) > LONGEST_SHOWN or (not isinstance(value, str) and any(word in shown.lower() for word in SECRET)):
        return None
    return shown
