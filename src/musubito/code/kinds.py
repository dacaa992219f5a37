"""Encode values of Python's own types, and choose how the values of each class are encoded."""

from __future__ import annotations

import functools
import operator
import re
import types
from array import array
from collections import ChainMap, OrderedDict, defaultdict
from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum
from pathlib import PurePath
from threading import local
from types import FunctionType, GenericAlias, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from musubito.code import objects
from musubito.code.cached_functions import know
from musubito.code.client_settings import is_settings
from musubito.code.displays import displays
from musubito.code.live import ABSENT, ATOMS, CONTAINERS, default_of, fields_of, of_context, of_this_thread
from musubito.code.object_fields import is_record
from musubito.code.ownership import Owner, counted_name, module_name, module_of
from musubito.code.policies import policy_of_class
from musubito.code.portable_paths import portable
from musubito.code.syntax.ast_digest import tokens

if TYPE_CHECKING:
    from musubito.code.values import Encoder

MAX_LOOKED_AT: Final = 100
"""Number of values of a package's dict among which functions of the user's are looked for."""
OF_C: Final = (
    *(types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType),
    *(types.GetSetDescriptorType, types.MemberDescriptorType),
)
TYPING: Final = ("typing", "types", "typing_extensions")
"""Modules of which all objects stand for types."""
Describer: TypeAlias = "Callable[[Encoder, Any, str], bytes]"
"""Returns the encoding of a value that has a name."""
NO_DATA: Final = (FunctionType, MethodType, functools.partial, type, ModuleType, local)
"""Types of which no value is data."""
MARKS: Final = frozenset({"__musubito_step__", "__musubito_identity__"})
"""Attributes of values that say how they count."""


class Kind(NamedTuple):
    """The way to encode all values of a class."""

    is_marked: bool
    """Whether the class says how its instances count."""
    may_be_data: bool
    describe: Describer
    """Encodes a value that is no data."""


def reference(encoder: Encoder, value: Any, name: str) -> bytes:
    """Return a reference to a function, a class, a module or a step, which is a part of its own."""
    return encoder.walk.refer(value, name, encoder.lines(), shown=encoder.binding.shown)


def _of_function(encoder: Encoder, value: FunctionType, name: str) -> bytes:
    """Return a reference to a function of the user's; for one of a package, its name and what it holds."""
    if encoder.walk.origins.of_function(value) is Owner.USER:
        return reference(encoder, value, name)
    guard = encoder.walk.guard
    own = tokens("named", module_of(value), value.__code__.co_qualname)
    outer, encoder.is_shown = encoder.is_shown, encoder.is_shown or displays(module_of(value))
    wrapped = value.__dict__.get("__wrapped__", ABSENT)
    for variable, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
        try:
            held = cell.cell_contents
        except ValueError:
            continue
        guard.attribute(cell, "cell_contents", held)
        if wrapped is ABSENT or type(held) in ATOMS or objects.is_the_users(encoder.walk, held):
            own += tokens(variable) + encoder.of(held, f"{name}:{variable}")
    for field, held in sorted(value.__dict__.items()):
        if isinstance(held, types.MappingProxyType) and any(
            objects.is_the_users(encoder.walk, item) for item in list(held.values())[:MAX_LOOKED_AT]
        ):
            guard.mapping(held, tuple(held), tuple(held.values()))  # functions that were registered
            own += tokens(field) + encoder.of(dict(held), f"{name}.{field}")
    if wrapped is not ABSENT:
        guard.item(value.__dict__, "__wrapped__", wrapped)
        own += tokens("wraps") + encoder.walk.refer(wrapped, f"{name}.__wrapped__", encoder.lines(), handed=True)
        encoder.refer_lines(name)
    encoder.is_shown = outer
    return own


def _of_method(encoder: Encoder, value: MethodType, name: str) -> bytes:
    """Return the encoding of a bound method: its function and its receiver."""
    function, receiver = value.__func__, value.__self__
    own = tokens("method") + encoder.of(function, f"{name}.function")
    if type(function) is FunctionType:
        encoder.walk.mentioned.add(function.__name__)
    return own + encoder.of(receiver, f"{name}.self")


