"""Describe a value that code reaches, by the kind of thing that the value is.

- The user's classes count with all their members.
- Functions, classes and modules of other packages count by name.
- Containers count by what they hold, and other objects as `musubito.code.describers.objects` says.
"""

from __future__ import annotations

import functools
import re
import string
import types
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from enum import Enum
from types import EllipsisType, FunctionType, ModuleType
from typing import Any

from musubito.code.describers.cached_functions import know
from musubito.code.describers.classes import describe_class
from musubito.code.describers.identification import DESCRIPTORS, GETTERS, IN_C, VIEWS, counts
from musubito.code.describers.introspection import mark_introspectable
from musubito.code.describers.object_fields import defaults_held, field_links, held_value_links
from musubito.code.describers.object_settings import is_hash_of_its_name
from musubito.code.describers.objects import describe_object
from musubito.code.describers.patched_packages import module_patch_links, patch_links
from musubito.code.describers.typing_objects import describe_typing, is_of_typing
from musubito.code.graph_record import ABSENT, ATOMS, GraphRecord, is_module_globals, step_of
from musubito.code.ownership import Owner, counted_name, module_name
from musubito.code.state.write_limits import OF_PACKAGE
from musubito.code.syntax.ast_digest import tokens
from musubito.code.walk import Walk
from musubito.code.world.memory_databases import is_in_memory
from musubito.code.world.path_looks import ReportingFunction
from musubito.code.world.random_variables import is_made_at_random
from musubito.deferred import loaded_class
from musubito.errors import EncodingError
from musubito.model import StepDefinition
from musubito.values.canonical import canonical
from musubito.values.class_names import canonical_module, find_module
from musubito.values.own_names import recorded_as

PLAIN = frozenset({dict, OrderedDict, bytearray, list, tuple, set, frozenset, deque})
"""Builtin containers whose content is all that they hold."""
ELSEWHERE = frozenset({"run_in_executor", "to_thread"})
"""Functions that merely call their argument in another thread: frameworks run sync code from async code with them."""
FUNCTIONS = (FunctionType, types.BuiltinFunctionType)
"""Types of functions, some of which work on a database of their module."""
DEPTH = 100
"""Levels of nesting below which a container is not plain data."""


def is_atom(value: Any) -> bool:
    """Return whether a value is one immutable constant."""
    return type(value) in ATOMS


def plain(walk: Walk, value: Any, name: str) -> bytes | None:
    """Return the encoding of a value that is plain data throughout, as it counts; else None."""
    dicts: list[Any] = []
    value = _plain_copy(walk, value, name, dicts, 0)
    if value is ABSENT:
        return None
    try:
        data = canonical(value)
    except EncodingError:
        return None
    orders = [keys for keys in dicts if len(keys) > 1]
    if orders:
        data += canonical(orders)  # the encoding of a dict leaves out its order, which code can see
    return data


def _plain_copy(walk: Walk, value: Any, name: str, dicts: list[list[Any]], depth: int) -> Any:
    """Return plain data as it counts: itself, or a copy where runs have changed what it holds; else ABSENT.

    Containers that the code writes by name are described entry by entry. `dicts` takes the keys of each dict, in their
    order.
    """
    cls = type(value)
    if cls in ATOMS:
        return ABSENT if cls is EllipsisType else value
    if cls not in PLAIN or depth > DEPTH or is_module_globals(value):
        return ABSENT
    if walk.limits.touches(value) or walk.is_unsettled(value):
        return ABSENT
    if cls is dict or cls is OrderedDict:
        pairs = walk.read.entries(value, name)
        items = [each for pair in pairs for each in pair]
        dicts.append([key for key, _ in pairs])
    elif cls is bytearray:
        return bytearray(walk.read.elements(value, bytearray, name))
    else:
        items = list(value) if cls in (tuple, frozenset) else list(walk.read.elements(value, cls, name))
    counted = []
    for item in items:
        if type(item) not in ATOMS:
            walk.limits.below(item, value)
        inner = _plain_copy(walk, item, name, dicts, depth + 1)
        if inner is ABSENT:
            return ABSENT
        counted.append(inner)
    if cls is dict or cls is OrderedDict:
        return cls(zip(counted[::2], counted[1::2], strict=True))
    return deque(counted, value.maxlen) if cls is deque else cls(counted)


