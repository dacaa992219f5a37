"""Where two plain values differ."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito.values.value_diff import differences, shown

VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=15,
)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"a": 1}, {"a": 2}, ["$.a: 1 → 2"]),
        ({"a": 1}, {"b": 1}, ["$.a: 1 → (absent)", "$.b: (absent) → 1"]),
        ([1, 2], [1, 3, 4], ["$[1]: 2 → 3", "$[2]: (absent) → 4"]),
        ({"m": [{"content": "why"}]}, {"m": [{"content": "how"}]}, ['$.m[0].content: "why" → "how"']),
        (
            [{"id": "a", "x": 1}, {"id": "b"}],
            [{"id": "b"}, {"id": "a", "x": 2}],
            ['$: ["a", "b"] → ["b", "a"]', "$.a.x: 1 → 2"],
        ),
        ([{"id": "a"}, {"id": "a"}], [{"id": "b"}, {"id": "a"}], ['$[0].id: "a" → "b"']),
        (1, True, ["$: 1 → true"]),
        (1, 1.0, ["$: 1 → 1.0"]),
        (None, "", ['$: null → ""']),
        ({"a b": 1}, {"a b": 2}, ["$['a b']: 1 → 2"]),
        ("a\nb", "a\nc", ['$: "a\\nb" → "a\\nc"']),
        ({"$type": "tuple", "items": [1]}, {"$type": "tuple", "items": [2]}, ["$[0]: 1 → 2"]),
        ({"$type": "tuple", "items": [1]}, [1], ["$: tuple(items=[1]) → [1]"]),
        ({"$type": "A", "x": 1}, {"$type": "B", "x": 1}, ["$: A(x=1) → B(x=1)"]),
        ({"$type": "A", "x": 1}, {"$type": "A", "x": 2}, ["$.x: 1 → 2"]),
    ],
)
def test_what_is_told(before: Any, after: Any, told: list[str]):
    assert [str(each) for each in differences(before, after)] == told


def test_of_long_texts_the_place_is_shown_where_they_begin_to_differ():
    before, after = "x" * 500 + "cat" + "y" * 500, "x" * 500 + "dog" + "y" * 500
    (only,) = differences(before, after)
    assert only.before.startswith('"…xxxxxxxxxxxxxxxcat')
    assert only.after.startswith('"…xxxxxxxxxxxxxxxdog')
    assert max(map(len, only)) < 70
    (longer,) = differences("x" * 500, "x" * 501)
    assert longer.before != longer.after


def test_no_more_than_asked_for():
    assert len(differences(list(range(100)), list(range(1, 101)), most=7)) == 7


@given(VALUES, VALUES)
def test_there_is_a_difference_exactly_where_values_differ(a: Any, b: Any):
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (differences(a, b) == []) is same


@given(VALUES)
def test_what_is_the_same_has_none_and_is_shown_in_one_line(value: Any):
    assert differences(value, value) == []
    assert "\n" not in shown(value)
    assert len(shown(value)) <= 60
