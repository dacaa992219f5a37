"""Encode objects: records and the user's by their fields, those of packages by their settings and by their lines."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from musubito.code.client_settings import counted, counts, is_settings, lines_that_count
from musubito.code.displays import fields_to_build, objects_display
from musubito.code.live import ATOMS, CONTAINERS, contents, fields_of, step_of
from musubito.code.made import BY_LINES, Lines, lines_of_field
from musubito.code.object_fields import fields_in, is_record, without_keys
from musubito.code.ownership import Owner, counted_name, module_name
from musubito.code.policies import ObjectPolicy, policy_of, policy_of_class
from musubito.code.secret_fields import is_secret_field, without_secrets
from musubito.code.syntax.ast_digest import tokens
from musubito.code.value_texts import NUMBERS
from musubito.values.canonical import canonical
from musubito.values.class_names import secret_kind
from musubito.values.own_names import is_own

if TYPE_CHECKING:
    from musubito.code.values import Encoder
    from musubito.code.walk import Walk

FOR_MODELS: Final = ("prompt", "instruction", "content", "template", "model", "name", "description", "title", "version")
"""Words in the names of fields whose texts are shown of packages' objects."""
OF_CACHES: Final = frozenset({"__orig_class__", "__pydantic_fields_set__"})
"""Fields that do not determine what an object answers."""


def of_record(encoder: Encoder, value: Any, name: str) -> bytes:
    """Return the encoding of an object whose class declares its fields: all of them count, but for some settings."""
    own = tokens("record") + encoder.of_class(value)
    has_settings = is_settings(type(value))
    for field, each in fields_in(value):
        if field not in OF_CACHES and not (has_settings and not counts(encoder.walk, field)):
            own += _of_field(encoder, value, field, each, name)
    return own


def of_object(encoder: Encoder, value: Any, name: str) -> bytes:
    """Return the encoding of an object by its fields; one of the user's is a part of its own, unless an item."""
    is_part = value is not encoder.binding.value and encoder.is_users(type(value))
    if is_part and not (encoder.is_shown or encoder.is_item or isinstance(value, CONTAINERS)):
        return encoder.walk.refer(value, name, encoder.lines())
    policy = policy_of_class(type(value))
    return of_instance(encoder, value, name) if policy is None else _of_policy(encoder, value, name, policy)


def of_instance(encoder: Encoder, value: Any, name: str) -> bytes:
    """Return the encoding of an object of the user's: its class, and the fields that reached code mentions."""
    walk, cls = encoder.walk, type(value)
    own = tokens("object") + encoder.of_class(value)
    every = walk.is_whole(cls) or walk.reads_all_fields
    fields = fields_of(value)
    if fields is not None:
        walk.guard.attribute(value, "__dict__", fields)
        walk.guard.within(fields, fields)
    for field, each in fields_in(value):
        if every or field in walk.mentioned:
            own += _of_field(encoder, value, field, each, name)
        else:
            encoder.waits_for.add(field)
    for place in sorted(walk.places):
        of_object, _, field = place.rpartition(".")
        if of_object == name and (fields is None or field not in fields):  # the step will set it
            refer_lines_of_state(walk, place, lines_of_field(cls, field))
    if not encoder.is_open(cls):
        encoder.refer_lines(name)  # a base that is not the user's may hold more than fields
    return own


def _of_field(encoder: Encoder, value: Any, field: str, each: Any, name: str) -> bytes:
    cls, binding = type(value), encoder.binding
    is_users = encoder.is_users(cls)
    if is_users and value is binding.value:
        return encoder.walk.refer_field(value, field, each, functools.partial(lines_of_field, cls, field), binding)
    binding.fields.add(field)
    encoder.guard_field(value, field, each)
    if type(each) in ATOMS:  # as most fields are: no lines made them
        return tokens(field) + encoder.of(each, name)
    encoder.made.append(functools.partial(lines_of_field, cls, field) if is_users else lambda: None)
    try:
        return tokens(field) + encoder.of(each, f"{name}.{field}")
    finally:
        encoder.made.pop()


def _of_policy(encoder: Encoder, value: Any, name: str, policy: ObjectPolicy) -> bytes:
    """Return the encoding of an object that an adapter knows."""
    walk = encoder.walk
    if encoder.is_shown and policy.shows is not None and (shown := policy.shows(value, walk)) is not None:
        for field, each in fields_in(value):
            encoder.guard_field(value, field, each)
        others = (encoder.of(each, f"{name}.{label}") for label, each in sorted(shown.others.items()))
        return tokens("shown", canonical(shown.data)) + b"".join(others)
    module = module_name(type(value))
    outer, is_shown = encoder.is_shown, encoder.is_shown or objects_display(module)
    walk.met.append(value)
    own = tokens("object") + encoder.of_class(value)
    if policy.says is not None:
        own += tokens("says", canonical(policy.says(value)))
    for field, each, left in _fields_of_policy(walk, value, policy):
        encoder.guard_field(value, field, each)
        if left is not each:
            encoder.watch(each)
        # What code takes out of such a field itself is not only shown.
        encoder.is_shown = is_shown and field not in fields_to_build(module)
        if encoder.is_users(type(value)):
            own += _of_field(encoder, value, field, left, name)
        else:
            encoder.made.append(functools.partial(walk.lines.of_object, left))
            own += tokens(field) + encoder.of(left, f"{name}.{field}")
            encoder.made.pop()
    encoder.is_shown = outer
    return own


