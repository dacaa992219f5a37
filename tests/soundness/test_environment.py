"""Environment variables that a step reads by name count with what they hold; nothing shows what that is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, ReplayReason, SQLiteStorage, run, use_musubito_engine
from tests.fresh import fresh

HEAD = """
import os, functools
import os as o
from os import environ, environ as renamed, getenv
from musubito import musubito_step

KEY = "MODEL"
env = os.environ
ask = os.environ.get
class Settings:
    def model(self):
        return os.environ["MODEL"]
"""
BODIES = {
    "item": 'return os.environ["MODEL"]',
    "get": 'return os.environ.get("MODEL", "none").lower()',
    "getenv": 'return os.getenv("MODEL")',
    "imported getenv": 'return getenv("MODEL")',
    "in": 'return "MODEL" in os.environ and environ["MODEL"]',
    "module under another name": 'return o.environ["MODEL"]',
    "environ under another name": 'return renamed.get("MODEL")',
    "a name that is a constant": "return os.environ[KEY]",
    "a name made of constants": 'return os.environ[f"{KEY}"] + os.environ["MO" + "DEL"]',
    "a global that is the environment": 'return env["MODEL"]',
    "a method of it": 'return ask("MODEL")',
    "a local that is the environment": 'e = os.environ\n    return e["MODEL"]',
    "imported inside": 'import os as inner\n    return inner.environ.get("MODEL")',
    "imported inside from it": 'from os import environ as inner, getenv as g\n    return inner["MODEL"] + g("MODEL")',
    "by getattr": 'return getattr(os, "environ")["MODEL"]',
    "bytes": 'return os.environb[b"MODEL"].decode()',
    "in a nested function": 'def inner():\n        return os.environ["MODEL"]\n    return inner()',
    "in a lambda": 'return (lambda: os.environ["MODEL"])()',
    "in a comprehension": 'return [os.environ["MODEL"] for _ in range(1)][0]',
    "in a method": "return Settings().model()",
    "bound on the way": 'if name := os.getenv("MODEL"):\n        return name',
    "looked into and replaced": 'return os.environ.__getitem__("MODEL")',
}
STEP = """
@musubito_step(name="answer")
def answer(q):
    RAN.append(q)
    {body}
