"""Secrets that calls are given: they count as input, and no file of the store holds them or a digest of them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from musubito import InputError, MusubitoEngine, MusubitoWarning, SQLiteStorage, musubito_step, run, use_musubito_engine
from musubito.lineage import Lineage
from musubito.lineage.readers.why import why
from musubito.values.canonical import InputPacker
from musubito.values.digest import argument_digests, digest_input
from musubito.values.msgpack_writer import HiddenDigest

SECRET = "HUSH-hush-0123"
ran: list[str] = []


@pytest.fixture
def engine(tmp_path: Path):
    ran.clear()
    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as engine, use_musubito_engine(engine):
        yield engine


def stored_bytes(folder: Path) -> bytes:
    """The bytes of the database, of its log and of its blobs."""
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def digests_of(secret: str) -> list[bytes]:
    """Digests that somebody would look up, of the text alone and of all that an argument is encoded to."""
    texts = [secret.encode(), json.dumps(secret).encode()]
    made = [getattr(hashlib, name)(text) for name in ("md5", "sha1", "sha256", "sha512", "blake2b") for text in texts]
    made += [hashlib.blake2b(text, digest_size=size) for text in texts for size in (16, 32)]
    alone = argument_digests({"x": secret})["x"]
    assert alone
    return [digest for each in [*(each.digest() for each in made), alone] for digest in (each, each[:16])]


def assert_not_stored(folder: Path, secret: str = SECRET) -> None:
    content = stored_bytes(folder)
    assert secret.encode() not in content
    for digest in digests_of(secret):
        assert digest not in content
        assert digest.hex().encode() not in content


class Account(BaseModel):
    user: str
    key: SecretStr


class Token(SecretStr):
    """A class of the user's own."""


@musubito_step(name="ask")
def ask(key: object) -> str:
    ran.append("ask")
    return "answer"


@musubito_step(name="log_in")
def log_in(user: str, password: str) -> str:
    ran.append("log_in")
    return user


MAKERS = {
    "text": SecretStr,
    "bytes": lambda text: SecretBytes(text.encode()),
    "any": Secret[str],
    "data": lambda text: Secret([text, {"a": text}]),
    "derived": Token,
    "in a model": lambda text: Account(user="ann", key=text),
    "in a dict": lambda text: {"keys": [SecretStr(text)]},
}


@pytest.mark.parametrize("which", MAKERS)
def test_a_secret_is_an_argument_like_any_other_and_never_stored(
    engine: MusubitoEngine, tmp_path: Path, which: str, capsys: pytest.CaptureFixture[str]
):
    make = MAKERS[which]
    for each in (SECRET, SECRET, "another", "another", SECRET):
        ask(make(each))
    assert ran == ["ask", "ask"]
    engine.flush()
    assert_not_stored(tmp_path)  # in the log of an open database, either
    print(engine.explain(ask, make("a third")))
    print(Lineage(engine).input(Lineage(engine).nodes([1])[0]))
    engine.close()
    assert_not_stored(tmp_path)
    shown = capsys.readouterr().out
    assert "**********" in shown
    assert "HUSH" not in shown


def test_secrets_of_different_types_differ(engine: MusubitoEngine):
    for value in (
        "a",
        SecretStr("a"),
        Secret("a"),
        SecretBytes(b"a"),
        Secret(b"a"),
        Secret(1),
        Secret(True),
        Token("a"),
    ):
        ask(value)
    assert len(ran) == 8


def test_the_identity_of_a_secret_is_frozen():
    digest = digest_input("f", {"key": SecretStr("a"), "n": [Secret(1)]}).digest.hex()
    assert digest == "e9cdf6c9f3e5686873d503a40fc3134afe9404e94f262b97fdd211d636c81957"


def test_a_secret_in_an_output_is_not_stored(engine: MusubitoEngine, tmp_path: Path):
    @musubito_step(name="give")
    def give() -> SecretStr:
        ran.append("give")
        return SecretStr(SECRET)

    with pytest.warns(MusubitoWarning, match="cannot be stored"):
        assert give().value.get_secret_value() == SECRET
    give()
    assert ran == ["give", "give"]
    engine.close()
    assert_not_stored(tmp_path)