def describe(walk: Walk, value: Any, name: str) -> GraphRecord:
    """Return the record of anything but the user's own functions and modules."""
    # `type()` throughout: a proxy may claim another class.
    cls = type(value)
    step = step_of(value)
    if step is not None:
        walk.guard.attribute(value, "__musubito_step__", step)
        return _step(walk, step)
    if issubclass(cls, type):
        if walk.origins.of_class(value) is Owner.USER:
            return describe_class(walk, value, name)
        return _by_name(value)._replace(links=patch_links(walk, value, name))
    if issubclass(cls, ModuleType):
        return GraphRecord(tokens("named", canonical_module(value.__name__)), [], named=True)
    if cls in FUNCTIONS and is_in_memory(value):
        return describe_object(walk, value, name)
    for kinds, describe_parts in KINDS:
        if issubclass(cls, kinds):
            description = describe_parts(walk, value, name)
            if issubclass(cls, DESCRIPTORS) and walk.origins.of_class(cls) is Owner.USER:
                description.links.append(("class", walk.link(cls, walk.part_name(cls, name))))
                if not isinstance(value, functools.cached_property):
                    description.links.extend(field_links(walk, value, name))
            return description
    if issubclass(cls, loaded_class("argparse", "Namespace")):
        return _namespace(walk, value, name)
    if typing.get_origin(value) is not None:
        parts = (typing.get_origin(value), *typing.get_args(value))
        return GraphRecord(tokens("generic"), walk.links(enumerate(parts), name))
    if is_of_typing(value):
        return describe_typing(walk, value, name)
    if cls is object or value is NotImplemented:
        return GraphRecord(tokens("type", cls.__qualname__), [])
    if cls is slice:
        return GraphRecord(tokens("slice"), walk.links([("", value.start), ("", value.stop), ("", value.step)], name))
    return describe_object(walk, value, name)


# -- callables ---------------------------------------------------------------------------------------------------------


def _step(walk: Walk, step: StepDefinition) -> GraphRecord:
    walk.steps.add(step.name)
    version = step.version()
    if callable(step.operation_version):
        walk.guard.same(step.version, version)
    own = tokens("step", step.name, version) + tokens(step.semantics.ttl_seconds)
    if step.semantics.runs_each_time:
        own += tokens("runs each time")
    if step.semantics.once_per == "run":
        own += tokens("once per run")
    if step.semantics.code == "version":
        return GraphRecord(own, [])
    links = walk.links([("function", step.function)], walk.part_name(step.function, step.name))
    return GraphRecord(own, links)


def _by_name(value: Any) -> GraphRecord:
    return GraphRecord(tokens("named", *counted_name(value)), [], named=True)


def _function(walk: Walk, value: FunctionType, name: str) -> GraphRecord:
    """Describe a function that is not the user's: by the name of its code, and by the values that it holds.

    It holds its closure, its defaults and the function that it wraps.
    """
    module = value.__globals__.get("__name__")
    home = canonical_module(module) if isinstance(module, str) else ""
    own = tokens("named", *recorded_as(home, value.__code__.co_qualname))
    walk.guard.attribute(value, "__code__", value.__code__)
    links = module_patch_links(walk, module) if isinstance(module, str) else []
    if not value.__closure__ and not value.__dict__:
        return GraphRecord(own, links, named=True)
    others = walk.origins.of_function(value) is Owner.OTHER
    for variable, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
        held_now = walk.read.cell(cell, variable, f"{name}:{variable}")
        if held_now is ABSENT:
            continue
        if others and is_made_at_random(value, variable, held_now):
            links.append((f"closure {variable}", b"made at random"))
            continue
        if others:
            mark_introspectable(walk, held_now)
            if walk.live:
                walk.limits.add_name(cell, variable, OF_PACKAGE)
                walk.limits.open(held_now, foreign=True)
        links += held_value_links(walk, held_now, f"closure {variable}", f"{name}:{variable}")
    for label, each in defaults_held(walk, value):
        links += held_value_links(walk, each, f"default {label}", f"{name}(default {label})")
    wrapped = value.__dict__.get("__wrapped__", ABSENT)
    if wrapped is not ABSENT:
        walk.guard.item(value.__dict__, "__wrapped__", wrapped)
        if others:
            mark_introspectable(walk, wrapped)
        links.append(("wraps", walk.link(wrapped, walk.part_name(wrapped, name))))
    return GraphRecord(own, links)


def _partial(walk: Walk, value: Any, name: str) -> GraphRecord:
    walk.guard.attribute(value, "func", value.func)
    walk.guard.attribute(value, "keywords", value.keywords)
    walk.guard.mapping(value.keywords, tuple(value.keywords), tuple(value.keywords.values()))
    only_calls = getattr(value.func, "__name__", "") in ELSEWHERE
    if not only_calls:
        for argument in (*value.args, *value.keywords.values()):
            mark_introspectable(walk, argument)
    links = []
    for label, each in [("function", value.func), *enumerate(value.args), *sorted(value.keywords.items())]:
        whole = not only_calls or type(each) is not types.MethodType
        links.append((str(label), walk.link(each, walk.part_name(each, f"{name}.{label}"), whole=whole)))
    return GraphRecord(tokens(type(value).__name__, len(value.args)), links)


