"""One key of the user's, and what is derived from it."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest

from musubito import MusubitoEngine, SQLiteStorage
from musubito.errors import MusubitoError, WrongKey
from musubito.payloads.codec import Contents
from musubito.payloads.key_derivation import Keys, check_the_key, key_for, read_key_file

KEY, OTHER = bytes(range(32)), b"o" * 32
PURPOSES = ("artifact", "input", "effect", "read", "argument", "code", "part")


def test_a_key_for_all_for_each_or_asked_for():
    assert key_for(None, "a") is None
    assert key_for(KEY, "a") == KEY
    assert key_for({"a": KEY}, "a") == KEY
    assert key_for({"a": KEY, "b": None}, "b") is None
    assert key_for(lambda namespace: KEY if namespace == "a" else None, "a") == KEY
    assert key_for(lambda namespace: KEY if namespace == "a" else None, "b") is None


def test_a_namespace_that_a_mapping_does_not_name_is_not_stored_in_clear(tmp_path):
    with pytest.raises(WrongKey, match="'tenat' is not named by the mapping of keys; add it, with None if") as caught:
        MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db"), key={"tenant": KEY}, namespace="tenat")
    assert str(KEY) not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [b"", b"short", KEY + b"x", KEY.hex().encode(), "text" * 8, 7, (lambda _: b"short"), {"a": "x" * 32}]
)
def test_what_is_no_key_is_refused_and_not_shown(wrong):
    with pytest.raises((TypeError, ValueError)) as raised:
        key_for(wrong, "a")
    assert "short" not in str(raised.value) and "xxx" not in str(raised.value) and "text" not in str(raised.value)


def test_nothing_derived_is_the_same_for_two_purposes_namespaces_or_keys():
    seen = set()
    for key in (KEY, OTHER):
        for namespace in ("a", "b"):
            keys = Keys(key, namespace)
            seen |= {keys.check, *keys.contents, keys.node, key}
            seen |= {keys.digest(purpose)(b"data") for purpose in PURPOSES}
    assert len(seen) == 2 + 4 * (3 + len(PURPOSES))
    again = Keys(KEY, "a")
    assert (again.check, again.digest("input")(b"data")) == (
        Keys(KEY, "a").check,
        Keys(KEY, "a").digest("input")(b"data"),
    )


def test_what_is_derived_stays_what_it_is():
    """Another derivation would make all that is stored unreadable."""
    keys = Keys(KEY, "default")
    assert keys.check.hex() == "82f72930df6a1a2b8bbe53f42b2cf88f3683cbfe43095ad0136d90a4304deae6"
    assert (
        keys.digest("artifact")(b"payload").hex() == "624a9190662523a73268b7a403502bc4e6ab633b8c23e6268fcbe378a681ecfc"
    )


def test_a_key_that_was_changed_keeps_its_digests_and_opens_what_was_before():
    before, after = Keys(KEY, "a"), Keys(KEY + OTHER + KEY, "a")
    assert (after.check, after.node) == (before.check, before.node)
    assert after.digest("input")(b"data") == before.digest("input")(b"data")
    assert after.contents == (*Keys(OTHER, "a").contents, *before.contents)
    assert Keys(KEY + OTHER, "a").contents == Keys(OTHER, "a").contents


@pytest.mark.parametrize("text", [KEY, KEY.hex().encode(), f"{KEY.hex()}\n{OTHER.hex()}\n".encode(), KEY + OTHER])
def test_a_file_holds_the_bytes_or_digits(tmp_path, text):
    (tmp_path / "key").write_bytes(text)
    assert read_key_file(str(tmp_path / "key")) in (KEY, KEY + OTHER)


@pytest.mark.parametrize("text", [b"", b"short", KEY[1:], KEY.hex().encode()[1:]])
def test_a_file_without_a_key_is_told_without_its_bytes(tmp_path, text):
    (tmp_path / "key").write_bytes(text)
    with pytest.raises(MusubitoError, match="holds no key") as error:
        read_key_file(str(tmp_path / "key"))
    assert text == b"" or repr(text)[2:-1] not in str(error.value)
    with pytest.raises(MusubitoError, match="cannot be read"):
        read_key_file(str(tmp_path / "none"))


def test_keys_are_neither_shown_nor_pickled():
    pytest.importorskip("cryptography")
    keys = Keys(KEY, "a")
    for shown in (repr(keys), repr(Contents("a", key=KEY)), str(vars(Contents("a", key=KEY)))):
        assert KEY.hex() not in shown and repr(KEY)[2:-1] not in shown and repr(keys.contents) not in shown
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copied(keys)


def test_the_key_of_a_namespace():
    check_the_key("a", b"one", b"one")
    check_the_key("a", b"", b"")
    for own, stored, said in ((b"", b"one", "no key"), (b"one", b"", "without a key"), (b"one", b"two", "another key")):
        with pytest.raises(WrongKey, match=said) as raised:
            check_the_key("a", own, stored)
        assert raised.value.namespace == "a"


def test_without_cryptography_a_key_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    Contents("a")
    with pytest.raises(MusubitoError, match=r"pip install 'musubito\[crypto\]'"):
        Contents("a", key=KEY)
