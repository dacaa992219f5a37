"""Encode what code holds: data by value, records and the user's objects by their fields, other objects by their lines.

A container of plain data has one digest, made by the encoder in one go. An object of a package counts by its type, by
the plain settings in its own fields, by the functions and objects of the user's in them, and by the lines of the user's
code that made it.
"""

from __future__ import annotations

import functools
import operator
import re
import string
import sys
import types
import typing
from array import array
from collections import ChainMap, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from pathlib import PurePath
from threading import local
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from musubito.code.cached_functions import know
from musubito.code.classes import functions_below
from musubito.code.displays import displays, fields_to_build, objects_display
from musubito.code.guard import MAX_WATCHED
from musubito.code.live import (
    ABSENT,
    ATOMS,
    default_of,
    fields_of,
    of_context,
    of_this_thread,
    slots_of,
    static,
    step_of,
)
from musubito.code.made import BY_LINES, Lines, lines_of_field
from musubito.code.ownership import Owner, counted_name, module_name, module_of
from musubito.code.policies import ObjectPolicy, policy_of, policy_of_class
from musubito.code.portable_paths import is_relative_to_checkout, portable
from musubito.code.secret_fields import is_secret_field, without_secrets
from musubito.code.syntax.ast_digest import tokens
from musubito.code.value_texts import value_text
from musubito.deferred import loaded_class
from musubito.errors import EncodingError
from musubito.values.canonical import IdentityPacker, canonical
from musubito.values.class_names import qualified_name, secret_kind
from musubito.values.msgpack_writer import IN_ORDER
from musubito.values.own_names import is_own

if TYPE_CHECKING:
    from musubito.code.walk import Binding, Walk

MAX_VALUES: Final = 20_000
"""Number of values of one walk that are entered."""
MAX_CLASSES: Final = 1024
"""Number of classes of which is kept what their objects hold."""
MAX_DEPTH: Final = 100
"""Levels of nesting at which values are entered."""
CONTAINERS: Final = (dict, list, tuple, set, frozenset, deque)
MAX_LOOKED_AT: Final = 100
"""Number of values of a package's dict among which functions of the user's are looked for."""
SAMPLE: Final = 65_536
"""Bytes of an array that are compared at each call."""
FOR_MODELS: Final = ("prompt", "instruction", "content", "template", "model", "name", "description", "title", "version")
"""Words in the names of fields whose texts are shown of packages' objects."""
RECORD_FIELDS: Final = ("__dataclass_fields__", "__attrs_attrs__", "__struct_fields__")
PLAIN: Final = (types.SimpleNamespace, string.Template)
OF_CACHES: Final = frozenset({"__orig_class__", "__pydantic_fields_set__"})
"""Fields that do not determine what an object answers."""
OF_C: Final = (
    *(types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType),
    *(types.GetSetDescriptorType, types.MemberDescriptorType),
)


class DataPacker(IdentityPacker):
    """Writes data as code sees it: the order of a dict counts."""

    option = IN_ORDER

    __slots__ = ()


