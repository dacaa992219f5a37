"""Make the identity of a value that need not be data: a context, configured values, what an exception holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from functools import cached_property, lru_cache, partial
from hashlib import sha256
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final

from langchain_core.runnables import Runnable

from musubito import EncodingError
from musubito.adapter import Fingerprint, warn
from musubito.code.argument_classes import fingerprints_of_classes
from musubito.code.ownership import Owner, Owners
from musubito.code.policies import remembers
from musubito.code.tracker import CodeTracker
from musubito.errors import LOGGER
from musubito.values.canonical import IdentityPacker, canonical
from musubito.values.class_names import canonical_module, is_value_alone, qualified_name, secret_kind
from musubito.values.msgpack_writer import HiddenDigest

ORIGINS: Final = Owners("")
_WARNED: Final[set[str]] = set()
DEEPEST: Final = 50
"""Number of levels of objects that are entered. Each level takes up several levels of what can be encoded."""
TELL_NOTHING: Final = ("_thread.", "threading.", "logging.")
"""Modules of locks and loggers: no answer depends on which lock or logger it is."""
OPEN: Final = frozenset({object, dict, list, tuple, set, frozenset})
OF_C: Final = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, MethodWrapperType)


class _Same:
    """A key that equals nothing but a key for the very same object."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


@lru_cache(256)
def _tracker(of: _Same) -> CodeTracker:
    return CodeTracker(of.thing, module="")


def code_of(value: Any) -> Fingerprint:
    """Return the present code of an object: a function, a Runnable, a client or another one that code can hold."""
    return _tracker(_Same(value)).current()


class Identity:
    """A builder of identities of values.

    - Data are their own identity.
    - Functions, classes and Runnables count by their code.
    - Other objects count by their class and by all that they hold.
    - An object without an identity (a client, a lock) counts by its type, which is noted.
    """

    def __init__(self, met: dict[bytes, Fingerprint]) -> None:
        """Make a builder; `met` collects the code of what was found."""
        self._met = met
        self.classes: set[type] = set()
        """Classes whose instances do not count by themselves, but by their contents."""
        self.remembers: list[str] = []
        """Names of values inside that answer by what was done with them, such as a store."""
        self.opaque: dict[str, str] = {}
        """Names of values inside that count by their type alone and may distinguish users, with the name of the
        type."""
        # The values are kept, so that no other object is given the id of one of them.
        self._seen: dict[int, tuple[int, Any]] = {}

    def of(self, value: Any, name: str, depth: int = 0) -> object:
        """Return the identity of the value with this name."""
        packer = IdentityPacker()
        try:
            packed = packer.pack(value)
        except EncodingError:
            pass
        else:
            self._meet(fingerprints_of_classes(packer.classes, ""))
            if depth == 0:
                return value
            # A digest, since data might be nested too deeply inside other identities.
            self.classes |= packer.classes
            return sha256(packed).digest()
        if id(value) in self._seen:
            return ["again", self._seen[id(value)][0]]
        self._seen[id(value)] = len(self._seen), value
        kind = type(value)
        of = f"{canonical_module(kind.__module__)}.{qualified_name(kind)[1]}"
        if remembers(value):
            self.remembers.append(name)
            return ["type", of]
        if depth < DEEPEST:
            try:
                return self._by_contents(value, of, name, depth)
            except Exception as error:
                # For example a proxy that has nothing behind it here.
                LOGGER.debug("%s has no identity: %r", name, error)
        self._cannot_identify(of, name)
        return ["type", of]

    def _cannot_identify(self, kind: str, name: str) -> None:
        runs = ""
        if not kind.startswith(TELL_NOTHING):
            self.opaque[name], runs = kind, ", and steps whose code names it run each time"
        if kind + name not in _WARNED:
            _WARNED.add(kind + name)
            leave = "" if name.startswith("context") else ", or leave it out with ignore_config"
            warn(
                f"{name} is a {kind}, which has no identity: it counts by its type alone{runs}. Give it a "
                f"`__musubito_identity__()`{leave}."
            )

    def _meet(self, codes: Iterable[Fingerprint]) -> list[bytes]:
        self._met.update({code.digest: code for code in codes})
        return [code.digest for code in codes]

    def _by_contents(self, value: Any, of: str, name: str, depth: int) -> object:
        kind = type(value)
        if isinstance(value, FunctionType | type | ModuleType):
            called = [
                canonical_module(str(getattr(value, name_of, "")))
                for name_of in ("__module__", "__qualname__", "__name__")
            ]
            if isinstance(value, type):
                called[1] = qualified_name(value)[1]
            code = code_of(value)
            if code.untracked and getattr(value, "__closure__", None):
                self._cannot_identify(code.untracked[0].rpartition(": ")[2].partition(",")[0], name)
            return [of, called, *self._meet([code])]
        if isinstance(value, Runnable):
            return [of, *self._meet([code_of(value)])]
        if isinstance(value, OF_C):
            owner = getattr(value, "__self__", None)
            by = canonical_module(owner.__name__) if type(owner) is ModuleType else self.of(owner, name, depth + 1)
            return [of, value.__qualname__, by]
        if secret_kind(kind) is not None and is_value_alone(value):
            if kind.__module__ != "pydantic.types":
                self.classes.add(kind)
            return [of, HiddenDigest(sha256(canonical([of, value.get_secret_value()])).digest())]
        holds = _held_by(value)
        is_users = ORIGINS.of_class(kind) is Owner.USER
        opaque = holds is None and not (is_users or is_dataclass(kind) or hasattr(kind, "__pydantic_fields__"))
        if opaque:
            # Objects that code can hold and that distinguish code: patterns, templates, getters, cached functions.
            code = code_of(value)
            if not code.untracked:
                return [of, *self._meet([code])]
        if opaque or (holds is None and not all(map(_is_open, kind.__mro__))):
            self._cannot_identify(of, name)
        if opaque:
            return ["type", of]
        contents = [self.of(part, f"{name}{at}", depth + 1) for at, part in holds or ()]
        if isinstance(value, set | frozenset):
            contents.sort(key=canonical)
        fields = sorted(_fields(value).items())
        self.classes.add(kind)
        return [
            of,
            self._meet(fingerprints_of_classes([kind], "")),
            contents,
            [[key, self.of(field, f"{name}.{key}", depth + 1)] for key, field in fields],
        ]


