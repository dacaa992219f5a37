"""What classes are called, and which of their members Python wrote."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import pytest

from musubito.code.describers import classes
from musubito.code.describers.annotations import annotated_classes
from musubito.code.reachability import reach
from musubito.code.walk import Walk
from musubito.values.class_names import qualified_name


class Outer:
    class Inner:
        def method(self) -> None: ...

    @dataclass
    class Data:
        field: int = 0


def as_sent(cls: type, **more: Any) -> type:
    """As cloudpickle makes it where it cannot be imported: by its `__name__`."""
    members = {**vars(cls), **more, "__module__": "__main__"}
    for name in ("__dict__", "__weakref__", "__qualname__"):
        members.pop(name, None)
    for each in members.values():
        if isinstance(each, types.FunctionType):
            each.__module__ = "__main__"
    return type(cls.__name__, cls.__bases__, members)


def test_names_of_classes_that_lie_somewhere() -> None:
    class Local:
        pass

    assert qualified_name(Outer) == (__name__, "Outer")
    assert qualified_name(Outer.Inner) == (__name__, "Outer.Inner")
    assert qualified_name(Local)[1].endswith("<locals>.Local")
    assert qualified_name(int) == ("builtins", "int")


def test_where_a_class_stood_before_it_was_sent_its_functions_say() -> None:
    def elsewhere(self: Any) -> None: ...

    for cls, name in ((Outer.Inner, "Outer.Inner"), (Outer.Data, "Outer.Data"), (Outer, "Outer")):
        assert qualified_name(as_sent(cls)) == ("__main__", name)
        assert qualified_name(as_sent(cls, elsewhere=elsewhere)) == ("__main__", name)
    other = types.FunctionType(elsewhere.__code__, {"__name__": "__main__"})
    other.__qualname__ = "Another.Inner.elsewhere"
    assert qualified_name(as_sent(Outer.Inner, elsewhere=other)) == ("__main__", "Inner"), "they do not agree"


TEXT = """
from collections import namedtuple
from dataclasses import dataclass
from reprlib import recursive_repr

@dataclass(frozen=True, order=True)
class Data:
    field: int = 1

    def __eq__(self, other): return other == 1
    @recursive_repr()
    def __repr__(self): return "1"

class Named(namedtuple("Named", "field")):
    def __new__(cls, field): return super().__new__(cls, field + 1)
"""


def made(text: str, name: str, file: str = "<string>") -> type:
    names: dict[str, Any] = {"__name__": "made_of_text"}
    exec(compile(text, file, "exec", dont_inherit=True), names)
    cls: type = names[name]
    return cls


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("Data", ("other == 1", "other == 2")),
        ("Data", ('return "1"', 'return "2"')),
        ("Named", ("field + 1", "field + 2")),
    ],
)
def test_methods_that_were_written_without_a_file_count(name: str, edit: tuple[str, str]) -> None:
    assert reach(made(TEXT, name), None).digest != reach(made(TEXT.replace(*edit), name), None).digest


def test_methods_that_python_wrote_do_not() -> None:
    names = {part.name.rpartition(".")[2] for part in reach(made(TEXT, "Data"), None).parts}
    assert names.isdisjoint({"__init__", "__hash__", "__lt__", "__setattr__", "__delattr__"})


def test_what_pickling_adds_to_a_class_during_its_walk_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    data, again = made(TEXT, "Data"), made(TEXT, "Data")
    written_text, is_derived = classes.written_text, classes._is_derived

    def before_it_is_pickled(walk: Walk, cls: type) -> bytes:
        if "__slotnames__" in vars(cls):
            del cls.__slotnames__
        return written_text(walk, cls)

    def pickled_meanwhile(cls: type, name: str, value: Any) -> bool:
        if cls is again:
            again().__reduce_ex__(2)
        return is_derived(cls, name, value)

    monkeypatch.setattr(classes, "written_text", before_it_is_pickled)
    monkeypatch.setattr(classes, "_is_derived", pickled_meanwhile)
    walked = reach(again, None)
    assert "__slotnames__" in vars(again)
    assert walked.digest == reach(data, None).digest
    assert walked.unchanged(), "a call is not walked anew for it"


def test_one_that_was_written_for_another_class_counts() -> None:
    def with_init(cls: type, init: Callable[..., None]) -> type:
        cls.__init__ = init  # type: ignore[misc]
        return cls

    text = TEXT.replace("class Data", "class Other").replace("field: int = 1", "field: int = 1; more: int = 2")
    other = made(text, "Other")
    assert reach(with_init(made(TEXT, "Data"), other.__init__), None).digest != reach(made(TEXT, "Data"), None).digest


class Symbol(str):  # noqa: PLW1641 - the point of it
    """A text without a hash."""

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)


def test_text_in_an_annotation_may_be_of_a_class_of_its_own() -> None:
    def function(_: Any) -> Any: ...

    function.__annotations__ = {"_": Annotated[int, Symbol("a point")], "return": Symbol(" Fraction ")}
    assert Fraction in annotated_classes(function, None, ()).values()
    assert reach(function, None)