class Encoder:
    """Encodes the values that one walk reaches, and tells the walk of the code in them."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.handed_places: set[str] = set()
        """Qualified names of classes whose methods hand their receiver on."""
        self.waits_for: set[str] = set()
        """Names of fields that are left out because no reached code mentions them."""
        self._count = 0
        self._active: list[int] = []
        self._made: list[Callable[[], Lines | None]] = []
        self._fields: set[str] = set()
        self._name = ""
        self._is_item = False
        """Whether what is encoded lies in a container."""
        self._shown = False
        """Whether what is encoded is only shown."""
        self._shows_functions = False
        """Whether the user's functions in what is encoded are only shown, too."""

    def encode(self, binding: Binding) -> None:
        """Set the digest of a binding, and what it waits for."""
        self.waits_for, self._name, self._shown = set(), binding.name, binding.shown
        self._made, self._fields = [*binding.around, binding.made], binding.fields
        self.walk.guard.begin(binding.name)
        self._binding = binding
        self._shows_functions, self._is_item = binding.shown, False
        if binding.name in self.walk.state:
            # What the step changes itself counts by the lines that made it, and by its methods.
            if self._is_users(type(binding.value)):
                self.walk.reach_class(type(binding.value))
            self._refer_lines_of_state(binding.name, self._lines()())
            binding.waits_for = frozenset()
            self.walk.guard.begin()
            return
        if binding.handed:
            self.hand_on(binding.value)
        if issubclass(type(binding.value), CONTAINERS) and self._reach_classes(binding.value):
            binding.waits_for = None
            self.walk.guard.begin()
            return  # what their methods mention decides which fields count
        binding.digest = sha256(self.of(binding.value, binding.name)).digest()
        self.walk.guard.begin()
        binding.waits_for = frozenset(self.waits_for - self.walk.mentioned)

    def _reach_classes(self, container: Any) -> bool:
        """Reach the user's classes of a container's items, and return whether one of them is new."""
        values = dict.values(container) if issubclass(type(container), dict) else container
        new = [cls for cls in set(map(type, values)) if self._is_users(cls) and not issubclass(cls, type)]
        new = [cls for cls in new if id(cls) not in self.walk.classes]
        for cls in sorted(new, key=qualified_name):
            self.walk.reach_class(cls)
        return bool(new)

    def text(self, binding: Binding) -> str | None:
        """Return the text of a binding for readers; None if its fields are parts of their own, or it has no text."""
        if binding.fields and self._is_users(type(binding.value)):
            return None
        return value_text(binding.name, binding.value, self.fields_shown)

    def fields_shown(self, value: Any) -> list[tuple[str, Any]] | None:
        """Return the fields that are shown of an object; None for an object that does not count by its fields.

        Of an object of a package's, a text is shown if the field is named as texts for models are: any other text may
        be a key.
        """
        cls: type = type(value)
        policy = policy_of(value)
        is_users = self._is_users(cls)
        fields = [(field, each) for field, each in fields_in(value) if field not in OF_CACHES]
        if policy is not None:
            fields = [(field, left) for field, _, left in self._fields_of_policy(value, policy)]
        elif not is_record(cls):
            if not is_users:
                return None
            every = self.walk.is_whole(cls) or self.walk.reads_all_fields
            fields = [(field, each) for field, each in fields if every or field in self.walk.mentioned]
        return [
            (field, each)
            for field, each in fields
            if is_users or type(each) is not str or any(word in field for word in FOR_MODELS)
        ]

    def _refer_lines_of_state(self, name: str, lines: Lines | None) -> None:
        """Let what the step changes itself count by the lines that made it, and by what they name."""
        if lines is not None:
            self.walk.refer_lines(name, lines.without_conditions())

    def forget(self, cls: type) -> None:
        """Encode anew whatever may hold an instance of a class."""
        for binding in self.walk.bindings.values():
            if binding.waits_for:
                binding.waits_for = None

    def hand_on(self, value: Any) -> None:
        """Let all of an object of the user's count that is handed to code of a package."""
        functions = functions_below(value)
        for function in functions:
            if self.walk.origins.of_function(function) is Owner.USER and step_of(value) is None:
                self.walk._reach_function(function, handed=True)
        if functions:
            return
        if self.walk.origins.of_class(type(value)) is Owner.USER:
            self.walk.reach_class(type(value), whole=True)
        elif issubclass(type(value), dict | list | tuple | set) and id(value) not in self._active:
            self._active.append(id(value))
            for each in list(value.values() if isinstance(value, dict) else value)[:100]:
                if type(each) not in ATOMS and not isinstance(each, ModuleType):
                    self.hand_on(each)
            self._active.pop()

    # -- any value -----------------------------------------------------------------------------------------------------
    def of(self, value: Any, name: str) -> bytes:
        """Return bytes that say what a value is."""
        cls = type(value)
        if cls in ATOMS:
            return tokens(portable(value)) if cls is str else tokens(value)
        self._count += 1
        if id(value) in self._active:
            return tokens("again", len(self._active) - self._active.index(id(value)))
        if self._count > MAX_VALUES or len(self._active) > MAX_DEPTH:
            how = "the lines that made it, beyond what one walk looks at"
            self.walk.note_untracked(self._name, self._binding.value, how)
            self._refer_lines(name)
            return tokens("beyond", *counted_name(cls))
        self._active.append(id(value))
        try:
            encoded = self._of(value, name)
        finally:
            self._active.pop()
        return encoded if len(encoded) < 64 else b"d" + sha256(encoded).digest()

    def _of(self, value: Any, name: str) -> bytes:
        walk = self.walk
        cls: Any = type(value)
        if is_mock_class(cls):
            walk.note_mock(name)
            return tokens("mock")
        if (
            step_of(value) is not None
            or issubclass(cls, type | ModuleType)
            or (cls is FunctionType and walk.origins.of_function(value) is Owner.USER)
        ):
            return walk.refer(value, name, self._lines(), shown=self._shows_functions)
        if static(value, "__musubito_identity__") is not ABSENT:
            return self._of_identity(value, name)
        if isinstance(value, local):
            return self.of_local(value, name)  # whether it remembers is an adapter's affair, how it counts is not
        policy = policy_of(value)
        if policy is not None and not issubclass(cls, local):
            return self._of_object(value, name, policy)
        if (data := self._of_data(value, name)) is not None:
            return data
        for kinds, describe in KINDS:
            if issubclass(cls, kinds):
                of_class = self._class(value, name) if self._is_users(cls) and not issubclass(cls, Enum) else b""
                return of_class + describe(self, value, name)
        if is_record(cls):
            return self._of_record(value, name)
        if typing.get_origin(value) is not None or module_name(cls) in ("typing", "types", "typing_extensions"):
            self._refer_lines(name)  # what a new type or a bound stands for is not in its text
            return self.of_type(value)
        if walk.origins.of_class(cls) is Owner.USER:
            return self._of_object(value, name, None)
        return self._of_other(value, name)

    def _lines(self) -> Callable[[], Lines | None]:
        """Return a function that returns the lines which made the value that is being encoded."""
        every = self._made[::-1]
        return lambda: next((lines for made in every if (lines := made()) is not None), None)

    # -- data ----------------------------------------------------------------------------------------------------------
    def _of_data(self, value: Any, name: str) -> bytes | None:
        """Return the encoding of a value that is data throughout; None for any other value."""
        cls: type = type(value)
        if isinstance(value, (FunctionType, MethodType, functools.partial)) or is_relative_to_checkout():
            return None
        if self._is_users(cls) and not is_record(cls) and all(map(self._is_open, cls.__mro__)):
            return None
        packer = DataPacker()
        try:
            packed = packer.pack(value)
        except EncodingError:
            return None
        if any(policy_of_class(met) is not None for met in packer.classes):
            return None
        for met in packer.classes:
            if self.walk.origins.of_class(met) is Owner.USER:
                self.walk.reach_class(met)
        self._watch(value)
        return tokens("data") + (packed if len(packed) < 256 else sha256(packed).digest())

    def _is_open(self, base: type) -> bool:
        """Return whether a base class keeps nothing but fields."""
        return base is object or self._is_users(base) or module_name(base) in ("abc", "typing", "typing_extensions")

    def _watch(self, value: Any) -> None:
        """Require that data stay as they are: containers by their items, arrays by a sample of their content."""
        pending, count = [value], 0
        while pending and count < MAX_WATCHED and self.walk.guard.has_room():
            each = pending.pop()
            count += 1
            if type(each) not in ATOMS:
                pending += watch_one(self.walk.guard, each)

    def _of_identity(self, value: Any, name: str) -> bytes:
        try:
            identity = value.__musubito_identity__()
            encoded = canonical(identity)
        except Exception as error:
            self.walk.note_untracked(name, value, f"its type alone: its __musubito_identity__() raised {error!r}")
            return tokens("type", *counted_name(type(value)))
        self.walk.guard.same(lambda: canonical(value.__musubito_identity__()), encoded)
        return tokens("identity", encoded) + self._class(value, name)

    def _class(self, value: Any, name: str) -> bytes:
        if self._is_users(type(value)):
            return tokens("class", self.walk.reach_class(type(value)))
        return self.walk.refer(type(value), f"{name}.class", lambda: None)

    # -- containers ----------------------------------------------------------------------------------------------------
    def of_container(self, value: Any, name: str) -> bytes:
        """Return the encoding of a container that holds more than plain data."""
        cls, base = type(value), next(base for base in type(value).__mro__ if base in CONTAINERS)
        watch_one(self.walk.guard, value)
        own = tokens("container", base.__name__, getattr(value, "maxlen", None))
        outer, self._is_item = self._is_item, True
        if isinstance(value, defaultdict):
            own += self.of(value.default_factory, f"{name}.default_factory")
        if isinstance(value, dict):
            for key, each in list(dict.items(value)):
                shown = f"{name}[{key!r}]" if type(key) in ATOMS else f"{name}[]"
                own += self.of(key, shown) + self.of(each, shown)
        else:
            iterate: Any = base.__iter__
            items = [self.of(each, f"{name}[{number}]") for number, each in enumerate(list(iterate(value)))]
            unordered = isinstance(value, set | frozenset) or (self._shown and not self.walk.lists_shown)
            own += b"".join(sorted(items) if unordered else items)
        self._is_item = outer
        if cls not in (*CONTAINERS, OrderedDict, defaultdict):
            if hasattr(cls, "_fields"):
                return own + self._class(value, name)
            own += self._of_instance(value, name) if self._is_users(cls) else tokens(*counted_name(cls))
        return own

    def _is_users(self, cls: type) -> bool:
        return self.walk.origins.of_class(cls) is Owner.USER

    # -- objects -------------------------------------------------------------------------------------------------------
    def _of_record(self, value: Any, name: str) -> bytes:
        own = tokens("record") + self._class(value, name)
        for field, each in fields_in(value):
            if field not in OF_CACHES:
                own += self._of_field(value, field, each, name)
        return own

    def _of_object(self, value: Any, name: str, policy: ObjectPolicy | None) -> bytes:
        """Return the encoding of an object by its fields; one of the user's is a part of its own, unless an item."""
        is_part = self._is_users(type(value)) and value is not self._binding.value
        if is_part and not (self._shown or self._is_item or isinstance(value, CONTAINERS)):
            return self.walk.refer(value, name, self._lines())
        return self._of_instance(value, name) if policy is None else self._of_policy(value, name, policy)

    def _of_instance(self, value: Any, name: str) -> bytes:
        """Return the encoding of an object of the user's: its class, and the fields that reached code mentions."""
        walk, cls = self.walk, type(value)
        own = tokens("object") + self._class(value, name)
        every = walk.is_whole(cls) or walk.reads_all_fields
        fields = fields_of(value)
        if fields is not None:
            walk.guard.attribute(value, "__dict__", fields)
            walk.guard.within(fields, fields)
        for field, each in fields_in(value):
            if every or field in walk.mentioned:
                own += self._of_field(value, field, each, name)
            else:
                self.waits_for.add(field)
        for place in sorted(walk.state):
            of_object, _, field = place.rpartition(".")
            if of_object == name and (fields is None or field not in fields):  # the step will set it
                self._refer_lines_of_state(place, lines_of_field(cls, field))
        if not all(map(self._is_open, cls.__mro__)):
            self._refer_lines(name)  # a base that is not the user's may hold more than fields
        return own

    def guard_field(self, value: Any, field: str, each: Any) -> None:
        """Require that an object has this value in a field."""
        fields = fields_of(value)
        if fields is not None and field in fields:
            self.walk.guard.item(fields, field, each)
        elif field.isidentifier():
            self.walk.guard.attribute(value, field, each)

    def _of_field(self, value: Any, field: str, each: Any, name: str) -> bytes:
        cls = type(value)
        made = functools.partial(lines_of_field, cls, field) if self._is_users(cls) else lambda: None
        if value is self._binding.value and self._is_users(cls):
            return self.walk.refer_field(value, field, each, made, self._binding)
        self._fields.add(field)
        self.guard_field(value, field, each)
        self._made.append(made)
        try:
            return tokens(field) + self.of(each, f"{name}.{field}")
        finally:
            self._made.pop()

    def _of_policy(self, value: Any, name: str, policy: ObjectPolicy) -> bytes:
        """Return the encoding of an object that an adapter knows."""
        walk = self.walk
        if self._shown and policy.shows is not None and (shown := policy.shows(value, walk)) is not None:
            for field, each in fields_in(value):
                self.guard_field(value, field, each)
            others = (self.of(each, f"{name}.{label}") for label, each in sorted(shown.others.items()))
            return tokens("shown", canonical(shown.data)) + b"".join(others)
        outer, is_shown = self._shown, self._shown or objects_display(module_name(type(value)))
        walk.met.append(value)
        is_users = self._is_users(type(value))
        own = tokens("object") + self._class(value, name)
        if policy.says is not None:
            own += tokens("says", canonical(policy.says(value)))
        for field, each, left in self._fields_of_policy(value, policy):
            self.guard_field(value, field, each)
            if left is not each:
                self._watch(each)
            # What code takes out of such a field itself is not only shown.
            self._shown = is_shown and field not in fields_to_build(module_name(type(value)))
            if is_users:
                own += self._of_field(value, field, left, name)
            else:
                own += tokens(field) + self.of(left, f"{name}.{field}")
        self._shown = outer
        return own

    def _fields_of_policy(self, value: Any, policy: ObjectPolicy) -> Iterator[tuple[str, Any, Any]]:
        """Yield the fields that count of an object that an adapter knows, each also without the keys left out."""
        built = set(fields_to_build(module_name(type(value))))
        left_out = {*policy.leaves_out(value, self.walk), *(built - self.walk.mentions(built)), *OF_CACHES}
        for field, each in fields_in(value):
            if field not in left_out and secret_kind(type(each)) is None:
                inner = (left.removeprefix(f"{field}.") for left in left_out if left.startswith(f"{field}."))
                yield field, each, _without(each, frozenset(inner))

    def _of_other(self, value: Any, name: str) -> bytes:
        """Return the encoding of any other object: its type, its plain settings, and what is the user's in it."""
        walk, cls = self.walk, type(value)
        walk.note_package(module_name(cls))
        own = tokens("type", *counted_name(cls))
        if secret_kind(cls) is not None:
            return own
        if value is self._binding.value:
            self._binding.of_package = True
        if is_own(module_name(cls)):
            self._refer_lines(name)  # an engine has an id and counters
            return own
        if (there := fields_of(value)) is not None:
            walk.guard.within(there, there)
        for field, each in fields_in(value):
            if not field.startswith("_") and not is_secret_field(field, each):
                self.guard_field(value, field, each)
                if type(each) in ATOMS:
                    own += tokens(field, without_secrets(each))
            if type(each) not in ATOMS and self._is_the_users(each):
                self.guard_field(value, field, each)
                own += tokens(field) + self.of(each, f"{name}.{field}")
        how = BY_LINES if self._refer_lines(name) else "its type alone"
        walk.note_untracked(name, value, how)
        return own

    def _is_the_users(self, value: Any) -> bool:
        function = value.__func__ if type(value) is MethodType else value
        if type(function) is FunctionType:
            return self.walk.origins.of_function(function) is Owner.USER or step_of(function) is not None
        if isinstance(value, type):
            return self._is_users(value)
        return self._is_users(type(value)) and not isinstance(value, ModuleType)

    def _refer_lines(self, name: str) -> bool:
        if self._name in self.walk.state:
            return True  # they count already, without what they name
        for made in reversed(self._made):
            lines = made()
            if lines is not None:
                owner = made.args[0] if isinstance(made, functools.partial) and made.func is lines_of_field else None
                at = self._name if owner is None else f"{module_name(owner)}.{owner.__qualname__}.{made.args[1]}"
                self.walk.refer_lines(at, lines)
                if owner is None:
                    return True
        return False

    # -- callables and others ------------------------------------------------------------------------------------------
    def of_function(self, value: FunctionType, name: str) -> bytes:
        """Return the encoding of a function of a package: its name, and what it holds."""
        own = tokens("named", module_of(value), value.__code__.co_qualname)
        outer, self._shown = self._shown, self._shown or displays(module_of(value))
        wrapped = value.__dict__.get("__wrapped__", ABSENT)
        for variable, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            try:
                held = cell.cell_contents
            except ValueError:
                continue
            self.walk.guard.attribute(cell, "cell_contents", held)
            if wrapped is ABSENT or type(held) in ATOMS or self._is_the_users(held):
                own += tokens(variable) + self.of(held, f"{name}:{variable}")
        for field, held in sorted(value.__dict__.items()):
            if isinstance(held, types.MappingProxyType) and any(
                map(self._is_the_users, list(held.values())[:MAX_LOOKED_AT])
            ):
                self.walk.guard.mapping(held, tuple(held), tuple(held.values()))  # functions that were registered
                own += tokens(field) + self.of(dict(held), f"{name}.{field}")
        if wrapped is not ABSENT:
            self.walk.guard.item(value.__dict__, "__wrapped__", wrapped)
            own += tokens("wraps") + self.walk.refer(wrapped, f"{name}.__wrapped__", self._lines(), handed=True)
            self._refer_lines(name)
        self._shown = outer
        return own

    def of_method(self, value: MethodType, name: str) -> bytes:
        """Return the encoding of a bound method: its function and its receiver."""
        function, receiver = value.__func__, value.__self__
        own = tokens("method") + self.of(function, f"{name}.function")
        if type(function) is FunctionType:
            self.walk._mention((function.__name__,))
        return own + self.of(receiver, f"{name}.self")

    def of_partial(self, value: Any, name: str) -> bytes:
        """Return the encoding of a partial function."""
        own = tokens(type(value).__name__) + self.of(value.func, f"{name}.function")
        if not self._is_the_users(value.func):
            self.hand_on([*value.args, *value.keywords.values()])
        for number, each in enumerate(value.args):
            own += self.of(each, f"{name}.{number}")
        watch_one(self.walk.guard, value.keywords)
        for key, each in sorted(value.keywords.items()):
            own += tokens(key) + self.of(each, f"{name}.{key}")
        return own

    def of_member(self, value: Enum, name: str) -> bytes:
        """Return the encoding of a member of an enum."""
        return tokens("member", value._name_) + self._class(value, name) + self.of(value._value_, f"{name}.value")

    def of_variable(self, value: ContextVar[Any], name: str) -> bytes:
        """Return the encoding of a context variable: its default, and its value at the call."""
        there = of_context(value)
        self.walk.guard.same(lambda: of_context(value) is there, True)
        default = self.of(default_of(value), f"{name}.default")
        return tokens("variable") + default + self._of_context(value, there, name)

    def of_local(self, value: local, name: str) -> bytes:
        """Return the encoding of a `threading.local`: the fields that are mentioned, as this thread has them."""
        self.walk.met.append(value)
        own = tokens("thread local") + self._class(value, name)
        mentioned = self.walk.mentioned
        fields = {field: each for field, each in of_this_thread(value).items() if field in mentioned}

        def is_same() -> bool:
            now = of_this_thread(value)
            return all(now.get(field, ABSENT) is fields.get(field, ABSENT) for field in names)

        names = frozenset(mentioned)
        self.walk.guard.same(is_same, True)
        self.waits_for.update(of_this_thread(value))
        for field in sorted(mentioned):
            own += self._of_context(value, fields.get(field, ABSENT), f"{name}.{field}")
        return own

    def _of_context(self, holder: Any, value: Any, name: str) -> bytes:
        """Return the encoding of what belongs to a context or a thread; empty if the step itself has put it there."""
        self.walk.context[name] = holder, value
        if self.walk.own_values.has_put(name, holder, value):
            return b""
        return tokens(name) + self.of(value, name)

    def of_builtin(self, value: Any, name: str) -> bytes:
        """Return the encoding of a function that is not written in Python."""
        own, bound = tokens("named", *counted_name(value)), getattr(value, "__self__", None)
        if bound is None or isinstance(bound, ModuleType):
            return own
        return own + self.of(bound, f"{name}.self")

    def of_type(self, value: Any) -> bytes:
        """Return the encoding of a type or an annotation, with the user's classes in it."""
        if isinstance(value, type) and typing.get_origin(value) is None:
            return self.walk.refer(value, "type", lambda: None)
        if typing.get_origin(value) is not None:
            parts = (typing.get_origin(value), *typing.get_args(value))
            return tokens("generic") + b"".join(map(self.of_type, parts))
        if isinstance(value, list | tuple):
            return tokens("types") + b"".join(map(self.of_type, value))
        return tokens("typing", re.sub(r" at 0x[0-9a-f]+", "", repr(value)))


