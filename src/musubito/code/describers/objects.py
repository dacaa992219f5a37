"""Describe an object that code reaches and that is neither plain data, nor code, nor a container.

- An object of the user's counts by its class and its fields. The fields that its own methods write do not count.
- An object of the standard library counts by its content, if the canonical encoding has one.
- A database in memory counts by its content.
- An object of another package counts by the declared fields of a dataclass or pydantic model, or by its content.
- Any other object of a package counts by its type and by those fields that can be identified.
- A `threading.local` counts by the fields that the code names, with their values in this thread.
- A secret counts by its type alone.
- Anything else counts by its type, and is listed as not tracked.
"""

from __future__ import annotations

import functools
import threading
import weakref
from contextvars import ContextVar
from datetime import datetime, time
from typing import Any

from musubito.code.describers.held_things import held_things_links
from musubito.code.describers.identification import WRAPPERS, counts
from musubito.code.describers.introspection import mark_introspectable
from musubito.code.describers.iterators import iterator_parts
from musubito.code.describers.mock_objects import describe_mock, is_mock
from musubito.code.describers.object_contents import (
    array_encoding,
    base_value,
    cached_property_names,
    declares_fields,
    described_parts,
    encoded,
    generator_state,
    identity_of,
    is_masked,
    is_secret_type,
    parts_in,
    stated_names,
)
from musubito.code.describers.object_fields import declared_field_links, field_links, held_value_links
from musubito.code.describers.object_parts import SHOWN, Parts, comparable_parts, hides_content, is_active
from musubito.code.describers.object_policies import Shown, policy_of
from musubito.code.describers.object_settings import (
    FIXED_URLS,
    is_type_adapter,
    type_adapter_parts,
    url_text,
    without_secrets,
)
from musubito.code.describers.patched_packages import patch_links
from musubito.code.describers.sql_statements import is_statement, statement_parts
from musubito.code.describers.unread_fields import REFLECTION, is_read_by_name
from musubito.code.fixpoint_facts import FIELDS
from musubito.code.graph_record import ABSENT, GraphRecord, fields_of, static
from musubito.code.machinery import is_machinery
from musubito.code.ownership import Owner, Owners, counted_name, module_name
from musubito.code.state.access_paths import Described
from musubito.code.state.access_reader import value_of
from musubito.code.syntax.ast_digest import tokens
from musubito.code.walk import Walk
from musubito.code.world.memory_databases import UNREADABLE, content_in_memory, is_in_memory, memory_database
from musubito.values.canonical import canonical
from musubito.values.class_instances import is_derived
from musubito.values.own_names import is_own

UNCHANGING = frozenset(
    {"builtins", "datetime", "decimal", "fractions", "pathlib", "pathlib._local", "uuid", "zoneinfo"}
)
"""Modules of the standard library whose objects cannot change: their content need not be watched."""
PASSIVE = frozenset({"abc", "builtins", "enum", "typing", "typing_extensions", "pydantic.main"})
"""Modules with base classes that leave the fields of an object alone."""


