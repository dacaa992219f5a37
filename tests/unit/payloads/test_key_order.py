"""The parts of a key that was changed: the second one is new, and seals everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from musubito.errors import MusubitoError
from musubito.payloads.key_derivation import key_for, read_key_file

FIRST, NEW, BEFORE = (letter * 32 for letter in (b"\x81", b"\x82", b"\x83"))


@pytest.mark.parametrize("key", [FIRST, FIRST + NEW, FIRST + NEW + FIRST, FIRST + NEW + BEFORE])
def test_keys_in_order_are_taken(key: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(key)
    assert key_for(key, "default") == read_key_file(str(tmp_path / "key")) == key


@pytest.mark.parametrize("key", [FIRST + FIRST, FIRST + FIRST + NEW, FIRST + BEFORE + BEFORE])
def test_a_second_part_that_is_not_new_is_refused(key: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(key)
    with pytest.raises(ValueError, match="the second part of a changed key is the new one"):
        key_for(key, "default")
    with pytest.raises(MusubitoError, match="the second part of a changed key is the new one"):
        read_key_file(str(tmp_path / "key"))
