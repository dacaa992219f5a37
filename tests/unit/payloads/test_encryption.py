"""What is encrypted is opened by the same key, for the same thing, whole; or not at all."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito.errors import ArtifactCorrupt, ArtifactUnreadable, MusubitoError
from musubito.payloads import encryption
from musubito.payloads.codec import Contents, Sealed
from musubito.payloads.compression import CHUNK, drained
from musubito.payloads.encryption import SALT, TAG, Opening, resealed, sealed

pytest.importorskip("cryptography")
KEY, OTHER = b"k" * 32, b"o" * 32
EDGES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1]


def body_of(plain: bytes, cut: int = 1 << 20) -> bytes:
    return b"".join(sealed(KEY, b"it", [plain[i : i + cut] for i in range(0, len(plain), cut)]))


def opened(body: bytes, key: bytes = KEY, belongs: bytes = b"it") -> bytes:
    return bytes(drained(Opening((key,), belongs, io.BytesIO(body))))


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("cut", [777_777, 1 << 20, 5 << 20])
def test_it_comes_back(size, cut):
    plain = os.urandom(size)
    body = body_of(plain, cut)
    assert len(body) == SALT + size + TAG * max(1, -(-size // CHUNK))
    assert opened(body) == plain


def test_it_is_read_in_pieces():
    plain = os.urandom(2 * CHUNK + 5)
    source = Opening((KEY,), b"it", io.BytesIO(body_of(plain)))
    pieces = []
    while piece := source.read(700_001):
        pieces.append(piece)
    assert b"".join(pieces) == plain
    assert {len(piece) for piece in pieces[:-1]} == {700_001}


@given(plain=st.binary(max_size=100), data=st.data())
def test_what_was_changed_is_refused(plain, data):
    body = bytearray(body_of(plain))
    how = data.draw(st.sampled_from(["cut", "flipped", "longer"]))
    where = data.draw(st.integers(0, len(body) - 1))
    if how == "cut":
        del body[where:]
    elif how == "flipped":
        body[where] ^= data.draw(st.integers(1, 255))
    else:
        body += data.draw(st.binary(min_size=1, max_size=40))
    with pytest.raises(ArtifactCorrupt):
        opened(bytes(body))


def test_frames_cannot_be_left_out_moved_cut_off_or_taken_from_another_body():
    plain = os.urandom(3 * CHUNK)
    body, other = body_of(plain), body_of(plain)
    frame = CHUNK + TAG
    salt, frames = body[:SALT], [body[SALT + i * frame : SALT + (i + 1) * frame] for i in range(3)]
    theirs = other[SALT : SALT + frame]
    for wrong in ([0, 1], [1, 2], [0, 2], [1, 0, 2], [0, 1, 1, 2], [0, 1, 2, 2]):
        with pytest.raises(ArtifactCorrupt):
            opened(salt + b"".join(frames[i] for i in wrong))
    with pytest.raises(ArtifactCorrupt):
        opened(salt + theirs + frames[1] + frames[2])


def test_another_key_or_another_thing_opens_nothing():
    body = body_of(b"secret")
    with pytest.raises(ArtifactCorrupt):
        opened(body, key=OTHER)
    with pytest.raises(ArtifactCorrupt):
        opened(body, belongs=b"another")


def test_equal_contents_are_stored_differently_each_time():
    assert len({body_of(b"the same") for _ in range(50)}) == 50


# -- contents ----------------------------------------------------------------------------------------------------------
@given(payload=st.one_of(st.binary(max_size=3000), st.builds(lambda piece: piece * 300, st.binary(max_size=50))))
def test_payloads_texts_and_items_come_back(payload):
    contents = Contents("a", key=KEY)
    digest = contents.digest(payload)
    stored = contents.seal(digest, payload)
    assert stored.codec.endswith("+aesgcm")
    assert contents.open(*stored, digest) == payload
    text = payload.decode("latin-1")
    assert contents.opened_text(b"error", contents.sealed_text(b"error", text)) == text
    assert contents.opened_item(b"label", contents.sealed_item(b"label", payload)) == payload


def test_each_is_opened_only_as_what_it_is():
    contents = Contents("a", key=KEY)
    payload = b"payload " * 300
    digest = contents.digest(payload)
    codec, body = contents.seal(digest, payload)
    for other in (Contents("b", key=KEY), Contents("a", key=OTHER), Contents("a")):
        with pytest.raises(ArtifactUnreadable):
            other.open(codec, body, digest)
        with pytest.raises(ArtifactUnreadable):
            other.opened_text(b"error", contents.sealed_text(b"error", "text"))
    with pytest.raises(ArtifactUnreadable):
        contents.open(codec, body, contents.digest(b"another"))
    with pytest.raises(ArtifactUnreadable):
        contents.open("msgpack+aesgcm", body, digest)
    with pytest.raises(ArtifactUnreadable):
        contents.opened_text(b"read", contents.sealed_text(b"error", "text"))
    with pytest.raises(ArtifactUnreadable):
        contents.opened_item(b"two", contents.sealed_item(b"one", b"item"))
    with pytest.raises(ArtifactUnreadable):
        contents.open("msgpack", payload, Contents("a").digest(payload))


@given(text=st.text(alphabet="ab+/=: é\n", max_size=80))
def test_a_sealed_text_that_is_damaged_gives_an_error_of_ours(text):
    with pytest.raises(MusubitoError):
        Contents("a", key=KEY).opened_text(b"error", "sealed:" + text)


def test_nothing_is_encrypted_without_a_key():
    contents = Contents("a")
    assert contents.sealed_text(b"error", "text") == contents.opened_text(b"error", "text") == "text"
    assert contents.key_check == b""


def test_bombs_in_an_encrypted_body_are_bounded_too():
    contents = Contents("a", key=KEY)
    bomb = (1 << 60).to_bytes(8, "big") + b"x" * 100
    codec = "msgpack+zlib+aesgcm"
    body = b"".join(encryption.sealed(contents.keys.contents[0], codec.encode() + b"\0label", [bomb]))
    with pytest.raises(ArtifactCorrupt, match="promises"):
        contents.opened_item(b"label", Sealed(codec, body))


@pytest.mark.parametrize("size", EDGES)
def test_what_another_key_sealed_is_sealed_anew_once(size):
    plain = os.urandom(size)
    body = body_of(plain)
    pieces = resealed((OTHER, KEY), b"it", io.BytesIO(body))
    assert pieces is not None
    new = b"".join(pieces)
    assert opened(new, OTHER) == plain
    with pytest.raises(ArtifactCorrupt):
        opened(new, KEY)
    assert resealed((OTHER, KEY), b"it", io.BytesIO(new)) is None
    for wrong, belongs in (((b"x" * 32, b"y" * 32), b"it"), ((OTHER, KEY), b"another")):
        with pytest.raises(ArtifactCorrupt):
            resealed(wrong, belongs, io.BytesIO(body))
