"""Tell whether code that a program made again is arranged as other code of the program is.

A program may make the same code again and again: a graph for each request, of new closures, tools and models. Two
pieces of code have the same fingerprint if their objects are of the same types and hold equal constants and the same
things of modules, and lead to each other in the same way. An `Arrangement` writes this down, without a walk. Two
processes count the same code alike for the same reason: nothing in a fingerprint depends on which object a thing is.

If an object cannot be compared in all that it holds, its code has no arrangement. Such objects are clients, locks,
objects that are not written in Python, and classes of the user's that no module holds.
"""

from __future__ import annotations

import gc
import sys
import typing
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple, TypeVar

from musubito.code.describers.mock_objects import is_mock
from musubito.code.describers.object_contents import cached_property_names, declared_names, declares_fields, identity_of
from musubito.code.describers.object_parts import SHOWN, hides_content
from musubito.code.describers.object_policies import policy_of
from musubito.code.graph_record import ABSENT, ATOMS, contents, fields_of, static
from musubito.code.guard import Guard
from musubito.code.machinery import is_machinery
from musubito.code.ownership import Owner, Owners, owners_seen_from
from musubito.code.round_cache import one_round
from musubito.code.state.access_reader import in_slots, members_of_slots
from musubito.code.world.outside_data import is_source
from musubito.values.canonical import canonical
from musubito.values.class_instances import HEAP_TYPE, lies_in_its_module
from musubito.values.class_names import find_module

MOST: Final = 20_000
"""Number of tokens above which code has no arrangement."""
DEPTH: Final = 60
"""Levels of nesting below which code has no arrangement."""
COMPILED: Final = frozenset(
    {
        *("__pydantic_core_schema__", "__pydantic_validator__", "__pydantic_serializer__", "__signature__"),
        *("__pydantic_setattr_handlers__", "__pydantic_parent_namespace__", "__pydantic_complete__"),
        *("__pydantic_fields_complete__", "_abc_impl", "__dict__", "__weakref__"),
    }
)
"""Members of a model's class that pydantic and Python make of the other members."""
FIELDS: Final = ("__dict__", "__pydantic_private__", "__pydantic_extra__")
"""Attributes in which an object keeps its fields."""
DECLARED: Final = ("__dict__", "__pydantic_extra__")
"""Attributes in which a model keeps the fields that it declares or was given."""
OF_A_FUNCTION: Final = ("__code__", "__defaults__", "__kwdefaults__", "__name__", "__qualname__", "__module__")
"""Attributes of a function that the walk of it may read, besides its closure and its fields."""


class NotComparableError(Exception):
    """Some object cannot be compared in all that it holds."""


class Arrangement(NamedTuple):
    """The objects of some code, and how they lead to each other.

    `tokens` are equal for code that is arranged alike, as long as the things of modules are there that they name by
    `id()`. `unchanged` tells whether all of this is still true.
    """

    tokens: list[object]
    things: list[Any]
    """The objects that are no things of modules, in the order of the tokens."""
    holders: frozenset[int]
    """The ids of `things`, and of the dicts in which they keep their fields."""
    named: list[Any]
    """The things of modules, kept alive so that their ids stay their own."""
    complete: frozenset[int]
    """The numbers of the pieces of code that are compared in all that they lead to."""
    unchanged: Callable[[], bool]


def arrangement_of(roots: Iterable[tuple[Any, str]]) -> Arrangement:
    """Return the arrangement of several pieces of code, each with the module from which it is judged whose code is it.

    A piece that cannot be compared is left out, and is not among the `complete`.
    """
    reader, complete = _Reader(), []
    with one_round():
        for number, (value, module) in enumerate(roots):
            reader.origins = owners_seen_from(module)
            begin = reader.begin()
            try:
                reader.add(value, 0)
                complete.append(number)
            except NotComparableError:
                reader.forget(begin)
    unchanged = reader.guard.build()
    return Arrangement(
        reader.tokens, reader.things, frozenset(reader.held), reader.named, frozenset(complete), unchanged
    )


class _Everything:
    """Stands for the names that code mentions, where these are not known: it may mention any."""

    @staticmethod
    def lacks(_keys: Iterable[Any]) -> set[Any]:
        return set()

    @staticmethod
    def meets(_keys: Iterable[Any]) -> bool:
        return True


