"""Describe the fields of objects, and the values that objects and functions of packages hold."""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import Any

from musubito.code.describers.held_things import held_things_links
from musubito.code.describers.identification import DEPTH, counts
from musubito.code.describers.introspection import mark_introspectable, order_links
from musubito.code.describers.object_contents import cached_property_names
from musubito.code.describers.object_parts import hides_content, is_active
from musubito.code.describers.object_policies import policy_of
from musubito.code.describers.object_settings import (
    CONTAINERS,
    is_secret_field,
    is_setting,
    meaningless_fields,
    without_secrets,
)
from musubito.code.describers.patched_packages import patch_links
from musubito.code.describers.unread_fields import unread_after_building, unread_displays, unread_fields
from musubito.code.graph_record import ABSENT, ATOMS, fields_of
from musubito.code.ownership import Owner, counted_name
from musubito.code.state.access_reader import members_of_slots
from musubito.code.state.write_limits import CACHED
from musubito.code.syntax.ast_digest import tokens
from musubito.code.walk import Walk

TELLS_ALL = frozenset({types.NoneType, bool, int, float})
"""Types of constants that are no secret and hold none."""


def field_links(walk: Walk, value: Any, name: str, *, only_data: bool = False) -> list[tuple[str, bytes]]:
    """Return links to the fields in an object's `__dict__` and its slots, without those that its own methods write."""
    links: list[tuple[str, bytes]] = []
    walk.limits.of_instance(value)
    for each in cached_property_names(type(value)):
        walk.limits.add_name(value, each, CACHED)
    kind = policy_of(value)
    left_out = frozenset[str]() if kind is None else frozenset(kind.leaves_out(value, walk))
    exempt = left_out
    if only_data and kind is None:
        lazy = cached_property_names(type(value))
        exempt |= lazy | meaningless_fields(value) | unread_after_building(walk, value) | unread_displays(walk, value)
        if lazy:
            links += held_things_links(walk, value, "", name, (fields_of(value) or {}).keys() - lazy)
    if not only_data:
        exempt |= unread_fields(walk, value, {*(fields_of(value) or ()), *dict(members_of_slots(type(value)))})
    for attribute in ("__dict__", "__pydantic_private__", "__pydantic_extra__"):
        contents = fields_of(value, attribute)
        if contents is None:
            continue
        walk.guard.attribute(value, attribute, contents)
        pairs: Iterable[tuple[Any, Any]] = walk.read.each_field(value, contents, name, exempt)
        if not exempt:
            pairs = sorted(walk.read.fields(value, contents, name), key=lambda pair: str(pair[0]))
        for each, inner in pairs:
            if each in walk.facts.limits.called_names and walk.live:
                walk.note_call(inner)
            for part, label, called in _counted_parts(walk, inner, str(each), f"{name}.{each}", left_out):
                links += _value_links(walk, value, part, label, called, of_others=only_data)
        if not only_data:
            links += order_links(walk, value, contents, exempt, name)
    members = tuple(member for member in members_of_slots(type(value)) if member[0] not in exempt)
    if members:
        for slot, inner in sorted(walk.read.slots(value, members, name), key=lambda pair: str(pair[0])):
            links += _value_links(walk, value, inner, slot, f"{name}.{slot}", of_others=only_data)
    return links


def _counted_parts(
    walk: Walk, value: Any, label: str, name: str, left_out: frozenset[str]
) -> Iterator[tuple[Any, str, str]]:
    """Yield a field with its label and its name.

    If some keys of a dict in the field do not count, each other key is yielded in its place. If no other key is there,
    nothing is yielded, as for None.
    """
    keys = frozenset(each.removeprefix(f"{label}.") for each in left_out if each.startswith(f"{label}."))
    if not keys or type(value) not in (dict, types.NoneType):
        yield value, label, name
    elif value is not None:
        for key, inner in walk.read.each_field(value, value, name, keys):
            yield from _counted_parts(walk, inner, f"{label}.{key}", f"{name}.{key}", left_out)


def _value_links(
    walk: Walk, holder: Any, value: Any, label: str, name: str, *, of_others: bool
) -> list[tuple[str, bytes]]:
    """Return the links to a value that an object holds in a field.

    If no adapter knows another package's object, its code may read all that the field leads to. For an object of the
    user's, the walk knows what the code does with the field.
    """
    if type(value) in TELLS_ALL:
        return [(label, walk.link(value, name))]
    has_policy = policy_of(holder) is not None
    if not has_policy if of_others else label in walk.facts.handed:
        mark_introspectable(walk, value)
    if not of_others:
        # Code that is handed an object reaches all that the object leads to.
        whole = isinstance(value, type) or label in walk.facts.handed or id(holder) in walk.facts.whole
        return [(label, walk.link(value, walk.part_name(value, name), whole=whole))]
    if has_policy and type(value) is types.MethodType:
        # An object that an adapter knows only calls the methods that it holds.
        return [(label, walk.link(value, walk.part_name(value, name), whole=False))]
    return held_value_links(walk, value, label, name) if has_policy else setting_links(walk, value, label, name)