def _of_partial(encoder: Encoder, value: Any, name: str) -> bytes:
    """Return the encoding of a partial function."""
    own = tokens(type(value).__name__) + encoder.of(value.func, f"{name}.function")
    if not objects.is_the_users(encoder.walk, value.func):
        encoder.hand_on([*value.args, *value.keywords.values()])
    for number, each in enumerate(value.args):
        own += encoder.of(each, f"{name}.{number}")
    encoder.walk.guard.content(value.keywords)
    for key, each in sorted(value.keywords.items()):
        own += tokens(key) + encoder.of(each, f"{name}.{key}")
    return own


def _of_builtin(encoder: Encoder, value: Any, name: str) -> bytes:
    """Return the encoding of a function that is not written in Python."""
    own, bound = tokens("named", *counted_name(value)), getattr(value, "__self__", None)
    if bound is None or isinstance(bound, ModuleType):
        return own
    return own + encoder.of(bound, f"{name}.self")


def _of_cached(encoder: Encoder, value: Any, name: str) -> bytes:
    """Return the encoding of a function with `lru_cache`: that of the function below."""
    know(value)
    return tokens("cached") + encoder.of(value.__wrapped__, f"{name}.__wrapped__")


def _of_property(encoder: Encoder, value: property, name: str) -> bytes:
    """Return the encoding of a property: those of its functions."""
    parts = (value.fget, value.fset, value.fdel)
    return tokens("property") + b"".join(encoder.of(part, name) for part in parts)


def _of_getter(encoder: Encoder, value: Any, name: str) -> bytes:
    """Return the encoding of a getter of `operator`, which tells its arguments when it is pickled."""
    return tokens(type(value).__name__) + encoder.of(value.__reduce__()[1:], name)


def _wrapper(attribute: str) -> Callable[[Encoder, Any, str], bytes]:
    """Return a function that encodes an object by the function in this attribute."""
    return lambda encoder, value, name: (
        tokens(type(value).__name__) + encoder.of(getattr(value, attribute), f"{name}.{attribute}")
    )


def _of_variable(encoder: Encoder, value: ContextVar[Any], name: str) -> bytes:
    """Return the encoding of a context variable: its default, and its value at the call."""
    there = of_context(value)
    encoder.walk.guard.same(lambda: of_context(value) is there, True)
    default = encoder.of(default_of(value), f"{name}.default")
    return tokens("variable") + default + _unless_put(encoder, value, there, name)


def _of_local(encoder: Encoder, value: local, name: str) -> bytes:
    """Return the encoding of a `threading.local`: the fields that are mentioned, as this thread has them."""
    encoder.walk.met.append(value)
    own = tokens("thread local") + encoder.of_class(value)
    mentioned = encoder.walk.mentioned
    fields = {field: each for field, each in of_this_thread(value).items() if field in mentioned}
    names = frozenset(mentioned)

    def is_same() -> bool:
        now = of_this_thread(value)
        return all(now.get(field, ABSENT) is fields.get(field, ABSENT) for field in names)

    encoder.walk.guard.same(is_same, True)
    encoder.waits_for.update(of_this_thread(value))
    for field in sorted(mentioned):
        own += _unless_put(encoder, value, fields.get(field, ABSENT), f"{name}.{field}")
    return own


def _unless_put(encoder: Encoder, holder: object, value: Any, name: str) -> bytes:
    """Return the encoding of a value that a holder has; empty if the step itself has put it there."""
    encoder.walk.context[name] = holder, value
    if encoder.walk.own_values.has_put(name, holder, value):
        return b""
    return tokens(name) + encoder.of(value, name)


def _of_typing(encoder: Encoder, value: Any, name: str) -> bytes:
    encoder.refer_lines(name)  # what a new type or a bound stands for is not in its text
    return encoder.of_type(value)


