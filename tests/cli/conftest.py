"""The command, and a database that real steps have written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from click.testing import CliRunner, Result

from musubito import (
    MusubitoEngine,
    SQLiteStorage,
    musubito_merge,
    musubito_step,
    record_usage,
    run,
    use_musubito_engine,
)
from musubito.cli.root import root
from tests.fresh import fresh

GOLDEN = Path(__file__).parent / "golden"

PROMPT = "You are a careful editor.\nSummarise this in one sentence: {text}"


@musubito_step(name="load")
def load(path: str) -> dict[str, str]:
    return {"path": path, "body": f"text of {path}", "api_key": "sk-this-is-very-secret"}


@musubito_step(name="summarise")
def summarise(doc: dict[str, str]) -> str:
    record_usage(input_tokens=812, output_tokens=44, model="small")
    return PROMPT.format(text=doc["path"])


@musubito_step(name="summarise")
def summarise_boldly(doc: dict[str, str]) -> str:
    record_usage(input_tokens=900, output_tokens=45, model="large")
    return "Bold: " + doc["path"]


@musubito_step(name="rate")
def rate(text: str) -> int:
    if "bad" in text:
        raise ValueError(f"cannot rate {text}\non two lines")
    return len(text)


@musubito_step(name="digest")
def digest(paths: list[str]) -> int:
    total = 0
    for path in paths:
        doc = load(path)
        with musubito_merge(doc):
            summary = summarise(doc.value)
        total += rate(summary.value).value
    return total


class World(NamedTuple):
    """A database: a run "first", the same again with one more path ("second"), and "edited" with another summarise."""

    path: Path
    nodes: dict[str, str]


@pytest.fixture
def world(tmp_path: Path) -> World:
    path = tmp_path / "musubito.db"
    nodes: dict[str, str] = {}
    with MusubitoEngine(SQLiteStorage(fresh(path))) as engine, use_musubito_engine(engine):
        with run("first", tags={"who": "me"}):
            nodes["digest"] = digest(["a", "b"]).node_id
            for number in range(37):
                load(f"page {number}")
            with pytest.raises(ValueError):
                rate("bad")
        with run("second"):
            digest(["a", "b", "c"])
        with run("edited") as edited:
            doc = load("a")
            with musubito_merge(doc):
                bold = summarise_boldly(doc.value)
            rate(bold.value)
            nodes |= {"load": doc.node_id, "bold": bold.node_id}
        assert [call.operation for call in edited.calls] == ["load", "summarise", "rate"]
    return World(path, nodes)


class Musubito(Protocol):
    """The command as a user calls it."""

    def __call__(self, *arguments: str, columns: int = 80, given: str | None = None, **environment: str) -> Result: ...


@pytest.fixture
def musubito(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Musubito]:
    for name in ("MUSUBITO_URL", "MUSUBITO_BLOBS", "MUSUBITO_KEY_FILE", "FORCE_COLOR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, columns: int = 80, given: str | None = None, **environment: str) -> Result:
        said = {"COLUMNS": str(columns), **environment}
        result = CliRunner().invoke(root, arguments, prog_name="musubito", env=said, input=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    yield call


def settled(document: Any, seen: dict[str, str] | None = None) -> Any:
    """The same with what differs each time replaced: ids by their order, times and sizes by 0."""
    seen = {} if seen is None else seen
    match document:
        case dict():
            return {key: settled(value, seen) for key, value in document.items()}
        case list():
            return [settled(value, seen) for value in document]
        case float():
            return 0.0
        case str():
            return re.sub(
                r"\b[0-9a-f]{34}\b|\b[0-9a-f]{64}\b", lambda m: seen.setdefault(m[0], f"id {len(seen) + 1}"), document
            )
    return document


@pytest.fixture
def as_golden() -> Callable[[str, str], None]:
    """Whether a JSON document is that of a golden file; with MUSUBITO_GOLDEN=write it becomes so."""

    def compare(name: str, output: str) -> None:
        document = settled(json.loads(output))
        file = GOLDEN / f"{name}.json"
        if os.environ.get("MUSUBITO_GOLDEN") == "write":
            file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        assert document == json.loads(file.read_text(encoding="utf-8"))

    return compare
