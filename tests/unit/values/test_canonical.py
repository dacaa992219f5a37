"""What has an identity, what has none, and how the place of the trouble is named."""

from __future__ import annotations

import dataclasses
import io
import itertools
import sys
from collections import OrderedDict, defaultdict
from enum import Enum, IntEnum, StrEnum
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from musubito.errors import EncodingError
from musubito.values.canonical import canonical


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    A = "a"


class Pair(NamedTuple):
    a: int
    b: int


@dataclasses.dataclass
class Box:
    a: Any


@dataclasses.dataclass
class Crate:
    a: Any


class Model(BaseModel):
    a: Any = 1


class Other(BaseModel):
    a: Any = 1


class MyList(list):  # type: ignore[type-arg]
    pass


class Sayer:
    def __init__(self, said: object) -> None:
        self.said = said

    def __musubito_identity__(self) -> object:
        return self.said


class OtherSayer(Sayer):
    pass


FAMILIES: list[list[Any]] = [
    [1, 1.0, True, "1", b"1", Level.LOW, Colour.RED, 1j],
    [[1, 2], (1, 2), {1, 2}, frozenset({1, 2}), Pair(1, 2), bytearray(b"\x01\x02"), b"\x01\x02"],
    ["a", Word.A, "A", b"a", PurePosixPath("a"), PureWindowsPath("a")],
    ["\u00e9", "e\u0301"],
    [0.0, -0.0, 0, False, None, "", [], (), {}],
    [
        {"a": 1},
        Box(1),
        Crate(1),
        Model(a=1),
        Other(a=1),
        OrderedDict(a=1),
        defaultdict(int, a=1),
        defaultdict(None, a=1),
    ],
    [OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)],
    [Model(), Model(a=1), Model(a=2)],
    [Sayer(1), OtherSayer(1), Sayer("1"), 1],
]


@pytest.mark.parametrize("family", FAMILIES)
def test_values_that_are_alike_differ(family: list[Any]) -> None:
    assert len({canonical(value) for value in family}) == len(family)
    assert len({canonical({"k": [value]}) for value in family}) == len(family)


def test_an_enum_counts_with_its_value() -> None:
    before = canonical(Enum("E", {"A": 1}, module=__name__).A)  # type: ignore[attr-defined]
    assert before != canonical(Enum("E", {"A": 2}, module=__name__).A)  # type: ignore[attr-defined]


def test_an_instance_that_holds_more_than_can_be_seen_is_refused() -> None:
    @dataclasses.dataclass(init=False)
    class Counting(itertools.count):  # type: ignore[type-arg]
        pass

    with pytest.raises(EncodingError):
        canonical(Counting(1))


def test_everything_an_instance_holds_counts() -> None:
    plain, extended = Box(1), Box(1)
    extended.more = 2  # type: ignore[attr-defined]
    assert canonical(plain) != canonical(extended)


def endless() -> list[Any]:
    loop: list[Any] = []
    loop.append((loop,))
    return loop


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [(value,)]
    return value


@pytest.mark.parametrize(
    "value",
    [
        endless(),
        deep(5000),
        (i for i in ()),
        iter([]),
        print,
        lambda: 1,
        io.BytesIO(),
        object(),
        type("Ordered", (OrderedDict,), {})(),
        int,
        sys,
    ],
)
def test_what_has_no_identity_is_refused(value: object) -> None:
    for wrapped in (value, [value], {"a": (value,)}, {1: value}, Box(value)):
        with pytest.raises(EncodingError):
            canonical(wrapped)


WRAPS: dict[str, Any] = {
    "bare": lambda v: v, "dict": lambda v: {"k": [v]}, "tuple": lambda v: (v,), "instance": Box, "int keys": lambda v: {1: v}
}  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_buffers_are_told_apart_wherever_they_are(wrap: Any) -> None:
    assert canonical(wrap(b"\xc4")) != canonical(wrap(bytearray(b"\xc4")))
    with pytest.raises(EncodingError):
        canonical(wrap(memoryview(b"\xc4")))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"messages": [1, {"content": object()}]}, "$.messages[1].content"),
        ({"a b": object()}, "$['a b']"),
        ({3: object()}, "$[3]"),
        ([(1, object())], "$[0][1]"),
        (Box([object()]), "$.a[0]"),
        (Model(a={"b": object()}), "$.a.b"),
        ([{object()}], "$[0]{}"),
        (Sayer({"key": object()}), "$.key"),
    ],
)
def test_the_path_leads_to_the_trouble(value: object, path: str) -> None:
    with pytest.raises(EncodingError) as caught:
        canonical(value)
    assert caught.value.path == path


def test_what_identity_methods_raise_is_told() -> None:
    class Broken:
        def __musubito_identity__(self) -> object:
            raise TypeError("not today")

    with pytest.raises(EncodingError, match="not today"):
        canonical([Broken()])


def test_an_interrupt_is_not_swallowed() -> None:
    pending = [KeyboardInterrupt]

    class Interrupted:
        def __musubito_identity__(self) -> object:
            if pending:
                raise pending.pop()
            return 1

    with pytest.raises(KeyboardInterrupt):
        canonical([Interrupted()])


def test_shared_parts_are_no_cycle() -> None:
    part = [1]
    assert canonical([part, part, {1: part}]) == canonical([[1], [1], {1: [1]}])
