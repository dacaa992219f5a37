"""Walk all that a step's function names in the user's own files, and what that names.

Everything that is reached becomes a part: a name that is stable and meant for people, a digest, and a text. The digest
of the code is that of its parts, sorted by name. A worklist takes functions, classes and values; each is described
once, and cycles end because a part is known by its name. As the walk reads, it notes in a `Guard` the conditions under
which the digest stays true.

Members of classes and fields of objects count if the reached code mentions their names. When new code is reached, the
members that wait for one of its names are taken in.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Collection
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any, Final

from musubito.code.classes import is_schema
from musubito.code.guard import Guard
from musubito.code.live import fields_of, step_of
from musubito.code.made import BY_LINES, Lines
from musubito.code.own_values import OwnValues
from musubito.code.ownership import Owner, counted_name, home_of, module_name, module_of, owners_seen_from
from musubito.code.part_graph import PartGraph
from musubito.code.parts import CodePart
from musubito.code.reach_classes import ClassDescriber
from musubito.code.reach_functions import FunctionDescriber
from musubito.code.reach_lines import LinesReached
from musubito.code.reach_names import NameFollower
from musubito.code.reached import Binding, parts_of_values
from musubito.code.state import by_name_alone, without_state
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.name_usage import ANNOTATION_READERS, SOURCE_READERS
from musubito.code.values import Encoder
from musubito.locks import cached_property
from musubito.values.class_names import canonical_module, qualified_name

ANY_NAME: Final = frozenset({"*"})
"""Stands for code that may call any method of an object that it is given."""
READERS: Final = ANNOTATION_READERS | SOURCE_READERS
"""Functions by which code reads the annotations or the text of other code."""
RECOVERS: Final = re.compile("fallback|retry|suppress", re.IGNORECASE)
"""Pattern of the names of packages' classes and functions that try again, or do something else, after a failure."""
IN_C: Final = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)
"""Types of functions that are not written in Python."""


