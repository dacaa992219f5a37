"""Walk all that a function reaches: functions, classes, modules, constants and objects.

Everything that is reached becomes a record: bytes of its own, and labelled links to what it reaches in turn. Plain data
is written into the link. Anything else is numbered when it is first met: so cycles end, and neither addresses nor hash
order change the digest. The digest is over all records in that order. As the walk reads, it notes in a `Guard` the
conditions under which the digest stays true.

The calls and writes of the reached code are known only when all of that code is known. So the walk is repeated until
nothing that it asked for was found later (`musubito.code.fixpoint`).
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from functools import partial
from hashlib import sha256
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from musubito.code.describers.annotations import annotated_classes
from musubito.code.describers.classes import fields_declared
from musubito.code.describers.describe import builtin_base, describe, is_atom, plain
from musubito.code.describers.functions import Namespace, describe_function, describe_names, module_of, text_of
from musubito.code.describers.object_policies import displays, policy_of
from musubito.code.describers.objects import not_tracked
from musubito.code.fixpoint import Discoveries
from musubito.code.graph_record import ATOMS, GraphRecord, fields_of
from musubito.code.guard import Guard
from musubito.code.ownership import Owner, Owners, home_of, module_name
from musubito.code.pickled_copies import is_copy, may_be_copies
from musubito.code.round_cache import one_round
from musubito.code.state.access_paths import Observation
from musubito.code.state.access_reader import PlaceReader
from musubito.code.state.own_changes import Changes, remember_left
from musubito.code.state.unread_fields import note_whole
from musubito.code.state.write_limits import CONTAINERS, WriteLimits
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.bytecode import words_in
from musubito.code.world.environment import Variable, describe_variable
from musubito.code.world.loaded_modules import shared_by_all
from musubito.code.world.unrepeatable import Unrepeatable, unrepeatable_in
from musubito.errors import MusubitoError
from musubito.values.class_names import canonical_module, qualified_name, the_one_of
from musubito.values.redaction import is_secret

__all__ = ["CodePart", "ReachabilityWalk", "ReachableCode", "called", "reach"]

VERSION = b"musubito code 1"
"""The beginning of every digest: it names this way of describing code."""
ROUNDS = 100
"""Number of rounds after which a walk fails."""
FLAGS = 6
"""Number of flags at the beginning of `FixpointFacts._size()`.

A walk may ask for a flag at any time, so a change of one needs another round.
"""
CODE = (FunctionType, MethodType, ModuleType, Namespace)
"""Types that hold other things as code does, not as data does."""
HOLDERS = (list, tuple, dict, set, frozenset)
"""Containers that may hold things which are only shown."""
CONSTANTS = {each: b"a" + sha256(tokens(each)).digest() for each in (None, True, False)}
"""References to the constants that most code names."""
LONGEST_SHOWN = 1_000_000
"""Characters of a text above which it is not stored with a part."""
LONGEST_FIELD = 500
"""Characters of a field above which the field is not stored with a part."""
SECRET = ("secret", "password", "passwd", "api_key", "apikey", "token", "credential", "private_key")
"""Words in a name or a text that mark a secret."""


@dataclass(frozen=True, slots=True)
class CodePart:
    """One thing that was reached.

    `name` is stable and meant for people. `source` is its text, if that may be shown. The text is a program only if
    `is_function` is true.
    """

    name: str
    digest: bytes
    source: str | None
    is_function: bool = False


class ReachableCode(NamedTuple):
    """The result of a walk, and the check that it is still true.

    `functions` are the user's functions that were reached. `observations` are the places that were read, `limits` says
    which of them the code may write. `kept` are changes by the step's own runs that the digest leaves out. These
    changes last as long as `kept` is referenced.
    """

    digest: bytes
    parts: tuple[CodePart, ...]
    untracked: tuple[str, ...]
    unidentified: tuple[str, ...]
    """The untracked things that are data: only their type is known."""
    state: tuple[str, ...]
    classes: Mapping[tuple[str, str], type]
    reached: Mapping[tuple[str, str], tuple[type, ...]]
    steps: frozenset[str]
    met: tuple[Any, ...]
    others: frozenset[str]
    modules: frozenset[str]
    functions: tuple[FunctionType, ...]
    unchanged: Callable[[], bool]
    observations: list[Observation]
    limits: WriteLimits
    kept: list[tuple[Changes, Hashable]]
    unseen: tuple[str, ...]
    unrepeatable: tuple[Unrepeatable, ...]
    words: frozenset[str]
    """The words that the user's functions and constants mention (see `words_of`), and the fields of classes."""


