"""What a guard notices of a class, and of data that is bound anew."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest

from musubito.code.guard import Guard


def made() -> tuple[type, Callable[[], bool]]:
    """Return a class, and the check that its members are what they are now."""
    cls = types.new_class("Made", (), {}, lambda namespace: namespace.update(one=1, two=2))
    cls.three = 3  # type: ignore[attr-defined]
    guard = Guard()
    guard.members(cls, tuple(vars(cls).values()))
    return cls, guard.build()


def test_annotations_that_are_asked_for_change_nothing() -> None:
    cls, unchanged = made()
    assert unchanged()
    assert cls.__annotations__ == {}
    assert unchanged()


@pytest.mark.parametrize("asked", [False, True], ids=["before", "after annotations were asked for"])
@pytest.mark.parametrize(
    "change",
    [
        lambda cls: setattr(cls, "one", 3),
        lambda cls: setattr(cls, "four", 4),
        lambda cls: delattr(cls, "two"),
        lambda cls: delattr(cls, "three"),
        lambda cls: (delattr(cls, "two"), setattr(cls, "two", vars(cls))),
    ],
    ids=["another value", "one more", "one less", "the last one less", "another in its place"],
)
def test_any_other_member_counts(asked: bool, change: Callable[[type], object]) -> None:
    cls, unchanged = made()
    if asked:
        assert cls.__annotations__ == {}
    change(cls)
    assert not unchanged()


@pytest.mark.parametrize("items", [1, 20], ids=["alone", "among others"])
@pytest.mark.parametrize(
    ("anew", "is_same"),
    [
        (lambda: {"a": ["x", 1], "b": ("".join("yz"), None)}, True),
        (lambda: {"b": ("yz", None), "a": ["x", 1]}, False),
        (lambda: {"a": ["x", True], "b": ("yz", None)}, False),
        (lambda: {"a": ("x", 1), "b": ("yz", None)}, False),
        (lambda: {"a": ["x", 2], "b": ("yz", None)}, False),
        (lambda: {"a": ["x"], "b": ("yz", None)}, False),
    ],
    ids=["the same", "another order", "another type", "another container", "another value", "one less"],
)
def test_data_that_is_bound_anew_is_compared_by_what_it_holds(
    anew: Callable[[], Any], is_same: bool, items: int
) -> None:
    names: dict[str, Any] = {f"n{number}": None for number in range(items)}
    names["n0"] = {"a": ["x", 1], "b": ("yz", None)}
    guard = Guard()
    for name, value in names.items():
        guard.item(names, name, value)
    unchanged = guard.build()
    names["n0"] = anew()
    assert unchanged() == is_same
    names["n0"]["a"] = []
    assert not unchanged()
