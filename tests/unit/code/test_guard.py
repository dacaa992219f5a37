"""What a guard notices of a class."""

from __future__ import annotations

import types
from collections.abc import Callable

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