def reach(
    function: Callable[..., Any],
    owner: type | None,
    module: str | None = None,
    step: str = "",
    *,
    released: Collection[str] = (),
    outermost: bool = True,
) -> ReachableCode:
    """Walk all that `function` reaches, and return the result.

    If `function` is a method, `owner` is the class of its receiver. `CodeTracker` explains `module`, `step` and
    `released`. If `outermost` is false, another walk reached `function` and describes it for itself.
    """
    facts = FixpointFacts()
    for _ in range(ROUNDS):
        facts.ask_anew()
        walk = ReachabilityWalk(function, owner, facts, module, step)
        walk.released, walk.outermost = released, outermost
        walk.run()
        if facts.is_settled:
            facts.ask_anew()  # questions from now on belong to no walk
            remember_left(walk.read.taken)
            with one_round():
                return walk.closure()
    raise RuntimeError(f"what {called(function)} writes does not settle")  # each round adds to finitely many places


def _digest_apart(module: str, value: Any) -> bytes:
    return reach(value, None, module, outermost=False).digest


@dataclass(slots=True)
class FixpointFacts:
    """Facts about all the reached code together, which are known only when all of it was walked."""

    limits: WriteLimits = field(default_factory=WriteLimits)
    given: Discoveries = field(default_factory=Discoveries)
    """Functions that are handed on or held: their docstrings and annotations count."""
    handed: Discoveries = field(default_factory=Discoveries)
    """Names and attributes that code which can run hands on, and does not merely call."""
    running: dict[int, Any] = field(default_factory=dict)
    """Things that code which can run leads to, by id. Only such code writes."""
    mentioned: Discoveries = field(default_factory=Discoveries)
    """Attributes that code which can run gets, and the special methods that its operators may call."""
    called_names: Discoveries = field(default_factory=Discoveries)
    """Names of the methods that code which can run calls."""
    called: Discoveries = field(default_factory=Discoveries)
    """Classes that code which can run calls, or whose instances it calls."""
    late: int = 0
    """How often code that can run was found to lead to something only after that had been described."""
    annotations: bool = False
    """Whether reached code reads annotations: then all of them count."""
    docs: bool = False
    """Whether reached code reads docstrings: then all of them count."""
    order: bool = False
    """Whether reached code gets names in the order in which they were defined."""
    text: bool = False
    """Whether reached code reads the text of code: then comments count, too."""
    fields: Discoveries = field(default_factory=Discoveries)
    """Names by which reached code may read fields."""
    reads_fields: bool = False
    """Whether reached code may read fields in other ways than by name."""
    whole: Discoveries = field(default_factory=Discoveries)
    """The user's objects that are reached in other ways than by the names of their fields, by id."""
    handing: Discoveries = field(default_factory=Discoveries)
    """Classes whose methods hand on the object that they belong to."""
    shown: Discoveries = field(default_factory=Discoveries)
    """Things that are reached to be shown, by id."""
    used: Discoveries = field(default_factory=Discoveries)
    """The ids of shown things that are also reached in another way."""
    walked_apart: bool = False
    """Whether this round walked what a run has left, with the facts that were known then."""
    _before: tuple[int | bool, ...] = ()
    """The size at the beginning of this round."""

    def apart(self) -> FixpointFacts:
        """Return a copy of the facts for a walk of what a run has left: additions to the copy do not count here."""
        self.walked_apart = True
        held = {each.name: copy(getattr(self, each.name)) for each in fields(self)}
        return FixpointFacts(**{**held, "limits": self.limits.beside()})

    def ask_anew(self) -> None:
        """Begin a round: forget all questions whose answer was no."""
        for each in self._found():
            each.ask_anew()
        self.limits.ask_anew()
        self.walked_apart, self._before = False, self._size()

    @property
    def is_settled(self) -> bool:
        """Return whether another round would find the same."""
        if self._size() == self._before:
            return True
        if self.walked_apart or self._flags() != self._before[:FLAGS]:
            return False
        return self.limits.is_settled and all(each.is_settled for each in self._found())

    def _found(self) -> tuple[Discoveries, ...]:
        names = self.mentioned, self.limits.fields, self.called_names, self.called, self.given, self.handed
        return *names, self.fields, self.whole, self.handing, self.shown, self.used

    def _flags(self) -> tuple[int | bool, ...]:
        return self.late, self.docs, self.annotations, self.order, self.text, self.reads_fields

    def _size(self) -> tuple[int | bool, ...]:
        return *self._flags(), self.limits.size, *map(len, self._found())