def setting_links(walk: Walk, value: Any, label: str, name: str) -> list[tuple[str, bytes]]:
    """Return the links to a field of another package's object, without the secrets in it."""
    if is_secret_field(label, value):
        return [(label, b"secret")]
    return held_value_links(walk, _without_secrets(walk, value, name), label, name, value)


def _without_secrets(walk: Walk, value: Any, name: str) -> Any:
    """Return the value without the secrets in it; containers with secrets are copied as they count."""
    return value if without_secrets(value) is value else without_secrets(_as_counted(walk, value, name, 0))


def _as_counted(walk: Walk, value: Any, name: str, depth: int) -> Any:
    """Return a copy of containers within containers, without what runs of the step have changed in them.

    The original is read, so that a change of it is noticed.
    """
    is_dict = isinstance(value, dict)
    if depth > DEPTH or not (is_dict or type(value) in (list, tuple)):
        return value
    walk.note_link(value)
    if is_dict:
        pairs = walk.read.entries(value, name)
        copy = {key: _as_counted(walk, inner, f"{name}[{key!r}]", depth + 1) for key, inner in pairs}
        return OrderedDict(copy) if type(value) is OrderedDict else copy
    items = walk.read.elements(value, list, name) if type(value) is list else value
    return type(value)(_as_counted(walk, each, name, depth + 1) for each in items)


def defaults_held(walk: Walk, function: FunctionType) -> list[tuple[int | str, Any]]:
    """Return the defaults of a function's parameters, by position and then by name."""
    walk.guard.attribute(function, "__defaults__", function.__defaults__)
    walk.guard.attribute(function, "__kwdefaults__", function.__kwdefaults__)
    keywords = function.__kwdefaults__ or {}
    if keywords:
        walk.guard.mapping(keywords, tuple(keywords), tuple(keywords.values()))
    return [*enumerate(function.__defaults__ or ()), *sorted(keywords.items())]


def held_value_links(walk: Walk, value: Any, label: str, name: str, original: Any = ABSENT) -> list[tuple[str, bytes]]:
    """Return links to a value that another package's object or function holds.

    A value that cannot be identified counts by its type, by those of its settings that can be identified, and by the
    user's things in it. If `value` is a copy without secrets, these are looked for in the `original`.
    """
    walk.note_link(value)
    if counts(walk, value):
        return [(label, walk.link(value, walk.part_name(value, name)))]
    walk.note_untracked(name, value)
    links = [(label, tokens("type", *counted_name(type(value)))), *patch_links(walk, type(value), name)]
    is_object = walk.origins.of_class(type(value)) is Owner.OTHER
    inner = _setting_entries(walk, value, name) if is_object else _identifiable_entries(walk, value, "", name)
    for shown, each in inner:
        # An object's settings count, but not the settings of objects that it holds: they would lead through a whole
        # library.
        if counts(walk, each) or (not is_object and walk.origins.of_class(type(each)) is Owner.OTHER):
            walk.limits.below(each, value)
            mark_introspectable(walk, each)
            links += setting_links(walk, each, f"{label}{shown}", f"{name}{shown}")
    for shown, each in _element_entries(walk, value, name) if is_object else ():
        links.append((f"{label}{shown}", tokens("type", *counted_name(type(each)))))
        for setting, inner in _setting_entries(walk, each, f"{name}{shown}"):
            if counts(walk, inner):
                walk.limits.below(inner, each)
                mark_introspectable(walk, inner)
                links += setting_links(walk, inner, f"{label}{shown}{setting}", f"{name}{shown}{setting}")
    return links + held_things_links(walk, value if original is ABSENT else original, label, name)