class _Reader:
    """Writes tokens for all that a value leads to, and the conditions under which they stay true.

    For the policies of adapters the reader is a walk of code that may mention any name.
    """

    origins: Owners
    steps: set[str]
    """The steps that the object at hand stands for: only their names count."""

    def __init__(self) -> None:
        self.facts = self
        self.mentioned = _Everything()
        self.tokens: list[object] = []
        self.things: list[Any] = []
        self.named: list[Any] = []
        self.held: list[int] = []
        """The ids of the things, and of the dicts and cells in which they keep what they hold."""
        self.guard = Guard()
        self._numbers: dict[int, int] = {}
        self._named: dict[int, bool] = {}

    def begin(self) -> tuple[int, int, int]:
        """Begin a piece of code."""
        return len(self.tokens), len(self.things), len(self.held)

    def forget(self, begin: tuple[int, int, int]) -> None:
        """Forget the piece of code that began here; what it is reached by is left to the walk."""
        tokens, things, held = begin
        self._numbers = {key: number for key, number in self._numbers.items() if number < things}
        self.tokens[tokens:], self.things[things:], self.held[held:] = [None], [], []

    def add(self, value: Any, depth: int) -> None:
        cls = type(value)
        if cls in ATOMS:
            self.tokens += (cls, repr(value) if cls is float or cls is complex else value)
            return
        if len(self.tokens) > MOST or depth > DEPTH:
            raise NotComparableError
        if self._is_of_a_module(value):
            self.tokens += (ModuleType, id(value))
            return
        number = self._numbers.setdefault(id(value), len(self.things))
        self.tokens += (id(cls) if self._is_of_a_module(cls) else type, number)
        if number < len(self.things):
            return
        self.things.append(value)
        if cls is not frozenset and not issubclass(cls, tuple):  # equal ones may be one object, wherever they are
            self.held.append(id(value))
        self._add_parts(value, cls, depth + 1)

    def _is_of_a_module(self, value: Any) -> bool:
        """Return whether a value is a thing that modules hold, and that stays the same object."""
        known = self._named.get(id(value))
        if known is None:
            known = self._named[id(value)] = _is_named(value)
            if known:
                self.named.append(value)
        return known

    def _add_parts(self, value: Any, cls: type, depth: int) -> None:
        if cls is FunctionType:
            self._add_function(value, depth)
        elif cls is tuple:
            self._add_all(value, depth)
        elif cls is list:
            self.guard.items(value, list, tuple(value))
            self._add_all(value, depth)
        elif cls is dict:
            self._add_dict(value, depth)
        elif cls is set or cls is frozenset:
            if not all(type(item) in ATOMS for item in value):
                raise NotComparableError
            items = tuple(value)
            if cls is set:
                self.guard.items(value, set, items)
            self._add_all(items, depth)
        elif issubclass(cls, tuple) and fields_of(value) is None:
            self.add(cls, depth)
            self._add_all(tuple(tuple.__iter__(value)), depth)
        elif cls is MethodType:
            self._add_all((value.__func__, value.__self__), depth)
        elif cls is partial:
            self._add_all((value.func, value.args, value.keywords), depth)
            self._add_dict(value.__dict__, depth)
        elif typing.get_origin(value) is not None:
            self._add_all((typing.get_origin(value), *typing.get_args(value)), depth)
        elif issubclass(cls, type):
            self._add_class(value, depth)
        else:
            self._add_object(value, cls, depth)

    def _add_all(self, values: tuple[Any, ...] | list[Any], depth: int) -> None:
        self.tokens.append(len(values))
        for value in values:
            self.add(value, depth)

    def _add_dict(self, values: dict[Any, Any], depth: int, left_out: frozenset[Any] = frozenset()) -> None:
        """Add the keys and values of a dict, without the keys in `left_out`."""
        self.held.append(id(values))
        counted = {key: value for key, value in values.items() if key not in left_out} if left_out else values
        self.guard.entries(values, tuple(counted))
        if left_out:
            self.guard.within(values, left_out.union(values))
        else:
            self.guard.items(values, dict, tuple(values))
        self._add_all([each for pair in counted.items() for each in pair], depth)

    def _add_function(self, function: FunctionType, depth: int) -> None:
        module = find_module(str(function.__globals__.get("__name__")))
        if module is None or vars(module) is not function.__globals__ or "__musubito_step__" in function.__dict__:
            raise NotComparableError
        annotate = getattr(function, "__annotate__", None)  # since Python 3.14; reading annotations would run it
        read = (*OF_A_FUNCTION, "__doc__", "__annotations__" if annotate is None else "__annotate__")
        for attribute in read:
            value = getattr(function, attribute)
            self.guard.attribute(function, attribute, value)
            self.add(value, depth)
        self.tokens.append(id(function.__globals__))
        self.named.append(module)
        for cell in function.__closure__ or ():
            self._add_cell(cell, depth)
        self._add_dict(function.__dict__, depth)

    def _add_cell(self, cell: CellType, depth: int) -> None:
        self.held.append(id(cell))
        value = contents(cell)
        if value is ABSENT:
            raise NotComparableError
        self.guard.attribute(cell, "cell_contents", value)
        number = self._numbers.setdefault(id(cell), len(self.things))
        self.tokens += (CellType, number)
        if number == len(self.things):
            self.things.append(cell)
            self.add(value, depth)

    def _add_class(self, cls: type, depth: int) -> None:
        """Add a model's class that a package has made, such as the schema of a tool's arguments."""
        if not declares_fields(cls) or self.origins.of_class(cls) is not Owner.OTHER:
            raise NotComparableError
        self.guard.attribute(cls, "__bases__", cls.__bases__)
        self._add_all((type(cls), cls.__name__, cls.__bases__), depth)
        members = vars(cls)
        self.held.append(id(gc.get_referents(members)[0]))
        counted = {key: value for key, value in members.items() if key not in COMPILED}
        self.guard.entries(members, tuple(counted))
        self.guard.within(members, COMPILED.union(members))
        self._add_all([each for pair in counted.items() for each in pair], depth)

    def _add_object(self, value: Any, cls: type, depth: int) -> None:
        if is_mock(value) or is_source(value) or is_machinery(value) or issubclass(cls, SHOWN) or hides_content(cls):
            raise NotComparableError
        if static(value, "__musubito_step__") is not ABSENT:
            raise NotComparableError
        self.guard.kind(value, cls)
        self.add(cls, depth)
        if static(value, "__musubito_identity__") is not ABSENT:
            identity = _asked(identity_of, value)
            self.guard.same(partial(identity_of, value), identity)
            self.tokens.append(identity)
            return
        policy, is_of_user = policy_of(value), self.origins.of_class(cls) is Owner.USER
        self.steps = set()
        left_out = frozenset(() if policy is None else _asked(policy.leaves_out, value, self))
        if self.steps:  # the object stands for steps, whose settings lie in fields that are left out
            said = None if policy is None or policy.says is None else _asked(policy.says, value)
            self.tokens += (tuple(sorted(self.steps)), canonical(said))
        attributes: tuple[str, ...] = FIELDS
        if not is_of_user:
            left_out |= cached_property_names(cls)
            if declares_fields(cls):
                # What else such an object keeps, it has made of its declared fields.
                left_out |= (fields_of(value) or {}).keys() - declared_names(cls)
                attributes = DECLARED
        self._add_fields(value, left_out, depth, attributes)

    def _add_fields(
        self, value: Any, left_out: frozenset[str], depth: int, attributes: tuple[str, ...] = FIELDS
    ) -> None:
        for attribute in attributes:
            fields = fields_of(value, attribute)
            if fields is None:
                self.tokens.append(None)
            else:
                self.guard.attribute(value, attribute, fields)
                self._add_dict(fields, depth, left_out)
        for name, slot in zip(*in_slots(value, members_of_slots(type(value))), strict=True):
            if name not in left_out:
                self.guard.attribute(value, name, slot)
                self.tokens.append(name)
                self.add(slot, depth)


