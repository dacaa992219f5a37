"""Input digests: what counts, what is gathered, and who is blamed."""

from __future__ import annotations

import warnings
from hashlib import sha256
from typing import Any

import pytest

from musubito.errors import InputError, MusubitoWarning
from musubito.model import UNSTORABLE, MusubitoResult
from musubito.values.artifact_codec import encode_value
from musubito.values.digest import argument_digests, content_digest, digest_input


def result_of(value: Any, node: str = "n") -> MusubitoResult[Any]:
    return MusubitoResult(value, content_digest(encode_value(value)).hex(), node, node)


def digest(**arguments: object) -> bytes:
    return digest_input("f", arguments).digest


def test_names_and_values_count_and_order_does_not() -> None:
    assert digest(a=1, b=2) == digest(b=2, a=1)
    assert len({digest(a=1), digest(b=1), digest(a=1.0), digest(a=2), digest(), digest(a=1, b=None)}) == 6
    assert len(digest(a=1)) == 32


def test_long_texts_differ_from_each_other_and_from_all_else() -> None:
    text = "x" * 5000
    hashed = sha256(text.encode()).digest()
    values = [
        text,
        text + "x",
        text.replace("x", "y", 1),
        text.encode(),
        [text],
        hashed,
        hashed.hex(),
        "\ud800" * 5000,
    ]
    assert len({digest(a=value) for value in values}) == len(values)
    assert digest(a="x" * 5000, b=(1,)) == digest(b=(1,), a="x" * 5000)
    assert digest(a="x" * 4095 + "\u0104") != digest(a="x" * 4095 + "\u0105")


@pytest.mark.parametrize("value", [[1, {"a": 2}], 5, "text", (1, (2,)), {1: 2}, frozenset({1})])
def test_a_result_counts_by_its_artifact(value: Any) -> None:
    assert digest(a=result_of(value)) == digest(a=result_of(value, node="elsewhere"))
    assert digest(a=result_of(value)) != digest(a=result_of([value]))


@pytest.mark.parametrize("value", [[1, {"a": 2}], 5, "text"])
def test_a_result_never_counts_like_a_plain_value(value: Any) -> None:
    result = result_of(value)
    plain = [
        value,
        result.artifact_id,
        bytes.fromhex(result.artifact_id),
        {"value": value},
        [result.artifact_id],
    ]
    assert digest(a=result) not in {digest(a=one) for one in plain}


def test_a_changed_value_counts_by_value_with_one_warning() -> None:
    changed, again = result_of([1, "once"]), result_of([1, "once"])
    before = digest(a=changed)
    changed.value.append(2)
    again.value.append(3)
    with pytest.warns(MusubitoWarning) as caught:
        digests = {
            before,
            digest(a=changed),
            digest(a=again),
            digest(a=[1, "once", 2]),
            digest(a=result_of([1, "once", 2])),
        }
    assert len(digests) == 5
    assert len(caught) == 1
    assert list(digest_input("f", {"a": changed}).results) == [changed]


def test_the_warning_is_an_error_for_those_who_ask_for_it() -> None:
    changed = result_of([1, "strict"])
    changed.value.append(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MusubitoWarning):
            digest(a=changed)


def test_what_could_not_be_stored_counts_by_its_id() -> None:
    first = MusubitoResult(object(), UNSTORABLE + "1", "n", "n")
    second = MusubitoResult(object(), UNSTORABLE + "2", "n", "n")
    assert digest(a=first) == digest(a=first)
    assert digest(a=first) != digest(a=second)


def test_results_are_found_at_any_depth_in_the_order_of_the_encoding() -> None:
    results = [result_of(i) for i in range(6)]
    deep = {
        "b": [results[1], (results[2],)],
        "a": results[0],
        "c": {1: results[4], 0: results[3]},
        "d": results[5],
    }
    found = digest_input("f", {"x": deep, "y": "z" * 5000}).results
    assert [r.value for r in found] == [0, 1, 2, 3, 4, 5]
    as_set = frozenset(results)
    first = digest_input("f", {"x": as_set}).results
    assert list(first) == list(digest_input("f", {"x": frozenset(reversed(results))}).results)
    assert list(first) == list(digest_input("f", {"x": {"s": as_set, "t": {}}}).results)
    assert set(first) == as_set
    assert len(digest_input("f", {"x": [{1: results[0]}, "\ud800", results[0]]}).results) == 2


def test_the_argument_and_the_path_are_named() -> None:
    with pytest.raises(InputError) as caught:
        digest_input("op", {"good": (1,), "messages": [{"content": [1, lambda: 1]}]})
    error = caught.value
    assert (error.operation, error.argument, error.path) == ("op", "messages", "$[0].content[1]")
    assert "function" in error.problem


@pytest.mark.parametrize("value", ["\u0104", 196, 0xC4C5C6, "x" * 196, [b"\xc4"], {"k": b""}])
def test_what_looks_like_bytes_does_not_confuse(value: Any) -> None:
    assert digest(a=value) == digest(a=value)
    assert digest(a=value, b=b"1") != digest(a=value, b=bytearray(b"1"))
    assert digest(a=[value, b"1"]) != digest(a=[value, bytearray(b"1")])
    with pytest.raises(InputError):
        digest(a={"k": [memoryview(b"1")]})


def test_each_argument_has_a_digest_of_its_own() -> None:
    before = argument_digests({"a": 1, "b": [1], "c": "x" * 5000})
    after = argument_digests({"a": 1, "b": [2], "c": "x" * 5000})
    assert {name for name in before if before[name] != after[name]} == {"b"}
    assert all(len(one) == 16 for one in before.values())


def test_the_digest_of_content_is_its_artifact_id() -> None:
    payload = encode_value([1])
    assert content_digest(payload) == sha256(payload).digest()