def _wrapper(attribute: str) -> Callable[[Encoder, Any, str], bytes]:
    return lambda encoder, value, name: (
        tokens(type(value).__name__) + encoder.of(getattr(value, attribute), f"{name}.{attribute}")
    )


def _reduced(encoder: Encoder, value: Any, name: str) -> bytes:
    """Return the encoding of a getter of `operator`, which tells its arguments when it is pickled."""
    return tokens(type(value).__name__) + encoder.of(value.__reduce__()[1:], name)


def _cached_function(encoder: Encoder, value: Any, name: str) -> bytes:
    know(value)
    return tokens("cached") + encoder.of(value.__wrapped__, f"{name}.__wrapped__")


def _property(encoder: Encoder, value: property, name: str) -> bytes:
    parts = (value.fget, value.fset, value.fdel)
    return tokens("property") + b"".join(encoder.of(part, name) for part in parts)


def _exception(encoder: Encoder, value: BaseException, name: str) -> bytes:
    own = tokens("exception") + encoder._class(value, name) + encoder.of(value.args, f"{name}.args")
    return own + encoder.of(dict(fields_of(value) or {}), name)


def _array(encoder: Encoder, value: array[Any], _name: str) -> bytes:
    encoder.walk.guard.same(value.tobytes, value.tobytes())
    return tokens("array", value.typecode, value.tobytes())


