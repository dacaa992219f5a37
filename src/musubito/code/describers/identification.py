"""Decide whether a value that a package's object or function holds can be identified, with all that it holds itself."""

from __future__ import annotations

import functools
import operator
import re
import string
import threading
import types
import typing
import weakref
from array import array
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import datetime, time
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any

from musubito.code.describers.mock_objects import is_mock
from musubito.code.describers.object_contents import (
    base_value,
    declares_fields,
    encoded,
    is_secret_type,
    parts_in,
    stated_names,
)
from musubito.code.describers.object_parts import hides_content, is_active
from musubito.code.describers.object_policies import policy_of
from musubito.code.describers.object_settings import is_secret_field, is_type_adapter, url_text
from musubito.code.describers.sql_statements import is_statement
from musubito.code.describers.typing_objects import is_of_typing
from musubito.code.graph_record import ABSENT, ATOMS, fields_of, static
from musubito.code.machinery import is_machinery
from musubito.code.ownership import Owner, module_name
from musubito.code.state.access_paths import ELEMENTS
from musubito.code.state.access_reader import slots_of
from musubito.code.walk import Walk
from musubito.code.world.memory_databases import is_in_memory
from musubito.deferred import loaded_class
from musubito.values.own_names import is_own

DEPTH = 100
"""Levels of nesting below which nothing is entered."""
MOST_OBJECTS = 1000
"""Number of objects that are entered to decide whether a value can be identified.

For a client, containers count too. A value that holds more is no setting.
"""
WRAPPERS = frozenset({UserDict, UserList, UserString, ChainMap})
"""Classes of the standard library whose objects are containers with a field for the content."""
GETTERS = (operator.itemgetter, operator.attrgetter, operator.methodcaller)
"""Types of the getters in `operator`."""
VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
"""Types of the views of a dict."""
DESCRIPTORS = (
    *(types.MethodType, functools.partial, functools.partialmethod, functools.cached_property),
    *(property, classmethod, staticmethod, functools.singledispatchmethod),
)
"""Types of descriptors that wrap a function or an attribute."""
IN_C = (
    *(types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType),
    *(types.ClassMethodDescriptorType, types.MethodWrapperType),
)
"""Types of functions and methods that are written in C."""
IDENTIFIED = (
    *(FunctionType, type, ModuleType, *DESCRIPTORS, functools._lru_cache_wrapper, *GETTERS, *VIEWS),
    *(*IN_C, types.MemberDescriptorType, types.GetSetDescriptorType),
    *(re.Pattern, Enum, int, float, complex, str, bytes, bytearray, BaseException),
    *(types.MappingProxyType, types.SimpleNamespace, string.Template, slice, typing.TypeVar),
    *(datetime, time, array),
)
"""Types whose objects can be identified, whatever they hold.

The description of such an object lists itself what in it is not tracked.
"""


def counts(walk: Walk, value: Any) -> bool:
    """Return whether a value that an object or function of a package holds can be identified, with all in it."""
    if type(value) in ATOMS:
        return True
    if id(value) in walk.not_counting:
        return False
    judgement = _Judgement(walk, walk.is_within_client())
    judged = judgement.counts(value)
    if judged:
        walk.counting.update(judgement.entered)
    else:
        walk.not_counting[id(value)] = value, judgement.is_large()
    return judged


class _Judgement:
    """Decides whether a value counts with all that it holds."""

    def __init__(self, walk: Walk, only_settings: bool) -> None:
        self._walk = walk
        self._only_settings = only_settings
        """A client holds the value. A client's settings are small; anything larger there was not given to it."""
        self._objects = 0
        self.entered: dict[int, Any] = {}
        """The containers and the objects of packages that were entered, by id."""

    def is_large(self) -> bool:
        """Return whether more was entered than settings hold."""
        return self._objects > MOST_OBJECTS or (self._only_settings and len(self.entered) > MOST_OBJECTS)

    def counts(self, value: Any, depth: int = 0) -> bool:
        walk, cls = self._walk, type(value)
        if depth > DEPTH:
            return False
        if cls in ATOMS or cls is object or value is NotImplemented or cls in WRAPPERS or is_secret_type(cls):
            return True
        if static(value, "__musubito_step__") is not ABSENT or walk.origins.of_class(cls) is Owner.USER:
            return True
        if isinstance(value, IDENTIFIED) or typing.get_origin(value) is not None or is_of_typing(value):
            return True
        if isinstance(value, loaded_class("argparse", "Namespace")):
            return True
        if id(value) in self.entered or id(value) in walk.counting:
            return True
        if id(value) in walk.not_counting:
            return False
        if walk.is_unsettled(value):
            return True
        if isinstance(value, list | set | deque):
            return self._counts_all(value, walk.read.held_at(value, ELEMENTS, tuple(value)), depth)
        if isinstance(value, tuple | frozenset):
            return self._counts_all(value, value, depth)
        if isinstance(value, dict):
            return self._counts_all(value, [each for _, each in walk.read.held_in(value, value)], depth)
        if is_in_memory(value) or is_mock(value) or policy_of(value) is not None or encoded(value) is not None:
            return True
        if declares_fields(cls) and not is_machinery(value):  # a stream may be a dataclass
            return True
        if isinstance(value, ContextVar | threading.local) or base_value(value) is not None:
            return True
        origin = walk.origins.of_class(cls)
        if origin is Owner.OTHER and any(stated_names(value)[1:]):
            return True
        self._objects += 1
        if self.is_large() or is_own(module_name(cls)):
            return False
        if (
            issubclass(cls, weakref.ReferenceType)
            or is_type_adapter(value)
            or url_text(value) is not None
            or is_statement(value)
        ):
            return True
        parts = parts_in(value, origin)
        if parts is not None:
            self.entered[id(value)] = value
            return all(self.counts(each, depth + 1) for _, each in parts.held)
        fields = walk.read.held_in(value, fields_of(value) or {})
        if hides_content(cls) or is_active(value, [each for _, each in fields if not is_in_memory(each)]):
            return False
        if origin is Owner.STDLIB:
            return True
        fields += ((slot, walk.read.held_at(value, slot, held)) for slot, held in slots_of(value))
        return self._counts_all(value, [each for name, each in fields if not is_secret_field(name, each)], depth)

    def _counts_all(self, holder: Any, contents: Iterable[Any], depth: int) -> bool:
        self.entered[id(holder)] = holder
        if self.is_large():
            return False
        for value in contents:
            if type(value) not in ATOMS:
                self._walk.limits.below(value, holder)
                if not self.counts(value, depth + 1):
                    return False
        return True
