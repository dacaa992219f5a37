"""A place for blobs keeps what was put there, whole, and nothing that was not finished."""

from __future__ import annotations

import os
import pickle
import stat
import sys
import time
from contextlib import closing

import pytest

from musubito.errors import ArtifactMissing, ArtifactUnreadable, MusubitoError, StoreError
from musubito.payloads.blobs import FolderBlobs
from musubito.payloads.compression import CHUNK, drained
from musubito.payloads.object_store import ObjectBlobs

NAME, OTHER = "0123456789abcdef/aabbcc.msgpack", "0123456789abcdef/aabbcc.msgpack+zstd"


@pytest.fixture(params=["folder", "objects in memory", "objects in files"])
def blobs(request, tmp_path):
    if request.param == "folder":
        return FolderBlobs(tmp_path / "here" / "blobs")
    stores = pytest.importorskip("obstore.store")
    in_memory = request.param == "objects in memory"
    return ObjectBlobs(stores.MemoryStore() if in_memory else stores.LocalStore(tmp_path / "objects", mkdir=True))


def names(blobs):
    return {file.name for file in blobs.files()}


def test_what_was_put_is_there(blobs):
    assert names(blobs) == set()
    for name, pieces in ((NAME, [b"x"]), (OTHER, [b"a" * CHUNK, b"", memoryview(b"b" * (CHUNK + 7))])):
        blobs.put(name, iter(pieces))
        blob = blobs.get(name)
        assert drained(blob) == b"".join(pieces)
        assert blob.read(1) == b""
        blob.close()
    assert names(blobs) == {NAME, OTHER}
    sizes = {file.name: file.size for file in blobs.files()}
    assert sizes == {NAME: 1, OTHER: 2 * CHUNK + 7}
    assert all(abs(file.modified - time.time()) < 100 for file in blobs.files())


def test_it_is_read_in_pieces(blobs):
    blobs.put(NAME, [bytes(range(200)), bytes(100)])
    blob = blobs.get(NAME)
    assert [len(blob.read(130)) for _ in range(4)] == [130, 130, 40, 0]
    blob.close()


def test_what_is_put_again_is_what_was_put_last(blobs):
    blobs.put(NAME, [b"first"])
    blobs.put(NAME, [b"second"])
    blob = blobs.get(NAME)
    assert drained(blob) == b"second"
    blob.close()
    assert names(blobs) == {NAME}


def test_what_is_not_there_is_missing_and_need_not_be_deleted(blobs):
    with pytest.raises(ArtifactMissing):
        blobs.get(NAME)
    blobs.delete(NAME)
    blobs.put(NAME, [b"x"])
    blobs.delete(NAME)
    blobs.delete(NAME)
    with pytest.raises(ArtifactMissing):
        blobs.get(NAME)
    assert names(blobs) == set()


def test_what_was_not_finished_is_not_there(blobs):
    blobs.put(NAME, [b"first"])

    def pieces():
        yield b"x" * 100_000
        raise KeyboardInterrupt

    for name in (NAME, OTHER):
        with pytest.raises(KeyboardInterrupt):
            blobs.put(name, pieces())
    assert names(blobs) == {NAME}
    with closing(blobs.get(NAME)) as blob:
        assert drained(blob) == b"first"


# -- folders -----------------------------------------------------------------------------------------------------------
def test_only_their_owner_can_read_them(tmp_path):
    before = os.umask(0)
    try:
        FolderBlobs(tmp_path / "blobs").put(NAME, [b"x"])
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "blobs").rglob("*") if path.is_dir()}
    assert modes == {0o700} and stat.S_IMODE((tmp_path / "blobs").stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*.msgpack")] == [0o600]


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "blobs").write_text("no folder")
    blobs = FolderBlobs(tmp_path / "blobs")
    with pytest.raises(StoreError, match="blobs=") as raised:
        blobs.put(NAME, [b"x"])
    assert str(tmp_path / "blobs") in str(raised.value)
    with pytest.raises(ArtifactMissing):
        blobs.get(NAME)
    blobs.delete(NAME)
    assert names(blobs) == set()


@pytest.mark.parametrize("name", ["", "a", "a/b/c", "a/b\0c", "a/b\ud800"])
def test_a_name_that_no_blob_has(tmp_path, name):
    with pytest.raises(ArtifactUnreadable):
        FolderBlobs(tmp_path).get(name)


def test_a_folder_where_a_blob_should_be(tmp_path):
    blobs = FolderBlobs(tmp_path)
    blobs._path(NAME).mkdir(parents=True)
    with pytest.raises(ArtifactUnreadable):
        drained(blobs.get(NAME))
    with pytest.raises(StoreError):
        blobs.put(NAME, [b"x"])


def test_what_is_left_unfinished_is_listed_and_can_be_deleted(tmp_path):
    blobs = FolderBlobs(tmp_path / "blobs")
    blobs.put(NAME, [b"x"])
    left = tmp_path / "blobs" / "unfinished" / "abc"
    left.write_bytes(b"half")
    assert names(blobs) == {NAME, "unfinished/abc"}
    blobs.delete("unfinished/abc")
    assert not left.exists()


# -- objects -----------------------------------------------------------------------------------------------------------
class Unreachable:
    """Stands for the library: nothing answers."""

    def __getattr__(self, name):
        def fails(*args, **options):
            raise OSError("error sending request\n\nDebug source:\nsecret")

        return fails


def test_an_object_store_that_does_not_answer():
    blobs = ObjectBlobs(pytest.importorskip("obstore.store").MemoryStore())
    blobs._obstore = Unreachable()
    for failing in (lambda: blobs.put(NAME, [b"x"]), lambda: blobs.delete(NAME), lambda: list(blobs.files())):
        with pytest.raises(StoreError, match="error sending request$"):
            failing()
    with pytest.raises(ArtifactUnreadable, match="error sending request$"):
        blobs.get(NAME)


def test_only_a_store_of_obstore_is_taken(tmp_path):
    pytest.importorskip("obstore")
    with pytest.raises(TypeError, match="store of obstore"):
        ObjectBlobs(tmp_path)


def test_without_obstore_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MusubitoError, match=r"pip install 'musubito\[objects\]'"):
        ObjectBlobs(None)


def test_it_can_be_pickled_where_its_store_can(tmp_path):
    stores = pytest.importorskip("obstore.store")
    blobs = ObjectBlobs(stores.LocalStore(tmp_path / "objects", mkdir=True))
    blobs.put(NAME, [b"x"])
    assert names(pickle.loads(pickle.dumps(blobs))) == {NAME}