def _of_container(encoder: Encoder, value: Any, name: str) -> bytes:
    """Return the encoding of a container that holds more than plain data."""
    cls, base = type(value), next(base for base in type(value).__mro__ if base in CONTAINERS)
    encoder.walk.guard.content(value)
    own = tokens("container", base.__name__, getattr(value, "maxlen", None))
    outer, encoder.is_item = encoder.is_item, True
    if isinstance(value, defaultdict):
        own += encoder.of(value.default_factory, f"{name}.default_factory")
    if isinstance(value, dict):
        for key, each in list(dict.items(value)):
            shown = f"{name}[{key!r}]" if type(key) in ATOMS else f"{name}[]"
            own += encoder.of(key, shown) + encoder.of(each, shown)
    else:
        iterate: Any = base.__iter__
        items = [encoder.of(each, f"{name}[{number}]") for number, each in enumerate(list(iterate(value)))]
        unordered = isinstance(value, set | frozenset) or (encoder.is_shown and not encoder.walk.lists_shown)
        own += b"".join(sorted(items) if unordered else items)
    encoder.is_item = outer
    if cls in (*CONTAINERS, OrderedDict, defaultdict):
        return own
    if hasattr(cls, "_fields"):
        return own + encoder.of_class(value)
    return own + (objects.of_instance(encoder, value, name) if encoder.is_users(cls) else tokens(*counted_name(cls)))


def _of_member(encoder: Encoder, value: Enum, name: str) -> bytes:
    return tokens("member", value._name_) + encoder.of_class(value) + encoder.of(value._value_, f"{name}.value")


def _of_exception(encoder: Encoder, value: BaseException, name: str) -> bytes:
    own = tokens("exception") + encoder.of_class(value) + encoder.of(value.args, f"{name}.args")
    return own + encoder.of(dict(fields_of(value) or {}), name)


def _of_array(encoder: Encoder, value: array[Any], _name: str) -> bytes:
    encoder.walk.guard.same(value.tobytes, value.tobytes())
    return tokens("array", value.typecode, value.tobytes())


def _of_path(_encoder: Encoder, value: PurePath, _name: str) -> bytes:
    counted = portable(value)
    return tokens("path", *(counted if isinstance(counted, tuple) else (str(value),)))


WITHOUT_CLASS: Final = (Enum, type, ModuleType, local)
"""Types whose encoding names the class already, or needs no class."""
DESCRIBERS: Final[list[tuple[Any, Describer]]] = [
    ((type, ModuleType), reference),
    (local, _of_local),  # whether it remembers is an adapter's affair, how it counts is not
    (FunctionType, _of_function),
    (MethodType, _of_method),
    ((functools.partial, functools.partialmethod), _of_partial),
    (functools._lru_cache_wrapper, _of_cached),
    (property, _of_property),
    ((classmethod, staticmethod), _wrapper("__func__")),
    (functools.cached_property, _wrapper("func")),
    (OF_C, _of_builtin),
    (Enum, _of_member),
    ((operator.itemgetter, operator.attrgetter, operator.methodcaller), _of_getter),
    (re.Pattern, lambda _encoder, value, _name: tokens("pattern", value.pattern, value.flags)),
    (PurePath, _of_path),
    (CONTAINERS, _of_container),
    (BaseException, _of_exception),
    (ContextVar, _of_variable),
    (array, _of_array),
    (ChainMap, lambda encoder, value, name: tokens("chain") + encoder.of(value.maps, f"{name}.maps")),
    (types.MappingProxyType, lambda encoder, value, name: tokens("proxy") + encoder.of(dict(value), name)),
]
"""How values of each type are encoded, in the order in which the types are tried."""


def _with_class(describe: Describer) -> Describer:
    return lambda encoder, value, name: encoder.of_class(value) + describe(encoder, value, name)


def kind_of(encoder: Encoder, cls: Any) -> Kind:
    """Return the way to encode the values of a class."""
    is_marked = any(not MARKS.isdisjoint(vars(base)) for base in cls.__mro__)
    if policy_of_class(cls) is not None and not issubclass(cls, NO_DATA):
        return Kind(is_marked, may_be_data=False, describe=objects.of_object)
    is_users = encoder.is_users(cls)
    is_data = not issubclass(cls, NO_DATA) and not is_settings(cls)
    may_be_data = is_data and (not is_users or is_record(cls) or not encoder.is_open(cls))
    for kinds, describe in DESCRIBERS:
        if issubclass(cls, kinds):
            with_class = is_users and not issubclass(cls, WITHOUT_CLASS)
            return Kind(is_marked, may_be_data, _with_class(describe) if with_class else describe)
    if is_record(cls):
        describe = objects.of_record
    elif issubclass(cls, GenericAlias) or module_name(cls) in TYPING:
        describe = _of_typing
    else:
        describe = objects.of_object if is_users else objects.of_other
    return Kind(is_marked, may_be_data, describe)
