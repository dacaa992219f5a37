"""What comes back from stored bytes, and what never happens on the way."""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
from collections import OrderedDict
from enum import Enum, Flag, IntFlag
from typing import Any, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import pytest
from ormsgpack import Ext, packb
from pydantic import BaseModel, ConfigDict, PrivateAttr, field_validator

from musubito.errors import ArtifactUnreadable, EncodingError
from musubito.model import MusubitoResult
from musubito.values.artifact_codec import decode_value, encode_value
from musubito.values.canonical import canonical
from musubito.values.msgpack_writer import Code

T = TypeVar("T")
ran: list[str] = []


class Loud:
    """Every hook a careless decoder might run."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        ran.append("new")
        return object.__new__(cls)

    def __setattr__(self, name: str, value: object) -> None:
        ran.append("setattr")
        object.__setattr__(self, name, value)

    def __setstate__(self, state: object) -> None:
        ran.append("setstate")

    def __reduce_ex__(self, protocol: Any) -> Any:
        ran.append("reduce")
        return super().__reduce_ex__(protocol)


@dataclasses.dataclass
class LoudData(Loud):
    a: int
    made: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        ran.append("post_init")
        self.made = self.a + 1
        self._hidden = [self.a]


class LoudModel(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int
    _secret: int = PrivateAttr(default=7)

    def model_post_init(self, context: Any, /) -> None:
        ran.append("model_post_init")

    @field_validator("a")
    @classmethod
    def check(cls, value: int) -> int:
        ran.append("validator")
        return value


class LoudEnum(Enum):
    A = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        ran.append("missing")
        return cls.A


class LoudPair(NamedTuple("LoudPair", [("a", int)])):
    def __new__(cls, a: int) -> Any:
        ran.append("new")
        return tuple.__new__(cls, (a,))


class Perm(Flag):
    R = 1
    W = 2


class IntPerm(IntFlag):
    R = 1
    W = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    a: int
    b: Any = None


@dataclasses.dataclass(slots=True)
class SlottedChild(Slotted.__mro__[-1]):  # type: ignore[misc]
    c: int


@dataclasses.dataclass
class Holder(Generic[T]):
    a: T

    @functools.cached_property
    def twice(self) -> Any:
        return [self.a, self.a]


@dataclasses.dataclass
class Closing:
    a: int

    def __del__(self) -> None:
        ran.append("del")


@dataclasses.dataclass(init=False)
class Partial(functools.partial):  # type: ignore[type-arg]
    a: int = 1


def same_state(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b and getattr(a, "__dict__", None) == getattr(b, "__dict__", None)


@pytest.mark.parametrize(
    "value",
    [
        LoudData(1), LoudModel(a=1, b=[2]), LoudEnum.A, LoudPair(1), Perm.R, Perm.R | Perm.W, IntPerm.R | IntPerm.W,
        Perm(0), Slotted(1, (2,)), SlottedChild(3), Holder(1), MusubitoResult([1], "a", "b", "c"),
    ],
)  # fmt: skip
def test_instances_come_back_without_running_any_code(value: Any) -> None:
    payload = encode_value({"k": [value]})
    ran.clear()
    again = decode_value(payload, {})["k"][0]  # type: ignore[index]
    assert ran == []
    assert same_state(again, value)


def test_a_model_comes_back_with_all_that_pydantic_keeps() -> None:
    value = LoudModel(a=1, b=2)
    value._secret = 8
    again: Any = decode_value(encode_value(value), {})
    assert again.model_fields_set == {"a", "b"}
    assert again.__pydantic_extra__ == {"b": 2}
    assert again._secret == 8
    assert again == value


def test_what_an_instance_holds_beyond_its_fields_comes_back() -> None:
    value = Holder(1)
    assert value.twice == [1, 1]
    del value.a
    again: Any = decode_value(encode_value(value), {})
    assert again.__dict__ == {"twice": [1, 1]}


def test_the_order_of_dicts_is_kept_and_counts() -> None:
    assert list(decode_value(encode_value({"b": 1, "a": 2}), {})) == ["b", "a"]  # type: ignore[call-overload]
    assert list(decode_value(encode_value({2: 1, 1: 2}), {})) == [2, 1]  # type: ignore[call-overload]
    assert encode_value({"b": 1, "a": 2}) != encode_value({"a": 2, "b": 1})
    assert encode_value({2: 1, 1: 2}) != encode_value({1: 2, 2: 1})


def test_a_local_class_is_found_among_those_that_were_reached() -> None:
    @dataclasses.dataclass
    class Local:
        a: int

    payload = encode_value(Local(1))
    with pytest.raises(ArtifactUnreadable):
        decode_value(payload, {})
    assert decode_value(payload, {(Local.__module__, Local.__qualname__): Local}) == Local(1)


class LoudText(str):
    __slots__ = ("more",)

    def __new__(cls, *args: Any) -> Any:
        ran.append("new")
        return str.__new__(cls, *args)

    def __str__(self) -> str:
        ran.append("str")
        return "something else"


class LoudList(list[Any]):
    def __init__(self, *args: Any) -> None:
        ran.append("init")
        super().__init__(*args)

    def __iter__(self) -> Any:
        ran.append("iter")
        return iter("something else")

    append = extend = __iter__  # type: ignore[assignment]


class LoudDict(dict[Any, Any]):
    def __setitem__(self, key: object, value: object) -> None:
        ran.append("setitem")

    def items(self) -> Any:
        ran.append("items")
        return [("something", "else")]

    update = items


class LoudNumber(int):
    def __int__(self) -> int:
        ran.append("int")
        return 0


DERIVED = {
    str: LoudText("a"),
    list: LoudList([1, LoudText("b")]),
    dict: LoudDict(b=1, a=[2]),
    int: LoudNumber(5),
    float: type("LoudFloat", (float,), {"__module__": __name__})(0.5),
    bytes: type("LoudBytes", (bytes,), {"__module__": __name__})(b"a"),
    tuple: type("LoudTuple", (tuple,), {"__module__": __name__})((1, 2)),
    set: type("LoudSet", (set,), {"__module__": __name__})({1, 2}),
    frozenset: type("LoudFrozen", (frozenset,), {"__module__": __name__})({1, 2}),
}


@pytest.mark.parametrize("base", DERIVED)
def test_what_is_derived_from_a_type_of_pythons_comes_back_without_a_call_of_its_own(base: Any) -> None:
    value = DERIVED[base]
    if base is not str:
        value.more = [1]
    classes = {(__name__, type(each).__qualname__): type(each) for each in DERIVED.values()}
    ran.clear()
    again: Any = decode_value(encode_value([value]), classes)[0]  # type: ignore[index]
    assert ran == []
    assert type(again) is type(value)
    assert base.__eq__(again, value)
    assert getattr(again, "more", None) == getattr(value, "more", None)
    if base is dict:
        assert list(dict.items(again)) == [("b", 1), ("a", [2])]


def test_what_a_derived_class_holds_counts() -> None:
    kinds = [LoudNumber(5), 5, LoudList([1]), [1], LoudList([2]), LoudDict(a=1), {"a": 1}, LoudDict(a=2)]
    more = LoudList([1])
    more.more = 1
    assert len({canonical(each) for each in [*kinds, more]}) == len(kinds) + 1
    assert canonical(LoudDict(a=1, b=2)) == canonical(LoudDict(b=2, a=1))


def test_a_class_that_is_derived_from_another_type_now_does_not_come_back() -> None:
    payload = encode_value(LoudList([1]))
    other = type("LoudList", (dict,), {"__module__": __name__})
    with pytest.raises(ArtifactUnreadable):
        decode_value(payload, {(__name__, "LoudList"): other})


@pytest.mark.parametrize("value", [Closing(1), Partial(print), type("O", (OrderedDict,), {})()])
def test_what_does_not_come_back_exactly_is_refused(value: object) -> None:
    with pytest.raises(EncodingError):
        encode_value([value])


def test_a_list_that_occurs_twice_comes_back_twice() -> None:
    part = [1]
    again: Any = decode_value(encode_value([part, part]), {})
    assert again == [[1], [1]]
    assert again[0] is not again[1]
    part.append(part)  # type: ignore[arg-type]
    with pytest.raises(EncodingError):
        encode_value(part)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("passing_by")
    monkeypatch.setitem(sys.modules, "passing_by", module)
    return module


def define(module: types.ModuleType, source: str) -> None:
    exec(
        "from dataclasses import dataclass\nfrom enum import Enum\nfrom typing import NamedTuple\n" + source,
        vars(module),
    )


@pytest.mark.parametrize(
    ("before", "make", "after"),
    [
        ("@dataclass\nclass A:\n a: int", "A(1)", "@dataclass\nclass A:\n a: int\n b: int = 0"),
        ("@dataclass\nclass A:\n a: int", "A(1)", "@dataclass\nclass A:\n b: int"),
        ("@dataclass\nclass A:\n a: int", "A(1)", "class A(NamedTuple):\n a: int"),
        ("@dataclass\nclass A:\n a: int", "A(1)", "def A(): pass"),
        ("@dataclass\nclass A:\n a: int", "A(1)", "del A"),
        ("class A(NamedTuple):\n a: int", "A(1)", "class A(NamedTuple):\n a: int\n b: int = 0"),
        ("class A(Enum):\n X = 1", "A.X", "class A(Enum):\n Y = 1"),
        ("class A(Enum):\n X = 1", "A.X", "class A(Enum):\n X = 2"),
        ("class A(Enum):\n X = 1", "A.X", "class A:\n X = 1"),
        ("class A(Enum):\n X = 1", "A.X", "class B(Enum):\n X = 1\nA = B"),
    ],
)
def test_a_class_that_is_another_now_is_unreadable(
    module: types.ModuleType, before: str, make: str, after: str
) -> None:
    define(module, before)
    value = eval(make, vars(module))
    payload = encode_value(value)
    assert decode_value(payload, {}) == value
    define(module, after)
    with pytest.raises(ArtifactUnreadable):
        decode_value(payload, {})


def test_nothing_is_imported_and_no_module_is_asked(module: types.ModuleType) -> None:
    asked: list[str] = []
    vars(module)["__getattr__"] = asked.append
    before = set(sys.modules)
    for name, qualname in [
        ("passing_by", "Absent"),
        ("antigravity", "A"),
        ("os.path", "join"),
        ("builtins", "eval"),
    ]:
        for code in (Code.DATACLASS, Code.ENUM, Code.NAMEDTUPLE, Code.PYDANTIC, Code.FLAG):
            parts = [name, qualname, [], {}]
            with pytest.raises(ArtifactUnreadable):
                decode_value(encode_value(None)[:1] + packb(Ext(code, packb(parts))), {})
    assert asked == []
    assert set(sys.modules) == before


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xa1", b"\x11\xc0", b"\xa1\x91", b"\xa1\xc1", b"\xa1\xd4\x7f\xc0"])
def test_other_bytes_are_unreadable(payload: bytes) -> None:
    with pytest.raises(ArtifactUnreadable):
        decode_value(payload, {})


def test_every_cut_is_unreadable() -> None:
    payload = encode_value([LoudData(1), {1: (2, "three")}])
    for end in range(len(payload)):
        with pytest.raises(ArtifactUnreadable):
            decode_value(payload[:end], {})


@pytest.mark.parametrize("lists", [0, 3, 200, 300, 1000])
def test_hostile_nesting_is_unreadable(lists: int) -> None:
    data = b"\x01"
    for _ in range(4000 if lists < 200 else 250):
        data = b"\x91" * lists + packb(Ext(Code.TUPLE, data))
    with pytest.raises(ArtifactUnreadable):
        decode_value(encode_value(None)[:1] + data, {})


def test_nothing_endless_passes_for_a_list() -> None:
    endless = packb(Ext(Code.RANGE, packb([0, 2**60, 1])))
    for code in range(128):
        for data in (
            endless,
            b"\x92" + endless * 2,
            b"\x92\xc0" + endless,
            packb(2**40),
            packb("1e999999999"),
        ):
            try:
                decode_value(encode_value(None)[:1] + packb(Ext(code, data)), {})
            except ArtifactUnreadable:
                continue


def test_what_can_be_written_can_be_read() -> None:
    for wrap in (
        lambda v: [v],
        lambda v: (v,),
        lambda v: {"a": v},
        lambda v: {1: v},
        lambda v: Slotted(1, v),
    ):
        value: Any = 1
        deepest = 0
        for depth in range(1, 300):
            value = wrap(value)
            try:
                payload = encode_value(value)
            except EncodingError:
                break
            if depth % 10 == 0:
                assert encode_value(decode_value(payload, {})) == payload
            deepest = depth
        assert deepest >= 80


def test_a_zone_is_read_by_key_only_where_its_file_is() -> None:
    assert decode_value(encode_value(ZoneInfo("Europe/Berlin")), {}) is ZoneInfo("Europe/Berlin")
    for key in ("No/Such", "../../etc/passwd", "/etc/passwd"):
        with pytest.raises(ArtifactUnreadable):
            decode_value(encode_value(None)[:1] + packb(Ext(Code.ZONEINFO, packb(key))), {})
