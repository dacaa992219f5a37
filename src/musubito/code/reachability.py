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
from collections.abc import Callable, Collection, Iterable
from functools import partial
from hashlib import sha256
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from musubito.code.describers.annotations import annotated_classes
from musubito.code.describers.classes import fields_declared
from musubito.code.describers.describe import builtin_base, describe, is_atom, plain
from musubito.code.describers.functions import describe_function, describe_names, describe_shown_function
from musubito.code.describers.object_policies import policy_of
from musubito.code.describers.objects import describe_untracked
from musubito.code.describers.unread_fields import note_whole
from musubito.code.displays import displays, is_showing_method, objects_display
from musubito.code.fixpoint_facts import SHOWING, FixpointFacts
from musubito.code.graph_record import Emptied, GraphRecord, Namespace, is_module_globals, step_of
from musubito.code.guard import Guard
from musubito.code.ownership import Owner, Owners, counted_name, home_of, module_name, module_of
from musubito.code.part_texts import constant_text, object_text, storable
from musubito.code.pickled_copies import is_copy, may_be_copies
from musubito.code.portable_paths import portable
from musubito.code.reachable_code import CodePart, ReachableCode
from musubito.code.round_cache import one_round
from musubito.code.state.access_reader import PlaceReader
from musubito.code.state.own_changes import remember_left
from musubito.code.state.unsettled import is_unsettled
from musubito.code.state.write_limits import CONTAINERS
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.bytecode import words_in
from musubito.code.syntax.function_text import text_of
from musubito.code.walk import Walk
from musubito.code.world.compiled_readers import paths_named
from musubito.code.world.environment import Variable, describe_variable
from musubito.code.world.loaded_modules import shared_by_all
from musubito.code.world.path_looks import ReportingFunction
from musubito.code.world.process_settings import Setting, describe_setting
from musubito.code.world.unrepeatable import Unrepeatable, unrepeatable_in
from musubito.errors import MusubitoError
from musubito.values.class_names import canonical_module, qualified_name, the_one_of

VERSION = b"musubito code 1"
"""The beginning of every digest: it names this way of describing code."""
ROUNDS = 100
"""Number of rounds after which a walk fails."""
CODE = (FunctionType, MethodType, ModuleType, Namespace)
"""Types that hold other things as code does, not as data does."""
FUNCTIONS = (FunctionType, MethodType, functools.partial)
"""Types of functions that an object may be given as a method of its own."""
HOLDERS = (list, tuple, dict, set, frozenset)
"""Containers that may hold things which are only shown."""
CONSTANTS = {each: b"a" + sha256(tokens(each)).digest() for each in (None, True, False)}
"""References to the constants that most code names."""


def reach(
    function: Callable[..., Any],
    owner: type | None,
    module: str | None = None,
    step: str = "",
    *,
    released: Collection[str] = (),
    outermost: bool = True,
    whole: bool = False,
) -> ReachableCode:
    """Walk all that `function` reaches, and return the result.

    If `function` is a method, `owner` is the class of its receiver. `CodeTracker` explains `module`, `step`, `released`
    and `whole`. If `outermost` is false, another walk reached `function` and describes it for itself.
    """
    facts = FixpointFacts()
    for _ in range(ROUNDS):
        facts.ask_anew()
        walk = ReachabilityWalk(function, owner, facts, module, step)
        walk.released, walk.outermost, walk.whole = released, outermost, whole
        walk.run()
        if facts.is_settled:
            facts.settle()
            with one_round():
                remember_left(walk.read.take_digests())
                return walk.closure()
    raise RuntimeError(f"what {thing_name(function)} writes does not settle")  # each round adds to finitely many places


def _digest_apart(module: str, value: Any) -> bytes:
    return reach(value, None, module, outermost=False).digest


class _Waiting(NamedTuple):
    value: Any
    name: str
    member: bool