class Emptied:
    """Stands for a container to which code only adds: it counts as if it were empty.

    `name` is the name of the container's builtin class.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Waiting(NamedTuple):
    value: Any
    name: str
    member: bool


class ReachabilityWalk:
    """One walk over all that a function reaches.

    `link` returns the reference by which a record names what it reaches. The queue holds the things that are still to
    be described.
    """

    def __init__(
        self, function: Callable[..., Any], owner: type | None, facts: FixpointFacts, module: str | None, step: str
    ) -> None:
        self.function = function
        self.owner = owner
        self.facts = facts
        self.limits = facts.limits
        self.docs = facts.docs
        """Whether docstrings count in this walk."""
        self.annotations = facts.annotations
        """Whether annotations count in this walk."""
        self.order = facts.order
        """Whether the order of definitions counts in this walk."""
        self.text = facts.text
        """Whether comments and layout count in this walk."""
        self.live = True
        """Whether code that can run leads to the thing that is being described."""
        self.guard = Guard()
        self.outermost = True
        """Whether no other walk has started this walk."""
        if module is None:
            if type(function) is FunctionType and "__wrapped__" not in function.__dict__:
                module = module_of(function)
            else:
                module = home_of(function)
        self._module = module
        self.digest_apart = partial(_digest_apart, module)
        """Return the digest of a thing described for itself, wherever it is reached; nothing of that walk is kept."""
        self.origins = Owners(module)
        self.released: Collection[str] = ()
        """The modules of released packages that the step runs as its own."""
        self.unpatched: dict[int, type | ModuleType] = {}
        """The classes and modules of packages that were searched for the user's code, by id."""
        self.reached: dict[tuple[str, str], list[type]] = {}
        """The user's classes, by module and qualified name."""
        self.steps: set[str] = set()
        """Names of the steps that were reached."""
        self.met: list[Any] = []
        """Objects of the classes that an adapter has registered."""
        self._entered: dict[int, Any] = {}
        """Containers that cannot be identified and were entered, by id."""
        self._clients: dict[int, Any] = {}
        """Objects that connect, run or lock, and the things that they hold, by id."""
        self.counting: dict[int, Any] = {}
        """Things held by packages that can be identified with all that they hold, by id."""
        self.not_counting: dict[int, tuple[Any, bool]] = {}
        """Things held by packages that cannot be identified, by id, each with whether it holds too much."""
        self.others: set[str] = set()
        """The packages of others that the code reaches: they count by names."""
        self.modules: set[str] = set()
        """The full names of other packages' modules that the code names, and of attributes that may be modules."""
        self.owners: dict[int, tuple[type, bool]] = {}
        """Functions that are methods, by id: the class, and whether the receiver is the class itself."""
        self._originals: dict[tuple[type, object, str], list[tuple[Any, FunctionType]]] = {}
        """Things that were met, by type, module and name; each with a function that was written in the same place."""
        self._index: dict[tuple[int, bool], int] = {}
        """The number of each thing, by its id and whether it is a member."""
        self._names: list[str] = []
        """The name of each thing, by its number."""
        self._kept: list[Any] = []
        """The numbered things, kept alive so that their ids stay their own."""
        self._namespaces: dict[int, Namespace] = {}
        self._emptied: dict[int, Emptied] = {}
        self._queue: deque[_Waiting] = deque()
        self._digest = sha256(VERSION)
        self._parts: dict[str, CodePart] = {}
        self._functions: list[FunctionType] = []
        self._untracked: set[str] = set()
        self._unidentified: set[str] = set()
        self._state: set[str] = set()
        self.unseen: set[str] = set()
        """One sentence for each thing that functions read and that the walk cannot follow."""
        self.at: Any = None
        """The thing that is being described."""
        self.read = PlaceReader(self.guard, self.limits, step, self._state, self._digest_of, self._is_foreign)
        self._words: set[str] = set()
        """The words in constants."""
        self.asks: list[tuple[int, Unrepeatable]] = []
        """Requests of functions whose answer differs each time, each with the number of the function."""
        self._edges: list[list[int]] = []
        """The numbers that each record links to, by its own number."""
        self._holders: dict[int, str] = {}
        """The names of the records that hold others as data does, by number."""

    def run(self) -> None:
        """Walk until all that was reached is described."""
        with one_round():
            self._run()

    def _run(self) -> None:
        self.link(self.function, called(self.function), member=self.owner is not None)
        function = self.function.func if isinstance(self.function, functools.partial) else self.function
        if not isinstance(function, type | FunctionType):
            self.calls(function)
        self.describe_all()

    def describe_all(self) -> None:
        """Describe all that is queued, and all that it reaches."""
        while self._queue:
            waiting = self._queue.popleft()
            value, name, member = waiting
            text, is_function = None, False
            self.at = value
            self.live = id(value) in self.facts.running
            if isinstance(value, FunctionType) and self.origins.of_function(value) is Owner.USER:
                description = describe_function(self, value, name, member)
                self._functions.append(value)
                source = text_of(value).source
                text, is_function = None if source is None else source.text, True
            elif isinstance(value, ModuleType) and self.origins.of_module(value) is Owner.USER:
                description = describe_names(self, value.__dict__, name)
            elif isinstance(value, Namespace):
                description = describe_names(self, value.names, name)
            elif isinstance(value, Emptied):
                description = GraphRecord(tokens("container", value.name), [])
            elif isinstance(value, Variable):
                description = describe_variable(self, value)
            else:
                description = self._described(value, name)
                self._note_package(value)
                text = _prompt_of(value)
                if text is None and self.origins.of_class(type(value)) is Owner.USER:
                    text = _settings_of(value)
            self._record(name, description, text, is_function=is_function)

    def _is_foreign(self, value: Any) -> bool:
        """Return whether a value is a constant, or an object that is no container and not of a class of the user's."""
        if is_atom(value):
            return True
        return not isinstance(value, (*CONTAINERS, tuple)) and self.origins.of_class(type(value)) is not Owner.USER

    def _digest_of(self, left: Any) -> bytes:
        """Return the digest of what a run has left in a place.

        The left value does not count. A change that anything else makes to it does: then the digest differs.
        """
        walk = ReachabilityWalk(self.function, None, self.facts.apart(), self._module, "")
        walk.guard, walk.read, walk.outermost = self.guard, self.read.beside(walk._digest_of), False
        walk._clients, walk.at = self._clients, self.at
        reference = walk.link(left, called(left))
        walk.describe_all()
        # Plain data is written out in the reference; then nothing is left to be described.
        return sha256(walk._digest.digest() + reference).digest()

    def _described(self, value: Any, name: str) -> GraphRecord:
        """Return the record of a class or an object.

        If the description of an object fails, the object counts by its type and is listed as not tracked.
        """
        if issubclass(type(value), type):
            return describe(self, value, name)
        known = len(self._index)
        try:
            return describe(self, value, name)
        except MusubitoError:
            raise
        except Exception:
            # Forget the links of the failed description: how far it came may depend on the depth of the stack.
            for key in list(self._index)[known:]:
                del self._index[key]
                self._queue.pop()
            del self._names[known:], self._kept[known:]
            self.not_identified(name, value)
            return not_tracked(self, value, name)

    def closure(self) -> ReachableCode:
        """Return the result of this walk."""
        reached = {name: tuple(classes) for name, classes in self.reached.items()}
        annotated = annotated_classes(self.function, self.owner, list(itertools.chain(*reached.values())))
        untracked, state = tuple(sorted(self._untracked)), tuple(sorted(self._state))
        parts = tuple(self._parts.values())
        return ReachableCode(
            self._digest.digest(),
            parts,
            untracked,
            tuple(sorted(self._unidentified)),
            state,
            {**annotated, **{name: the_one_of(classes) for name, classes in reached.items()}},
            reached,
            frozenset(self.steps),
            tuple(self.met),
            frozenset(self.others),
            frozenset(self.modules),
            tuple(self._functions),
            self.guard.build(),
            self.read.observations,
            self.limits,
            self.read.kept,
            tuple(sorted(self.unseen)),
            unrepeatable_in(self._kept, self._edges, self._holders, self.asks),
            frozenset(
                self._words.union(
                    *(text_of(each).words for each in self._functions),
                    *map(fields_declared, itertools.chain(*reached.values())),
                )
            ),
        )

    def _note_package(self, value: Any) -> None:
        if isinstance(value, FunctionType):
            origin, module = self.origins.of_function(value), module_of(value)
        elif isinstance(value, ModuleType):
            origin, module = self.origins.of_module(value), canonical_module(value.__name__)
        else:
            cls = value if isinstance(value, type) else type(value)
            origin, module = self.origins.of_class(cls), module_name(cls)
        if origin is Owner.OTHER:
            self.others.add(module.partition(".")[0])
            self.modules.add(module)
        if isinstance(value, BuiltinFunctionType) and (module := module_name(value)):
            self.modules.add(module)

    @property
    def number(self) -> int:
        """The number of the thing that is being described."""
        return len(self._edges)

    # -- for the functions that describe things ------------------------------------------------------------------------

    def link(
        self,
        value: Any,
        name: str,
        *,
        member: bool = False,
        runs: bool = True,
        whole: bool = True,
        shown: bool = False,
    ) -> bytes:
        """Return a reference to `value`: plain data is written out, anything else is numbered and described later.

        - `member`: a function that is reached through the receiver of the step.
        - `runs`: false if no code that can run seems to use the value.
        - `whole`: false if code reaches only fields of the object, by their names.
        - `shown`: the value is reached only to be shown.
        """
        if is_atom(value):
            if value is None or value is True or value is False:
                return CONSTANTS[value]
            return b"a" + sha256(tokens(value)).digest()
        if (shared := shared_by_all(value)) is not None:
            self.unseen.add(f"{name}: {shared}")
            return b"n" + sha256(tokens(shared)).digest()
        if type(value) is FunctionType:
            value = self.original(value)
        self.leads_to(value)
        if type(value) is dict and "__builtins__" in value and self.limits.is_open(value, foreign=True):
            # An object of another package looks up names in the globals of a module: not all of the globals count.
            return b"n" + sha256(tokens(canonical_module(str(value.get("__name__"))))).digest()
        if (data := plain(self, value, name)) is not None:
            return b"p" + sha256(data).digest()
        if whole:
            note_whole(self, value)
        if shown or self._displays(self.at):
            if may_be_shown(value):
                self.facts.shown.add(id(value), value)
        elif id(value) in self.facts.shown:
            self.facts.used.add(id(value))
        key = id(value), member
        number = self._index.get(key)
        if self.live and runs and id(value) not in self.facts.running:
            self.facts.running[id(value)] = value
            self.facts.late += number is not None and number < self.number
        if number is None:
            number = self._index[key] = len(self._index)
            self._kept.append(value)
            self._names.append(name)
            self._queue.append(_Waiting(value, name, member))
        return b"r%d" % number

    def leads_to(self, value: Any) -> None:
        """Note that the thing that is being described leads to `value`."""
        self.limits.below(value, self.at)
        if self.is_within_client() and not isinstance(value, (FunctionType, ModuleType, type)):
            self._clients[id(value)] = value

    def enters(self, container: Any) -> bool:
        """Return whether to enter a container that cannot be identified: it is small, and this is the first time."""
        _, is_large = self.not_counting[id(container)]
        if is_large or id(container) in self._entered:
            return False
        self._entered[id(container)] = container
        return True

    def is_client(self, value: Any) -> None:
        """Note that `value` connects, runs or locks: as far as it is small, the things that it holds are settings."""
        self._clients[id(value)] = value

    def is_within_client(self) -> bool:
        """Return whether a client led to the thing that is being described."""
        return id(self.at) in self._clients

    def original(self, value: Any, reader: FunctionType | None = None, name: str = "") -> Any:
        """Return the thing that `value` is a copy of, if that was met, else `value`.

        A function is looked up by its own name, an object by the name under which code reads it.
        """
        if type(value) is FunctionType:
            reader, name = value, value.__qualname__
            place, _, last = name.rpartition(".")
            if place and not place.endswith("<locals>") and last != "<lambda>":
                return value  # a method: each process has one class for it
        elif reader is None or issubclass(type(value), (*CONTAINERS, type, ModuleType)) or is_atom(value):
            return value
        met = self._originals.setdefault((type(value), module_of(reader), name), [])
        for each, other in met:
            if each is value:
                return value
            apart = may_be_copies(reader, other) and not (self.limits.touches(each) or self.limits.touches(value))
            if apart and is_copy(each, value, self.guard):
                return each
        met.append((value, reader))
        return value

    def _displays(self, holder: Any) -> bool:
        """Return whether `holder` only shows what it holds."""
        if isinstance(holder, HOLDERS):
            return self.is_shown(holder)
        return displays(module_of(holder) if isinstance(holder, FunctionType) else module_name(type(holder)))

    def constant(self, value: Any, name: str, *, runs: bool = True, whole: bool = True, shown: bool = False) -> bytes:
        """Return a reference to a value that is bound to a name; plain data becomes a part of its own."""
        reference = self.link(value, self.called(value, name), runs=runs, whole=whole, shown=shown)
        if not reference.startswith(b"r"):
            self._words.update(words_in(value))
            self._parts.setdefault(name, CodePart(name, sha256(reference).digest(), _escaped(_shown(name, value))))
        return reference

    def links(self, pairs: Iterable[tuple[Any, Any]], name: str) -> list[tuple[str, bytes]]:
        """Return references, with their labels, to several things that a thing called `name` leads to."""
        return [(str(label), self.link(each, self.called(each, f"{name}.{label}"))) for label, each in pairs]

    def called(self, value: Any, name: str) -> str:
        """Return the name of a part.

        Functions, classes and modules have names of their own. Anything else gets `name`, which says where it is bound.
        """
        if isinstance(value, ModuleType):
            return canonical_module(value.__name__)
        return called(value) if isinstance(value, FunctionType | type) else name

    def namespace(self, names: dict[str, Any]) -> Namespace:
        """Return the one `Namespace` that stands for these globals."""
        return self._namespaces.setdefault(id(names), Namespace(names))

    def emptied(self, container: Any) -> Emptied:
        """Return the one `Emptied` that stands for this container."""
        return self._emptied.setdefault(id(container), Emptied(builtin_base(type(container)).__name__))

    def not_tracked(self, name: str, value: Any) -> None:
        """Note that `value` counts by its type alone."""
        self._untracked.add(f"{name}: {module_name(type(value))}.{type(value).__qualname__}")

    def not_identified(self, name: str, value: Any) -> None:
        """Note that `value` is data and yet counts by its type alone."""
        self.not_tracked(name, value)
        self._unidentified.add(f"{name}: {module_name(type(value))}.{type(value).__qualname__}")

    def not_found(self, module: str, error: BaseException) -> None:
        """Note that a module which the user's code imports cannot be described, because its import fails."""
        self._untracked.add(f"{module}: cannot be imported ({type(error).__name__})")

    def is_shown(self, value: Any) -> bool:
        """Return whether `value` is reached only to be shown."""
        return id(value) in self.facts.shown and id(value) not in self.facts.used

    def is_state(self, name: str) -> None:
        """Note that the reached code itself writes the place of this name."""
        self._state.add(name)

    def calls(self, value: Any) -> None:
        """Note that code which can run calls `value`."""
        cls = value if isinstance(value, type) else type(value)
        for each in (*cls.__mro__, type(cls)):
            if self.origins.of_class(each) is Owner.USER:
                self.facts.called.add(id(each), each)

    # -- records -------------------------------------------------------------------------------------------------------

    def _record(self, name: str, description: GraphRecord, text: str | None, *, is_function: bool) -> None:
        own, whole = sha256(description.own), sha256(description.own)
        if self.live and not issubclass(type(self._kept[self.number]), CODE):
            self._holders[self.number] = name
        self._edges.append([int(each[1:]) for _, each in description.links if each.startswith(b"r")])
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


