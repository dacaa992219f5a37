"""Walk all that a step's function names in the user's own files, and what that names.

Everything that is reached becomes a part: a name that is stable and meant for people, a digest, and a text. The digest
of the code is that of its parts, sorted by name. A worklist takes functions, classes and values; each is described
once, and cycles end because a part is known by its name. As the walk reads, it notes in a `Guard` the conditions under
which the digest stays true.

Members of classes and fields of objects count if the reached code mentions their names. When new code is reached, the
members that wait for one of its names are taken in.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextvars import ContextVar
from hashlib import sha256
from threading import local
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any, Final

from musubito.code.annotations import classes_in
from musubito.code.classes import (
    UNUSED,
    annotations_of,
    class_level,
    class_text,
    functions_below,
    is_generated,
    is_schema,
    overrides,
    shows_docstring,
)
from musubito.code.guard import Guard
from musubito.code.live import ABSENT, ATOMS, contents, step_of
from musubito.code.made import (
    BY_LINES,
    LINES,
    Lines,
    complete,
    lines_around,
    lines_of_global,
    lines_of_variable,
    names_used,
    sent_value,
    were_sent,
)
from musubito.code.own_values import OwnValues
from musubito.code.ownership import Owner, counted_name, home_of, module_name, module_of, owners_seen_from
from musubito.code.parts import CodePart, PartKind
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.names import ANNOTATION_READERS, SOURCE_READERS, NameRead, Root, annotation_nodes
from musubito.code.syntax.occurrences import absolute, resolve
from musubito.code.values import Encoder
from musubito.code.world import environment
from musubito.code.world.lazy_imports import import_user_module, lazy_attribute
from musubito.locks import cached_property
from musubito.values.class_names import (
    canonical_module,
    find_module,
    is_script,
    module_of_class,
    qualified_name,
    script_name,
    was_sent,
)
from musubito.values.redaction import is_secret

PLACES: Final = frozenset({"__file__", "__path__", "__cached__", "__spec__", "__loader__"})
"""Names of a module that say where the module lies: a checkout elsewhere is the same code."""
CONSTRUCTORS: Final = frozenset({"__init__", "__new__", "__post_init__", "__attrs_post_init__"})
"""Methods that run only if the reached code makes instances of the class."""
MAKES: Final = frozenset({"__class__", "replace"})
"""Names by which code makes an instance of a class that it does not name."""
ANY_NAME: Final = frozenset({"*"})
"""Stands for code that may call any method of an object that it is given."""
IN_C: Final = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)
"""Types of functions that are not written in Python."""


class Binding:
    """A value that is bound to a name, and that is no function or class with a name of its own."""

    def __init__(self, name: str, value: Any, made: Callable[[], Lines | None], *, shown: bool) -> None:
        self.name = name
        self.value = value
        self.made = made
        """Returns the lines that made the value."""
        self.around: tuple[Callable[[], Lines | None], ...] = ()
        """Functions that return the lines which made what holds the value, from the outside to the inside."""
        self.shown = shown
        """Whether the value is reached only to be shown."""
        self.handed = False
        """Whether the value is handed to code of a package."""
        self.digest = b""
        self.of_package = False
        """Whether the value is an object of a package, which counts in one part if it has several names."""
        self.fields: set[str] = set()
        """The names of the fields of all objects in the value."""
        self.waits_for: frozenset[str] | None = frozenset()
        """The names of fields that were left out; None before the value was encoded."""


class ReachedFunction:
    """A function of the user's that was reached."""

    def __init__(self, name: str, function: FunctionType) -> None:
        self.name = name
        self.function = function
        self.references: list[bytes] = []
        self.shows_signature = False
        """Whether the function is handed to code that may read its docstring and its annotations."""


