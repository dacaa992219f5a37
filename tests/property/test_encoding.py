"""Properties of both encodings, held against a comparison of values that is strict about types."""

from __future__ import annotations

import struct
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musubito.errors import ArtifactUnreadable
from musubito.values.artifact_codec import decode_value, encode_value
from musubito.values.canonical import IDENTITY_FORMAT, IdentityPacker, canonical
from musubito.values.digest import digest_input

if TYPE_CHECKING:
    import random

MANY = settings().max_examples


class Colour(Enum):
    RED = 1
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    A = "a"


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclass(frozen=True)
class Box:
    a: Any
    b: Any = None


@dataclass(frozen=True)
class OtherBox:
    a: Any
    b: Any = None


def strictly_equal(a: Any, b: Any, ordered: bool = False) -> bool:
    """Whether two values are the same in type and content, at any depth; `ordered` if the order of dicts counts."""
    if type(a) is not type(b):
        return False

    def same(x: Any, y: Any) -> bool:
        return strictly_equal(x, y, ordered)

    def all_same(x: Any, y: Any) -> bool:
        return len(x) == len(y) and all(map(same, x, y))

    def matched(x: list[Any], y: list[Any]) -> bool:
        rest = list(y)
        for item in x:
            found = next((i for i, other in enumerate(rest) if same(item, other)), None)
            if found is None:
                return False
            del rest[found]
        return not rest

    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (a != a and b != b)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, datetime | time):
        return a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and same(a.tzinfo, b.tzinfo)
    if isinstance(a, timezone):
        return repr(a) == repr(b)
    if isinstance(a, ZoneInfo):
        return a.key == b.key
    if isinstance(a, Box | OtherBox):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, Enum):
        return a is b
    if isinstance(a, list | tuple):
        return all_same(a, b)
    if isinstance(a, deque):
        return a.maxlen == b.maxlen and all_same(a, b)
    if isinstance(a, OrderedDict) or (ordered and isinstance(a, dict)):
        factories = getattr(a, "default_factory", None) is getattr(b, "default_factory", None)
        return factories and all_same(list(a.items()), list(b.items()))
    if isinstance(a, dict):
        if getattr(a, "default_factory", None) is not getattr(b, "default_factory", None):
            return False
        return matched(list(a.items()), list(b.items()))
    if isinstance(a, set | frozenset):
        return matched(list(a), list(b))
    if isinstance(a, range):
        return (a.start, a.stop, a.step) == (b.start, b.stop, b.step)
    return bool(a == b)


# Few distinct leaves, so that pairs of values that differ in one respect only come up often.
close = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        196,
        0.0,
        -0.0,
        1.0,
        float("nan"),
        float("inf"),
        "",
        "1",
        "a",
        "é",
        "é",
        "�",
        "Ą",
        b"",
        b"1",
        b"a",
        2**63,
        2**64,
        -(2**63) - 1,
        1j,
        complex(-0.0, 1),
        Decimal(1),
        Decimal("1.0"),
        Fraction(1),
        Fraction(1, 3),
        Colour.RED,
        Colour.BLUE,
        Level.LOW,
        Word.A,
        range(1),
        range(0, 1, 2),
        UUID(int=1),
        date(2024, 1, 1),
        datetime(2024, 1, 1),
        datetime(2024, 1, 1, tzinfo=UTC),
        time(1),
        time(1, fold=1),
        datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")),
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        timedelta(1),
        UTC,
        timezone(timedelta(0), "UTC"),
        timezone(timedelta(0), "Z"),
        ZoneInfo("UTC"),
        PurePosixPath("a"),
        PureWindowsPath("a"),
        (),
        frozenset(),
        Pair(1, 2),
        (1, 2),
        Box(1),
        OtherBox(1),
    ]
)


def hashable(number: Decimal) -> bool:
    return not number.is_snan()


wide = st.one_of(
    st.integers(), st.floats(), st.text(), st.binary(), st.decimals().filter(hashable), st.fractions(), st.complex_numbers(),
    st.datetimes(timezones=st.none() | st.timezones(), allow_imaginary=False), st.timedeltas(), st.times(), st.dates(),
    st.uuids(), st.characters(categories=["Cs"]), st.binary().map(bytearray),
)  # fmt: skip


def hashables(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    leaf = leaves.filter(lambda v: type(v) is not bytearray)
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(tuple),
            st.frozensets(inner, max_size=3),
            st.tuples(inner, inner).map(lambda v: Pair(*v)),
            st.tuples(inner, inner).map(lambda v: Box(*v)),
        ),
        max_leaves=4,
    )