def _path(_encoder: Encoder, value: PurePath, _name: str) -> bytes:
    counted = portable(value)
    return tokens("path", *(counted if isinstance(counted, tuple) else (str(value),)))


KINDS: Final[list[tuple[Any, Callable[[Encoder, Any, str], bytes]]]] = [
    (FunctionType, Encoder.of_function),
    (MethodType, Encoder.of_method),
    ((functools.partial, functools.partialmethod), Encoder.of_partial),
    (functools._lru_cache_wrapper, _cached_function),
    (property, _property),
    ((classmethod, staticmethod), _wrapper("__func__")),
    (functools.cached_property, _wrapper("func")),
    (OF_C, Encoder.of_builtin),
    (Enum, Encoder.of_member),
    ((operator.itemgetter, operator.attrgetter, operator.methodcaller), _reduced),
    (re.Pattern, lambda _encoder, value, _name: tokens("pattern", value.pattern, value.flags)),
    (PurePath, _path),
    (CONTAINERS, Encoder.of_container),
    (BaseException, _exception),
    (ContextVar, Encoder.of_variable),
    (array, _array),
    (ChainMap, lambda encoder, value, name: tokens("chain") + encoder.of(value.maps, f"{name}.maps")),
    (types.MappingProxyType, lambda encoder, value, name: tokens("proxy") + encoder.of(dict(value), name)),
]
"""How values of each type are encoded, in the order in which the types are tried."""


