"""The three keys: what each of them depends on, and what no key may be confused with."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from musubito.model import UNSTORABLE, MusubitoResult
from musubito.values.call_keys import Identity, Parent, head, parents_of


def digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def identity(*parents: tuple[str, str], input_digest: str = "input", across: bool = False, **changed: Any) -> Identity:
    named = {"namespace": "ns", "operation": "op", "fingerprint": digest("code"), "operation_version": None} | changed
    return Identity(
        head(**named), digest(input_digest), sorted(Parent(digest(n), digest(a)) for n, a in parents), across
    )


def result(node: str, artifact: str) -> MusubitoResult[Any]:
    return MusubitoResult(0, artifact, node, node)


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


# -- parents from results ----------------------------------------------------------------------------------------------
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