def _method(walk: Walk, value: types.MethodType, name: str) -> GraphRecord:
    function, receiver = value.__func__, value.__self__
    # A method that is only called reaches its receiver by names, unless it hands the receiver on, which is noted then.
    is_called = id(value) not in walk.facts.whole and not isinstance(receiver, type)
    whole = not is_called or not any(
        each is function for base in type(receiver).__mro__ for each in vars(base).values()
    )
    links = [
        ("function", walk.link(function, walk.part_name(function, f"{name}.function"))),
        ("self", walk.link(receiver, walk.part_name(receiver, f"{name}.self"), whole=whole)),
    ]
    return GraphRecord(tokens("method"), links)


def _cached(walk: Walk, value: Any, name: str) -> GraphRecord:
    know(value)
    walk.guard.attribute(value, "__wrapped__", value.__wrapped__)
    own = tokens("cached", *(repr(parameter) for parameter in sorted(value.cache_parameters().items())))
    return GraphRecord(own, walk.links([("function", value.__wrapped__)], name))


def _wrapper(attributes: tuple[str, ...]) -> Callable[[Walk, Any, str], GraphRecord]:
    def describe_parts(walk: Walk, value: Any, name: str) -> GraphRecord:
        pairs = [(attribute, getattr(value, attribute)) for attribute in attributes]
        return GraphRecord(tokens(type(value).__name__), walk.links(pairs, name))

    return describe_parts


def _property(walk: Walk, value: property, name: str) -> GraphRecord:
    """Describe a property.

    Code that only gets the property does not run its setter.
    """
    links, stored = [], walk.limits.fields
    for each, names in (("fget", walk.facts.mentioned), ("fset", stored), ("fdel", stored)):
        part = getattr(value, each)
        runs = getattr(part, "__name__", "") in names
        links.append((each, walk.link(part, walk.part_name(part, f"{name}.{each}"), runs=runs)))
    return GraphRecord(tokens("property"), links)


def _builtin(walk: Walk, value: Any, name: str) -> GraphRecord:
    bound = getattr(value, "__self__", None)
    description = _by_name(value)
    if bound is None or isinstance(bound, ModuleType):
        return description
    if counts(walk, bound):
        return GraphRecord(description.own, walk.links([("self", bound)], name))
    module = find_module(module_name(type(bound)))
    if module is None or vars(module).get(value.__name__) is not value:  # as `random.random` is: a function by its name
        walk.note_untracked(name, bound)
    return GraphRecord(description.own + tokens(module_name(type(bound)), type(bound).__qualname__), [])


def _getter(walk: Walk, value: Any, name: str) -> GraphRecord:
    constructor, parts = value.__reduce__()[:2]
    if isinstance(constructor, functools.partial):  # a methodcaller with keywords
        parts = (*constructor.args, *parts, *sorted(constructor.keywords.items()))
    return GraphRecord(tokens(type(value).__name__), walk.links(enumerate(parts), name))


# -- data --------------------------------------------------------------------------------------------------------------


def _pattern(_walk: Walk, value: re.Pattern[Any], _name: str) -> GraphRecord:
    return GraphRecord(tokens("pattern", value.pattern, value.flags), [])


def _member(walk: Walk, value: Enum, name: str) -> GraphRecord:
    own = tokens("member", value._name_)
    links = walk.links([("class", type(value)), ("value", value._value_)], name)
    fields = vars(value)
    own_fields = {"_sort_order_", "_hash_", *(field for field in fields if field.startswith("_"))}
    for field, inner in walk.read.each_field(value, fields, name, own_fields):
        links.append((field, walk.constant(inner, f"{name}.{field}")))
    return GraphRecord(own, links)