def describe_object(walk: Walk, value: Any, name: str) -> GraphRecord:
    """Return the record of an object."""
    cls, kind = type(value), policy_of(value)
    walk.guard.kind(value, cls)
    shown = kind.shows(value, walk) if kind is not None and kind.shows is not None and walk.is_shown(value) else None
    if shown is not None:
        return _describe_shown(walk, value, name, shown)
    origin = walk.origins.of_class(cls)
    if is_mock(value) and static(value, "__musubito_identity__") is ABSENT:
        return describe_mock(walk, value, name)
    whole = origin is not Owner.USER or not is_read_by_name(walk, value)
    links = [("class", walk.link(cls, walk.part_name(cls, name), whole=whole))]
    parts: Parts
    if issubclass(cls, threading.local):
        return _describe_thread_local(walk, value, name, links)
    if is_in_memory(value):
        return _describe_database(walk, value, name, links)
    if origin is not Owner.USER or _is_derived(walk, cls):
        walk.limits.open(value, foreign=origin is not Owner.USER)
    if origin is Owner.OTHER and is_machinery(value):
        walk.note_client(value)
    if static(value, "__musubito_identity__") is not ABSENT:
        try:
            identity = walk.read.content(value, identity_of, name)
        except Exception as error:
            walk.note_untracked(f"{name} ({error})", value)
            return GraphRecord(tokens("says nothing"), links)
        return GraphRecord(tokens("says", identity), links)
    if is_secret_type(cls):
        return GraphRecord(tokens("secret"), links)
    if kind is not None:
        walk.met.append(value)
    said_of_it = tokens("said", canonical(kind.says(value))) if kind is not None and kind.says is not None else b""
    if cls in WRAPPERS:
        return GraphRecord(tokens("object"), [*links, *field_links(walk, value, name)])
    if origin is Owner.OTHER and (text := url_text(value)) is not None:
        if cls.__module__.partition(".")[0] not in FIXED_URLS:
            walk.guard.same(lambda: url_text(value), text)
        return GraphRecord(tokens("url", text), links)
    if origin is Owner.OTHER and is_statement(value) and (said := statement_parts(value)) is not None:
        held = held_things_links(walk, value, "", name)
        return GraphRecord(tokens("statement"), [*links, *walk.links(said, name), *held])
    if origin is Owner.USER:
        own = tokens("object", _base_content(walk, value, name)) + said_of_it
        return GraphRecord(own, [*links, *_zone_links(walk, value, name), *field_links(walk, value, name)])
    if declares_fields(cls):
        return GraphRecord(tokens("object") + said_of_it, [*links, *declared_field_links(walk, value, name)])
    if kind is not None:
        return GraphRecord(tokens("object") + said_of_it, [*links, *field_links(walk, value, name, only_data=True)])
    if is_masked(value) and array_encoding(value) is not None:
        return GraphRecord(tokens("masked", walk.read.content(value, array_encoding, name)), links)
    if not is_masked(value) and not is_derived(value) and (described := encoded(value)) is not None:
        if module_name(cls) not in UNCHANGING:
            described = walk.read.content(value, encoded, name)
        return GraphRecord(tokens("data", described), links)
    if cls is ContextVar:
        return _describe_context_variable(walk, value, name)
    if base_value(value) is not None:
        content = walk.read.content(value, base_value, name)
        return GraphRecord(tokens("content", content), [*links, *_zone_links(walk, value, name)])
    if generator_state(value) is not None:
        return GraphRecord(tokens("generator", walk.read.content(value, generator_state, name)), links)
    if is_own(module_name(cls)):
        return describe_untracked(walk, value, name)
    if issubclass(cls, weakref.ReferenceType) or _is_proxy_of_the_users(walk, value):
        return _describe_weak_reference(walk, value, links)
    if is_type_adapter(value):
        return GraphRecord(tokens("adapter"), links + walk.links(type_adapter_parts(value), name))
    if walk.live and iterator_parts(walk.origins, value) is not None:
        parts = walk.read.content(value, functools.partial(_described_iterator, walk.origins), name).value
        return GraphRecord(parts.own, links + walk.links(parts.held, name))
    if parts_in(value, origin) is not None:
        parts = walk.read.content(value, functools.partial(described_parts, origin), name).value
        for label, each in parts.held:
            links += held_value_links(walk, without_secrets(each), label, f"{name}.{label}")
        return GraphRecord(tokens("parts", parts.own), links)
    idle = not is_active(value, [each for _, each in walk.read.held_in(value, fields_of(value) or {})])
    if origin is Owner.STDLIB and (hides_content(cls) or not idle):
        if idle:
            walk.note_unidentified(name, value)
        links = [*patch_links(walk, cls, name), *held_things_links(walk, value, "", name)]
        return describe_untracked(walk, value, name)._replace(links=links)
    names, inner = stated_names(value), field_links(walk, value, name, only_data=True)
    if not any(names[1:]) and hides_content(cls):
        walk.note_untracked(name, value)
        if idle and not inner:
            walk.note_unidentified(name, value)
    return GraphRecord(tokens("object", *names), [*links, *inner])


def _described_iterator(origins: Owners, value: Any) -> Described:
    parts = iterator_parts(origins, value)
    return Described(comparable_parts(parts), parts)


def _describe_database(walk: Walk, value: Any, name: str, links: list[tuple[str, bytes]]) -> GraphRecord:
    """Describe a database in memory by its content; what one step stores there counts for the others."""
    walk.limits.open(value)
    walk.limits.add_below(value)
    content = walk.read.content(value, content_in_memory, name)
    if UNREADABLE in (content, content_in_memory(value)):  # a run of the step may have left it so
        walk.unreadable.add(name)
    database = memory_database(type(value))
    settings = () if database is None else database.settings
    links += held_things_links(walk, value, "", name, settings)
    for setting in settings:
        held = getattr(value, setting, None)
        walk.guard.attribute(value, setting, held)
        links += held_value_links(walk, held, setting, f"{name}.{setting}")
    return GraphRecord(tokens("database", content), links)