def _setting_entries(walk: Walk, value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the settings of another package's object; settings in containers are yielded one by one."""
    cls, contents = type(value), fields_of(value)
    if contents is None:
        return
    walk.limits.open(value, foreign=True)
    uncounted = {key for key in contents if not is_setting(cls, key)}
    uncounted |= meaningless_fields(value) | unread_displays(walk, value) | cached_property_names(cls)
    for setting, inner in walk.read.each_field(value, contents, name, uncounted):
        # A field that runs removed is among these, too.
        if is_setting(cls, setting) and not is_secret_field(setting, inner):
            yield from _identifiable_entries(walk, inner, f".{setting}", f"{name}.{setting}")


def _element_entries(walk: Walk, value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the objects of packages in the private containers of an object that only holds things, as a graph does."""
    cls, contents = type(value), fields_of(value)
    if (
        contents is None
        or hides_content(cls)
        or is_active(value, [each for _, each in walk.read.held_in(value, contents)])
    ):
        return
    uncounted = {key for key, each in contents.items() if is_setting(cls, key) or type(each) not in CONTAINERS}
    uncounted |= meaningless_fields(value) | cached_property_names(cls)
    for field, inner in walk.read.each_field(value, contents, name, uncounted):
        if is_secret_field(field, inner):
            continue
        for shown, each in _identifiable_entries(walk, inner, f".{field}", f"{name}.{field}"):
            if walk.origins.of_class(type(each)) is Owner.OTHER:
                yield shown, each


def _identifiable_entries(walk: Walk, value: Any, shown: str, name: str) -> Iterator[tuple[str, Any]]:
    """Yield a value as it is, or the entries of a container that cannot be identified as a whole, without secrets."""
    cls = type(value)
    if cls not in (dict, list, tuple) or counts(walk, value):
        yield shown, value
    elif walk.enters(value):
        pairs: Iterable[tuple[Any, Any]] = (("", each) for each in value)
        if cls is dict:
            pairs = walk.read.entries(value, name)
        elif cls is list:
            pairs = (("", each) for each in walk.read.elements(value, list, name))
        for key, each in pairs:
            if not is_secret_field(key, each):
                at = f"[{key!r}]" if type(key) in ATOMS and cls is dict else ""
                yield from _identifiable_entries(walk, each, f"{shown}{at}", f"{name}{at}")


def declared_field_links(walk: Walk, value: Any, name: str) -> list[tuple[str, bytes]]:
    """Return links to the declared fields of another package's dataclass or pydantic model.

    If an adapter says which fields do not count, these are left out. Otherwise the fields that a pydantic model itself
    excludes are left out, and of what a client holds the secrets, too.
    """
    cls, kind = type(value), policy_of(value)
    if is_dataclass(cls):
        names = [each.name for each in fields(cls)]
    else:
        declared = cls.__pydantic_fields__.items()
        names = [each for each, field in declared if kind is not None or not getattr(field, "exclude", None)]
    left_out = frozenset[str]() if kind is None else frozenset(kind.leaves_out(value, walk))
    links: list[tuple[str, bytes]] = []
    contents, is_setting_of_client = fields_of(value), walk.is_within_client()
    extra = fields_of(value, "__pydantic_extra__") or {}
    counted = {*names, *extra} - left_out
    for each in sorted(counted):
        mapping = next((fields for fields in (contents, extra) if fields is not None and each in fields), None)
        called = f"{name}.{each}"
        # An object may have slots beside its `__dict__`.
        inner = (
            walk.read.slot(value, each, called) if mapping is None else walk.read.field(value, mapping, each, called)
        )
        if inner is ABSENT:
            continue
        if hasattr(type(inner), "__next__"):  # the package's code uses the iterator up
            links += held_value_links(walk, inner, each, called)
            continue
        if kind is None:
            may_be_text = each == "token" or (each.endswith("token") and not is_setting_of_client)  # of a model
            if is_secret_field(each, inner) and not may_be_text:
                links.append((each, b"secret"))
                continue
            mark_introspectable(walk, inner)
            if is_setting_of_client:
                inner = _without_secrets(walk, inner, called)
        for part, label, shown in _counted_parts(walk, inner, each, called, left_out):
            links.append((label, walk.link(part, walk.part_name(part, shown))))
    if kind is not None and kind.shows is not None:
        return links  # all that it says of itself counts
    return links + _hidden_things_links(walk, value, counted, name)


def _hidden_things_links(walk: Walk, value: Any, counted: Collection[str], name: str) -> list[tuple[str, bytes]]:
    """Return links to the user's things in those fields of an object that do not count by themselves."""
    is_hidden = bool(cached_property_names(type(value)))
    for attribute in ("__dict__", "__pydantic_private__"):
        contents = fields_of(value, attribute) or {}
        for each in sorted(contents.keys() - counted):
            if contents[each] is None:  # a place for a client
                walk.guard.item(contents, each, None)
            is_hidden |= type(contents[each]) not in ATOMS
    return held_things_links(walk, value, "", name, counted) if is_hidden else []