def test_a_secret_whose_value_has_no_encoding_is_an_error_that_does_not_show_it(engine: MusubitoEngine):
    with pytest.raises(Exception, match=r"key.*Secret whose value has no encoding"):
        ask(Secret(object()))


def test_a_hidden_argument_has_no_digest_of_its_own(engine: MusubitoEngine, tmp_path: Path):
    for _ in range(2):
        log_in("ann", SECRET)
    assert ran == ["log_in"]
    engine.close()
    assert_not_stored(tmp_path)
    with closing(sqlite3.connect(tmp_path / "musubito.db")) as connection:
        ((arguments,),) = connection.execute("SELECT arguments FROM _nodes").fetchall()
    assert json.loads(arguments) == {"user": argument_digests({"user": "ann"})["user"].hex(), "password": ""}


def test_a_dict_with_a_hidden_value_has_no_digest_of_its_own():
    digests = argument_digests({"config": {"api_key": "x", "n": 1}, "usage": {"tokens": "x", "token": 7}})
    assert digests["config"] == b""
    assert digests["usage"]


def test_the_digest_of_a_secret_is_written_as_bytes_and_noted():
    content = hashlib.sha256(b"x").digest()
    hidden = {"held": ["pydantic.types.SecretStr", HiddenDigest(content)]}
    plain = {"held": ["pydantic.types.SecretStr", content]}
    assert digest_input("f", hidden).digest == digest_input("f", plain).digest
    assert InputPacker().pack_slowly(hidden) == InputPacker().pack(plain)
    assert argument_digests(hidden)["held"] == b""
    assert argument_digests(plain)["held"]


def test_a_changed_secret_is_named(engine: MusubitoEngine):
    log_in("ann", SECRET)
    assert engine.explain(log_in, "ann", "another").arguments == ("password",)
    assert engine.explain(log_in, "bob", SECRET).arguments == ("user",)
    node = log_in("ann", "another").node_id
    engine.flush()
    report = why(Lineage(engine), node)
    assert (report.arguments, report.fields) == (("password",), ())
    ask(SecretStr("one"))
    assert engine.explain(ask, SecretStr("other")).arguments == ("key",)


def test_a_namespace_with_a_key_compares_hidden_arguments(tmp_path: Path):
    pytest.importorskip("cryptography")
    with MusubitoEngine(SQLiteStorage(tmp_path / "m.db"), key=b"k" * 32) as engine, use_musubito_engine(engine):
        log_in("ann", SECRET)
        assert engine.explain(log_in, "bob", "another").arguments == ("password", "user")
    assert_not_stored(tmp_path)


def test_names_and_tags_of_runs_are_stored_without_secrets(engine: MusubitoEngine, tmp_path: Path):
    tags = {"api_key": SECRET, "url": f"https://u:{SECRET}@host/", "nested": {"token": [SECRET]}, "team": "a", "n": 1}
    with run(f"import with password={SECRET}", tags=tags) as r:
        ask("x")
        with run(f"--token {SECRET}", tags={"password": SECRET}):
            ask("y")
    assert r.name == f"import with password={SECRET}"
    engine.close()
    assert_not_stored(tmp_path)
    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as again:
        report = Lineage(again).run(r.run_id).summary
    assert report.name == "import with password=**********"
    assert report.tags == {
        "api_key": "**********",
        "url": "https://u:**********@host/",
        "nested": {"token": ["**********"]},
        "team": "a",
        "n": 1,
    }


class Tenant(SecretStr):
    """A secret that holds more than its value."""

    def __init__(self, value: str, tenant: str = "") -> None:
        super().__init__(value)
        self.tenant = tenant


class Loud(SecretStr):
    """A secret with another way to its value."""

    def get_secret_value(self) -> str:
        return super().get_secret_value().upper()


def test_a_secret_that_holds_more_than_its_value_has_no_identity() -> None:
    marked = SecretStr("a")
    marked.tenant = "bob"  # type: ignore[attr-defined]
    for secret in (Tenant("a", "ann"), Loud("a"), marked):
        with pytest.raises(InputError, match="holds more than its value"):
            digest_input("f", {"key": secret})
    assert digest_input("f", {"key": Token("a")}).digest