def is_mock_class(cls: type) -> bool:
    """Return whether a class is one of `unittest.mock`."""
    mock = sys.modules.get("unittest.mock")
    return mock is not None and issubclass(cls, mock.NonCallableMock)


@lru_cache(MAX_CLASSES)
def is_record(cls: type) -> bool:
    """Return whether objects of a class are records: the class declares their fields."""
    if issubclass(cls, (*PLAIN, loaded_class("argparse", "Namespace"))):
        return True
    members = (vars(base) for base in cls.__mro__)
    return any("__pydantic_fields__" in each or any(fields in each for fields in RECORD_FIELDS) for each in members)


def fields_in(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields of an object by name: those in its dicts, and those in its slots."""
    fields: dict[str, Any] = {}
    for more in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
        fields.update(fields_of(value, more) or {})
    for slot, each in slots_of(value):
        if slot not in ("__pydantic_extra__", "__pydantic_private__", "__pydantic_fields_set__"):
            fields.setdefault(slot, each)
    struct = getattr(type(value), "__struct_fields__", ())
    fields.update({name: getattr(value, name) for name in struct if name not in fields})
    cls: type = type(value)
    computed = _computed(cls)
    names = sorted(name for name in fields if type(name) is str and name not in computed)
    return ((name, fields[name]) for name in names)


@lru_cache(MAX_CLASSES)
def _computed(cls: type) -> frozenset[str]:
    """Return the fields of a class's objects that are computed when they are first read."""
    members = (item for base in cls.__mro__ for item in vars(base).items())
    return frozenset(name for name, member in members if isinstance(member, functools.cached_property))


def _without(value: Any, keys: frozenset[str]) -> Any:
    """Return a dict without some of its keys, at any depth (`a.b`); any other value as it is."""
    if not keys or not isinstance(value, Mapping):
        return value
    result = {}
    for key, each in value.items():
        if key not in keys:
            inner = frozenset(left.removeprefix(f"{key}.") for left in keys if left.startswith(f"{key}."))
            if (left := _without(each, inner)) is not None or each is None:
                result[key] = left
    return result or None


def watch_one(guard: Any, value: Any) -> list[Any]:
    """Require that one value holds what it holds now; return what it holds, to be watched in turn."""
    kind = type(value)  # a proxy may claim another class
    if issubclass(kind, dict):
        keys, values = tuple(dict.keys(value)), tuple(dict.values(value))
        guard.mapping(value, keys, values)
        return [each for each in (*keys, *values) if type(each) not in ATOMS]
    if issubclass(kind, list | set | deque):
        base: Any = next(base for base in type(value).__mro__ if base in CONTAINERS)
        items = tuple(base.__iter__(value))
        guard.items(value, base, items)
        return [each for each in items if type(each) not in ATOMS]
    if issubclass(kind, tuple | frozenset):
        return [each for each in value if type(each) not in ATOMS]
    if issubclass(kind, bytearray):
        guard.same(functools.partial(bytes, value), bytes(value))
        return []
    if kind.__module__.partition(".")[0] in ("numpy", "pandas"):
        guard.same(functools.partial(_sample, value), _sample(value))
        return []
    fields = fields_of(value)
    if fields is None or isinstance(value, type | ModuleType | Enum):
        return [each for _, each in slots_of(value) if type(each) not in ATOMS]
    private = fields_of(value, "__pydantic_private__") or {}
    for held in (fields, private) if private else (fields,):
        guard.mapping(held, tuple(held), tuple(held.values()))
    return [each for each in (*fields.values(), *private.values()) if type(each) not in ATOMS]


def _sample(value: Any) -> object:
    """Return what is compared of an array, a series or a frame: its place, its shape, and a sample of its content."""
    array = getattr(value, "values", value) if hasattr(value, "iloc") else value
    pointer = getattr(array, "ctypes", None)
    shape, dtype = getattr(array, "shape", None), str(getattr(array, "dtype", None))
    if pointer is None or array.dtype.hasobject:
        return shape, dtype
    flat = array.reshape(-1)
    step = max(1, flat.nbytes // SAMPLE)
    return pointer.data, shape, dtype, flat[::step].tobytes()
