"""Find fields of the user's objects that no reached code reads: a start time, a folder of its own, a handle.

A field counts if reached code has its name, as an attribute or in a text. All fields of an object count if it is not
known which are read:

- The object is handed to other code.
- Its class has a base or a member from a package.
- Its class is a dataclass or a model.
- Reached code gets at fields by names that it computes.
"""

from __future__ import annotations

import ast
import re
from abc import ABCMeta
from collections.abc import Iterable, Iterator
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from musubito.code.describers.msgspec_structs import is_struct
from musubito.code.describers.object_policies import policy_of
from musubito.code.ownership import Owner, module_name
from musubito.values.class_names import canonical_module, qualified_name

if TYPE_CHECKING:
    from musubito.code.reachability import ReachabilityWalk
    from musubito.code.syntax.name_usage import NameUsage

__all__ = ["field_names", "gets_at_fields", "note_fields", "note_whole", "unread"]

GETTERS: Final = frozenset(
    [
        *("vars", "attrgetter", "getmembers", "__dict__", "__getattribute__", "__getstate__", "__slots__"),
        *("__reduce__", "__reduce_ex__", "eval", "exec", "globals", "locals"),
    ]
)
"""Names by which code gets at the fields of an object without naming the fields."""
BASES: Final = ("abc", "typing", "typing_extensions")
"""Modules with base classes that read no fields of an object."""
SCHEMAS: Final = ("__dataclass_fields__", "__pydantic_fields__", "__attrs_attrs__", "_field_defaults")
"""Attributes by which classes keep a schema of their fields."""
_WORD: Final = re.compile(r"[^\W\d]\w*")
"""A name within a text."""


def field_names(code: ast.AST) -> Iterator[str]:
    """Yield the names of fields that code may have in its texts and patterns."""
    for node in ast.walk(code):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _WORD.findall(node.value)
        elif isinstance(node, ast.MatchClass):
            yield from node.kwd_attrs


def gets_at_fields(code: ast.AST) -> bool:
    """Return whether code may get at fields in other ways than by names in it."""
    for node in ast.walk(code):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in GETTERS:
                return True
            case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[_, ast.Constant(value=str()), *_]):
                pass
            case ast.Call(func=ast.Name(id="getattr" | "hasattr")):
                return True
            case ast.Call(args=args) if any(isinstance(each, ast.Name) and each.id == "getattr" for each in args):
                return True
            case ast.ImportFrom(names=names) if any(each.name in GETTERS for each in names):
                return True
            case ast.MatchClass(patterns=[_, *_]):
                return True
    return False


def note_fields(walk: ReachabilityWalk, function: FunctionType, scan: NameUsage) -> None:
    """Note which fields one function reads, and whether it hands on the object that it is a method of."""
    facts = walk.facts
    facts.fields |= scan.fields
    facts.reads_fields |= scan.reads_fields
    place, _, _ = function.__code__.co_qualname.rpartition(".")
    if scan.hands_receiver and place and not place.endswith("<locals>"):
        module = function.__globals__.get("__name__")
        facts.handing.add((canonical_module(module) if isinstance(module, str) else "", place))


def note_whole(walk: ReachabilityWalk, value: Any) -> None:
    """Note that an object is reached in other ways than by the names of its fields."""
    cls = type(value)
    if not issubclass(cls, (FunctionType, type, ModuleType)) and walk.origins.of_class(cls) is Owner.USER:
        walk.facts.whole.add(id(value), value)


def unread(walk: ReachabilityWalk, value: Any, names: Iterable[str]) -> frozenset[str]:
    """Return the fields of an object that do not count."""
    cls, facts = type(value), walk.facts
    if facts.reads_fields or id(value) in facts.whole or policy_of(value) is not None or not _is_plain(walk, cls):
        return frozenset()
    if any(qualified_name(each) in facts.handing for each in cls.__mro__):
        return frozenset()
    return frozenset(each for each in names if each not in facts.fields)


def _is_plain(walk: ReachabilityWalk, cls: type) -> bool:
    """Return whether all that the methods of a class do is the user's code."""
    if is_struct(cls) or (type(cls) is not type and not issubclass(type(cls), ABCMeta)):
        return False
    if any(name in vars(each) for each in cls.__mro__ for name in SCHEMAS):
        return False
    for each in cls.__mro__[:-1]:
        if module_name(each) in BASES:
            continue
        if walk.origins.of_class(each) is not Owner.USER:
            return False
        for member in list(vars(each).values()):
            inner = getattr(member, "__func__", member)
            if isinstance(inner, FunctionType):
                if walk.origins.of_function(inner) is not Owner.USER:
                    return False
            elif walk.origins.of_class(type(inner)) is Owner.OTHER:
                return False
    return True
