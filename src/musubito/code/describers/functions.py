"""Describe a function of the user's: its code, and everything that the code names, wherever that leads."""

from __future__ import annotations

import inspect
import sys
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, TypeAlias

from musubito.code.describers.annotations import annotation_links
from musubito.code.describers.introspection import (
    SUBCLASSES,
    function_names,
    mark_introspectable,
    note_introspecting_function,
    note_introspection,
    order_links,
    subclass_links,
)
from musubito.code.describers.mock_objects import describe_mock, is_mock, mock_of
from musubito.code.describers.object_fields import defaults_held
from musubito.code.describers.unread_fields import CONSTRUCTORS, note_fields
from musubito.code.displays import is_showing_method, runs_what_is_shown
from musubito.code.fixpoint_facts import ANNOTATIONS, DOCS, RUNNING, SHOWING, TEXT
from musubito.code.graph_record import ABSENT, ATOMS, GraphRecord, Namespace, step_of
from musubito.code.ownership import Owner, module_name, module_of
from musubito.code.state.write_limits import Manner, is_sink, step_into
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.name_usage import NameRead, NameUsage, Root
from musubito.code.syntax.occurrences import absolute, resolve
from musubito.code.walk import Walk
from musubito.code.world.environment import environment_links
from musubito.code.world.file_checks import note_file_checks
from musubito.code.world.lazy_imports import import_user_module, lazy_attribute
from musubito.code.world.loaded_modules import module_links, shared_by_all
from musubito.code.world.process_settings import setting_links
from musubito.code.world.unrepeatable import note_unrepeatable
from musubito.values.class_names import canonical_module, find_module, qualified_name

ANY_ATTRIBUTE = frozenset({"__getattr__", "__getattribute__"})
"""Methods that may return a method of any name."""
PLACES = frozenset({"__file__", "__path__", "__cached__", "__spec__", "__loader__"})
"""Names of a module that say where the module lies: a checkout elsewhere is the same code."""

Links: TypeAlias = list[tuple[str, bytes]]


class _Use(NamedTuple):
    """The use that a function makes of a value that it reads."""

    called: bool
    given: bool
    """Whether the value is handed on: the receiver may read its docstring."""
    shown: bool
    """Whether the value is only shown."""
    ordered: bool
    """Whether the function may show it in its order."""


def describe_function(walk: Walk, function: FunctionType, name: str, member: bool) -> GraphRecord:
    """Return the record of a function of the user's.

    `member`: the function is reached through the receiver of the step, whose class is known.
    """
    code = function.__code__
    walk.guard.attribute(function, "__code__", code)
    if (mock := mock_of(function)) is not None:
        return describe_mock(walk, mock, name)
    text = text_of(function)
    member = member or _is_method_of(walk.owner, function)
    signature = ANNOTATIONS in walk.facts.looks or id(function) in walk.facts.given
    own = tokens("function", signature)
    own += text.normal(code, docs=walk.facts.looks.meets((DOCS, ANNOTATIONS)), signature=signature)
    if signature or DOCS in walk.facts.looks:
        doc = function.__doc__
        own += tokens(inspect.cleandoc(doc) if isinstance(doc, str) else None)
        walk.guard.attribute(function, "__doc__", doc)
    own += function_names(walk, function, is_value=signature)
    if text.source is not None and TEXT in walk.facts.looks:
        own += tokens("text", text.source.text)
    _note_shown(walk, function, text.scan)
    note_introspection(walk, text.scan)
    note_fields(walk, function, text.scan)
    if walk.live:
        _note_runs(walk, function, text.scan)
        _note_writes(walk, function, text.scan, member)
    links: Links = []
    cells = _cell_values(walk, function, name, links)
    added_to = {each for each in text.scan.added_to if _is_sink(function, each, cells)}
    for read in sorted(text.scan.reads, key=lambda each: (each.root.value, each.name, each.attributes)):
        label = ".".join((read.name, *read.attributes))
        if read in added_to:
            links += _added_to_links(walk, function, read, cells, name)
            continue
        value, bound = ABSENT, read.name
        is_handed_on = (read.name, *read.attributes)[-1] in text.scan.given
        use = _Use(read in text.scan.calls, is_handed_on, read.name in text.scan.shown, text.scan.lists_shown)
        match read.root:
            case Root.GLOBAL:
                value, bound = (
                    _global_value(walk, function, read.name, label, links),
                    f"{module_of(function)}.{read.name}",
                )
            case Root.CLOSURE:
                value, bound = cells.get(read.name, ABSENT), f"{name}:{read.name}"
            case Root.IMPORT:
                _follow_import(walk, function, read, links, use)
            case Root.RECEIVER | Root.SUPER if member:
                _follow_member(walk, read, links)
        if value is not ABSENT:
            _follow(walk, value, read.attributes, label, bound, links, use)
    if text.scan.dynamic:
        links.append(("globals", walk.link(_globals_of(walk, function), f"{module_of(function)}.*")))
    links += environment_links(walk, function, name, text)
    links += module_links(walk, function, name, text)
    links += setting_links(walk, function, text)
    if walk.live:
        note_unrepeatable(walk, function, name, text)
        note_file_checks(walk, function, name, text)
    _add_defaults(walk, function, name, links)
    if signature:
        links += annotation_links(walk, function, name)
    if function.__dict__:
        _add_function_fields(walk, function, name, links)
    return GraphRecord(own, links)


