"""A payload's codec and body, and back."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnreadable, MusubitoError
from musubito.payloads.codec import PLAIN, Contents, Sealed

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


def test_other_bytes_are_checked_after_the_right_ones_were_found_intact(contents):
    body, other = bytes(bytearray(b"right")), b"wrong"
    digest = contents.digest(body)
    for _ in range(2):
        assert contents.open(PLAIN, body, digest) is body
        with pytest.raises(ArtifactCorrupt):
            contents.open(PLAIN, other, digest)
        with pytest.raises(ArtifactUnreadable):
            contents.open("msgpack+zlib", body, digest)
        with pytest.raises(ArtifactCorrupt):
            contents.open(PLAIN, body, contents.digest(other))


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


class InMemory:
    """Blobs in a dict; they come in pieces as small as they are asked for."""

    def __init__(self):
        self.kept = {}

    def put(self, name, pieces):
        self.kept[name] = b"".join(pieces)

    def get(self, name):
        if name not in self.kept:
            raise ArtifactMissing("not there")
        return BytesIO(self.kept[name])


@pytest.mark.parametrize("key", [None, b"k" * 32], ids=["plain", "encrypted"])
@given(payload=PAYLOADS, data=st.data())
def test_a_blob_comes_back_or_gives_an_error_of_ours(key, payload, data):
    if key is not None:
        pytest.importorskip("cryptography")
    blobs = InMemory()
    contents = Contents("a", blobs, key)
    digest = contents.digest(payload)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("musubito.payloads.codec.LARGE", 100)
        codec, body = contents.seal(digest, payload)
    assert codec.endswith("@blob") == (body == b"" and payload != b"")
    assert contents.open(codec, body, digest) == payload
    for name, blob in blobs.kept.items():
        damaged = bytearray(blob)
        where = data.draw(st.integers(0, len(blob) - 1))
        how = data.draw(st.sampled_from(["cut", "flipped", "longer", "anything", "gone"]))
        if how == "cut":
            del damaged[where:]
        elif how == "flipped":
            damaged[where] ^= data.draw(st.integers(1, 255))
        elif how == "longer":
            damaged += data.draw(st.binary(min_size=1, max_size=20))
        else:
            damaged[:] = data.draw(st.binary(max_size=200))
        blobs.kept = {} if how == "gone" else {name: bytes(damaged)}
        try:
            assert contents.open(codec, body, digest) == payload
        except ArtifactUnreadable as error:
            assert (how == "gone") == isinstance(error, ArtifactMissing)