def _fields_of_policy(walk: Walk, value: Any, policy: ObjectPolicy) -> Iterator[tuple[str, Any, Any]]:
    """Yield the fields that count of an object that an adapter knows, each also without the keys left out."""
    built = set(fields_to_build(module_name(type(value))))
    left_out = {*policy.leaves_out(value, walk), *(built - walk.mentions(built)), *OF_CACHES}
    is_users = walk.origins.of_class(type(value)) is Owner.USER
    for field, each in fields_in(value):
        if field not in left_out and secret_kind(type(each)) is None:
            inner = (left.removeprefix(f"{field}.") for left in left_out if left.startswith(f"{field}."))
            left = without_keys(each, frozenset(inner))
            yield field, each, left if is_users else counted(field, left)


def of_other(encoder: Encoder, value: Any, name: str) -> bytes:
    """Return the encoding of any other object: its type, its plain settings, and what is the user's in it."""
    walk, cls = encoder.walk, type(value)
    walk.note_package(module_name(cls))
    own = tokens("type", *counted_name(cls))
    if secret_kind(cls) is not None:
        return own
    if value is encoder.binding.value:
        encoder.binding.of_package = True
    if is_own(module_name(cls)):
        encoder.refer_lines(name)  # an engine has an id and counters
        return own
    is_packages = walk.origins.of_class(cls) is Owner.OTHER
    if (there := fields_of(value)) is not None:
        walk.guard.within(there, there)
    for field, each in fields_in(value):
        if not field.startswith("_") and not is_secret_field(field, each) and (not is_packages or counts(walk, field)):
            encoder.guard_field(value, field, each)
            if type(each) in ATOMS:
                own += tokens(field, without_secrets(counted(field, each) if is_packages else each))
        if type(each) not in ATOMS and is_the_users(walk, each):
            encoder.guard_field(value, field, each)
            own += tokens(field) + encoder.of(each, f"{name}.{field}")
    if hasattr(cls, "__wrapped__") and is_the_users(walk, inner := value.__wrapped__):
        walk.guard.attribute(value, "__wrapped__", inner)  # a function in C's hands, as `wrapt` keeps it
        own += tokens("wraps") + encoder.of(inner, f"{name}.__wrapped__")
    counting = functools.partial(lines_that_count, walk) if is_packages else None
    how = BY_LINES if encoder.refer_lines(name, counting) else "its type alone"
    walk.note_untracked(name, value, how)
    return own


def refer_lines_of_state(walk: Walk, name: str, lines: Lines | None) -> None:
    """Let what the step changes itself count by the lines that made it, and by what they name."""
    if lines is not None:
        walk.refer_lines(name, lines.without_conditions())


def is_the_users(walk: Walk, value: Any) -> bool:
    """Return whether a value is code or an object of the user's."""
    function = value.__func__ if type(value) is MethodType else value
    if type(function) is FunctionType:
        return walk.origins.of_function(function) is Owner.USER or step_of(function) is not None
    cls = value if isinstance(value, type) else type(value)
    return walk.origins.of_class(cls) is Owner.USER and not isinstance(value, ModuleType)


def _is_known(value: Any) -> bool:
    """Tell whether a value is a number, an object that an adapter knows, or a list of such."""
    if isinstance(value, list | tuple):
        return all(map(_is_known, value))
    return type(value) in NUMBERS or policy_of(value) is not None


def fields_shown(walk: Walk, value: Any) -> list[tuple[str, Any]] | None:
    """Return the fields that are shown of an object; None for an object that does not count by its fields.

    Of what is a package's, a text is shown if the field is named as texts for models are: any other text may be a key.
    Of the variables around a package's function, only those are shown that hold numbers or what an adapter knows.
    """
    cls: type = type(value)
    policy = policy_of(value)
    is_users = walk.origins.of_class(cls) is Owner.USER
    fields = [(field, each) for field, each in fields_in(value) if field not in OF_CACHES]
    if policy is not None:
        fields = [(field, left) for field, _, left in _fields_of_policy(walk, value, policy)]
    elif cls is FunctionType:
        is_users = is_the_users(walk, value)
        is_named = is_users or "__wrapped__" in value.__dict__  # its name, or that of what it wraps, says enough
        variables = () if is_named else zip(value.__code__.co_freevars, value.__closure__ or (), strict=False)
        around = [(name, contents(cell)) for name, cell in variables]
        fields = [(name, held) for name, held in around if type(held) is str or _is_known(held)]
    elif not is_record(cls):
        if not is_users:
            return None
        every = walk.is_whole(cls) or walk.reads_all_fields
        fields = [(field, each) for field, each in fields if every or field in walk.mentioned]
    return [
        (field, each)
        for field, each in fields
        if is_users or type(each) is not str or any(word in field for word in FOR_MODELS)
    ]
