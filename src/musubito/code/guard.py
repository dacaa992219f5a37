"""Generate a check that nothing which a walk has read was bound, replaced or changed since.

Each binding is compared by `is`: so no `__eq__` of the user's is called, and an equal value of another type is noticed.
Where plain data was bound anew, it is compared by what it holds.
Containers are compared item by item, again by `is`. Anything else is described again and its bytes are compared: an
array, a frame, an object with a `__musubito_identity__()`. The check never raises: an error while it looks is a change.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from functools import lru_cache, partial
from itertools import islice
from operator import is_, itemgetter
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any

from musubito.code.live import ATOMS, CONTAINERS, fields_of
from musubito.code.object_fields import fields_in
from musubito.code.rebound_functions import ATTRIBUTES, LATEST, TOLD, Unchanged

MAX_WATCHED = 10_000
"""Number of values within one part that are compared."""
SAMPLE = 65_536
"""Bytes of an array that are compared at each call."""
CHUNK = 200
"""Number of terms in one generated function."""
MIN_GATHERED = 8
"""Number of items of one mapping from which on they are read at once."""
EXACT = (dict, MappingProxyType)
"""Mappings that can be read without their own code."""
DATA = frozenset({str, bytes, int, dict, list, tuple})
"""Types of plain data that are compared by what they hold where they are bound anew."""
MAX_DEPTH = 20
"""Levels of nesting at which such data is compared."""
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


def _is_same(value: Any, known: Any, depth: int = 0) -> bool:
    """Tell whether a value is the known one, or plain data that holds the same."""
    if value is known:
        return True
    kind = type(value)
    if kind is not type(known) or kind not in DATA or depth > MAX_DEPTH:
        return False
    if kind is dict:
        both = ((value.keys(), known.keys()), (value.values(), known.values()))
        return len(value) == len(known) and all(
            _is_same(a, b, depth + 1) for pair in both for a, b in zip(*pair, strict=True)
        )
    if kind is list or kind is tuple:
        return len(value) == len(known) and all(_is_same(a, b, depth + 1) for a, b in zip(value, known, strict=True))
    return bool(value == known)


def _has_only_annotations_more(members: Mapping[str, object], count: int) -> bool:
    """Tell whether a class has its first `count` members, and after them only annotations that were asked for."""
    return len(members) >= count and ANNOTATIONS.issuperset(islice(members, count, None))


class Guard:
    """Collects conditions while the closure is walked, then becomes a function."""

    def __init__(self, unwatched: Collection[str] = ()) -> None:
        self._unwatched = frozenset(unwatched)
        """Parts whose conditions are left out."""
        self.owner = ""
        """The part that is being described."""
        self._room = math.inf
        """Number of values that may still be compared for this part."""
        self._owners: dict[str, str] = {}
        """The parts of the terms that ask an object what it is: some objects answer otherwise each time."""
        # The name lets listeners that note each read of a thing recognise that this check reads.
        self._bound: dict[str, Any] = {"is_": is_, "ABSENT": object(), "__name__": __name__}
        self._names: dict[int, str] = {}
        self._terms: list[str] = []
        self._functions: dict[int, FunctionType] = {}
        self._of_functions: list[str] = []
        """Terms to check only if one of the functions was changed."""
        self._seen: set[str] = set()
        self._items: dict[int, tuple[Mapping[Any, Any], dict[str, tuple[object, str]]]] = {}
        """The items of mappings, each with the part whose condition it is."""

    def begin(self, part: str = "") -> None:
        """Note conditions as those of this part. Of a part that is very large, what lies inside is not compared."""
        self.owner, self._room = part, MAX_WATCHED if part else math.inf

    def has_room(self) -> bool:
        """Return whether more of this part is compared."""
        return self._room > 0

    def _name(self, value: object) -> str:
        """Return the name of a value in the check; the value is kept alive, so its id stays its own."""
        if value is None:
            return "None"
        name = self._names.get(id(value))
        if name is None:
            name = self._names[id(value)] = f"v{len(self._names)}"
            self._bound[name] = value
        return name

    def _is(self, shown: str, value: object) -> str:
        """Return the term that says that what is shown is this value, or the same data."""
        term = f"{shown} is {self._name(value)}"
        return f"({term} or {self._name(_is_same)}({shown}, {self._name(value)}))" if type(value) in DATA else term

    def _term(self, term: str, owner: str = "", *, asks: bool = False) -> None:
        owner = owner or self.owner
        if term not in self._seen and owner not in self._unwatched:
            self._seen.add(term)
            self._room -= 1
            self._terms.append(term)
            if owner and asks:
                self._owners[term] = owner

    def failing(self) -> set[str]:
        """Return the parts of which an attribute or a description is another one now."""
        failed: set[str] = set()
        for term, owner in self._owners.items():
            try:
                holds = eval(term, self._bound)  # noqa: S307 - of our own text only
            except Exception:
                holds = False
            if not holds:
                failed.add(owner)
        return failed

    def item(self, mapping: Mapping[Any, Any], key: object, value: object, owner: str = "") -> None:
        """Require that `mapping[key]` is the value; a missing key raises, which is a change."""
        if self._room <= 0:
            return
        shown = repr(key) if type(key) is str else self._name(key)
        owner = owner or self.owner
        if type(key) is str and type(mapping) in EXACT and owner not in self._unwatched:
            self._room -= 1
            kept = self._items.setdefault(id(mapping), (mapping, {}))[1].setdefault(key, (value, owner))
            if kept[0] is value:
                return  # otherwise it has changed while the walk goes on: the check will fail
        if type(mapping) in EXACT:
            self._term(self._is(f"{self._name(mapping)}[{shown}]", value), owner)
        else:  # by way of `dict`, so that a derived class neither makes a default nor runs code
            self._term(self._is(f"{self._name(dict.get)}({self._name(mapping)}, {shown}, ABSENT)", value), owner)

    def absent(self, mapping: Mapping[str, Any], key: str) -> None:
        """Require that `mapping` has no such key."""
        self._term(f"{key!r} not in {self._name(mapping)}")

    def attribute(self, thing: object, name: str, value: object, owner: str = "") -> None:
        """Require that `thing.name` is the value."""
        if self._room <= 0:
            return
        if TOLD and type(thing) is FunctionType and name in ATTRIBUTES:
            self._functions[id(thing)] = thing
            self._of_functions.append(f"{self._name(thing)}.{name} is {self._name(value)}")
            return
        self._term(self._is(f"{self._name(thing)}.{name}", value), owner, asks=True)

    def items(self, container: Any, base: type[Any], values: tuple[object, ...], owner: str = "") -> None:
        """Require that a sequence, or an unchanged set, holds exactly these values in this order.

        `base` is the builtin type of the container.
        """
        if self._room <= 0:
            return
        name = self._name(container)
        if type(container) is list and len(values) <= 4:
            self._term(f"len({name}) == {len(values)}", owner)
            for number, value in enumerate(values):
                self._term(f"{name}[{number}] is {self._name(value)}", owner)
            return
        count, items = f"len({name})", name
        if type(container) is not base:
            count, items = f"{self._name(base.__len__)}({name})", f"{self._name(base.__iter__)}({name})"
        self._term(f"{count} == {len(values)} and all(map(is_, {items}, {self._name(values)}))", owner)
        self._room -= len(values)

    def mapping(self, container: Any, keys: tuple[object, ...], values: tuple[object, ...], owner: str = "") -> None:
        """Require that a mapping holds exactly these keys, with these values."""
        if self._room <= 0:
            return
        name = self._name(container)
        if type(container) in EXACT and len(keys) <= 12 and all(type(key) is str for key in keys):
            self._term(f"len({name}) == {len(keys)}", owner)
            for key, value in zip(keys, values, strict=True):
                self.item(container, key, value, owner)
            return
        shown, items, base = name, f"{name}.values()", base_of(container)
        if type(container) is not base:
            shown, items = f"{self._name(base.keys)}({name})", f"{self._name(base.values)}({name})"
        self._term(f"len({shown}) == {len(keys)}", owner)
        self._term(f"all(map(is_, {shown}, {self._name(keys)}))", owner)
        self._term(f"all(map(is_, {items}, {self._name(values)}))", owner)
        self._room -= len(keys)

    def members(self, cls: type, values: tuple[object, ...], owner: str = "") -> None:
        """Require that the members of a class have these values, in this order.

        Python adds annotations to a class when they are first asked for, which changes nothing.
        """
        view = self._name(vars(cls).values())
        grown = self._name(partial(_has_only_annotations_more, vars(cls), len(values)))
        self._term(
            f"(len({view}) == {len(values)} or {grown}()) and all(map(is_, {view}, {self._name(values)}))", owner
        )

    def within(self, container: Any, keys: Iterable[object]) -> None:
        """Require that a mapping holds no other keys than these."""
        if self._room > 0:
            self._term(f"{self._name(frozenset(keys))}.issuperset({self._name(container)})")

    def same(self, describe: Callable[[], object], result: object, owner: str = "") -> None:
        """Require that `describe()` still returns the same."""
        if self._room > 0:
            self._term(f"{self._name(describe)}() == {self._name(result)}", owner, asks=True)

    def content(self, value: Any) -> list[Any]:
        """Require that a value holds what it holds now; return what it holds, whose content can be required in turn.

        Of an array, a sample is compared.
        """
        kind = type(value)  # a proxy may claim another class
        if issubclass(kind, dict):
            keys, values = tuple(dict.keys(value)), tuple(dict.values(value))
            self.mapping(value, keys, values)
            held: Iterable[Any] = (*keys, *values)
        elif issubclass(kind, list | set | deque):
            base: Any = next(base for base in kind.__mro__ if base in CONTAINERS)
            held = tuple(base.__iter__(value))
            self.items(value, base, held)
        elif issubclass(kind, tuple | frozenset):
            held = value
        elif issubclass(kind, bytearray):
            self.same(partial(bytes, value), bytes(value))
            held = ()
        elif kind.__module__.partition(".")[0] in ("numpy", "pandas"):
            self.same(partial(_sample, value), _sample(value))
            held = ()
        elif issubclass(kind, type | ModuleType | Enum):
            held = ()
        else:
            for fields in (fields_of(value), fields_of(value, "__pydantic_private__")):
                if fields is not None:
                    self.mapping(fields, tuple(fields), tuple(fields.values()))
            held = (each for _, each in fields_in(value))
        return [item for item in held if type(item) not in ATOMS]

    def build(self) -> Callable[[], bool]:
        """Return the check: a function that returns whether all conditions still hold."""
        if self._of_functions:
            look = Guard()
            look._bound, look._terms = dict(self._bound), list(dict.fromkeys(self._of_functions))
            name = self._name(Unchanged([*self._functions.values()], look.build))
            self._term(f"({self._name(LATEST)}[0] is {name}.since or {name}())")
        for mapping, items in self._items.values():
            values = tuple(value for value, _ in items.values())
            if len(items) < MIN_GATHERED:
                self._terms += [self._is(f"{self._name(mapping)}[{key!r}]", items[key][0]) for key in items]
            else:
                read = f"{self._name(itemgetter(*items))}({self._name(mapping)})"
                same = f"all(map({self._name(_is_same)}, {read}, {self._name(values)}))"
                self._terms.append(f"(all(map(is_, {read}, {self._name(values)})) or {same})")
        chunks = [self._terms[start : start + CHUNK] for start in range(0, len(self._terms), CHUNK)]
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


def _sample(value: Any) -> object:
    """Return what is compared of an array, a series or a frame: its place, its shape, and a sample of its content."""
    array = getattr(value, "values", value) if hasattr(value, "iloc") else value
    pointer = getattr(array, "ctypes", None)
    shape, dtype = getattr(array, "shape", None), str(getattr(array, "dtype", None))
    if pointer is None or array.dtype.hasobject:
        return shape, dtype
    flat = array.reshape(-1)
    step = max(1, flat.nbytes // SAMPLE)
    return pointer.data, shape, dtype, flat[::step].tobytes()
