"""What readers are told does not depend on the store: the same rows, in SQLite and in PostgreSQL, give the same answers."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

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
from musubito.lineage import Lineage
from musubito.lineage.readers.operation_history import history_of
from musubito.lineage.readers.store_stats import growth
from musubito.model import StepConfiguration, StepType
from tests.server import drop_database, new_store


@musubito_step(name="load")
def load(path: str) -> dict[str, Any]:
    return {"path": path, "body": f"text of {path}\0 with a sign \u2400 and \u241b", "large": "x" * 3000}


@musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC), name="draw")
def draw(doc: str) -> str:
    record_usage(input_tokens=812, output_tokens=44, model="small")
    return doc.upper()


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
def send(to: str) -> str:
    return f"sent to {to}"


@musubito_step(name="rate")
def rate(text: str) -> int:
    if "BAD" in text:
        raise ValueError(f"cannot rate {text}\non two lines, with \0")
    return len(text)


@musubito_step(name="digest")
def digest(paths: list[str]) -> int:
    total = 0
    for path in paths:
        doc = load(path)
        with musubito_merge(doc):
            total += rate(draw(doc.value["path"]).value).value
    return total


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of a history in SQLite, and of the same rows in PostgreSQL."""
    path = tmp_path_factory.mktemp("readers") / "musubito.db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        with run("first", tags={"who": "me"}):
            digest(["a", "b"])
            send("you")
        with run("second"):
            digest(["a", "b", "c"])
            with run("within"), pytest.raises(ValueError, match="two lines"):
                rate("BAD")
        with run("conversation"):
            for turn in range(4):
                draw(json.dumps(["words of a turn " * 20] * turn))
        digest(["a"])
        engine.invalidate(draw)
        with run("third"):
            digest(["a", "b"])
    url = new_store()
    _copy(path, url)
    yield f"sqlite:///{path}", url
    drop_database(url)


def _copy(path: Path, url: str) -> None:
    with closing(sqlite3.connect(path)) as source, psycopg.connect(url) as target:
        target.execute("SET search_path TO musubito")
        tables = [
            name
            for (name,) in source.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '!_%' ESCAPE '!'"
            )
        ]
        target.execute("ALTER TABLE _calls DISABLE TRIGGER _calls_added")  # what it writes is copied, too
        order = ["_namespaces", "_operations", "_codes"]
        for table in order + [name for name in tables if name not in order]:
            cursor = source.execute(f"SELECT * FROM {table}")
            columns = ", ".join(column[0] for column in cursor.description)
            marks = ", ".join(["%s"] * len(cursor.description))
            rows = [tuple(_kept(value) for value in row) for row in cursor]
            target.cursor().executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
        target.execute("ALTER TABLE _calls ENABLE TRIGGER _calls_added")


def _kept(value: object) -> object:
    """As the store writes it."""
    if isinstance(value, str):
        return value.replace("\u241b", "\u241b\u241b").replace("\u2400", "\u241b\u2400").replace("\0", "\u2400")
    return value


COMMANDS = (
    ["runs"],
    ["show", "first"],
    ["show", "second"],
    ["stats"],
    ["savings"],
    ["savings", "--by", "day"],
    ["savings", "--by", "run"],
    ["savings", "--by", "operation"],
    ["savings", "--by", "model"],
    ["impact", "load"],
    ["impact", "draw"],
    ["diff", "first", "third"],
    ["verify"],
    ["export", "first", "--format", "json"],
    ["export", "first", "--format", "openlineage"],
    ["export", "second", "--format", "dot"],
    ["forget", "draw", "--dry-run"],
    ["forget", "first", "--below", "--dry-run"],
    ["forget", "--where", "$.path=a", "--dry-run"],
    ["forget", "--namespace", "default", "--dry-run"],
    ["prune", "--older-than", "0d", "--dry-run"],
    ["prune", "--older-than", "90d", "--dry-run"],
)


def said(url: str, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(root, ["--url", url, *arguments])
    # A second may begin between two questions.
    return result.exit_code, re.sub(r"(?<=older than )\d[\d: -]+\d", "THEN", result.output)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_says_the_same(stores: tuple[str, str], arguments: list[str]):
    there, here = stores
    status, text = said(there, *arguments)
    assert (status, text) == said(here, *arguments)
    assert text
    assert status == (1 if arguments[0] == "diff" else 0)


def test_what_is_said_of_each_node_is_the_same(stores: tuple[str, str]):
    there, here = stores
    with Lineage.from_url(there) as one:
        numbers = [row[0] for row in one.rows("identities_after", after=0, limit=10_000)]
        ids = [node.node_id for node in one.nodes(numbers)]
    for node in ids:
        for command in ("show", "why", "lineage"):
            for more in ([], ["--json"]):
                answer = said(there, command, node, *more)
                assert answer == said(here, command, node, *more)
                assert answer[0] == 0


@pytest.mark.parametrize("step", ["draw", "rate"])
def test_what_is_said_of_a_step_over_time_is_the_same(stores: tuple[str, str], step: str):
    with Lineage.from_url(stores[0]) as one, Lineage.from_url(stores[1]) as other:
        history = history_of(one, step, 0.0)
        assert history == history_of(other, step, 0.0)
    assert [version.changed for version in history.versions] == [None]
    assert history.versions[0].executions > history.versions[0].failed == (step == "rate")


def test_the_growth_of_a_store_is_the_same(stores: tuple[str, str]):
    with Lineage.from_url(stores[0]) as one, Lineage.from_url(stores[1]) as other:
        grown = growth(one)
        assert grown == growth(other)
    assert list(grown.values())[-1] > 1_000


def test_doctor_looks_at_the_server(stores: tuple[str, str]):
    status, text = said(stores[1], "doctor")
    assert "PostgreSQL" in text
    assert "version" in text
    assert status == 0


@contextmanager
def role(url: str, *rights: str) -> Iterator[str]:
    """The URL for one who has these on all tables."""
    about = conninfo_to_dict(url)
    name = f"reader_{about['dbname']}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'none'")
        connection.execute(f"GRANT USAGE ON SCHEMA musubito TO {name}")
        connection.execute(f"GRANT {', '.join(rights)} ON ALL TABLES IN SCHEMA musubito TO {name}")
    try:
        yield url.replace(f"//{about['user']}", f"//{name}", 1)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_doctor_says_what_a_role_may_not_do(stores: tuple[str, str]):
    with role(stores[1], "SELECT") as url:
        status, text = said(url, "doctor")
        assert status == 1
        assert "may not read and write _artifacts" in text
        assert "GRANT SELECT, INSERT, UPDATE, DELETE" in text


def test_a_role_is_told_that_it_may_not_vacuum(stores: tuple[str, str], caplog):
    prune = ("prune", "--older-than", "0s", "--yes", "--vacuum")
    status, text = said(stores[1], *prune)
    assert status == 0
    assert "Its administrator returns it to the disk: VACUUM FULL." in text
    assert "--vacuum" not in text
    assert caplog.messages == []
    with role(stores[1], "SELECT", "INSERT", "UPDATE", "DELETE") as url:
        assert said(url, *prune)[0] == 0
        (text,) = caplog.messages
        assert "only the owner of the tables may vacuum them" in text
