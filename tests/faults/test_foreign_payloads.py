"""A payload that somebody else wrote into the file, with a right digest: it is only ever data."""

from __future__ import annotations

import os
import pickle
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import ormsgpack
import pytest

from musubito import (
    ArtifactUnreadable,
    MusubitoEngine,
    ReplayReason,
    SQLiteStorage,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.code.audit_hook import listen
from musubito.values.artifact_codec import encode_value
from musubito.values.digest import content_digest
from musubito.values.msgpack_writer import Code

RAN: Counter[str] = Counter()
CALLED: list[str] = []


class Pickled:
    def __reduce__(self) -> Any:
        return os.system, ("echo owned > owned",)


@dataclass
class Loud:
    n: int

    def __post_init__(self) -> None:
        CALLED.append("post_init")

    def __setattr__(self, name: str, value: object) -> None:
        CALLED.append("setattr")
        object.__setattr__(self, name, value)


class Metaclass(type):
    def __getattr__(cls, name: str) -> Any:
        CALLED.append(f"getattr {name}")
        raise AttributeError(name)

    def __call__(cls, *args: object) -> Any:
        CALLED.append("call")


class Plain(metaclass=Metaclass):
    def __init__(self, *args: object) -> None:
        CALLED.append("init")


@musubito_step()
def answer(n):
    RAN["answer"] += 1
    return {"n": n}


PREFIX = encode_value(None)[: -len(ormsgpack.packb(None))]


def ext(code: int, parts: object) -> bytes:
    return PREFIX + ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(parts)))


def nested(depth: int) -> bytes:
    return PREFIX + b"\x91" * depth + b"\xc0"


EVIL = {
    "pickle": pickle.dumps(Pickled()),
    "an ext of raw pickle": PREFIX + ormsgpack.packb(ormsgpack.Ext(1, pickle.dumps(Pickled()))),
    "a dataclass that is os.system": ext(
        Code.DATACLASS, ["os", "system", ["command"], {"command": "echo owned > owned"}]
    ),
    "an enum that is os.system": ext(Code.ENUM, ["os", "system", "X", "echo owned > owned"]),
    "a namedtuple that is subprocess.Popen": ext(Code.NAMEDTUPLE, ["subprocess", "Popen", ["args"], [["true"]]]),
    "a pydantic model that is a class with a metaclass": ext(
        Code.PYDANTIC, [__name__, "Plain", [], [], None, None, {}]
    ),
    "a class in a module that is not imported": ext(Code.DATACLASS, ["antigravity", "X", [], {}]),
    "a class below a module that is not imported": ext(Code.DATACLASS, ["this", "s.lower", [], {}]),
    "a class through an attribute of another module": ext(
        Code.DATACLASS, ["musubito.api.step", "functools.partial", [], {}]
    ),
    "builtins.eval": ext(Code.ENUM, ["builtins", "eval", "x", "__import__('os').system('echo owned > owned')"]),
    "a class whose fields are others": ext(Code.DATACLASS, [__name__, "Loud", ["m"], {"m": 1}]),
    "a class that is called on the way": ext(Code.ENUM, [__name__, "Plain", "X", 1]),
    "a defaultdict of a callable": ext(Code.DEFAULTDICT, ["eval", {}]),
    "a deque without end": ext(Code.DEQUE, [None, "x" * 10]),
    "a path of another class": ext(Code.PATH, ["Popen", "x"]),
    "a zone file of the system": ext(Code.ZONEINFO, "../../../../etc/passwd"),
    "an unknown ext": ext(99, []),
    "an unknown format": bytes([255]) + ormsgpack.packb({"n": 1}),
    "nothing": b"",
    "the prefix alone": PREFIX,
    "half a value": encode_value({"n": "x" * 100})[:-5],
    "a list in a list and so on": nested(100_000),
    "a count that lies": PREFIX + b"\xdd\xff\xff\xff\xff",
    "a length that lies": PREFIX + b"\xc6\xff\xff\xff\xffx",
}


def write_payload(path: Path, payload: bytes) -> None:
    """As somebody would who knows how artifacts are addressed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE _executions SET payload = ?, artifact = ?", (payload, content_digest(payload)))
        connection.commit()


@pytest.mark.parametrize("payload", EVIL.values(), ids=EVIL)
def test_it_is_only_data_and_a_miss(tmp_path, monkeypatch, payload):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "musubito.db"
    RAN.clear(), CALLED.clear()
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        answer(1)
        write_payload(path, payload)
        modules = set(sys.modules)
        audited: list[str] = []
        with run() as ledger, auditing(audited):
            assert answer(1).value == {"n": 1}
        assert ledger.calls[0].reason is ReplayReason.ARTIFACT_UNREADABLE
        assert RAN == {"answer": 2}
        assert engine.faults == 0
        assert set(sys.modules) == modules, "nothing is imported"
        assert audited == []
        assert CALLED == []
        # And repaired.
        with run() as ledger:
            assert answer(1).value == {"n": 1}
        assert ledger.calls[0].outcome == "replayed"
    assert not (tmp_path / "owned").exists()


_AUDITED: list[list[str]] = []
FORBIDDEN = {
    "import",
    "exec",
    "compile",
    "os.system",
    "subprocess.Popen",
    "pickle.find_class",
    "open",
    "os.exec",
    "os.fork",
}


def _hear(event: str, arguments: object) -> None:
    if _AUDITED:
        _AUDITED[-1].append(f"{event} {arguments!r}")


listen({event: partial(_hear, event) for event in FORBIDDEN})


class auditing:  # noqa: N801
    """Keeps what would have run, or been opened, inside."""

    def __init__(self, kept: list[str]) -> None:
        self.kept = kept

    def __enter__(self) -> None:
        _AUDITED.append(self.kept)

    def __exit__(self, *exception: object) -> None:
        _AUDITED.pop()


def test_the_audit_hears_what_must_not_happen(tmp_path, monkeypatch):
    """So that an empty list above says something."""
    monkeypatch.chdir(tmp_path)
    heard: list[str] = []
    with auditing(heard):
        pickle.loads(pickle.dumps(Pickled()))
    assert any("os.system" in event for event in heard)
    assert (tmp_path / "owned").exists()


@musubito_step()
def loud(n):
    RAN["loud"] += 1
    return Loud(n)


def test_a_class_of_the_users_is_put_together_without_running_a_line_of_it(tmp_path):
    path = tmp_path / "musubito.db"
    RAN.clear()
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        loud(1)
        CALLED.clear()
        assert loud(1).value.n == 1
        assert CALLED == []
        assert RAN == {"loud": 1}


def test_a_result_of_another_shape_comes_out_as_the_data_that_it_is(tmp_path):
    """Whoever can write the file can change values; what they cannot do is run anything."""
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        answer(1)
        write_payload(path, encode_value(["os.system", b"\x80\x04."]))
        assert answer(1).value == ["os.system", b"\x80\x04."]


def test_what_lies_behind_a_value_is_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        answer(1)
        write_payload(path, encode_value([1]) + pickle.dumps(Pickled()))
        audited: list[str] = []
        with auditing(audited):
            assert answer(1).value in ([1], {"n": 1})
        assert audited == []
    assert not (tmp_path / "owned").exists()


def test_what_a_digest_is():
    """The payloads above carry right digests, else they would be told by these alone."""
    assert content_digest(b"x") == sha256(b"x").digest()
    assert issubclass(ArtifactUnreadable, Exception)