class ReachedClass:
    """A class of the user's that was reached."""

    def __init__(self, name: str, cls: type) -> None:
        self.name = name
        self.cls = cls
        self.whole = False
        """Whether all of its members count: the class or an instance is handed to code of a package."""
        self.named: list[type] = []
        """The user's classes that the statement of the class names."""
        self.is_named = False
        """Whether reached code names the class, so that it may make instances of it."""
        self.references: list[bytes] = []
        self.waiting: dict[str, Any] = {}
        """The members that no reached code mentions, by name."""


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
        rebinds: Collection[str] = (),
    ) -> None:
        """Prepare a walk.

        `function` may also be a class, for code that is given instances and mentions the names in `mentioned`. `owner`
        is the class of the receiver, if `function` is a method. `module`: see `CodeTracker`. `state` are the parts that
        the step changes itself: they count by their names. `unwatched` are parts that the guard leaves out.
        `own_values` are what the step has put into contexts and threads, `rebinds` the variables that its code is known
        to bind anew.
        """
        self.function = function
        self.owner = owner
        self.module = home_of(function) if module is None else module
        self.origins = owners_seen_from(self.module)
        self.guard = Guard(unwatched)
        self.state = frozenset(state)
        self.mentioned: set[str] = set(mentioned or ())
        self._of_instances = mentioned
        self._unwatched = unwatched
        self._known_to_rebind = frozenset(rebinds)
        self._rebinds = set(rebinds)
        """Variables that the reached code binds anew."""
        self._followed: set[str] = set()
        """Variables that were followed to a thing with a name of its own."""
        self.own_values = OwnValues() if own_values is None else own_values
        self.context: dict[str, tuple[Any, Any]] = {}
        """What belongs to a context or a thread: by name, the variable or the object that holds it, and its value."""
        self.acted: set[str] = set()
        """Names and attributes whose values the reached code may change."""
        self.entered: set[str] = set()
        """Names and attributes of whose values the reached code may change an item."""
        self.stores: set[str] = set()
        """Names and attributes that the reached code binds."""
        self.functions: dict[int, ReachedFunction] = {}
        self.classes: dict[int, ReachedClass] = {}
        self.reached: dict[tuple[str, str], list[type]] = {}
        """The user's classes, by module and qualified name."""
        self.bindings: dict[tuple[str, int], Binding] = {}
        self.steps: set[str] = set()
        self.of_steps: set[str] = set()
        """The names of the functions of the steps that were reached."""
        self.edges: dict[str, set[str]] = {}
        """The names of the parts that each part leads to."""
        self.met: list[Any] = []
        """Objects that an adapter knows."""
        self.modules: set[str] = set()
        """The full names of modules of packages that the code names, and of attributes that may be modules."""
        self._not_followed: set[str] = set()
        self._objects_untracked: dict[int, tuple[bool, int, str]] = {}
        """The best sentence on each object, by its id: of an object with several names, one that tells of lines."""
        self.never: str | None = None
        """The reason why no result of this code can be replayed."""
        self.values = Encoder(self)
        self._objects: dict[int, str] = {}
        """The names of objects whose fields are parts of their own, by the id of the object."""
        self._names: dict[str, int] = {}
        """How many things were met under each name."""
        self._pending: deque[Callable[[], None]] = deque()
        self._fixed: dict[str, CodePart] = {}
        self._at = ""
        """The name of the part that is being described."""
        self._shown: set[int] = set()
        self._used: set[int] = set()
        """The ids of values that are reached to be shown, and of those that are reached in another way."""
        self._lines: set[str] = set()
        self._sent: list[Lines] = []
        self.reads_all_fields = False
        self.lists_shown = False
        self._docs = False
        self._annotations = False
        self._source = False

    # -- what describers and adapters ask ------------------------------------------------------------------------------
    def mentions(self, names: Collection[str]) -> set[str]:
        """Return those of the names that the reached code mentions. The others may be asked for later."""
        self.values.waits_for.update(names)
        return self.mentioned.intersection(names)

    def reads_fields(self) -> bool:
        """Return whether the reached code may read fields in other ways than by name."""
        return self.reads_all_fields

    def note_untracked(self, name: str, value: Any, how: str) -> None:
        """Note that a value counts by the lines that made it, or by its type alone."""
        cls = type(value)
        told = how != BY_LINES, len(name), f"{name}: {module_name(cls)}.{cls.__qualname__}, which counts by {how}"
        self._objects_untracked[id(value)] = min(told, self._objects_untracked.get(id(value), told))

    def untracked(self) -> set[str]:
        """Return one sentence for each thing that does not count by its value, or that cannot be followed."""
        return {*self._not_followed, *(told for *_, told in self._objects_untracked.values())}

    # -- the walk ------------------------------------------------------------------------------------------------------
    def run(self) -> Walk:
        """Walk until all that was reached is described."""
        root = self.function
        if self.owner is not None:
            self.reach_class(self.owner)
        name = thing_name(root)
        if self._of_instances is not None:
            self.reach_class(root, whole=self._of_instances is ANY_NAME)  # type: ignore[arg-type]
        else:
            name = name if isinstance(root, FunctionType | type) else f"{name}()"
            # A class is walked for its instances that a call is given: any of its members may be used.
            self.refer(root, name, lambda: None, handed=isinstance(root, type))
        while self._pending or self._encode_due():
            while self._pending:
                self._pending.popleft()()
        if not self._known_to_rebind.issuperset(self._followed & self._rebinds):  # some were followed too early
            how = self.state, self._unwatched, self._of_instances, self.own_values, self._rebinds
            return Walk(self.function, self.owner, self.module, *how).run()
        return self

    def _encode_due(self) -> bool:
        """Encode the values that wait for a name that is mentioned by now; return whether more was reached."""
        for reached in list(self.classes.values()):
            self._take_members(reached)
        for function in list(self.functions.values()) if self._annotations else ():
            self._show_signature(function)
        for binding in list(self.bindings.values()):
            waits = binding.waits_for
            if waits is None or not waits.isdisjoint(self.mentioned) or (waits and self.reads_all_fields):
                self._at = binding.name
                self.values.encode(binding)
        return bool(self._pending) or any(binding.waits_for is None for binding in self.bindings.values())

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
            self.note_package(module_name(value))
            return tokens("named", *counted_name(value))
        if issubclass(cls, ModuleType):
            if self.origins.of_module(value) is Owner.USER and id(value) not in self._used:
                self._used.add(id(value))
                self._refer_all(value.__dict__)
            return tokens("module", canonical_module(value.__name__))
        if cls is FunctionType:
            if self.origins.of_function(value) is Owner.USER:
                return tokens("function", self._reach_function(value, handed=handed, shown=shown))
            self.note_package(module_of(value))
            self._annotations |= value.__name__ in ANNOTATION_READERS
            self._source |= value.__name__ in SOURCE_READERS
            if not value.__closure__ and not value.__dict__:
                return tokens("named", module_of(value), value.__code__.co_qualname)
        if issubclass(cls, IN_C) and isinstance(getattr(value, "__self__", None), ModuleType | None):
            return tokens("named", *counted_name(value))
        return tokens("value", self._bind(value, name, made, handed=handed, shown=shown))

    def _bind(
        self, value: Any, name: str, made: Callable[[], Lines | None], *, handed: bool = False, shown: bool = False
    ) -> str:
        self.edges.setdefault(self._at, set()).add(name)
        binding = self.bindings.get((name, id(value)))
        if binding is None:
            binding = self.bindings[name, id(value)] = Binding(name, value, made, shown=shown)
            binding.waits_for = None
        if (binding.shown and not shown) or (handed and not binding.handed):
            binding.waits_for = None
        binding.shown &= shown
        binding.handed |= handed
        return name

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

    def fix(self, name: str, digest: bytes, text: str | None = None, kind: PartKind = PartKind.CODE) -> str:
        """Add a part whose digest is known, and return its name."""
        self._fixed.setdefault(name, CodePart(name, digest, text, kind))
        self.edges.setdefault(self._at, set()).add(name)
        return name

    def note_package(self, module: str) -> None:
        """Note that the code names something of a module of a package."""
        if module and module.partition(".")[0] not in sys.stdlib_module_names:
            self.modules.add(module)

    def _unique(self, name: str) -> str:
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    # -- functions -----------------------------------------------------------------------------------------------------
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

    def _reach_function(self, function: FunctionType, *, handed: bool = False, shown: bool = False) -> str:
        reached = self.functions.get(id(function))
        if reached is None:
            if (mock := function.__dict__.get("mock")) is not None and is_mock(mock):
                self.note_mock(function.__qualname__)
            reached = _same_function(self.functions, function)
        if reached is None:
            name = self._unique(f"{module_of(function)}.{function.__code__.co_qualname}")
            reached = self.functions[id(function)] = ReachedFunction(name, function)
            if shown:
                self._shown.add(id(function))
                self._pending.append(functools.partial(self._show_signature, reached))
            else:
                self._use(function, reached)
        elif not shown and id(function) in self._shown and id(function) not in self._used:
            self._use(function, reached)
        if handed and not reached.shows_signature:
            self._pending.append(functools.partial(self._show_signature, reached))
        self.edges.setdefault(self._at, set()).add(reached.name)
        return reached.name

    def _use(self, function: FunctionType, reached: ReachedFunction) -> None:
        self._used.add(id(function))
        self._pending.append(functools.partial(self._describe_function, reached))

    def _show_signature(self, reached: ReachedFunction) -> None:
        """Let the docstring and the annotations of a function count: others may read them."""
        if reached.shows_signature:
            return
        reached.shows_signature = True
        self._at, function = reached.name, reached.function
        self.guard.attribute(function, "__doc__", function.__doc__)
        self._refer_defaults(reached)
        source = text_of(function).source
        if source is not None and hasattr(source.node, "returns"):
            for node in annotation_nodes(source.node):  # type: ignore[arg-type]
                reached.references += self._refer_names(names_used(node), function.__globals__)
        for name, annotation in annotations_of(function).items():
            if not isinstance(annotation, str):
                reached.references.append(tokens(name, "annotation") + self.values.of_type(annotation))

    def _describe_function(self, reached: ReachedFunction) -> None:
        function, name = reached.function, reached.name
        self._at = name
        self.guard.attribute(function, "__code__", function.__code__)
        text = text_of(function)
        usage = text.scan
        self._mention(usage.mentions)
        self.acted |= usage.acted
        self.entered |= usage.entered
        self.stores |= usage.stores
        self._rebinds |= usage.rebinds
        self.reads_all_fields |= usage.reads_fields
        self.lists_shown |= usage.lists_shown
        self._docs |= usage.reads_docs
        self._annotations |= usage.reads_annotations
        self._source |= usage.reads_source
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
        handed = self._handed(function, usage.handed)
        for read in self._handed(function, usage.made):
            made = resolve(function, read)
            if made.rest or not issubclass(type(made.value), type):
                continue
            if self.origins.of_class(made.value) is Owner.USER:
                self.reach_class(made.value, whole=True)
        references = reached.references
        for read in sorted(usage.reads, key=lambda read: (read.root.value, read.name, read.attributes)):
            label = tokens(".".join((read.name, *read.attributes)))
            is_handed, shown = read in handed, read.name in usage.shown
            match read.root:
                case Root.GLOBAL:
                    if read.name not in PLACES:
                        found = self._follow_global(function.__globals__, read.name, read.attributes, is_handed, shown)
                        references.append(label + found)
                case Root.CLOSURE:
                    references.append(label + self._follow_cell(reached, cells, read, is_handed, shown))
                case Root.IMPORT:
                    references.append(label + self._follow_import(function, read, is_handed, shown))
                case _:
                    pass  # members of the receiver's class count because they are mentioned
        if usage.dynamic:
            self._refer_all(function.__globals__)
        for read in usage.computed:
            value = resolve(function, read).value
            if isinstance(value, ModuleType) and self.origins.of_module(value) is Owner.USER:
                self._refer_all(value.__dict__)
        self._refer_environment(name, *environment.variables_read(function, text))
        self._refer_defaults(reached)
        self._refer_fields(reached)

    def _handed(self, function: FunctionType, pairs: Iterable[tuple[NameRead, NameRead | None]]) -> set[NameRead]:
        """Return the reads whose values the function hands to code of packages, or to code without a name."""
        result: set[NameRead] = set()
        for read, callee in pairs:
            if callee is not None and callee.root not in (Root.RECEIVER, Root.SUPER):
                called = resolve(function, callee)
                if not called.rest and self._is_users(called.value):
                    continue
            elif callee is not None:
                continue
            result.add(read)
            end, rest = resolve(function, read)
            for attribute in rest:
                end = inspect.getattr_static(end, attribute, ABSENT)
            # Of a property the value is handed on, and not its function.
            is_code = functions_below(end) and not isinstance(end, property | functools.cached_property)
            if rest and (isinstance(end, dict | list | tuple | set) or is_code):
                self.values.hand_on(end)
            if read.root is Root.RECEIVER and not read.attributes:
                self._hand_on_receiver(function)
        return result

    def _is_of_package(self, value: Any, package: str) -> bool:
        is_named = isinstance(value, FunctionType | type) and not self._is_users(value)
        return is_named and module_name(value).partition(".")[0] == package

    def _is_users(self, value: Any) -> bool:
        if (step := step_of(value)) is not None:
            return step.semantics.code != "version"  # otherwise its code is not walked
        if issubclass(type(value), type):
            return self.origins.of_class(value) is Owner.USER and not is_schema(value)
        return type(value) is FunctionType and self.origins.of_function(value) is Owner.USER

    def _hand_on_receiver(self, function: FunctionType) -> None:
        """Let all members and fields count of the classes whose methods hand their receiver on."""
        place = function.__code__.co_qualname.rpartition(".")[0]
        for reached in list(self.classes.values()):
            if any(base.__qualname__ == place for base in reached.cls.__mro__):
                self._hand_on_class(reached)
        self.values.handed_places.add(place)

    def _refer_defaults(self, reached: ReachedFunction) -> None:
        function = reached.function
        self.guard.attribute(function, "__defaults__", function.__defaults__)
        self.guard.attribute(function, "__kwdefaults__", function.__kwdefaults__)
        for label, value in [*enumerate(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]:
            name = f"{reached.name}(default {label})"
            made = functools.partial(self._lines_of_object, value)
            reached.references.append(tokens(str(label)) + self.refer(value, name, made))

    def _refer_fields(self, reached: ReachedFunction) -> None:
        """Refer to the attributes that were set on a function, and to what it wraps."""
        fields = reached.function.__dict__
        self.guard.attribute(reached.function, "__dict__", fields)
        wrapped = fields.get("__wrapped__")
        copied = wrapped.__dict__.keys() if type(wrapped) is FunctionType and not self._is_users(wrapped) else ()
        for field in sorted(fields):
            value = fields[field]
            if field.startswith("__musubito") or (field in copied and field != "__wrapped__"):
                continue
            self.guard.item(fields, field, value)
            made = functools.partial(self._lines_of_object, value)
            reached.references.append(tokens(field) + self.refer(value, f"{reached.name}.{field}", made))

    # -- names ---------------------------------------------------------------------------------------------------------
    def _mention(self, names: Iterable[str]) -> None:
        self.mentioned.update(names)

    def _follow_global(
        self, names: dict[str, Any], name: str, attributes: tuple[str, ...], handed: bool, shown: bool
    ) -> bytes:
        complete(names, name)
        value = names.get(name, ABSENT)
        full = f"{canonical_module(str(names.get('__name__')))}.{name}"
        if value is not ABSENT:
            self.guard.item(names, name, value, full)
            if self._is_bound_late(name, value):
                made = functools.partial(self._lines_of_global, names, name, value)
                return tokens("value", self._bind(value, full, made))
            return self._follow(value, attributes, names, name, full, handed, shown)
        self.guard.absent(names, name)
        if (sent := self._refer_sent(names, name)) is not None:
            return sent
        builtins = names.get("__builtins__", {})
        builtins = vars(builtins) if isinstance(builtins, ModuleType) else builtins
        value = builtins.get(name, ABSENT)
        if value is ABSENT:
            self.guard.absent(builtins, name)
            return b"unbound"
        self.guard.item(builtins, name, value)
        return self._follow(value, attributes, builtins, name, f"builtins.{name}", handed, shown)

    def _is_bound_late(self, name: str, value: Any) -> bool:
        """Return whether the reached code binds this name itself, to a thing that otherwise counts by its own name."""
        kind = type(value)
        if not issubclass(kind, FunctionType | type | ModuleType):
            return False
        if issubclass(kind, ModuleType) and self.origins.of_module(value) is Owner.USER:
            return False
        self._followed.add(name)
        return name in self._rebinds

    def _follow(
        self,
        value: Any,
        attributes: tuple[str, ...],
        names: dict[str, Any],
        bound: str,
        name: str,
        handed: bool,
        shown: bool,
    ) -> bytes:
        """Refer to the end of a chain of attributes through modules. `names` holds the first value as `bound`."""
        rest, home = list(attributes), names
        while rest and isinstance(value, ModuleType):
            names, bound = value.__dict__, rest.pop(0)
            is_users = self.origins.of_module(value) is Owner.USER
            if not is_users:
                self.note_package(value.__name__ if bound in names else f"{value.__name__}.{bound}")
            name = f"{canonical_module(value.__name__)}.{bound}"
            if bound in PLACES or bound == "__dict__":
                if bound == "__dict__" and is_users:
                    self._refer_all(names)
                return tokens("place", name)
            member = names.get(bound, ABSENT)
            if member is ABSENT:
                self.guard.absent(names, bound)
                member = lazy_attribute(self.origins, self.guard, value, bound) if is_users else ABSENT
                if member is ABSENT:
                    return tokens("unbound" if is_users else "named", ".".join((name, *rest)))
            elif not is_users and "__getattr__" in names and self._is_of_package(member, name.partition(".")[0]):
                # This module makes its names on demand: it does not count whether this name was made yet.
                return tokens("named", ".".join((name, *rest)))
            if member is not ABSENT and bound in names:
                self.guard.item(names, bound, member, name)
            value = member
        if value is sys.modules:
            self._refer_all(home)  # most code that reads the table looks for its own module
            return tokens("modules")
        if environment.is_environment(value) and value is not None:
            return tokens("environment")
        if isinstance(value, FunctionType) and rest and self.origins.of_function(value) is Owner.USER:
            handed = False
        made = functools.partial(self._lines_of_global, names, bound, value)
        return self.refer(value, name, made, handed=handed and not rest, shown=shown)

    def _follow_cell(
        self, reached: ReachedFunction, cells: dict[str, Any], read: NameRead, handed: bool, shown: bool
    ) -> bytes:
        cell = cells.get(read.name)
        value = contents(cell)
        name = f"{reached.name}[{read.name}]"
        if value is ABSENT:
            self.guard.same(lambda: contents(cell) is ABSENT, True)
            return b"unbound"
        self.guard.attribute(cell, "cell_contents", value, name)
        made = functools.partial(self._lines_of_cell, reached.function, read.name, value)
        if self._is_bound_late(read.name, value):
            return tokens("value", self._bind(value, name, made))
        if isinstance(value, ModuleType):
            return self._follow(value, read.attributes, {read.name: value}, read.name, name, handed, shown)
        return self.refer(value, name, made, handed=handed and not read.attributes, shown=shown)

    def _follow_import(self, function: FunctionType, read: NameRead, handed: bool, shown: bool) -> bytes:
        """Refer to a module that a function imports itself, and to the names that it takes from the module.

        Another package counts by its name alone, whether it is imported yet or not.
        """
        module = absolute(read.name, function)
        full = ".".join((module, *read.attributes))
        value: Any
        value, failed = import_user_module(self.origins, self.guard, module)
        if failed:
            self._not_followed.add(f"{module}: cannot be imported ({failed})")
        if value is not None and self.origins.of_module(value) is Owner.USER:
            self.guard.item(sys.modules, module, value)
            return self._follow(value, read.attributes, {}, module, full, handed, shown)
        self.note_package(module)
        for attribute in read.attributes:
            if not isinstance(value, ModuleType):
                break
            self.note_package(value.__name__ if attribute in value.__dict__ else f"{value.__name__}.{attribute}")
            member = value.__dict__.get(attribute, ABSENT)
            if member is ABSENT:
                return tokens("named", full)
            self.guard.item(value.__dict__, attribute, member)
            value = member
        is_patched = type(value) is FunctionType and self.origins.of_function(value) is Owner.USER
        if is_patched or is_mock(value):
            return self.refer(value, full, lambda: None, handed=handed)
        return tokens("named", full)

    def _refer_all(self, names: dict[str, Any]) -> None:
        """Refer to all names of a module: code gets at them in other ways than by naming them."""
        module = canonical_module(str(names.get("__name__")))
        self.guard.within(names, names)
        for name in sorted(name for name in names if not (name.startswith("__") and name.endswith("__"))):
            if isinstance(names[name], ModuleType):
                continue
            self.fix(f"{module}.{name} (named)", sha256(self._follow_global(names, name, (), True, False)).digest())

    def _refer_names(self, reads: Iterable[tuple[str, tuple[str, ...]]], names: dict[str, Any]) -> list[bytes]:
        """Refer to the names that lines of a module use."""
        references = []
        for name, attributes in sorted(set(reads)):
            self._mention(attributes)
            complete(names, name)
            if name in PLACES:
                continue
            is_here = name in names
            found = (
                self._follow_global(names, name, attributes, False, False) if is_here else self._refer_sent(names, name)
            )
            if found is not None:
                references.append(tokens(".".join((name, *attributes))) + found)
        return references

    def _refer_sent(self, names: dict[str, Any], name: str) -> bytes | None:
        """Refer to a global that code was sent without, as it counts where the code comes from."""
        digest, below, lines = sent_value(names, name)
        name = f"{canonical_module(str(names.get('__name__')))}.{name}"
        if lines is not None:
            self.refer_lines(name, lines)
        if not digest:
            return None if lines is None else tokens("lines", name)
        if name not in self._fixed:
            self.fix(name, digest, kind=PartKind.VALUE)
            self._refer_names([(each, ()) for each in below], names)
        return tokens("value", name)

    def _refer_environment(self, name: str, read: Collection[str | None], written: Collection[str | None]) -> None:
        if None in read:
            self._not_followed.add(f"{name}: the environment, by a name that is computed or as a whole")
        self.acted.update(f"environment {each}" for each in written)
        for variable in sorted(filter(None, read)):
            if not is_secret(variable):
                part = f"environment {variable}"
                if part not in self.state:
                    environment.guard_variable(self.guard, variable)
                    digest = tokens("environment", environment.digest_of(variable))
                    self.fix(part, sha256(digest).digest(), kind=PartKind.VALUE)

    # -- the lines that made an object ---------------------------------------------------------------------------------
    def _lines_of_global(self, names: dict[str, Any], name: str, value: Any) -> Lines | None:
        lines = lines_of_global(names, name)
        if lines is not None and lines.only_import():
            return self._lines_of_object(value) or lines
        return lines

    def _lines_of_cell(self, function: FunctionType, variable: str, value: Any) -> Lines | None:
        lines = lines_of_variable(function, variable)
        if lines is None or (variable in lines.parameters and not lines.made):
            return self._lines_of_object(value)
        return lines

    def _lines_of_object(self, value: Any) -> Lines | None:
        """Return the lines of a global of the user's that is this very object."""
        for module in self.origins.modules():
            for name, each in list(vars(module).items()):
                if each is value:
                    lines = lines_of_global(vars(module), name)
                    if lines is not None and not lines.only_import():
                        return lines
        return None

    def refer_lines(self, name: str, lines: Lines) -> None:
        """Let lines count that made an object, and all that they name."""
        if name in self._lines:
            return
        self._lines.add(name)
        self._sent.append(lines)
        at, self._at = self._at, name
        self._refer_environment(
            name,
            {
                v
                for made in lines.made
                for node in (*made.around, made.node)
                for v in environment.variables_in_lines(node)
            },
            (),
        )
        references = self._refer_names(lines.reads(), lines.names)
        self._at = at
        digest = sha256(b"".join([lines.normal(), *references])).digest()
        self.fix(name + LINES, digest, lines.text(), PartKind.VALUE)

    # -- classes -------------------------------------------------------------------------------------------------------
    def reach_class(self, cls: type, *, whole: bool = False, named: bool = False) -> str:
        """Let a class of the user's count, and return the name of its part."""
        reached = self.classes.get(id(cls))
        if reached is None:
            alike = self.reached.setdefault(qualified_name(cls), [])
            alike.append(cls)
            name = self._unique(f"{module_name(cls)}.{qualified_name(cls)[1]}")
            reached = self.classes[id(cls)] = ReachedClass(name, cls)
            self._pending.append(functools.partial(self._describe_class, reached))
        whole = whole or bool(self.values.handed_places.intersection(base.__qualname__ for base in cls.__mro__))
        if whole:
            self._hand_on_class(reached)
        if named and not reached.is_named:
            reached.is_named = True
            for base in cls.__mro__[1:]:
                if self.origins.of_class(base) is Owner.USER:
                    self.reach_class(base, named=True)
        self.edges.setdefault(self._at, set()).add(reached.name)
        return reached.name

    def _hand_on_class(self, reached: ReachedClass) -> None:
        if not reached.whole:
            reached.whole = True
            self.values.forget(reached.cls)
            for other in (*reached.cls.__mro__[1:], *reached.named):
                if self.origins.of_class(other) is Owner.USER:
                    self.reach_class(other, whole=True)

    def is_whole(self, cls: type) -> bool:
        """Return whether all fields of the instances of a class count."""
        reached = self.classes.get(id(cls))
        return reached is not None and reached.whole

    def _describe_class(self, reached: ReachedClass) -> None:
        cls, members = reached.cls, vars(reached.cls)
        self._at = reached.name
        self.guard.attribute(cls, "__bases__", cls.__bases__)
        text = class_text(cls)
        names = self._names_around(cls)
        if were_sent(names):
            fields = annotations_of(cls).values()
            for other in (*cls.__mro__, *itertools.chain.from_iterable(classes_in(each, names, {}) for each in fields)):
                if other.__module__ == cls.__module__:
                    names.setdefault(other.__name__, other)
        for base in (*cls.__bases__, *([type(cls)] if type(cls) is not type else [])):
            if self.origins.of_class(base) is Owner.USER:
                reached.references.append(tokens("base", self.reach_class(base, whole=reached.whole)))
            else:
                self.note_package(module_name(base))
                reached.references.append(tokens("base", *counted_name(base)))
        if text is not None:
            reads = [read for node in class_level(text) for read in names_used(node)]
            named = [read for read in reads if read[0] not in members]
            reached.references += self._refer_names(named, names)
            self._mention(read[0] for read in reads if read[0] in members)
            values = [resolve_chain(names, *read) for read in named] if is_schema(cls) else []
            reached.named = [value for value in values if isinstance(value, type) and value is not cls]
            for other in reached.named if reached.whole else ():
                if self.origins.of_class(other) is Owner.USER:
                    self.reach_class(other, whole=True)
            local = {name for name, _ in named if name not in names}
            if (lines := lines_around(text.file, text.node, local, names)) is not None:
                self.refer_lines(reached.name, lines)
        else:
            for name, annotation in sorted(annotations_of(cls).items()):
                shown = annotation if isinstance(annotation, str) else self.values.of_type(annotation)
                reached.references.append(tokens(name, shown))
        if environment.is_settings(cls):
            variables, unseen = environment.settings_variables(cls)
            self._refer_environment(reached.name, variables, ())
            if unseen:
                self._not_followed.add(f"{reached.name}: settings that come from {', '.join(unseen)}")
        reached.waiting = {
            name: member for name, member in list(members.items()) if name not in UNUSED and not _is_derived(name)
        }
        self.guard.members(cls, tuple(members.values()), reached.name)
        self._take_members(reached)

    def _names_around(self, cls: type) -> dict[str, Any]:
        """Return the globals that a class was defined among."""
        module = module_of_class(cls)
        if module is not None and vars(module).get(cls.__qualname__.partition(".")[0]) is not None:
            return vars(module)
        for function in itertools.chain.from_iterable(map(functions_below, list(vars(cls).values()))):
            if function.__globals__.get("__name__") == cls.__module__:
                return function.__globals__
        return vars(module) if module is not None and not was_sent(cls) else {"__name__": cls.__module__}

    def _take_members(self, reached: ReachedClass) -> None:
        """Describe the members of a class that count by now."""
        cls, text = reached.cls, class_text(reached.cls)
        for name, member in list(reached.waiting.items()):
            functions = functions_below(member)
            is_dunder = name.startswith("__") and name.endswith("__")
            is_due = reached.whole or name in self.mentioned or (self.reads_all_fields and not functions)
            is_called = (
                is_dunder or overrides(self.origins, cls, name) or (text is not None and name in text.registered)
            )
            if name in CONSTRUCTORS:
                is_called = reached.is_named or not MAKES.isdisjoint(self.mentioned)
                is_due = name in self.mentioned
            if not is_due and not (functions and is_called):
                continue
            del reached.waiting[name]
            self._at = reached.name
            if functions:
                if not all(is_generated(self.origins, function, text) for function in functions):
                    self._refer_method(reached, name, member, functions)
            elif issubclass(type(member), type) or self._is_value(member, text is None) or step_of(member) is not None:
                made = functools.partial(lambda: None)
                reference = self.refer(member, f"{reached.name}.{name}", made, handed=reached.whole)
                reached.references.append(tokens(name) + reference)

    def _refer_method(self, reached: ReachedClass, name: str, member: Any, functions: list[FunctionType]) -> None:
        if step_of(member) is not None:
            reached.references.append(tokens(name) + self.refer(member, f"{reached.name}.{name}", lambda: None))
            return
        for function in functions:
            if self.origins.of_function(function) is Owner.USER:
                reference = tokens("function", self._reach_function(function))
            else:
                reference = tokens("named", module_of(function), function.__code__.co_qualname)
            reached.references.append(tokens(name, type(member).__name__) + reference)

    def _is_value(self, member: Any, without_text: bool) -> bool:
        """Return whether a member counts by its value; libraries' objects count by the text of the class."""
        kind = type(member)
        if kind in ATOMS or self.origins.of_class(kind) is Owner.USER:
            return True
        if isinstance(member, dict | list | tuple | set | frozenset):
            return self.origins.of_class(kind) is not Owner.OTHER  # such a one was put there by a library
        return without_text and not isinstance(member, IN_C) and not hasattr(kind, "__get__")

    # -- mocks ---------------------------------------------------------------------------------------------------------
    def note_mock(self, name: str) -> None:
        """Note that the code reaches a mock: no step is replayed that does."""
        self.never = self.never or name

    @cached_property
    def unchanged(self) -> Callable[[], bool]:
        """The check that nothing which was walked has been bound, replaced or changed since."""
        return self.guard.build()

    def lines_sent(self) -> list[Lines]:
        """Return the lines that made objects, where another process finds them in no module."""
        modules = [(lines, str(lines.names.get("__name__"))) for lines in self._sent]
        return [lines for lines, module in modules if is_script(module) or find_module(module) is None]

    def values_sent(self) -> dict[str, tuple[bytes, tuple[str, ...] | None]]:
        """Return the digests of the globals of the script that are no functions and classes: see `Sent`."""
        values = {}
        prefix = f"{script_name()}."
        for binding in self.bindings.values():
            name = binding.name.removeprefix(prefix)
            if prefix + name == binding.name and name.isidentifier():
                below = tuple(sorted(each.removeprefix(prefix) for each in self.edges.get(binding.name, ())))
                values[name] = binding.digest, None if binding.name + LINES in self._fixed else below
        return values

    def lines_that_made(self) -> Iterator[tuple[str, int]]:
        """Yield each line that made an object, by the name of its module and its number."""
        for lines in self._sent:
            yield from ((str(lines.names.get("__name__")), number) for number in lines.numbers())

    def without(self, left_out: Collection[str]) -> set[str]:
        """Return the names of the parts that are reached by other ways than through those left out."""
        found, pending = set(left_out), [""]
        while pending:
            more = self.edges.get(pending.pop(), set()) - found
            found |= more
            pending += more
        return found.difference(left_out)

    def below(self, names: Collection[str]) -> set[str]:
        """Return the names of the parts that are reached through these alone."""
        return self.without(()) - self.without(names)

    def of_context(self) -> set[str]:
        """Return the names of context variables, of what belongs to a thread, and of what is reached through these."""
        names = {binding.name for binding in self.bindings.values() if isinstance(binding.value, ContextVar | local)}
        return names | self.below(names) if names else names

    # -- the result ----------------------------------------------------------------------------------------------------
    def parts(self) -> tuple[CodePart, ...]:
        """Return all parts, sorted by name."""
        parts = [*self._fixed.values(), *map(self._function_part, self.functions.values())]
        parts += map(self._class_part, self.classes.values())
        seen: dict[str, set[bytes]] = {}
        shortest: dict[int, str] = {}
        for binding in self.bindings.values():
            if binding.of_package:
                number, name = id(binding.value), binding.name
                shortest[number] = min(name, shortest.get(number, name), key=lambda name: (name.count("."), name))
        for binding in self.bindings.values():
            if binding.of_package and (name := shortest[id(binding.value)]) != binding.name:
                binding.digest = sha256(tokens("same", name)).digest()
            known = seen.setdefault(binding.name, set())
            if binding.name not in self.state and binding.digest not in known:
                known.add(binding.digest)
                name = binding.name if len(known) == 1 else f"{binding.name}#{len(known)}"
                make = functools.partial(_text_of, weakref.ref(self.values), weakref.ref(binding))
                is_atom = type(binding.value) in ATOMS
                parts.append(CodePart(name, binding.digest, make() if is_atom else make, PartKind.VALUE))
        return tuple(sorted(parts, key=lambda part: part.name))

    def _function_part(self, reached: ReachedFunction) -> CodePart:
        function, text = reached.function, text_of(reached.function)
        is_shown = id(function) in self._shown and id(function) not in self._used
        signature = reached.shows_signature or self._annotations
        own = tokens("shown function" if is_shown else "function")
        if not is_shown:
            own += text.normal(function.__code__, docs=self._docs or self._annotations, signature=signature)
        else:
            code = function.__code__
            starred = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
            number = code.co_argcount + code.co_kwonlyargcount + starred.bit_count()
            own += tokens(code.co_argcount, starred, *code.co_varnames[:number])
        if signature or self._docs or is_shown:
            doc = function.__doc__
            own += tokens(inspect.cleandoc(doc) if isinstance(doc, str) else None)
            own += tokens(function.__name__ if function.__name__ != function.__code__.co_name else "")
        if self._source and text.source is not None:
            own += tokens("text", text.source.text)
        digest = sha256(own + b"".join(sorted(set(reached.references)))).digest()
        source = None if text.source is None else text.source.text
        return CodePart(reached.name, digest, source, PartKind.FUNCTION)

    def _class_part(self, reached: ReachedClass) -> CodePart:
        text, doc = class_text(reached.cls), vars(reached.cls).get("__doc__")
        own = tokens("class", reached.name)
        if text is not None:
            own += text.normal()
        if (shows_docstring(reached.cls) or self._docs) and isinstance(doc, str):
            own += tokens(doc)
        digest = sha256(own + b"".join(sorted(set(reached.references)))).digest()
        return CodePart(reached.name, digest, None if text is None else text.text())


def _text_of(values: weakref.ref[Encoder], binding: weakref.ref[Binding]) -> str | None:
    """Return the text of a binding while its walk lives: what is kept for readers keeps no function of the user's."""
    encoder, bound = values(), binding()
    return None if encoder is None or bound is None else encoder.text(bound)


def resolve_chain(names: dict[str, Any], name: str, attributes: tuple[str, ...]) -> Any:
    """Return what a name and attributes of modules lead to; ABSENT if they lead to nothing, or to no module's."""
    value = names.get(name, ABSENT)
    for attribute in attributes:
        value = value.__dict__.get(attribute, ABSENT) if isinstance(value, ModuleType) else ABSENT
    return value


def _same_function(known: dict[int, ReachedFunction], function: FunctionType) -> ReachedFunction | None:
    """Return a reached function of which this is a copy: one that was sent from another process.

    Each thing that is sent has copies of the globals that it names.
    """
    if function.__closure__ or not were_sent(function.__globals__):
        return None
    return next((each for each in known.values() if each.function.__code__ == function.__code__), None)


def is_mock(value: object) -> bool:
    """Return whether a value is a mock of `unittest.mock`."""
    mock = sys.modules.get("unittest.mock")
    return mock is not None and issubclass(type(value), mock.NonCallableMock)


def thing_name(value: Any) -> str:
    """Return the name of a function, a class or an object's class: its module and its qualified name."""
    # An object that cannot be called has no name of its own; asking for one may run code of its class.
    if issubclass(type(value), type):
        return f"{module_name(value)}.{qualified_name(value)[1]}"
    qualname = (getattr(value, "__qualname__", None) if callable(value) else None) or type(value).__qualname__
    module = module_of(value) if isinstance(value, FunctionType) else module_name(value)
    return f"{module}.{qualname}"


def _is_derived(name: str) -> bool:
    """Return whether Python or a library derives a member of this name from the others."""
    return name in DERIVED or name.startswith(("__pydantic_", "__attrs", "_abc_"))


DERIVED: Final = frozenset(
    [
        *("__dict__", "__weakref__", "__slotnames__", "__module__", "__qualname__", "__doc__", "__annotations__"),
        *("__annotate__", "__annotate_func__", "__annotations_cache__", "__static_attributes__", "__firstlineno__"),
        *("__abstractmethods__", "__parameters__", "__orig_bases__", "__type_params__", "__match_args__"),
        *("__dataclass_fields__", "__dataclass_params__", "__conditional_annotations__", "__signature__"),
        *("__class_vars__", "__private_attributes__", "__abstract__", "__protocol_attrs__", "__slots__"),
        *("__non_callable_proto_members__", "_is_protocol", "_is_runtime_protocol", "__classcell__"),
        *("__struct_fields__", "__struct_config__", "__struct_defaults__"),
    ]
)
"""Members that Python or a library derives from the others."""