def _held_by(value: Any) -> list[tuple[str, Any]] | None:
    """Return what a container holds besides its attributes, each with its place; None for other objects."""
    match value:
        case dict():
            return [pair for key, part in value.items() for pair in ((" key", key), (f".{key}", part))]
        case list() | tuple():
            return [(f"[{number}]", part) for number, part in enumerate(value)]
        case set() | frozenset():
            return [("", part) for part in value]
        case partial():
            return [("", value.func), (" arguments", value.args), (" keywords", value.keywords)]
        case MethodType():
            return [("", value.__func__), ("", value.__self__)]
        case BaseException():
            return [(" arguments", value.args)]
    return None


def _is_open(cls: type) -> bool:
    """Tell whether instances keep nothing where Python does not see it, as instances of classes written in C do."""
    return cls in OPEN or not isinstance(vars(cls).get("__new__"), BuiltinFunctionType)


def _fields(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, whoever set them, without those that are computed from others."""
    kind = type(value)
    attributes = {slot: getattr(value, slot) for cls in kind.__mro__ for slot in _slots(cls) if hasattr(value, slot)}
    for more in ("__dict__", "__pydantic_extra__", "__pydantic_private__"):
        attributes.update(getattr(value, more, None) or {})
    return {key: item for key, item in attributes.items() if not isinstance(getattr(kind, key, None), cached_property)}


def _slots(cls: type) -> Iterator[str]:
    """Yield the slots of a class by the names that its instances have."""
    slots = vars(cls).get("__slots__", ())
    for slot in (slots,) if isinstance(slots, str) else slots:
        if not slot.startswith("__"):
            yield slot
        elif not slot.endswith("__"):
            yield f"_{cls.__name__.lstrip('_')}{slot}"
