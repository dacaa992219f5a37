"""Generate a check that nothing which a walk has read was bound, replaced or changed since.

Each binding is compared by `is`: so no `__eq__` of the user's is called, and an equal value of another type is noticed.
Containers are compared item by item, again by `is`. Anything else is described again and its bytes are compared: an
array, a frame, an object with a `__musubito_identity__()`. The check never raises: an error while it looks is a change.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from gc import get_referents
from itertools import count, islice
from operator import is_
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    NoneType,
)
from typing import Any, Final

from musubito.code.graph_record import contents
from musubito.code.rebound_functions import ATTRIBUTES, LATEST, TOLD, Unchanged

NAMES = re.compile(r"\bv\d+\b")
"""Matches the names of values in a condition, and perhaps a key that looks like one."""
VIEW: Final = type(dict[str, str]().values())
"""The type of a view of the values of a mapping."""
FIXED = (
    str,
    bytes,
    int,
    float,
    NoneType,
    FunctionType,
    BuiltinFunctionType,
    MemberDescriptorType,
    type,
    tuple,
    partial,
)
"""Types of values that conditions are made with, and that do not change."""
CHUNK = 200
"""Number of terms in one generated function."""
EXACT = (dict, MappingProxyType)
"""Mappings that can be read without their own code."""
ANNOTATIONS = frozenset({"__annotations__", "__annotations_cache__", "__annotate_func__"})
"""Members that Python adds to a class when its annotations are first asked for."""
MAPPINGS = (OrderedDict, dict, MappingProxyType)
"""Builtin classes of mappings. An OrderedDict comes first: it has an order of its own besides that of the dict."""


def base_of(mapping: Any) -> Any:
    """Return the builtin class whose methods tell what a mapping holds, in its order."""
    return next(base for base in MAPPINGS if isinstance(mapping, base))


@lru_cache(maxsize=32)
def _compiled(text: str) -> CodeType:
    """Return the code of a check; graphs that are built anew of the same functions have the same text."""
    return compile(text, "<musubito: what a step reaches>", "exec")


def _has_only_annotations_more(members: Mapping[str, object], first: int) -> bool:
    """Tell whether a class has its first `first` members, and after them only annotations that were asked for."""
    return len(members) >= first and ANNOTATIONS.issuperset(islice(members, first, None))


def _inside(value: object) -> Iterator[object]:
    """Yield the things that a value in a condition leads to at once."""
    if isinstance(value, tuple):
        yield from value
    elif isinstance(value, partial):
        yield from (value.func, *value.args)
    elif isinstance(value, FunctionType):
        yield from map(contents, value.__closure__ or ())
    elif isinstance(value, MethodType):
        yield value.__self__
    elif isinstance(value, VIEW):
        yield value.mapping


def _looked_at(describe: object) -> Iterator[object]:
    """Yield the things that a function which describes a thing looks at."""
    for each in _inside(describe):
        if isinstance(each, tuple | partial | FunctionType):
            yield from _looked_at(each)
        yield each


def _with_inside(value: object) -> Iterator[object]:
    yield value
    for each in _inside(value):
        yield from _with_inside(each) if isinstance(each, tuple) else (each, *_inside(each))


def _is_held(value: object, holders: Collection[int]) -> bool:
    # Each look at the members of a class makes another proxy of the same dict.
    return id(get_referents(value)[0] if type(value) is MappingProxyType else value) in holders


def _is_fixed(value: object) -> bool:
    return isinstance(value, FIXED) or type(value) is object


class Guard:
    """Collects conditions while the closure is walked, then becomes a function."""

    def __init__(self) -> None:
        # The name lets listeners that note each read of a thing recognise that this check reads.
        self._bound: dict[str, Any] = {"is_": is_, "ABSENT": object(), "__name__": __name__}
        self._names: dict[int, str] = {}
        self._numbers = count()
        self._terms: dict[str, tuple[object, ...]] = {}
        """The conditions, each with the things that it looks at."""
        self._of_functions: dict[str, tuple[FunctionType]] = {}
        """Conditions to check only if one of the functions was changed, each with its function."""

    def _name(self, value: object) -> str:
        """Return the name of a value in the check; the value is kept alive, so its id stays its own."""
        if value is None:
            return "None"
        name = self._names.get(id(value))
        if name is None:
            name = self._names[id(value)] = f"v{next(self._numbers)}"
            self._bound[name] = value
        return name

    def _term(self, term: str, *things: object) -> None:
        self._terms.setdefault(term, things)

    def item(self, mapping: Mapping[Any, Any], key: object, value: object) -> None:
        """Require `mapping[key] is value`; a missing key raises, which is a change."""
        shown = repr(key) if type(key) is str else self._name(key)
        if type(mapping) in EXACT:
            self._term(f"{self._name(mapping)}[{shown}] is {self._name(value)}", mapping)
        else:  # by way of `dict`, so that a derived class neither makes a default nor runs code
            self._term(
                f"{self._name(dict.get)}({self._name(mapping)}, {shown}, ABSENT) is {self._name(value)}", mapping
            )

    def absent(self, mapping: Mapping[str, Any], key: str) -> None:
        """Require that `mapping` has no such key."""
        self._term(f"{key!r} not in {self._name(mapping)}", mapping)

    def attribute(self, thing: object, name: str, value: object) -> None:
        """Require `thing.name is value`."""
        if TOLD and type(thing) is FunctionType and name in ATTRIBUTES:
            self._of_functions[f"{self._name(thing)}.{name} is {self._name(value)}"] = (thing,)
            return
        self._term(f"{self._name(thing)}.{name} is {self._name(value)}", thing)

    def kind(self, thing: object, cls: type) -> None:
        """Require `type(thing) is cls`, whatever class the thing claims."""
        self._term(f"type({self._name(thing)}) is {self._name(cls)}", thing)

    def kind_of_item(self, mapping: Mapping[str, Any], key: str, cls: type) -> None:
        """Require `type(mapping[key]) is cls`; a missing key raises, which is a change."""
        self._term(f"type({self._name(mapping)}[{key!r}]) is {self._name(cls)}", mapping)

    def items(self, container: Any, base: type[Any], values: tuple[object, ...]) -> None:
        """Require that a sequence, or an unchanged set, holds exactly these values in this order.

        `base` is the builtin type of the container.
        """
        name = self._name(container)
        if type(container) is list and len(values) <= 4:
            self._term(f"len({name}) == {len(values)}", container)
            for number, value in enumerate(values):
                self._term(f"{name}[{number}] is {self._name(value)}", container)
            return
        size, items = f"len({name})", name
        if type(container) is not base:
            size, items = f"{self._name(base.__len__)}({name})", f"{self._name(base.__iter__)}({name})"
        self._term(f"{size} == {len(values)} and all(map(is_, {items}, {self._name(values)}))", container)

    def mapping(self, container: Any, keys: tuple[object, ...], values: tuple[object, ...]) -> None:
        """Require that a mapping holds exactly these keys, with these values."""
        name = self._name(container)
        if type(container) in EXACT and len(keys) <= 12 and all(type(key) is str for key in keys):
            self._term(f"len({name}) == {len(keys)}", container)
            for key, value in zip(keys, values, strict=True):
                self.item(container, key, value)
            return
        shown, items, base = name, f"{name}.values()", base_of(container)
        if type(container) is not base:
            shown, items = f"{self._name(base.keys)}({name})", f"{self._name(base.values)}({name})"
        self._term(f"len({shown}) == {len(keys)}", container)
        self._term(f"all(map(is_, {shown}, {self._name(keys)}))", container)
        self._term(f"all(map(is_, {items}, {self._name(values)}))", container)

    def entries(self, mapping: Any, keys: Sequence[object]) -> None:
        """Require that the values of a mapping under these keys stay what they are; for many keys, one condition."""
        values = tuple(mapping[key] for key in keys)
        look, keys = f"{self._name(mapping)}.__getitem__", tuple(keys)
        self._term(f"all(map(is_, map({look}, {self._name(keys)}), {self._name(values)}))", mapping)

    def members(self, cls: type, values: tuple[object, ...]) -> None:
        """Require that the members of a class are these values, in this order.

        Python adds annotations to a class when they are first asked for, which changes nothing.
        """
        view = self._name(vars(cls).values())
        grown = self._name(partial(_has_only_annotations_more, vars(cls), len(values)))
        self._term(f"(len({view}) == {len(values)} or {grown}()) and all(map(is_, {view}, {self._name(values)}))", cls)

    def within(self, container: Any, keys: Iterable[object]) -> None:
        """Require that a mapping holds no other keys than these."""
        self._term(f"{self._name(frozenset(keys))}.issuperset({self._name(container)})", container)

    def same(self, describe: Callable[[], object], result: object) -> None:
        """Require that `describe()` still returns the same."""
        self._term(f"{self._name(describe)}() == {self._name(result)}", *_looked_at(describe))

    def without(self, holders: Collection[int]) -> Guard | None:
        """Return a guard of the conditions on other things than these, which are told by their ids.

        Return None if other things lead to one of these: then its conditions are needed, too.
        """
        guard = Guard()
        guard._bound, guard._numbers = {name: self._bound[name] for name in guard._bound}, self._numbers
        for terms, kept in ((self._terms, guard._terms), (self._of_functions, guard._of_functions)):
            for term, things in terms.items():
                held = [_is_held(thing, holders) for thing in things]
                if any(held) and all(is_held or _is_fixed(each) for each, is_held in zip(things, held, strict=True)):
                    continue
                bound = {name: self._bound[name] for name in NAMES.findall(term) if name in self._bound}
                if any(held) or any(
                    _is_held(each, holders) for value in bound.values() for each in _with_inside(value)
                ):
                    return None
                kept[term] = things  # type: ignore[assignment]
                guard._bound |= bound
        guard._names = {id(value): name for name, value in guard._bound.items()}
        return guard

    def build(self) -> Callable[[], bool]:
        """Return the check: a function that returns whether all conditions still hold."""
        terms = [*self._terms]
        if self._of_functions:
            look = Guard()
            look._bound, look._terms = dict(self._bound), dict(self._of_functions)
            functions = {id(function): function for (function,) in self._of_functions.values()}
            unchanged = Unchanged([*functions.values()], look.build)
            terms.append(f"({self._name(LATEST)}[0] is {(name := self._name(unchanged))}.since or {name}())")
        chunks = [terms[start : start + CHUNK] for start in range(0, len(terms), CHUNK)]
        lines: list[str] = []
        for number, chunk in enumerate(chunks):
            lines += [f"def c{number}():", f"    return {' and '.join(chunk)}"]
        called = " and ".join(f"c{number}()" for number in range(len(chunks)))
        if len(chunks) == 1:
            lines, called = [], " and ".join(chunks[0])
        lines += [
            "def check():",
            "    try:",
            f"        return {called or True}",
            "    except Exception:",
            "        return False",
        ]
        exec(_compiled("\n".join(lines)), self._bound)  # noqa: S102 - of our own text only
        check: Callable[[], bool] = self._bound["check"]
        return check