def describe_shown_function(walk: Walk, function: FunctionType, name: str) -> tuple[GraphRecord, str]:
    """Return the record and the text of a function of the user's that is only shown.

    Its names, its docstring, its parameters with their defaults and its annotations count, and its body does not.
    """
    code = function.__code__
    walk.guard.attribute(function, "__code__", code)
    walk.guard.attribute(function, "__dict__", function.__dict__)
    walk.guard.mapping(function.__dict__, (), ())
    walk.guard.attribute(function, "__doc__", function.__doc__)
    doc = inspect.cleandoc(function.__doc__) if isinstance(function.__doc__, str) else None
    starred = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    number = code.co_argcount + code.co_kwonlyargcount + starred.bit_count()
    parameters = code.co_varnames[:number]
    own = tokens("shown function", doc, code.co_posonlyargcount, code.co_argcount, starred, *parameters)
    own += function_names(walk, function, is_value=True)
    links: Links = []
    _add_defaults(walk, function, name, links)
    links += annotation_links(walk, function, name)
    return GraphRecord(own, links), f"{function.__name__}({', '.join(parameters)})\n{doc or ''}"


def describe_names(walk: Walk, names: dict[str, Any], name: str) -> GraphRecord:
    """Return the record of a whole module, for code that gets at its names in other ways than by naming them."""
    keys = walk.read.names(names, names)
    walk.read.more(names, names, keys)
    links: Links = []
    for key in sorted(keys):
        if not (key.startswith("__") and key.endswith("__")):
            value = walk.read.name(names, key, f"{name}.{key}")
            if value is ABSENT:
                continue
            mark_introspectable(walk, value)
            runs = not isinstance(value, FunctionType) or key in walk.facts.mentioned
            links.append((key, walk.constant(value, f"{name}.{key}", runs=runs)))
    links += order_links(walk, names, names, (), name)
    return GraphRecord(tokens("module", name), links)


# -- the function object -----------------------------------------------------------------------------------------------


def _cell_values(walk: Walk, function: FunctionType, name: str, links: Links) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        value = walk.read.cell(cell, variable, f"{name}:{variable}")
        values[variable] = walk.original(value)
        if value is ABSENT:
            links.append((f"closure {variable}", b"unbound"))
    return values


def _add_defaults(walk: Walk, function: FunctionType, name: str, links: Links) -> None:
    for label, value in defaults_held(walk, function):
        if isinstance(label, int) and shared_by_all(value) is not None:
            continue
        mark_introspectable(walk, value)
        links.append((f"default {label}", walk.constant(value, f"{name}(default {label})")))