class ReachabilityWalk(Walk):
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
        self.live = True
        self.guard = Guard()
        self.outermost = True
        self.whole = False
        if module is None:
            if type(function) is FunctionType and "__wrapped__" not in function.__dict__:
                module = module_of(function)
            else:
                module = home_of(function)
        self._module = module
        self.digest_apart = partial(_digest_apart, module)
        self.origins = Owners(module)
        self.released: Collection[str] = ()
        self.unpatched = {}
        self.reached = {}
        self.steps = set()
        self.met = []
        self._entered: dict[int, Any] = {}
        """Containers that cannot be identified and were entered, by id."""
        self._clients: dict[int, Any] = {}
        """Objects that connect, run or lock, and the things that they hold, by id."""
        self.counting = {}
        self.not_counting = {}
        self.others = set()
        self.modules = set()
        self.owners = {}
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
        self.unreadable = set()
        self._unsettled: dict[str, Any] = {}
        self.unseen = set()
        self.at: Any = None
        """The thing that is being described."""
        self.read = PlaceReader(self.guard, self.limits, step, self._state, self._left_walk, self._is_foreign)
        self._words: set[str] = set()
        """The words in constants."""
        self._texts: list[Any] = []
        """Constants that are a text or a path, and plain data that may hold some."""
        self._asks: list[tuple[int, Unrepeatable]] = []
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
        self.link(self.function, thing_name(self.function), member=self.owner is not None)
        function = self.function.func if isinstance(self.function, functools.partial) else self.function
        if not isinstance(function, type | FunctionType):
            self.note_call(function)
        self.describe_all()

    def describe_all(self) -> None:
        """Describe all that is queued, and all that it reaches."""
        while self._queue:
            waiting = self._queue.popleft()
            value, name, member = waiting
            text, is_function = None, False
            self.at = value
            self.live = id(value) in self.facts.running
            if isinstance(value, FunctionType) and self._is_only_shown(value):
                description, text = describe_shown_function(self, value, name)
            elif isinstance(value, FunctionType) and self.origins.of_function(value) is Owner.USER:
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
            elif isinstance(value, Setting):
                description = describe_setting(self, value, name)
            else:
                description = self._describe_safely(value, name)
                self._note_package(value)
                cls = value if isinstance(value, type) else type(value)
                text = object_text(value, of_user=self.origins.of_class(cls) is Owner.USER)
            self._record(name, description, text, is_function=is_function)

    def _is_only_shown(self, function: FunctionType) -> bool:
        """Return whether a function of the user's is only shown, to code that cannot run it."""
        if not self.is_shown(function) or self.origins.of_function(function) is not Owner.USER:
            return False
        # What a wrapper shows is told by the function that it wraps.
        return not function.__dict__ and step_of(function) is None and SHOWING not in self.facts.looks

    def _is_foreign(self, value: Any) -> bool:
        """Return whether a value is a constant, or an object that is no container and not of a class of the user's."""
        if is_atom(value):
            return True
        return not isinstance(value, (*CONTAINERS, tuple)) and self.origins.of_class(type(value)) is not Owner.USER

    def _left_walk(self, left: Any) -> Callable[[], bytes]:
        """Return a walk of what a run has left in a place of the thing that is being described.

        The left value does not count. A change that anything else makes to it does: then the digest differs.
        """
        at = self.at

        def digest() -> bytes:
            walk = ReachabilityWalk(self.function, None, self.facts.apart(), self._module, "")
            walk.guard, walk.read, walk.outermost = self.guard, self.read.beside(walk._left_walk), False
            walk._clients, walk.at = self._clients, at
            reference = walk.link(left, thing_name(left))
            walk.describe_all()
            # Plain data is written out in the reference; then nothing is left to be described.
            return sha256(walk._digest.digest() + reference).digest()

        return digest

    def _describe_safely(self, value: Any, name: str) -> GraphRecord:
        """Return the record of a class or an object.

        If the description of an object fails, the object counts by its type and is listed as not tracked.
        """
        if issubclass(type(value), type):
            return describe(self, value, name)
        count = len(self._index)
        try:
            return describe(self, value, name)
        except MusubitoError:
            raise
        except Exception:
            # Forget the links of the failed description: how far it came may depend on the depth of the stack.
            for key in list(self._index)[count:]:
                del self._index[key]
                self._queue.pop()
            del self._names[count:], self._kept[count:]
            self.note_unidentified(name, value)
            return describe_untracked(self, value, name)

    def closure(self) -> ReachableCode:
        """Return the result of this walk."""
        reached = {name: tuple(classes) for name, classes in self.reached.items()}
        annotated = annotated_classes(self.function, self.owner, list(itertools.chain(*reached.values())))
        untracked, state = tuple(sorted(self._untracked)), tuple(sorted(self._state))
        parts = tuple(self._parts.values())
        words = frozenset(
            self._words.union(
                *(text_of(function).words for function in self._functions),
                *map(fields_declared, itertools.chain(*reached.values())),
            )
        )
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
            tuple(sorted(self.unreadable)),
            self._unsettled,
            unrepeatable_in(self._kept, self._edges, self._holders, self._asks),
            paths_named(self._functions, self._texts, {name.partition(".")[0] for name in self.modules}, words),
            words,
        )

    def _note_package(self, value: Any) -> None:
        if type(value) is ReportingFunction:
            value = value.original
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
    def _number(self) -> int:
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
        if is_atom(value):
            if value is None or value is True or value is False:
                return CONSTANTS[value]
            self._texts.append(value)
            return b"a" + sha256(tokens(portable(value))).digest()
        if isinstance(value, PurePath) and (counted := portable(value)) is not value:
            self._texts.append(value)
            return b"a" + sha256(tokens(*counted)).digest()
        if (shared := shared_by_all(value)) is not None:
            self.unseen.add(f"{name}: {shared}")
            return b"n" + sha256(tokens(shared)).digest()
        if type(value) is FunctionType:
            value = self.original(value)
        self.note_link(value)
        if is_module_globals(value) and self.limits.is_open(value, foreign=True):
            # An object of another package looks up names in the globals of a module: not all of the globals count.
            return b"n" + sha256(tokens(canonical_module(str(value.get("__name__"))))).digest()
        if self.is_unsettled(value):
            self.guard.same(partial(is_unsettled, value), True)
            self._unsettled[name] = value
            return b"n" + sha256(tokens("unsettled", *counted_name(type(value)))).digest()
        if (data := plain(self, value, name)) is not None:
            self._texts.append(value)
            return b"p" + sha256(data).digest()
        if isinstance(value, PurePath):
            self._texts.append(value)
        if whole:
            note_whole(self, value)
        self._note_shown(value, shown=shown)
        key = id(value), member
        number = self._index.get(key)
        if self.live and runs and id(value) not in self.facts.running:
            self.facts.running[id(value)] = value
            self.facts.late += number is not None and number < self._number
        if number is None:
            number = self._index[key] = len(self._index)
            self._kept.append(value)
            self._names.append(name)
            self._queue.append(_Waiting(value, name, member))
        return b"r%d" % number

    def _note_shown(self, value: Any, *, shown: bool) -> None:
        """Note whether a thing is reached to be shown, or in another way."""
        holder = self.at
        is_offered = shown or (
            isinstance(holder, HOLDERS) and id(holder) in self.facts.offered and self.is_shown(holder)
        )
        # Objects that display what they hold may hold functions to run them.
        if is_offered or (not isinstance(value, FunctionType) and self._displays(self.at)):
            if may_be_shown(value):
                self.facts.showings.show(value)
            if is_offered and isinstance(value, HOLDERS):
                self.facts.offered.add(id(value), value)
        else:
            self.facts.showings.use(value)

    def note_link(self, value: Any) -> None:
        self.limits.below(value, self.at)
        if self.is_within_client() and not isinstance(value, (FunctionType, ModuleType, type)):
            self._clients[id(value)] = value

    def enters(self, container: Any) -> bool:
        _, is_large = self.not_counting[id(container)]
        if is_large or id(container) in self._entered:
            return False
        self._entered[id(container)] = container
        return True

    def note_client(self, value: Any) -> None:
        self._clients[id(value)] = value

    def is_within_client(self) -> bool:
        return id(self.at) in self._clients

    def original(self, value: Any, reader: FunctionType | None = None, name: str = "") -> Any:
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
        if isinstance(holder, FunctionType):
            return displays(module_of(holder))
        return objects_display(module_name(type(holder)))

    def constant(self, value: Any, name: str, *, runs: bool = True, whole: bool = True, shown: bool = False) -> bytes:
        reference = self.link(value, self.part_name(value, name), runs=runs, whole=whole, shown=shown)
        if not reference.startswith(b"r"):
            self._words.update(words_in(value))
            text = storable(constant_text(name, value))
            self._parts.setdefault(name, CodePart(name, sha256(reference).digest(), text))
        return reference

    def links(self, pairs: Iterable[tuple[Any, Any]], name: str) -> list[tuple[str, bytes]]:
        return [(str(label), self.link(each, self.part_name(each, f"{name}.{label}"))) for label, each in pairs]

    def part_name(self, value: Any, name: str) -> str:
        if isinstance(value, ModuleType):
            return canonical_module(value.__name__)
        return thing_name(value) if isinstance(value, FunctionType | type) else name

    def namespace(self, names: dict[str, Any]) -> Namespace:
        return self._namespaces.setdefault(id(names), Namespace(names))

    def emptied(self, container: Any) -> Emptied:
        return self._emptied.setdefault(id(container), Emptied(builtin_base(type(container)).__name__))

    def note_untracked(self, name: str, value: Any) -> None:
        self._untracked.add(f"{name}: {module_name(type(value))}.{type(value).__qualname__}")

    def note_unidentified(self, name: str, value: Any) -> None:
        self.note_untracked(name, value)
        self._unidentified.add(f"{name}: {module_name(type(value))}.{type(value).__qualname__}")

    def note_missing(self, module: str, error: BaseException) -> None:
        self._untracked.add(f"{module}: cannot be imported ({type(error).__name__})")

    def is_unsettled(self, value: Any) -> bool:
        # The digest of a walk within another one must tell what it walks.
        return self.outermost and not self.whole and is_unsettled(value)

    def is_shown(self, value: Any) -> bool:
        return self.facts.showings.only_show(value)

    def note_state(self, name: str) -> None:
        self._state.add(name)

    def note_call(self, value: Any) -> None:
        made = value.__mro__ if isinstance(value, type) else ()
        for classes, known in ((type(value).__mro__, self.facts.called), (made, self.facts.made)):
            for base in classes:
                if self.origins.of_class(base) is Owner.USER:
                    known.add(id(base), base)

    def note_request(self, kind: str, what: str) -> None:
        self._asks.append((self._number, Unrepeatable(kind, what)))

    # -- records -------------------------------------------------------------------------------------------------------

    def _record(self, name: str, description: GraphRecord, text: str | None, *, is_function: bool) -> None:
        own, whole = [description.own], [description.own]
        if self.live and not issubclass(type(self._kept[self._number]), CODE):
            self._holders[self._number] = name
        edges: list[int] = []
        for label, reference in description.links:
            whole.append(tokens(label, reference))
            if reference.startswith(b"r"):
                edges.append(number := int(reference[1:]))
                if is_showing_method(label.rpartition(".")[2]) and isinstance(self._kept[number], FUNCTIONS):
                    self.facts.looks.add(SHOWING)
                own.append(tokens(label, self._names[number]))
            else:
                own.append(whole[-1])
        self._edges.append(edges)
        self._digest.update(sha256(b"".join(whole)).digest())
        if description.named:
            return
        part, count = name, 2
        while part in self._parts:
            part, count = f"{name}#{count}", count + 1
        self._parts[part] = CodePart(part, sha256(b"".join(own)).digest(), storable(text), is_function)


def may_be_shown(value: Any) -> bool:
    """Return whether a function or an object shows something, or a container, which may hold such things."""
    if isinstance(value, (*HOLDERS, FunctionType)):
        return True
    kind = policy_of(value)
    return kind is not None and kind.shows is not None


def thing_name(value: Any) -> str:
    """Return the name of a function, a class or an object's class: its module and its qualified name."""
    # An object that cannot be called has no name of its own; asking for one may run code of its class.
    if issubclass(type(value), type):
        return f"{module_name(value)}.{qualified_name(value)[1]}"
    qualname = (getattr(value, "__qualname__", None) if callable(value) else None) or type(value).__qualname__
    module = module_of(value) if isinstance(value, FunctionType) else module_name(value)
    return f"{module}.{qualname}"
