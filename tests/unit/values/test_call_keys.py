"""The three keys: what each of them depends on, and what no key may be confused with."""

from __future__ import annotations

from hashlib import sha256
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito.model import UNSTORABLE, MusubitoResult
from musubito.values.call_keys import Identity, Parent, effect_key, head, idempotency_key, parents_of


def digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def identity(*parents: tuple[str, str], input_digest: str = "input", across: bool = False, **changed: Any) -> Identity:
    named = {"namespace": "ns", "operation": "op", "fingerprint": digest("code"), "operation_version": None} | changed
    return Identity(
        head(**named), digest(input_digest), sorted(Parent(digest(n), digest(a)) for n, a in parents), across
    )


def result(node: str, artifact: str) -> MusubitoResult[Any]:
    return MusubitoResult(0, artifact, node, node)


def test_without_parents_the_three_are_one() -> None:
    assert len(set(identity().keys(0))) == 1
    assert len(set(identity().keys(3))) == 1


def test_what_each_key_adds() -> None:
    node, reuse, cross = identity(("P", "a")).keys(0)
    assert len({node, reuse, cross}) == 3
    assert cross == identity().keys(0)[2] == identity(("Q", "b")).keys(0)[2]
    assert reuse == identity(("Q", "a")).keys(0)[1] != identity(("P", "b")).keys(0)[1]
    assert node == identity(("P", "b")).keys(0)[0] != identity(("Q", "a")).keys(0)[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"namespace": "other"},
        {"operation": "other"},
        {"fingerprint": digest("other")},
        {"operation_version": "1"},
        {"operation_version": ""},
        {"input_digest": "other"},
    ],
)
def test_every_key_depends_on_all_of_the_call(changed: dict[str, Any]) -> None:
    before, after = identity(("P", "a")).keys(0), identity(("P", "a"), **changed).keys(0)
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_names_do_not_run_together() -> None:
    one = identity(namespace="ab", operation="c").keys(0)
    two = identity(namespace="a", operation="bc").keys(0)
    assert one != two


def test_parents_are_sets() -> None:
    one = identity(("P", "a"), ("Q", "a")).keys(0)
    assert one[1] == identity(("P", "a")).keys(0)[1], "equal content twice is that content"
    assert one[0] != identity(("P", "a")).keys(0)[0]
    assert identity(("Q", "b"), ("P", "a")).keys(0) == identity(("P", "a"), ("Q", "b")).keys(0)


def test_samples_are_told_apart_from_each_other_and_from_parents() -> None:
    seen: set[bytes] = set()
    count = 0
    for parents in ((), (("P", "a"),), (("P", "a"), ("Q", "b"))):
        for sample in range(5):
            keys = set(identity(*parents).keys(sample))
            seen |= keys
            count += len(keys)
    # The cross key is the same for all parents.
    assert len(seen) == count - 2 * 5


def test_the_pool_is_as_wide_as_the_reuse() -> None:
    parents = ("P", "a"), ("Q", "b")
    assert identity(*parents).pool() == identity(*parents).keys(0)[1]
    assert identity(*parents, across=True).pool() == identity(*parents).keys(0)[2]
    assert identity(("P", "b"), across=True).pool() == identity(across=True).pool()


names = st.text(max_size=5)
heads = st.fixed_dictionaries(
    {
        "namespace": names,
        "operation": names,
        "fingerprint": st.binary(min_size=32, max_size=32),
        "operation_version": st.none() | names,
    }
)


@given(st.lists(st.tuples(heads, st.integers(0, 2**40)), min_size=2, max_size=4, unique_by=repr))
def test_different_calls_have_different_keys(calls: list[tuple[dict[str, Any], int]]) -> None:
    keys = [Identity(head(**named), digest("i"), (), False).keys(sample) for named, sample in calls]
    for a, b in combinations(keys, 2):
        assert not set(a) & set(b)


# -- parents from results ----------------------------------------------------------------------------------------------
def test_parents_of_results() -> None:
    p, q = result("11" * 32, "aa" * 32), result("00" * 32, "bb" * 32)
    assert parents_of([p, q, p]) == [Parent(b"\x00" * 32, b"\xbb" * 32), Parent(b"\x11" * 32, b"\xaa" * 32)]


def test_an_output_that_was_not_stored_is_a_content_of_its_own() -> None:
    (one,), (two,) = (parents_of([result("11" * 32, UNSTORABLE + each)]) for each in ("a", "b"))
    assert one.artifact != two.artifact
    assert len(one.artifact) == 32


@pytest.mark.parametrize("wrong", ["", "zz" * 32, "00" * 31, "00" * 33, "0" * 63, "unstorable"])
def test_ids_that_nobody_gave_out(wrong: str) -> None:
    with pytest.raises(ValueError):
        parents_of([result(wrong, "aa" * 32)])
    with pytest.raises(ValueError):
        parents_of([result("aa" * 32, wrong)])


# -- effects -----------------------------------------------------------------------------------------------------------
def test_an_effect_hangs_on_what_it_is_asked_to_do() -> None:
    base: tuple[Any, ...] = ("ns", "op", None, digest("input"), 0)
    others = [
        ("x", *base[1:]),
        ("ns", "x", *base[2:]),
        ("ns", "op", "1", *base[3:]),
        (*base[:3], digest("x"), 0),
        (*base[:4], 1),
        (*base, ("run",)),
        (*base, ("x",)),
    ]
    assert len({effect_key(*each) for each in (base, *others)}) == 8
    assert effect_key(*base) == effect_key(*base)


def test_an_idempotency_key_changes_when_an_attempt_is_settled() -> None:
    keys = [idempotency_key(effect, settled) for effect in (b"a" * 32, b"b" * 32) for settled in (0, 1, 2)]
    assert len(set(keys)) == 6
    assert all(len(key) == 64 for key in keys)
