"""What encoded bytes say to a reader: every kind of value, nothing built, no secret shown."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ormsgpack import Ext, packb
from pydantic import BaseModel

from musubito.errors import ArtifactUnreadable, EncodingError
from musubito.values.artifact_codec import encode_value
from musubito.values.canonical import canonical
from musubito.values.digest import digest_input
from musubito.values.display import plain
from musubito.values.redaction import HIDDEN, is_secret


class Colour(Enum):
    RED = 1


@dataclass
class Point:
    x: int
    y: Any


class Pair(NamedTuple):
    a: int
    b: str


class Model(BaseModel, extra="allow"):
    name: str


def said(value: Any) -> Any:
    """Of both encodings, which say the same."""
    stored = plain(encode_value(value)[1:])
    assert plain(canonical(value)[1:]) == stored
    return stored


SAID: list[tuple[Any, Any]] = [
    ({"a": [1, 2.5, None, True, "text"]}, {"a": [1, 2.5, None, True, "text"]}),
    ((1, "a"), {"$type": "tuple", "items": [1, "a"]}),
    ({3}, {"$type": "set", "items": [3]}),
    (frozenset({3}), {"$type": "frozenset", "items": [3]}),
    ({1: "a"}, {"$type": "dict", "items": [[1, "a"]]}),
    (OrderedDict(b=1, a=2), {"$type": "OrderedDict", "b": 1, "a": 2}),
    (defaultdict(list, a=[1]), {"$type": "defaultdict", "items": {"a": [1]}}),
    (Counter("aab"), {"$type": "Counter", "items": {"a": 2, "b": 1}}),
    (deque([1], 3), {"$type": "deque", "items": [1]}),
    (10**30, {"$type": "int", "value": str(10**30)}),
    (Decimal("1.10"), {"$type": "Decimal", "value": "1.10"}),
    (Fraction(1, 3), {"$type": "Fraction", "value": "1/3"}),
    (date(2026, 1, 2), {"$type": "date", "value": "2026-01-02"}),
    (datetime(2026, 1, 2, tzinfo=UTC), {"$type": "datetime", "value": "2026-01-02 00:00:00+00:00"}),
    (datetime(2026, 1, 2, tzinfo=ZoneInfo("UTC")), {"$type": "datetime", "value": "2026-01-02 00:00:00+00:00"}),
    (timedelta(seconds=90), {"$type": "timedelta", "value": "0:01:30"}),
    (UUID(int=1), {"$type": "UUID", "value": str(UUID(int=1))}),
    (PurePosixPath("/a"), {"$type": "PurePosixPath", "value": "/a"}),
    (Colour.RED, {"$type": "Colour", "value": "RED"}),
    (Point(1, [Pair(2, "b")]), {"$type": "Point", "x": 1, "y": [{"$type": "Pair", "a": 2, "b": "b"}]}),
    (Model(name="n", more=1), {"$type": "Model", "name": "n", "more": 1}),
    ("lone \ud800", "lone \\ud800"),
    (complex(1, 2), {"$type": "complex", "value": "(1+2j)"}),
]


@pytest.mark.parametrize("number", range(len(SAID)))
def test_what_each_kind_of_value_says(number: int):
    value, shown = SAID[number]
    assert said(value) == shown


def test_bytes_are_told_by_their_size_and_digest():
    told = said({"a": b"abc", "b": bytearray(b"abc")})
    assert (told["a"]["size"], told["a"]["$type"], told["b"]["$type"]) == (3, "bytes", "bytearray")
    assert told["a"]["sha256"] == told["b"]["sha256"]


def test_long_texts_are_put_back_where_only_their_digests_stand():
    text = "long " * 2000
    digest = digest_input("f", {"text": text, "rest": (1,)})
    assert plain(digest.packed, digest.texts) == {"text": text, "rest": {"$type": "tuple", "items": [1]}}
    assert plain(digest.packed)["text"]["$type"] == "str"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("api_key", "OPENAI_API_KEY", "password", "db-password", "access_token", "token")),
        *((name, True) for name in ("accessToken", "clientSecret", "aws_secret_access_key", "cookie", "passphrase")),
        *((name, True) for name in ("client_secret", "Authorization", "private_key", "credentials")),
        *(
            (name, False)
            for name in ("tokens", "max_tokens", "input_tokens", "tokenizer", "key", "secretary", "author")
        ),
    ],
)
def test_what_is_called_like_a_secret(name: str, secret: bool):
    assert is_secret(name) is secret


@pytest.mark.parametrize(
    "value",
    [
        {"api_key": "hush"},
        {"apiKeys": ["hush"], "n": 1},
        {"credentials": {"value": "hush", "n": 1}},
        {1: "x", "api_key": "hush"},
        {("a", 1): {"secrets": ["hush"]}},
        [["Authorization", "Bearer hush"]],
        [("Cookie", "hush")],
        Point(1, {"clientSecret": b"hush"}),
        {"text": "call it with sk-hushhushhushhush12 and then"},
        {"header": "Bearer hush.hush.hush"},
    ],
    ids=str,
)
def test_no_secret_is_said(value: Any):
    assert "hush" not in json.dumps(said(value))


def test_what_is_no_secret_is_said():
    value = {"token": None, "max_tokens": 3, "sort_key": "name", "tokens": ["a", "b"], "author": "me", "task": "sk-1"}
    assert said(value) == value
    assert said({"password": ""}) == {"password": ""}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.uuids(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner) | st.sets(st.integers())
    ),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_is_encoded_can_be_shown_as_json(value: Any):
    try:
        encoded = encode_value(value)
    except EncodingError:
        return
    json.dumps(plain(encoded[1:]), allow_nan=True)


@given(st.binary())
def test_any_bytes_are_shown_or_said_to_be_unreadable(data: bytes):
    for payload in (data, packb(Ext(27, data)), packb(Ext(120, data))):
        try:
            plain(payload)
        except ArtifactUnreadable:
            continue


def test_exts_within_exts_end_somewhere():
    deep = b"\x91" * 250 + b"\x01"
    for _ in range(40):
        deep = b"\x91" * 250 + packb(Ext(5, deep))
    with pytest.raises(ArtifactUnreadable, match="recursion"):
        plain(deep)
    shallow = packb(1)
    for _ in range(100):
        shallow = packb(Ext(5, packb([Ext(5, shallow)])))
    assert plain(shallow)["$type"] == "tuple"


def test_what_is_under_a_key_that_is_a_secret_is_lost_to_no_other_key():
    """Several keys may look alike once they are hidden, and like one that is there as it is."""
    secrets = [f"ghp_{letter * 36}" for letter in "abc"]
    value = {secrets[0]: 0, HIDDEN: 1, secrets[1]: 2, f"{HIDDEN} (2)": 3, secrets[2]: 4}
    shown = plain(encode_value(value)[1:])
    assert sorted(shown.values()) == [0, 1, 2, 3, 4]
    assert (shown[HIDDEN], shown[f"{HIDDEN} (2)"]) == (1, 3)
    assert not any(secret in key for key in shown for secret in secrets)


def test_keys_of_what_is_hidden_are_hidden_if_they_look_like_secrets():
    value = {"api_keys": {"ghp_" + "a" * 36: "x", "of the production": ["y"]}}
    assert plain(encode_value(value)[1:]) == {"api_keys": {HIDDEN: HIDDEN, "of the production": [HIDDEN]}}
