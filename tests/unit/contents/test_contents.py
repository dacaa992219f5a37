"""A payload's codec and body, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito.contents.contents import PLAIN, Contents, Sealed
from musubito.errors import ArtifactCorrupt, ArtifactUnreadable, MusubitoError

PAYLOADS = st.one_of(st.binary(max_size=3000), st.builds(lambda piece: piece * 300, st.binary(max_size=50)))


@pytest.fixture
def contents():
    return Contents("a")


@given(payload=PAYLOADS)
def test_it_comes_back(payload):
    contents = Contents("a")
    digest = contents.digest(payload)
    sealed = contents.seal(digest, payload)
    assert len(sealed.body) <= len(payload)
    assert contents.open(*sealed, digest) == payload


@given(payload=PAYLOADS, data=st.data())
def test_damaged_bytes_never_pass(payload, data):
    contents = Contents("a")
    digest = contents.digest(payload)
    codec, body = contents.seal(digest, payload)
    changed = bytearray(body)
    if not body or data.draw(st.booleans()):
        changed[data.draw(st.integers(0, len(body))) :] = data.draw(st.binary(max_size=5))
    else:
        changed[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert contents.open(codec, bytes(changed), digest) == payload
    except MusubitoError as error:
        assert isinstance(error, ArtifactUnreadable)


@pytest.mark.parametrize("codec", ["", "pickle", "msgpack+", "msgpack+zip", "msgpack+zlib+zlib", "zlib", "msgpack@"])
def test_a_codec_that_nobody_knows_is_unreadable(contents, codec):
    digest = contents.digest(b"x")
    with pytest.raises(ArtifactUnreadable, match="codec"):
        contents.open(codec, b"x", digest)


def test_a_small_payload_is_stored_as_it_is(contents):
    digest = contents.digest(b"small")
    assert contents.seal(digest, b"small") == Sealed(PLAIN, b"small")
    with pytest.raises(ArtifactCorrupt):
        contents.open(PLAIN, b"smell", digest)
    with pytest.raises(ArtifactCorrupt):
        contents.open(PLAIN, "small", digest)
