"""Commands on a database whose large outputs lie in an object store."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from musubito import FolderBlobs, MusubitoEngine, StepConfiguration, musubito_step, run, use_musubito_engine
from musubito.payloads.blobs import BlobStore
from musubito.payloads.object_store import ObjectBlobs
from tests.cli.conftest import Musubito
from tests.server import drop_database, new_store

SIZE = 1_500_000
SECRET = "hush-hush"
RANDOM = random.Random(7)


@musubito_step(StepConfiguration(force_reexecution=True), name="paint")
def paint(what: str) -> bytes:
    return RANDOM.randbytes(SIZE)


@musubito_step(name="sign")
def sign() -> str:
    """The newest execution of all is never removed."""
    return "me"


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    folder.mkdir()
    return folder


@pytest.fixture
def blobs(objects: Path) -> BlobStore:
    return ObjectBlobs(pytest.importorskip("obstore.store").LocalStore(objects))


def painted(url: str, blobs: BlobStore | None) -> str:
    """A node that has given two large outputs."""
    with MusubitoEngine.from_url(url, blobs=blobs) as engine, use_musubito_engine(engine), run("first"):
        paint("a boat")
        node = paint("a boat").node_id
        sign()
    return node


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/painted.db"


@pytest.fixture
def node(url: str, blobs: BlobStore) -> str:
    return painted(url, blobs)


@pytest.fixture
def there(objects: Path) -> str:
    return f"file://{objects}"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def aged(folder: Path) -> None:
    for path in files(folder):
        os.utime(path, (0, 0))


def test_verify_looks_where_it_is_told(musubito: Musubito, url: str, there: str, node: str, tmp_path: Path) -> None:
    said = musubito("--url", url, "verify", columns=500)
    assert said.exit_code == 1
    problem, remedy, summary = said.stdout.splitlines()
    assert problem == f"✗ {node[:10]} paint: its blob is not in {tmp_path}/painted.db-blobs (2 times)."
    assert "say where: 'musubito --blobs URL verify'. If it is lost, it runs again" in remedy
    assert summary.endswith("2 findings.")
    assert len(json.loads(musubito("--url", url, "verify", "--json").stdout)["findings"]) == 1
    for said in (
        musubito("--url", url, "--blobs", there, "verify"),
        musubito("--db", str(tmp_path / "painted.db"), "verify", MUSUBITO_BLOBS=there),
    ):
        assert (said.exit_code, "2 large artifacts" in said.stdout) == (0, True)


def test_a_place_that_cannot_be_read_is_no_loss(musubito: Musubito, url: str, node: str) -> None:
    said = musubito("--url", url, "--blobs", "http://127.0.0.1:1/nobody", "verify", columns=500)
    assert said.exit_code == 1
    assert "its blob cannot be read" in said.stdout
    assert "see to that, and verify again." in said.stdout
    assert "run again" not in said.stdout


def test_credentials_come_from_the_environment(
    musubito: Musubito, url: str, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    class Bucket(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["authorization"]))
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    with HTTPServer(("127.0.0.1", 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said = {"ENDPOINT": f"http://127.0.0.1:{server.server_port}", "ALLOW_HTTP": "true", "REGION": "north-1"}
        for name, value in {**said, "ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": SECRET}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        told = musubito("--url", url, "--blobs", "s3://bucket/prefix", "verify", columns=500).stdout
        server.shutdown()
    assert "paint: its blob is not in the object store (2 times)." in told
    path, authorization = asked[0]
    assert path.startswith("/bucket/prefix/")
    assert "Credential=me/" in authorization and "/north-1/s3/" in authorization


def test_show_looks_where_it_is_told(musubito: Musubito, url: str, there: str, node: str) -> None:
    without = json.loads(musubito("--url", url, "show", node, "--json").stdout)["output"]
    assert "'musubito --blobs URL' looks elsewhere" in without["value"]
    told = json.loads(musubito("--url", url, "--blobs", there, "show", node, "--json").stdout)["output"]
    assert (told["$type"], told["size"]) == ("bytes", SIZE)


def test_prune_says_what_it_did_not_find(
    musubito: Musubito, url: str, there: str, node: str, objects: Path, tmp_path: Path
) -> None:
    prune = ("prune", "--older-than", "0s", "--yes")
    said = musubito("--url", url, *prune)
    assert "Removed 2 executions" in said.stdout
    assert said.stderr.startswith(
        f"2 large outputs not found in {tmp_path}/painted.db-blobs: if large outputs lie else"
    )
    assert "'musubito --blobs URL prune' removes them" in said.stderr
    assert "large output" not in musubito("--url", url, *prune).stderr
    assert len(files(objects)) == 2
    aged(objects)
    dry = musubito("--url", url, "--blobs", there, *prune, "--dry-run")
    assert "then 2 files of large outputs that nothing needs (3.0 MB)." in dry.stdout
    assert len(files(objects)) == 2
    told = json.loads(musubito("--url", url, "--blobs", there, *prune, "--json").stdout)["removed"]
    assert (told["blobs"], told["elsewhere"]) == (2, 0)
    assert files(objects) == []


def test_prune_collects_in_the_object_store(musubito: Musubito, url: str, there: str, node: str, objects: Path) -> None:
    notes = objects / "notes.txt"
    notes.write_text("somebody else's")
    aged(objects)
    said = musubito("--url", url, "--blobs", there, "prune", "--older-than", "0s", "--yes")
    assert (said.exit_code, said.stderr) == (0, "")
    assert files(objects) == [notes]


def test_forget_names_the_option(musubito: Musubito, url: str, there: str, node: str, objects: Path) -> None:
    said = musubito("--url", url, "forget", node, "--yes")
    assert "2 large outputs not found in" in said.stderr
    assert "'musubito --blobs URL prune' removes them" in said.stderr
    assert len(files(objects)) == 2
    # Young as they are: they were forgotten.
    assert musubito("--url", url, "--blobs", there, "prune", "--older-than", "9d", "--yes").exit_code == 0
    assert files(objects) == []


def test_forget_erases_in_the_object_store(musubito: Musubito, url: str, there: str, node: str, objects: Path) -> None:
    said = musubito("--url", url, "--blobs", there, "forget", node, "--yes")
    assert (said.exit_code, said.stderr, files(objects)) == (0, "", [])


@pytest.mark.parametrize("command", [("prune", "--older-than", "0s"), ("forget", "paint")])
def test_the_place_of_another_database_is_left_alone(
    musubito: Musubito, url: str, there: str, node: str, objects: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    painted(other, None)
    aged(objects)
    said = musubito("--url", other, "--blobs", there, *command, "--yes")
    assert said.exit_code == 2
    assert "2 large outputs of this database not found in the object store, but 2 other blobs" in said.stderr
    assert len(files(objects)) == 2
    assert musubito("--url", other, "verify").exit_code == 0


def test_what_the_environment_says_may_be_meant_for_another_database(
    musubito: Musubito, url: str, there: str, node: str, objects: Path, tmp_path: Path
) -> None:
    MusubitoEngine.from_url(f"sqlite:///{tmp_path}/scratch.db").close()
    aged(objects)
    prune = ("--db", "scratch.db", "prune", "--older-than", "0s", "--yes")
    said = musubito(*prune, MUSUBITO_BLOBS=there)
    assert said.exit_code == 2
    assert "no row of this database names any of the 2 blobs in the object store" in said.stderr
    assert len(files(objects)) == 2
    scratch = f"sqlite:///{tmp_path}/scratch.db"
    assert musubito(*prune[2:], "--dry-run", MUSUBITO_URL=scratch, MUSUBITO_BLOBS=there).exit_code == 0
    assert musubito("--url", url, *prune[2:], MUSUBITO_BLOBS=there).exit_code == 0
    assert files(objects) == []


@musubito_step(name="fetch")
def fetch() -> bytes:
    return random.Random(1).randbytes(SIZE)


def test_an_output_that_two_databases_have_does_not_make_them_one(
    musubito: Musubito, url: str, there: str, node: str, objects: Path, blobs: BlobStore, tmp_path: Path
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    painted(other, None)
    for each, place in ((url, blobs), (other, None)):
        with MusubitoEngine.from_url(each, blobs=place) as engine, use_musubito_engine(engine):
            fetch()
    aged(objects)
    said = musubito("--db", "other.db", "prune", "--older-than", "30d", "--yes", MUSUBITO_BLOBS=there)
    assert said.exit_code == 2
    assert "2 large outputs of this database not found in the object store, but 2 other blobs" in said.stderr
    assert len(files(objects)) == 3


def test_a_folder_is_a_place_too(musubito: Musubito, url: str, tmp_path: Path) -> None:
    painted(url, FolderBlobs(tmp_path / "folder"))
    assert musubito("--url", url, "verify").exit_code == 1
    assert musubito("--url", url, "--blobs", "folder", "verify").exit_code == 0


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (f"s3://me:{SECRET}@/x", "s3://...@/x"),
        (f"foo://bucket?token={SECRET}", "foo://bucket?..."),
        ("foo://bucket", "foo://bucket (Generic URL error: Unable to recognise URL"),
        ("file:///gone/and/lost", "Unable to canonicalize"),
        ("gone", "gone is no folder"),
    ],
)
def test_what_is_no_place_is_one_line(musubito: Musubito, url: str, node: str, place: str, says: str) -> None:
    said = musubito("--url", url, "--blobs", place, "verify")
    assert (said.exit_code, said.stdout, said.stderr.count("\n")) == (2, "", 1)
    assert said.stderr.startswith("musubito: --blobs: ")
    assert says in said.stderr
    assert SECRET not in said.stderr


def test_without_obstore_it_says_what_to_install(
    musubito: Musubito, url: str, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("obstore", "obstore.store"):
        monkeypatch.setitem(sys.modules, name, None)
    said = musubito("--url", url, "--blobs", "s3://bucket/prefix", "verify")
    assert said.exit_code == 2
    assert said.stderr == "musubito: --blobs needs obstore; install it with: pip install 'musubito[objects]'\n"


@pytest.fixture
def server() -> Iterator[str]:
    url = new_store()
    yield url
    drop_database(url)


def test_on_a_server(musubito: Musubito, server: str, there: str, blobs: BlobStore, objects: Path) -> None:
    painted(server, blobs)
    said = musubito("--url", server, "verify", columns=500)
    assert said.exit_code == 1
    assert "paint: its blob lies in a place that was not named (2 times)." in said.stdout
    assert musubito("--url", server, "--blobs", there, "verify").exit_code == 0
    said = musubito("--url", server, "prune", "--older-than", "0s", "--yes")
    assert said.stderr.startswith("2 large outputs not found: if large outputs lie elsewhere")