def _add_function_fields(walk: Walk, function: FunctionType, name: str, links: Links) -> None:
    """Add links to the attributes that were set on a function, `__wrapped__` too."""
    fields = function.__dict__
    walk.guard.attribute(function, "__dict__", fields)
    wrapped = fields.get("__wrapped__")
    uncounted = {field for field in fields if field.startswith("__musubito")}
    if isinstance(wrapped, FunctionType) and walk.origins.of_function(wrapped) is not Owner.USER:
        # Attributes that `functools.wraps` copies from a package's function (tenacity's statistics) are not the user's.
        uncounted |= wrapped.__dict__.keys() - {"__wrapped__"}
    for field, value in walk.read.each_field(function, fields, name, uncounted):
        if field != "__wrapped__":
            mark_introspectable(walk, value)
        links.append((f"field {field}", walk.constant(value, f"{name}.{field}")))


# -- what it runs and writes -------------------------------------------------------------------------------------------


def _note_shown(walk: Walk, function: FunctionType, scan: NameUsage) -> None:
    """Note whether a function may be given what is shown, and whether its class may run that."""
    facts, place = walk.facts, (str(function.__globals__.get("__name__")), function.__qualname__.rpartition(".")[0])
    if is_showing_method(function.__name__):
        facts.given_shown.add(place)
    if runs_what_is_shown(scan.mentions | scan.of_receiver):
        facts.may_run_shown.add(place)
    if place in facts.given_shown and place in facts.may_run_shown:
        facts.looks.add(RUNNING)
    if is_showing_method(function.__name__) or function.__name__ in ANY_ATTRIBUTE:
        facts.looks.add(SHOWING)


def _note_runs(walk: Walk, function: FunctionType, usage: NameUsage) -> None:
    """Note the methods and attributes that a function which can run may run in turn.

    The calls that a constructor makes on its own object do not count: they set the object up.
    """
    facts = walk.facts
    facts.mentioned |= usage.mentions
    facts.limits.called_names |= usage.called_names
    facts.handed |= usage.given
    facts.limits.fields |= usage.stores
    facts.limits.mutators |= usage.mutators
    facts.limits.dynamic |= usage.dynamic
    if function.__name__ not in CONSTRUCTORS:
        facts.mentioned |= usage.of_receiver