class Walk:
    """One walk over all that a function reaches."""

    def __init__(
        self,
        function: Callable[..., Any],
        owner: type | None = None,
        module: str | None = None,
        state: Collection[str] = (),
        unwatched: Collection[str] = (),
        mentioned: Collection[str] | None = None,
        own_values: OwnValues | None = None,
        ignored: Collection[str] = (),
    ) -> None:
        """Prepare a walk.

        `function` may also be a class, for code that is given instances and mentions the names in `mentioned`. `owner`
        is the class of the receiver, if `function` is a method. `module`: see `CodeTracker`. `state` are the parts that
        the step changes itself: they count by their names. `unwatched` are parts that the guard leaves out.
        `own_values` are what the step has put into contexts and threads. `ignored` are settings of packages' objects
        that do not count.
        """
        self.function = function
        self.owner = owner
        self.origins = owners_seen_from(home_of(function) if module is None else module)
        self.guard = Guard(unwatched)
        self.state = frozenset(state)
        self.places = frozenset(by_name_alone(state))
        """The names in `state`."""
        self.own_values = OwnValues() if own_values is None else own_values
        self.ignored = frozenset(ignored)
        self._how = module, self.state, unwatched, mentioned, self.own_values, self.ignored
        self._of_instances = mentioned
        # -- what the reached code says
        self.mentioned: set[str] = set(mentioned or ())
        """The names by which the reached code may look something up."""
        self.reads_all_fields = False
        """Whether the reached code may read fields in other ways than by name."""
        self.lists_shown = False
        """Whether the reached code lists fields that are shown, so that their order counts."""
        self.acted: set[str] = set()
        """Names and attributes whose values the reached code may change."""
        self.entered: set[str] = set()
        """Names and attributes of whose values the reached code may change an item."""
        self.stores: set[str] = set()
        """Names and attributes that the reached code binds."""
        # -- what was reached
        self.bindings: dict[tuple[str, int], Binding] = {}
        self.context: dict[str, tuple[Any, Any]] = {}
        """What belongs to a context or a thread: by name, the variable or the object that holds it, and its value."""
        self.steps: set[str] = set()
        self.of_steps: set[str] = set()
        """The names of the functions of the steps that were reached."""
        self.met: list[Any] = []
        """Objects that an adapter knows."""
        self.modules: set[str] = set()
        """The full names of modules of packages that the code names, and of attributes that may be modules."""
        self.never: str | None = None
        """The mock that was reached, so that no result of this code can be replayed."""
        self.not_followed: set[str] = set()
        """One sentence for each thing that cannot be followed."""
        self._by_lines: dict[int, tuple[bool, int, str]] = {}
        """The best sentence on each object, by its id: of an object with several names, one that tells of lines."""
        self._objects: dict[int, str] = {}
        """The names of objects whose fields are parts of their own, by the id of the object."""
        self._entered_modules: set[int] = set()
        # -- who describes it
        self.pending: deque[Callable[[], None]] = deque()
        """What is still to be described."""
        self.graph = PartGraph()
        self.values = Encoder(self)
        self.lines = LinesReached(self)
        self.names = NameFollower(self)
        self.of_functions = FunctionDescriber(self)
        self.of_classes = ClassDescriber(self)
        self.functions, self.classes = self.of_functions.reached, self.of_classes.reached
        self.reach_function, self.reach_class = self.of_functions.reach, self.of_classes.reach
        self.refer_lines = self.lines.refer

    # -- the walk ------------------------------------------------------------------------------------------------------
    def run(self) -> Walk:
        """Walk until all that was reached is described."""
        root = self.function
        if self.owner is not None:
            self.reach_class(self.owner)
        if self._of_instances is not None:
            self.reach_class(root, whole=self._of_instances is ANY_NAME)  # type: ignore[arg-type]
        else:
            # What holds a function, as a node does in LangGraph, is named after the function.
            held = root if isinstance(root, FunctionType | type) else (fields_of(root) or {}).get("func")
            name = thing_name(held if isinstance(held, FunctionType) else root)
            name = name if held is root else f"{name}()"
            # A class is walked for its instances that a call is given: any of its members may be used.
            self.refer(root, name, lambda: None, handed=isinstance(root, type))
        while self.pending or self._encode_due():
            while self.pending:
                self.pending.popleft()()
        self.lines.forget_globals()
        return self

    def again(self) -> Walk:
        """Return a walk of the same, as it is now."""
        return Walk(self.function, self.owner, *self._how).run()

    def _encode_due(self) -> bool:
        """Encode the values that wait for a name that is mentioned by now; return whether more was reached."""
        self.of_classes.take_members()
        if self.reads(ANNOTATION_READERS):
            self.of_functions.show_signatures()
        for binding in list(self.bindings.values()):
            if self._is_due(binding) or (binding.waits_for and self.reads_all_fields):
                self.graph.at = binding.name
                self.values.encode(binding)
        return bool(self.pending) or any(map(self._is_due, self.bindings.values()))

    def _is_due(self, binding: Binding) -> bool:
        return binding.waits_for is None or not binding.waits_for.isdisjoint(self.mentioned)

    def refer(
        self,
        value: Any,
        name: str,
        made: Callable[[], Lines | None],
        *,
        handed: bool = False,
        shown: bool = False,
    ) -> bytes:
        """Return a reference to a value that is bound to a name, and see that the value is described."""
        cls = type(value)
        if (step := step_of(value)) is not None:
            self.guard.attribute(value, "__musubito_step__", step)
            return self._step(step)
        if issubclass(cls, type):
            if self.origins.of_class(value) is Owner.USER:
                return tokens("class", self.reach_class(value, whole=handed, named=True))
            self.note_package(module_name(value), value.__name__)
            if "[" in value.__name__ and (lines := self.lines.of_object(value)) is not None:
                self.refer_lines(f"{module_name(value)}.{value.__name__}", lines)  # `RootModel[list[Item]]`
            return tokens("named", *counted_name(value))
        if issubclass(cls, ModuleType):
            if self.origins.of_module(value) is Owner.USER and id(value) not in self._entered_modules:
                self._entered_modules.add(id(value))
                self.names.refer_all(value.__dict__)
            return tokens("module", canonical_module(value.__name__))
        if cls is FunctionType:
            if self.origins.of_function(value) is Owner.USER:
                return tokens("function", self.reach_function(value, handed=handed, shown=shown))
            self.note_package(module_of(value), value.__name__)
            if value.__name__ in READERS:
                self.mentioned.add(value.__name__)
            if not value.__closure__ and not value.__dict__:
                return tokens("named", module_of(value), value.__code__.co_qualname)
        if issubclass(cls, IN_C) and isinstance(getattr(value, "__self__", None), ModuleType | None):
            return tokens("named", *counted_name(value))
        return self.bind(value, name, made, handed=handed, shown=shown)

    def bind(
        self, value: Any, name: str, made: Callable[[], Lines | None], *, handed: bool = False, shown: bool = False
    ) -> bytes:
        """Return a reference to a value as a part of its own, whatever it is."""
        binding = self.bindings.get((name, id(value)))
        if binding is None:
            binding = self.bindings[name, id(value)] = Binding(name, value, made, shown=shown)
        if (binding.shown and not shown) or (handed and not binding.handed):
            binding.waits_for = None
        binding.shown &= shown
        binding.handed |= handed
        return tokens("value", self.graph.lead_to(name))

    def refer_field(
        self, value: Any, field: str, each: Any, made: Callable[[], Lines | None], around: Binding
    ) -> bytes:
        """Return a reference to a field of an object: a part of its own, which a step may change by itself.

        If the part has the name of the object and the field, nothing else needs to tell that the object has the field,
        unless the code reads fields without their names.
        """
        name = f"{self._objects.setdefault(id(value), around.name)}.{field}"
        outer, self.guard.owner = self.guard.owner, name
        self.values.guard_field(value, field, each)
        self.guard.owner = outer
        reference = self.refer(each, name, made, shown=around.shown)
        binding = self.bindings.get((name, id(each)))
        if binding is not None:
            binding.around = (*around.around, around.made)
            if name == f"{around.name}.{field}" and not self.reads_all_fields:
                return b""
        return tokens(field) + reference

    def _step(self, step: Any) -> bytes:
        self.steps.add(step.name)
        version = step.version()
        if callable(step.operation_version):
            self.guard.same(step.version, version)
        semantics = step.semantics
        own = tokens("step", step.name, version, semantics.ttl_seconds, semantics.runs_each_time, semantics.once_per)
        if semantics.code == "version":
            return own
        own += self.refer(step.function, thing_name(step.function), lambda: None)
        self.of_steps.update(reached.name for reached in [self.functions.get(id(step.function))] if reached)
        return own

    # -- what describers and adapters ask ------------------------------------------------------------------------------
    def mentions(self, names: Collection[str]) -> set[str]:
        """Return those of the names that the reached code mentions. The others may be asked for later."""
        self.values.waits_for.update(names)
        return self.mentioned.intersection(names)

    def reads(self, readers: Collection[str]) -> bool:
        """Return whether the reached code mentions one of these readers."""
        return not self.mentioned.isdisjoint(readers)

    def reads_fields(self) -> bool:
        """Return whether the reached code may read fields in other ways than by name."""
        return self.reads_all_fields

    def is_users(self, value: Any) -> bool:
        """Return whether code that is handed something is walked itself: it is the user's, and keeps no schema."""
        if (step := step_of(value)) is not None:
            return step.semantics.code != "version"  # otherwise its code is not walked
        if issubclass(type(value), type):
            return self.origins.of_class(value) is Owner.USER and not is_schema(value)
        return type(value) is FunctionType and self.origins.of_function(value) is Owner.USER

    def is_whole(self, cls: type) -> bool:
        """Return whether all fields of the instances of a class count."""
        reached = self.classes.get(id(cls))
        return reached is not None and reached.whole

    # -- what is noted besides -----------------------------------------------------------------------------------------
    def note_package(self, module: str, name: str = "") -> None:
        """Note that the code names something of a module of a package."""
        if RECOVERS.search(name):
            self.mentioned.add("except")
        if module and module.partition(".")[0] not in sys.stdlib_module_names:
            self.modules.add(module)

    def note_mock(self, name: str) -> None:
        """Note that the code reaches a mock: no step is replayed that does."""
        self.never = self.never or name

    def note_untracked(self, name: str, value: Any, how: str) -> None:
        """Note that a value counts by the lines that made it, or by its type alone."""
        cls = type(value)
        told = how != BY_LINES, len(name), f"{name}: {module_name(cls)}.{cls.__qualname__}, which counts by {how}"
        self._by_lines[id(value)] = min(told, self._by_lines.get(id(value), told))

    # -- the result ----------------------------------------------------------------------------------------------------
    @cached_property
    def unchanged(self) -> Callable[[], bool]:
        """The check that nothing which was walked has been bound, replaced or changed since."""
        return self.guard.build()

    def untracked(self) -> set[str]:
        """Return one sentence for each thing that does not count by its value, or that cannot be followed."""
        return {*self.not_followed, *(told for *_, told in self._by_lines.values())}

    def of_context(self) -> set[str]:
        """Return the names of context variables, of what belongs to a thread, and of what is reached through these."""
        names = {binding.name for binding in self.bindings.values() if binding.is_of_context}
        return names | self.graph.below(names) if names else names

    def parts(self) -> list[CodePart]:
        """Return the parts that count, sorted by name."""
        return without_state(self, self.every_part(), self.state)

    def every_part(self) -> list[CodePart]:
        """Return all parts, sorted by name: what a run of the step has made may be among them."""
        parts = [*self.graph.fixed.values(), *self.of_functions.parts(), *self.of_classes.parts()]
        parts += parts_of_values(self.bindings.values(), self.state, self.values.text)
        return sorted(parts, key=lambda part: part.name)


def thing_name(value: Any) -> str:
    """Return the name of a function, a class or an object's class: its module and its qualified name."""
    # An object that cannot be called has no name of its own; asking for one may run code of its class.
    if issubclass(type(value), type):
        return f"{module_name(value)}.{qualified_name(value)[1]}"
    qualname = (getattr(value, "__qualname__", None) if callable(value) else None) or type(value).__qualname__
    module = module_of(value) if isinstance(value, FunctionType) else module_name(value)
    return f"{module}.{qualname}"