def values_of(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = hashables(leaves)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=3).map(tuple),
            st.lists(inner, max_size=3).map(deque),
            st.lists(inner, max_size=3).map(lambda v: deque(v, 5)),
            st.sets(keys, max_size=4),
            st.frozensets(keys, max_size=4),
            st.dictionaries(st.text(max_size=3), inner, max_size=4),
            st.dictionaries(keys, inner, max_size=4),
            st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
            st.dictionaries(keys, inner, max_size=3).map(lambda v: defaultdict(list, v)),
            st.lists(keys, max_size=4).map(Counter),
            st.tuples(inner, inner).map(lambda v: Box(*v)),
            st.tuples(inner, inner).map(lambda v: OtherBox(*v)),
            st.tuples(inner, inner).map(lambda v: Pair(*v)),
        ),
        max_leaves=10,
    )


close_values = values_of(close)
all_values = values_of(close | wide)


def shuffled(value: Any, chance: random.Random) -> Any:
    """An equal value whose dicts and sets were filled in another order."""
    kind = type(value)
    if kind in (list, tuple):
        return kind(shuffled(item, chance) for item in value)
    if kind is dict or kind is Counter:
        items = [(key, shuffled(item, chance)) for key, item in value.items()]
        chance.shuffle(items)
        return kind(dict(items))
    if kind in (set, frozenset):
        items = list(value)
        chance.shuffle(items)
        return kind(items)
    if kind is Box:
        return Box(shuffled(value.a, chance), shuffled(value.b, chance))
    return value


@settings(max_examples=3 * MANY)
@given(close_values, close_values)
def test_different_values_never_share_an_encoding(a: Any, b: Any) -> None:
    assert (canonical(a) == canonical(b)) == strictly_equal(a, b)
    assert (encode_value(a) == encode_value(b)) == strictly_equal(a, b, ordered=True)


@given(close, close, st.sampled_from([list, tuple, deque, lambda v: Box(v[0]), lambda v: {"k": v[0]}]))
def test_different_leaves_differ_in_any_container(a: Any, b: Any, wrap: Any) -> None:
    assert (canonical(wrap([a])) == canonical(wrap([b]))) == strictly_equal(a, b)


@settings(max_examples=2 * MANY)
@given(all_values)
def test_an_artifact_comes_back_exactly(value: Any) -> None:
    payload = encode_value(value)
    again = decode_value(payload, {})
    assert strictly_equal(value, again, ordered=True)
    assert encode_value(again) == payload


@given(all_values, st.randoms(use_true_random=False))
def test_the_order_of_dicts_and_sets_does_not_count(value: Any, chance: random.Random) -> None:
    assert canonical(shuffled(value, chance)) == canonical(value)


@settings(max_examples=2 * MANY)
@given(all_values)
def test_both_writers_give_the_same_bytes(value: Any) -> None:
    assert IDENTITY_FORMAT + IdentityPacker().pack_slowly(value) == canonical(value)


@given(
    st.dictionaries(st.text(max_size=4), close_values, max_size=3),
    st.dictionaries(st.text(max_size=4), close, max_size=3),
)
def test_input_digests_differ_with_the_arguments(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert (digest_input("f", a) == digest_input("f", b)) == strictly_equal(a, b)


def decodes_or_is_unreadable(payload: bytes) -> None:
    try:
        decode_value(payload, {})
    except ArtifactUnreadable:
        pass


@settings(max_examples=2 * MANY)
@given(st.binary(max_size=60))
def test_random_bytes_decode_or_are_unreadable(data: bytes) -> None:
    before = set(sys.modules)
    decodes_or_is_unreadable(encode_value(None)[:1] + data)
    decodes_or_is_unreadable(data)
    assert set(sys.modules) == before


@settings(max_examples=2 * MANY)
@given(all_values, st.data())
def test_mutated_bytes_decode_or_are_unreadable(value: Any, data: st.DataObject) -> None:
    payload = bytearray(encode_value(value))
    before = set(sys.modules)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(1, len(payload) - 1))
        payload[position] = data.draw(st.integers(0, 255))
    decodes_or_is_unreadable(bytes(payload))
    decodes_or_is_unreadable(bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "head",
    [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x05"],
)
def test_lying_lengths_are_unreadable(head: bytes) -> None:
    with pytest.raises(ArtifactUnreadable):
        decode_value(encode_value(None)[:1] + head * 50, {})