def _note_writes(walk: Walk, function: FunctionType, usage: NameUsage, member: bool) -> None:
    """Note the names that a function that can run writes, and the values that it hands on."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    owner = walk.owners.get(id(function))
    if owner is None and member and walk.owner is not None:
        owner = walk.owner, function.__code__.co_varnames[:1] == ("cls",)
    for write in usage.writes:
        if write.root is Root.RECEIVER:
            if owner is not None and function.__name__ not in CONSTRUCTORS:
                walk.limits.add_member(*owner, write)
        elif not write.rebinds:
            root = resolve(function, NameRead(write.root, write.name)).value
            if root is not ABSENT:
                walk.limits.add(root, write)
        elif write.root is Root.GLOBAL:
            walk.limits.add_name(function.__globals__, write.name, Manner(write.counts, write.lazily))
        else:
            walk.limits.add_name(cells[write.name], write.name, Manner(write.counts, write.lazily))
    for place in usage.handed:
        value = resolve(function, NameRead(place.root, place.name)).value
        for key in place.path:
            value = step_into(value, key)
        if value is ABSENT or type(value) in ATOMS:
            continue
        if place.exact:
            walk.limits.open(value)
        else:
            for item in _possible_items(value):
                walk.limits.open(item)


def _possible_items(value: Any) -> list[Any]:
    """Return all that an item of a container may be, if its key is not known."""
    if isinstance(value, dict):
        return list(dict.values(value))
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return [value]


def _is_sink(function: FunctionType, read: NameRead, cells: dict[str, Any]) -> bool:
    """Return whether code that only adds to a value cannot see the content of a value of this type."""
    value = _value_of(function, read, cells)
    return value is not ABSENT and is_sink(value)


def _value_of(function: FunctionType, read: NameRead, cells: dict[str, Any]) -> Any:
    return cells.get(read.name, ABSENT) if read.root is Root.CLOSURE else function.__globals__.get(read.name, ABSENT)


def _added_to_links(walk: Walk, function: FunctionType, read: NameRead, cells: dict[str, Any], name: str) -> Links:
    """Return the links to a value that the code only adds to.

    A container counts by its type, as if it were empty. A number does not count.
    """
    value = _value_of(function, read, cells)
    called = f"{name}:{read.name}" if read.root is Root.CLOSURE else f"{module_of(function)}.{read.name}"
    walk.note_state(called)
    if read.root is Root.GLOBAL:
        walk.guard.kind_of_item(function.__globals__, read.name, type(value))
    label = ".".join((read.name, *read.attributes))
    return [] if type(value) in ATOMS else [(label, walk.link(walk.emptied(value), called))]


# -- what it reads -----------------------------------------------------------------------------------------------------


def _global_value(walk: Walk, function: FunctionType, name: str, label: str, links: Links) -> Any:
    if name in PLACES:
        return ABSENT
    value = walk.read.name(function.__globals__, name, f"{module_of(function)}.{name}")
    if value is not ABSENT:
        return walk.original(value, function, name)
    builtins: dict[str, Any] = getattr(function, "__builtins__", {})  # not every typeshed has it
    value = builtins.get(name, ABSENT)
    if value is ABSENT:
        walk.guard.absent(builtins, name)
        links.append((label, b"unbound"))
    else:
        walk.guard.item(builtins, name, value)
    return value


def _follow(
    walk: Walk, value: Any, attributes: tuple[str, ...], label: str, name: str, links: Links, use: _Use
) -> None:
    """Add links to the end of a chain of attributes, and to the modules on the way."""
    rest = list(attributes)
    lazy = ""
    while rest and isinstance(value, ModuleType):
        names, attribute = value.__dict__, rest.pop(0)
        user = walk.origins.of_module(value) is Owner.USER
        if not user:
            # A name that is not there yet may be a module that is not loaded.
            walk.modules.add(value.__name__ if attribute in names else f"{value.__name__}.{attribute}")
        if not user and "__getattr__" in names:
            lazy = value.__name__.partition(".")[0]
        name = f"{canonical_module(value.__name__)}.{attribute}"
        if attribute == "__dict__":
            break
        if attribute in PLACES:
            return
        member = walk.read.name(names, attribute, name)
        if member is ABSENT:
            member = lazy_attribute(walk, value, attribute) if user else ABSENT
            if member is ABSENT:
                links.append((label, tokens("unbound" if user else "named", ".".join((name, *rest)))))
                return
        value = member
    if lazy and isinstance(value, FunctionType | type) and module_name(value).partition(".")[0] == lazy:
        # This module makes its names on demand: it does not count whether this name was made yet.
        links.append((label, tokens("named", ".".join((name, *rest)))))
        return
    if isinstance(value, FunctionType) and rest and walk.origins.of_function(value) is Owner.USER:
        _add_function_fields(walk, value, name, links)
    if shared_by_all(value) is not None:
        return
    note_introspecting_function(walk, value)
    if rest[:1] == [SUBCLASSES] and isinstance(value, type) and walk.origins.of_class(value) is not Owner.USER:
        links += subclass_links(walk, value)
    if not rest and walk.live:
        if use.called:
            walk.note_call(value)
        if use.given:
            mark_introspectable(walk, value)
    if use.shown and use.ordered:
        walk.facts.ordered.add(id(value), value)
    whole = isinstance(value, type) or (use.given and not rest)
    links.append((label, walk.constant(value, name, whole=whole, shown=use.shown)))


def _follow_import(walk: Walk, function: FunctionType, read: NameRead, links: Links, use: _Use) -> None:
    """Add links to a module that the function imports itself, and to the names that it takes from the module.

    Another package counts by its name alone, whether it is imported yet or not. If the user's own code was put there,
    that code counts.
    """
    module = absolute(read.name, function)
    full = ".".join((module, *read.attributes))
    value: Any = import_user_module(walk, module)
    if value is not None and walk.origins.of_module(value) is Owner.USER:
        walk.guard.item(sys.modules, module, value)
        _follow(walk, value, read.attributes, full, full, links, use)
        return
    walk.others.add(module.partition(".")[0])
    walk.modules.add(module)
    links.append((f"import {module}", tokens("named", full)))
    for attribute in read.attributes:
        if not isinstance(value, ModuleType) or attribute not in value.__dict__:
            if value is None or isinstance(value, ModuleType):
                walk.modules.add(full)  # the rest of the name may be a module that is not loaded
                return
            break
        walk.modules.add(value.__name__)
        walk.guard.item(value.__dict__, attribute, value.__dict__[attribute])
        value = value.__dict__[attribute]
    is_users = isinstance(value, FunctionType) and walk.origins.of_function(value) is Owner.USER
    if is_users or is_mock(value):
        if use.given and walk.live:
            mark_introspectable(walk, value)
        links.append((full, walk.link(value, walk.part_name(value, full))))


def _globals_of(walk: Walk, function: FunctionType) -> ModuleType | Namespace:
    module = find_module(str(function.__globals__.get("__name__")))
    if module is not None and module.__dict__ is function.__globals__:
        return module
    return walk.namespace(function.__globals__)


# -- receivers ---------------------------------------------------------------------------------------------------------


def _is_method_of(owner: type | None, function: FunctionType) -> bool:
    """Return whether a function was defined in the body of the receiver's class, whatever decorators it has."""
    if owner is None:
        return False
    prefix = function.__qualname__.rpartition(".")[0]
    return any(qualified_name(cls) == (module_of(function), prefix) for cls in owner.__mro__)