"""


class Program:
    """A step in a module of its own, and what ran of it."""

    def __init__(self, folder: Path, body: str, head: str = HEAD) -> None:
        self.ran: list[str] = []
        self.names: dict[str, Any] = {"__name__": "environment_program", "RAN": self.ran}
        file = folder / f"program_{len(list(folder.iterdir()))}.py"
        file.write_text(text := head + STEP.format(body=body))
        exec(compile(text, str(file), "exec"), self.names)
        self.names["__file__"] = str(file)

    def __call__(self, q: str = "q") -> Any:
        return self.names["answer"](q).value


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "musubito.db"))) as engine, use_musubito_engine(engine):
        yield engine


@pytest.fixture
def program(tmp_path: Path, engine: MusubitoEngine) -> Callable[..., Program]:
    (tmp_path / "programs").mkdir()
    return lambda body, head=HEAD: Program(tmp_path / "programs", body, head)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_another_value_is_another_answer(program, monkeypatch, body):
    answer = program(body)
    monkeypatch.setenv("MODEL", "small")
    assert ["small" in str(answer()) for _ in range(2)] == [True, True]
    assert len(answer.ran) == 1
    monkeypatch.setenv("MODEL", "large")
    assert "large" in str(answer())
    assert len(answer.ran) == 2
    monkeypatch.setenv("MODEL", "small")
    assert "small" in str(answer())
    assert len(answer.ran) == 2, "the first answer holds again"


@pytest.mark.parametrize(
    "body", [each for name, each in BODIES.items() if name not in ("imported inside", "by getattr")]
)
def test_a_program_without_a_text_is_no_less_safe(program, monkeypatch, engine, body):
    """Code that has no source is read by its instructions: the variable counts, or it is listed."""
    monkeypatch.setenv("MODEL", "small")
    names: dict[str, Any] = {"__name__": "no_text", "RAN": []}
    exec(HEAD + STEP.format(body=body), names)
    before = engine.explain(names["answer"], "q")
    names["answer"]("q")
    monkeypatch.setenv("MODEL", "large")
    after = engine.explain(names["answer"], "q")
    assert not after.decision.replay or any("the environment" in each for each in before.untracked)
    if '("MODEL"' in body or '["MODEL"' in body:
        assert "environment MODEL" in after.code


def test_it_counts_whether_it_is_there(program, monkeypatch):
    answer = program('return os.environ.get("MODEL", "none")')
    monkeypatch.delenv("MODEL", raising=False)
    assert [answer(), answer()] == ["none", "none"]
    monkeypatch.setenv("MODEL", "")
    assert answer() == ""
    monkeypatch.delenv("MODEL")
    assert answer() == "none"
    assert len(answer.ran) == 2


def test_what_is_set_to_the_same_again_costs_nothing(program, monkeypatch):
    answer = program('return os.environ["MODEL"]')
    for _ in range(3):
        monkeypatch.setenv("MODEL", "small")
        answer()
    assert len(answer.ran) == 1


def test_another_variable_costs_nothing(program, monkeypatch):
    answer = program('return os.environ["MODEL"]')
    monkeypatch.setenv("MODEL", "small")
    answer()
    monkeypatch.setenv("UNRELATED", "1")
    answer()
    assert len(answer.ran) == 1


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HF_TOKEN", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY"])
def test_a_rotated_secret_costs_nothing(program, monkeypatch, name):
    answer = program(f'return len(os.environ["{name}"]) > 0')
    for value in ("one", "two"):
        monkeypatch.setenv(name, value)
        assert answer() is True
    assert len(answer.ran) == 1


@pytest.mark.parametrize("name", ["MAX_TOKENS", "TOKENIZER", "KEY_PREFIX"])
def test_what_only_sounds_like_a_secret_counts(program, monkeypatch, name):
    answer = program(f'return os.environ["{name}"]')
    for value in ("one", "two"):
        monkeypatch.setenv(name, value)
        assert answer() == value


def test_what_a_library_is_patched_to_hold_counts(program, monkeypatch):
    from unittest import mock

    answer = program('return os.environ.get("MODEL")')
    monkeypatch.delenv("MODEL", raising=False)
    assert answer() is None
    with mock.patch.dict(os.environ, {"MODEL": "patched"}):
        assert answer() == "patched"
    assert answer() is None
    monkeypatch.setattr(os, "environ", {"MODEL": "replaced"})
    assert answer() == "replaced"
    assert len(answer.ran) == 3


def test_a_constant_that_names_it_is_followed(program, monkeypatch):
    answer = program("return os.environ[KEY]")
    monkeypatch.setenv("MODEL", "small")
    monkeypatch.setenv("OTHER", "other")
    assert answer() == "small"
    answer.names["KEY"] = "OTHER"
    assert answer() == "other"


@pytest.mark.parametrize(
    "body",
    [
        "return os.environ[q]",
        "return dict(os.environ)",
        "return {**os.environ}",
        "return [name for name in os.environ]",
        "return list(os.environ.items())",
        'return [os.environ.get(each) for each in ("A", "B")]',
        "e = os.environ\n    return list(e)",
        "return sorted(map(os.getenv, [KEY]))",
        "return os.environ.copy()",
        'e = os.environ\n    if q == 1:\n        e = {}\n    return e["MODEL"]',
    ],
)
def test_names_that_are_computed_are_listed(program, engine, body):
    answer = program(body)
    (line,) = engine.explain(answer.names["answer"], "q").untracked
    assert line == "environment_program.answer: the environment, by a name that is computed or as a whole"


def test_a_parameter_is_no_constant_though_it_has_a_default(program, engine):
    head = HEAD + 'def named(name="MODEL"):\n    return os.environ.get(name)\n'
    answer = program("return named(q)", head)
    (line,) = engine.explain(answer.names["answer"], "q").untracked
    assert line.startswith("environment_program.named: the environment")


def test_one_that_is_known_and_one_that_is_not(program, engine, monkeypatch):
    answer = program('return os.environ["MODEL"] + os.environ.get(q, "")')
    assert len(engine.explain(answer.names["answer"], "q").untracked) == 1
    for value in ("small", "large"):
        monkeypatch.setenv("MODEL", value)
        assert answer() == value


def test_what_the_step_itself_sets_does_not_make_it_run_again(program, monkeypatch):
    monkeypatch.delenv("MODEL", raising=False)
    monkeypatch.delenv("OWN_VARIABLE", raising=False)
    answer = program('os.environ.setdefault("OWN_VARIABLE", "1")\n    return os.environ["OWN_VARIABLE"]')
    try:
        assert [answer(), answer()] == ["1", "1"]
        assert len(answer.ran) == 1
    finally:
        os.environ.pop("OWN_VARIABLE", None)


def test_what_another_of_its_functions_sets_does_neither(program, monkeypatch):
    monkeypatch.delenv("SET_ELSEWHERE", raising=False)
    head = HEAD + 'def sets():\n    os.environ["SET_ELSEWHERE"] = "1"\n'
    answer = program('sets()\n    return os.environ["SET_ELSEWHERE"]', head)
    try:
        assert [answer(), answer()] == ["1", "1"]
        assert len(answer.ran) == 1
    finally:
        os.environ.pop("SET_ELSEWHERE", None)


def test_what_is_only_set_does_not_count(program, monkeypatch, engine):
    monkeypatch.setenv("ONLY_SET", "x")
    answer = program('os.environ["ONLY_SET"] = "1"\n    return q')
    answer()
    monkeypatch.setenv("ONLY_SET", "y")
    answer()
    assert len(answer.ran) == 1
    assert engine.explain(answer.names["answer"], "q").untracked == ()


PROCESS = """
import sys
from musubito import *
{head}
RAN = []
{step}
with MusubitoEngine(SQLiteStorage(sys.argv[1])) as engine, use_musubito_engine(engine):
    print(answer("q").value, len(RAN))
