"""What classes are called, and which of their members Python wrote."""

from __future__ import annotations

import types
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from musubito.code.annotations import classes_that_rebuild
from musubito.code.fingerprint import Fingerprint
from musubito.code.tracker import CodeTracker
from musubito.values.class_names import qualified_name


def reach(thing: Any) -> Fingerprint:
    return CodeTracker(thing).current()


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


class Symbol(str):  # noqa: PLW1641 - the point of it
    """A text without a hash."""

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)


def test_text_in_an_annotation_may_be_of_a_class_of_its_own() -> None:
    def function(_: Any) -> Any: ...

    function.__annotations__ = {"_": Annotated[int, Symbol("a point")], "return": Symbol(" Fraction ")}
    assert Fraction in classes_that_rebuild(function, None, ()).values()
    assert reach(function)