def _asked(function: Callable[..., Any], *args: Any) -> Any:
    """Return the answer of code that looks at an object."""
    try:
        return function(*args)
    except Exception as error:  # a walk of the object says that it counts by its type alone
        raise NotComparableError from error


def _is_named(value: Any) -> bool:
    cls = type(value)
    if cls is ModuleType or cls is CodeType or cls is object:
        return True
    if cls is BuiltinFunctionType:
        return value.__self__ is None or isinstance(value.__self__, ModuleType)
    if cls is FunctionType:
        return "<locals>" not in value.__qualname__ and _at_home(value) is value
    if issubclass(cls, type):
        return lies_in_its_module(value) or not value.__flags__ & HEAP_TYPE
    if cls is TypeVar:
        return value is getattr(find_module(value.__module__), value.__name__, None)
    if cls.__module__ == "typing":
        return value is getattr(typing, str(getattr(value, "_name", "")), None)
    if issubclass(cls, Enum):
        return lies_in_its_module(cls)
    return value is NotImplemented or value is getattr(sys.modules.get("pydantic_core"), "PydanticUndefined", None)


def _at_home(function: FunctionType) -> Any:
    """Return what lies where a function claims to lie."""
    value: Any = find_module(str(function.__module__))
    for name in function.__qualname__.split("."):
        value = vars(value).get(name) if isinstance(value, type | ModuleType) else None
    return getattr(value, "__func__", value)