def may_be_shown(value: Any) -> bool:
    """Return whether an object is of a class that shows something, or a container, which may hold such an object."""
    if isinstance(value, HOLDERS):
        return True
    kind = policy_of(value)
    return kind is not None and kind.shows is not None


def called(value: Any) -> str:
    """Return the name of a function, a class or an object's class: its module and its qualified name."""
    # An object that cannot be called has no name of its own; asking for one may run code of its class.
    if issubclass(type(value), type):
        return f"{module_name(value)}.{qualified_name(value)[1]}"
    qualname = (getattr(value, "__qualname__", None) if callable(value) else None) or type(value).__qualname__
    module = module_of(value) if isinstance(value, FunctionType) else module_name(value)
    return f"{module}.{qualname}"


def _escaped(text: str | None) -> str | None:
    """Return the text with escapes for surrogates, so that it can be stored."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def _prompt_of(value: Any) -> str | None:
    """Return the texts that an object holds for a model, in fields with such names; no other field is shown."""
    held = fields_of(value) or {}
    texts = [each for name, each in held.items() if type(each) is str and type(name) is str and _is_for_models(name)]
    return "\n".join(text for text in texts if _shown("", text)) or None


def _settings_of(value: Any) -> str | None:
    """Return the short plain fields of an object, one a line; fields with the name of a secret are left out."""
    held = fields_of(value) or {}
    plain = {name: each for name, each in held.items() if type(name) is str and type(each) in ATOMS}
    shown = ((name, _shown(name, each)) for name, each in sorted(plain.items()) if not is_secret(name))
    lines = [f"{name} = {plain[name]!r}" for name, text in shown if text is not None and len(text) <= LONGEST_FIELD]
    return "\n".join(lines) or None


def _is_for_models(name: str) -> bool:
    return name in ("content", "template") or "prompt" in name or "instruction" in name


def _shown(name: str, value: Any) -> str | None:
    """Return the text of a constant, or None if its name or its text looks like a secret.

    The default of a parameter has no text: the parameter's name, which might be that of a secret, is not known here.
    """
    if any(word in name.lower() for word in SECRET) or "(default " in name:
        return None
    try:
        shown = value if isinstance(value, str) else repr(value)
    except ValueError:  # an integer of more digits than are converted
        return None
    if len(shown) > LONGEST_SHOWN or (not isinstance(value, str) and any(word in shown.lower() for word in SECRET)):
        return None
    return shown