"""


def test_other_processes_answer_for_what_they_hold(tmp_path):
    path, database = tmp_path / "app.py", fresh(tmp_path / "musubito.db")
    path.write_text(PROCESS.format(head=HEAD, step=STEP.format(body='return os.environ.get("MODEL")')))

    def asked(model: str) -> str:
        said = subprocess.run(
            [sys.executable, path, database],
            check=False,
            env={**os.environ, "MODEL": model},
            capture_output=True,
            text=True,
        )
        assert said.returncode == 0, said.stderr
        return said.stdout.strip()

    assert [asked(each) for each in ("small", "small", "large", "small")] == [
        "small 1",
        "small 0",
        "large 1",
        "small 0",
    ]


def test_why_names_it_and_nothing_shows_its_value(program, engine, monkeypatch, tmp_path):
    answer = program('return len(os.environ["MODEL"])')
    monkeypatch.setenv("MODEL", "a-value-nobody-sees")
    answer()
    monkeypatch.setenv("MODEL", "another-nobody-sees")
    with run() as told:
        explanation = engine.explain(answer.names["answer"], "q")
        answer()
    assert explanation.code == ("environment MODEL",)
    assert "nobody-sees" not in str(explanation) + repr(explanation)
    assert told.calls[0].reason is ReplayReason.CODE_CHANGED
    engine.flush()
    from musubito.lineage import Lineage
    from musubito.lineage.readers.why import why

    (part,) = why(Lineage(engine), told.calls[0].node_id).code
    assert (part.part, part.change, part.diff) == ("environment MODEL", "changed", "")
    engine.storage.close()
    for file in tmp_path.glob("musubito.db*"):
        assert b"nobody-sees" not in file.read_bytes()


def test_what_was_there_before_the_step_set_a_default_counts(program, monkeypatch):
    answer = program('os.environ.setdefault("MODEL", "small")\n    return os.environ["MODEL"]')
    for model in ("small", "large", "small"):
        monkeypatch.setenv("MODEL", model)
        assert answer() == model
    assert len(answer.ran) == 2