def _follow_member(walk: Walk, read: NameRead, links: Links) -> None:
    owner = walk.owner
    if owner is None:
        return
    attributes = [attribute for attribute in read.attributes if attribute != "__class__"]
    if read.root is Root.RECEIVER and (not attributes or attributes[0] == "__dict__"):
        links.append(("receiver", walk.link(owner, walk.part_name(owner, ""))))
    if not attributes:
        return
    walk.guard.attribute(owner, "__mro__", owner.__mro__)
    for cls in owner.__mro__:
        if walk.origins.of_class(cls) is not Owner.USER:
            continue
        members, name = vars(cls), attributes[0]
        bound = f"{walk.part_name(cls, '')}.{name}"
        value = walk.read.field(cls, members, name, bound)
        if value is ABSENT:
            continue
        if name in walk.facts.handed:
            mark_introspectable(walk, value)
        links += _receiver_links(walk, cls, value, f"{read.root.value}.{name}", bound)
        if read.root is Root.RECEIVER:
            return


def _receiver_links(walk: Walk, cls: type, member: Any, label: str, name: str) -> Links:
    """Return the links of a member that is reached through the receiver: its functions reach others in the same way."""
    step = step_of(member)
    inside = [member, *(getattr(member, part, None) for part in ("__func__", "fget", "fset", "fdel", "func"))]
    functions = [step.function if step is not None else None, *inside]
    links = [] if isinstance(member, FunctionType) else [(label, walk.constant(member, name))]
    for function in functions:
        if isinstance(function, FunctionType) and walk.origins.of_function(function) is Owner.USER:
            walk.owners.setdefault(id(function), (cls, isinstance(member, classmethod)))
            links.append((f"{label}()", walk.link(function, walk.part_name(function, name), member=True)))
        elif isinstance(function, FunctionType) and function is member:
            links.append((label, walk.constant(member, name)))
    return links