def _container(walk: Walk, value: Any, name: str) -> GraphRecord:
    """Describe a builtin container, or an object of a class derived from one, that holds more than plain data."""
    cls, base = type(value), builtin_base(type(value))
    own, links = tokens("container", base.__name__), []
    if isinstance(value, defaultdict):
        walk.guard.attribute(value, "default_factory", value.default_factory)
        links.append(("default", walk.constant(value.default_factory, f"{name}.default_factory")))
    elif isinstance(value, deque):
        own += tokens(value.maxlen)
    if isinstance(value, dict):
        for key, each in walk.read.entries(value, name):
            shown = f"{name}[{key!r}]" if is_atom(key) else f"{name}[]"
            mark_introspectable(walk, key)
            mark_introspectable(walk, each)
            links.append(("key", walk.link(key, walk.part_name(key, shown))))
            links.append(("value", walk.link(each, walk.part_name(each, shown))))
    elif isinstance(value, bytearray):
        own += tokens(bytes(walk.read.elements(value, bytearray, name)))
    else:
        builtin: Any = base
        fixed = isinstance(value, tuple | frozenset)
        items = tuple(builtin.__iter__(value)) if fixed else walk.read.elements(value, builtin, name)
        if isinstance(value, set | frozenset) or (walk.is_shown(value) and id(value) not in walk.facts.ordered):
            # The order in which things are shown is often that of a set.
            items = _in_order(walk, tuple(items), name)
        for each in items:
            mark_introspectable(walk, each)
        links += walk.links(enumerate(items), name)
    if cls is not base:
        more = describe_object(walk, value, name)
        return GraphRecord(own + more.own, [*links, *more.links])
    return GraphRecord(own, links)


def builtin_base(cls: type) -> type:
    """Return the builtin class that a container is of."""
    return next(base for base in cls.__mro__ if base.__module__ in ("builtins", "collections") and base is not object)


def _sort_key(walk: Walk, value: Any, name: str) -> bytes:
    if is_atom(value):
        return b"0" + tokens(value)
    data = plain(walk, value, name)
    return b"1" + data if data is not None else b"2" + tokens(*counted_name(value), str(getattr(value, "name", "")))


def _in_order(walk: Walk, items: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    """Return the items of a set, in an order that follows from what they are.

    Objects that are alike in all else are ordered by the digest of each.
    """
    keys = [_sort_key(walk, item, name) for item in items]
    if walk.outermost and len(set(keys)) < len(keys):
        often = Counter(keys)
        keys = [key + walk.digest_apart(each) if often[key] > 1 else key for key, each in zip(keys, items, strict=True)]
    return tuple(each for _, each in sorted(zip(keys, items, strict=True), key=lambda pair: pair[0]))


def _subclass_of_atom(walk: Walk, value: Any, name: str) -> GraphRecord:
    base = next(each for each in type(value).__mro__ if each in ATOMS)
    more = describe_object(walk, value, name)
    exact = base.__str__(value) if base is str else base(value) if base is not bytes else bytes(value)
    if base is int and is_hash_of_its_name(value):
        exact = None
    return GraphRecord(tokens("atom", exact) + more.own, more.links)


def _namespace(walk: Walk, value: Any, name: str) -> GraphRecord:
    links = walk.links([("class", type(value))], name)
    return GraphRecord(tokens("namespace"), [*links, *field_links(walk, value, name)])


def _exception(walk: Walk, value: BaseException, name: str) -> GraphRecord:
    links = walk.links([("class", type(value)), *enumerate(value.args)], name)
    return GraphRecord(tokens("exception"), [*links, *field_links(walk, value, name)])


def _proxy(walk: Walk, value: types.MappingProxyType[Any, Any], name: str) -> GraphRecord:
    keys = tuple(value)
    walk.guard.items(value, types.MappingProxyType, keys)
    return GraphRecord(tokens("proxy"), [("of", walk.link(dict(walk.read.fields(value, value, name)), name))])


def _view(walk: Walk, value: Any, name: str) -> GraphRecord:
    return GraphRecord(tokens("view", type(value).__name__), walk.links([("of", value.mapping)], name))


KINDS: list[tuple[Any, Callable[[Walk, Any, str], GraphRecord]]] = [
    (FunctionType, _function),
    (types.MethodType, _method),
    (functools.partial, _partial),
    (functools.partialmethod, _partial),
    (functools._lru_cache_wrapper, _cached),
    (property, _property),
    ((classmethod, staticmethod), _wrapper(("__func__",))),
    (functools.cached_property, _wrapper(("func",))),
    (functools.singledispatchmethod, _wrapper(("dispatcher", "func"))),
    (IN_C, _builtin),
    (ReportingFunction, lambda walk, value, name: _builtin(walk, value.original, name)),
    ((types.MemberDescriptorType, types.GetSetDescriptorType), lambda _walk, value, _name: _by_name(value)),
    (GETTERS, _getter),
    (Enum, _member),
    (re.Pattern, _pattern),
    ((dict, list, tuple, set, frozenset, deque, bytearray), _container),
    ((int, float, complex, str, bytes), _subclass_of_atom),
    (types.MappingProxyType, _proxy),
    (VIEWS, _view),
    ((types.SimpleNamespace, string.Template), _namespace),
    (BaseException, _exception),
    (typing.TypeVar, describe_typing),
]
"""How values of each type are described, in the order in which the types are tried."""