def _describe_shown(walk: Walk, value: Any, name: str, shown: Shown) -> GraphRecord:
    """Return the record of an object that is only shown: the data that its kind shows."""
    contents, computed = fields_of(value) or {}, cached_property_names(type(value))
    for field, each in contents.items():
        if field not in computed:
            walk.guard.item(contents, field, each)
    walk.guard.within(contents, computed.union(contents))
    others = sorted(shown.others.items())
    links = [(label, walk.link(each, f"{name}.{label}", shown=True)) for label, each in others]
    return GraphRecord(tokens("shown", canonical(shown.data)), links)


def _is_derived(walk: Walk, cls: type) -> bool:
    """Return whether methods of a base class from another package may change the fields of a user's object."""
    bases = (base for base in cls.__mro__[1:-1] if module_name(base) not in PASSIVE and not declares_fields(base))
    return any(walk.origins.of_class(base) is not Owner.USER for base in bases)


def _is_proxy_of_the_users(walk: Walk, value: Any) -> bool:
    """Return whether a value is a weak proxy of an object of the user's; a package's client may have some of itself."""
    is_proxy = type(value) in (weakref.ProxyType, weakref.CallableProxyType)
    return is_proxy and walk.origins.of_class(type(_referent(value))) is Owner.USER


def _referent(reference: Any) -> Any:
    if issubclass(type(reference), weakref.ReferenceType):
        return reference()
    try:
        return reference.__init__.__self__  # a proxy looks up all attributes in its referent
    except (ReferenceError, AttributeError):
        return None


def _describe_weak_reference(walk: Walk, reference: Any, links: list[tuple[str, bytes]]) -> GraphRecord:
    """Describe a weak reference or proxy by its referent, which nothing here keeps alive."""
    if not walk.outermost:
        return GraphRecord(tokens("reference"), links)
    described = walk.digest_apart(_referent(reference))
    digest = walk.digest_apart
    walk.guard.same(lambda: digest(_referent(reference)), described)
    return GraphRecord(tokens("reference", described), links)


def _base_content(walk: Walk, value: Any, name: str) -> bytes | None:
    """Return the value that a user's object has from a base not written in Python, besides `__dict__` and slots.

    If such a base class hides a value that cannot be read, the object is noted as not tracked.
    """
    if isinstance(value, SHOWN):
        return None
    if base_value(value) is not None:
        described: bytes = walk.read.content(value, base_value, name)
        return described
    if hides_content(type(value)):
        walk.note_untracked(name, value)
    return None


def _zone_links(walk: Walk, value: Any, name: str) -> list[tuple[str, bytes]]:
    """Return a link to the time zone of a time; a zone may be an object of any class."""
    if not issubclass(type(value), datetime | time) or value.tzinfo is None:
        return []
    return [("zone", walk.link(value.tzinfo, f"{name}.tzinfo"))]


def _describe_context_variable(walk: Walk, variable: ContextVar[Any], name: str) -> GraphRecord:
    """Describe a context variable by the value that it holds at the call."""
    there = value_of(variable)
    if there is ABSENT or counts(walk, there) or isinstance(there, dict | list | tuple):
        walk.guard.same(lambda: value_of(variable) is there, True)
    else:
        walk.guard.same(lambda: type(value_of(variable)), type(there))
    contents = walk.read.variable(variable, name)
    if contents is ABSENT:
        return GraphRecord(tokens("variable"), [])
    mark_introspectable(walk, contents)
    return GraphRecord(tokens("variable"), held_value_links(walk, contents, "value", name))


def _describe_thread_local(walk: Walk, local: Any, name: str, links: list[tuple[str, bytes]]) -> GraphRecord:
    """Describe a `threading.local` by the values that its named fields hold in this thread at the call."""
    walk.met.append(local)
    facts = walk.facts
    are_named = FIELDS not in facts.looks and not facts.fields.meets(REFLECTION)
    for field, value in walk.read.of_thread(local, facts.fields if are_named else None, name):
        mark_introspectable(walk, value)
        links += held_value_links(walk, value, field, f"{name}.{field}")
    return GraphRecord(tokens("thread local"), links)


def describe_untracked(walk: Walk, value: Any, name: str) -> GraphRecord:
    """Describe a value by its type alone, and list it as not tracked."""
    walk.note_untracked(name, value)
    return GraphRecord(tokens("type", *counted_name(type(value))), [])
