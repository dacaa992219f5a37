"""A database of an earlier schema opens, is migrated once whatever happens on the way, and replays what it holds."""

from __future__ import annotations

import json
import signal
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from musubito import MusubitoEngine, SQLiteStorage
from musubito.cli.root import root
from musubito.lineage import Lineage
from musubito.lineage.verify import verify
from musubito.store.sqlite.opening import STEPS, statements
from tests.faults.children import finish, heard, program, start

FIXTURES = Path(__file__).parents[1] / "fixtures"
PROGRAM = FIXTURES / "program.py"
SCHEMAS = sorted(int(path.name[7:].split(".")[0]) for path in FIXTURES.glob("schema_*.db.zlib"))
OLDER = [schema for schema in SCHEMAS if schema < max(STEPS)]
GAVE = [
    ["<one>", "<two><two>", "2 texts", "1.50", "<three>!"],
    [["which?", 1], ["which?", 2], ["which?", 3]],
    [{"sent": "somebody"}, ["here", 21.5]],
    "no such thing",
    [{"wrong": "this"}, [0, 1, 2, 3, 4]],
    {"topic": "knots", "notes": ["about knots", "about knots", "written"], "rounds": 2},
]

# What failed, and what was invalidated. Of the state of `write` only the notes count since the keys that it reads do.
EARLIER = ["fails", "wrong", "write"]
# `vote` looks at the list to which the other steps add, and it is empty where those are replayed.
SINCE = ["vote", "vote", "vote", "fails", "wrong"]
RUNS_AGAIN = {1: EARLIER, 2: EARLIER, 3: EARLIER, 4: SINCE, 5: SINCE, 6: SINCE}
"""What runs again on a database, by the schema that it was written with."""


def database(folder: Path, schema: int) -> Path:
    path = folder / "musubito.db"
    path.write_bytes(zlib.decompress((FIXTURES / f"schema_{schema}.db.zlib").read_bytes()))
    return path


def call_everything(path: Path) -> dict:
    process = start(PROGRAM, path, imports="musubito_langgraph")
    said, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")
    return json.loads(said)


def sql(path: Path, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def schema_of(path: Path) -> set[tuple]:
    """Tables by their columns: what was added later stands at the end of the text."""
    made = set(sql(path, "SELECT type, name, CASE type WHEN 'table' THEN '' ELSE sql END FROM sqlite_master"))
    return made | {
        (name, *column[1:])
        for (name,) in sql(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
        for column in sql(path, f"PRAGMA table_info({name})")
    }


def findings(path: Path) -> list:
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        return [finding for checked in verify(Lineage(engine)) for finding in checked.findings]


def test_there_is_a_database_of_each_earlier_schema():
    assert set(SCHEMAS) >= set(STEPS) - {max(STEPS)}
    for schema in SCHEMAS:
        assert (FIXTURES / f"schema_{schema}.db.zlib").stat().st_size < 200_000


@pytest.mark.parametrize("schema", SCHEMAS)
def test_it_opens_and_replays_what_was_stored(tmp_path, schema):
    path = database(tmp_path, schema)
    assert sql(path, "PRAGMA user_version") == [(schema,)]
    before = sql(path, "SELECT * FROM artifacts ORDER BY artifact_id")
    # The effect did not happen again.
    assert call_everything(path) == {"gave": GAVE, "ran": RUNS_AGAIN[schema]}
    assert sql(path, "PRAGMA user_version") == [(max(STEPS),)]
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]
    assert sql(path, "SELECT * FROM artifacts ORDER BY artifact_id") == before
    assert findings(path) == []
    # What ran now was recorded.
    assert call_everything(path) == {"gave": GAVE, "ran": ["fails"]}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_migrated_schema_is_that_of_a_new_database(tmp_path, schema):
    path = database(tmp_path, schema)
    SQLiteStorage(path).close()
    SQLiteStorage(tmp_path / "new.db").close()
    assert schema_of(path) == schema_of(tmp_path / "new.db")


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_command_reads_it(tmp_path, schema):
    path = database(tmp_path, schema)

    def ask(*arguments: str):
        said = CliRunner().invoke(root, ["--db", str(path), *arguments, "--json"])
        assert said.exit_code == 0, (said.output, said.exception)
        return json.loads(said.output)

    assert "plain" in {each["name"] for each in ask("runs")["runs"]}
    shown = json.dumps(ask("show", "plain"))
    assert all(name in shown for name in ("fetch", "summarise", "vote", "send", "fails"))
    assert "report/research" in json.dumps(ask("stats"))
    assert ask("verify")["findings"] == []
    nodes = {name: node for node, name in sql(path, "SELECT node_id, operation_name FROM nodes")}
    assert "no such thing" in json.dumps(ask("lineage", nodes["fails"]))
    with Lineage.from_url(f"sqlite:///{path}") as lineage:
        node = lineage.node(nodes["summarise"])
        # Inputs are kept since schema 2.
        assert lineage.input(node) == ({"texts": ["<one>", "two"]} if schema >= 2 else None)
        assert lineage.output(node)["title"] == "2 texts"
    assert ask("prune", "--older-than", "1s", "--dry-run")["executions"] > 10
    ask("forget", "fetch", "--yes")
    assert ask("verify")["findings"] == []


MIGRATES = """
from musubito.store.sqlite import opening

steps, migrate = opening.statements, opening.migrate
target, at = map(int, sys.argv[1:])
kept = {id(script): step for step, script in opening.STEPS.items()}


def statements(script):
    step = kept[id(script)]
    for number, statement in enumerate(steps(script)):
        if (step, number) == (target, at):
            os.kill(os.getpid(), signal.SIGKILL)
        yield statement
    if step == target and at == -1:
        os.kill(os.getpid(), signal.SIGKILL)
    log(f"step {step}")


def with_a_small_cache(path, connection):
    # What is not committed is in the log all the same.
    connection.execute("PRAGMA cache_size = 1")
    migrate(path, connection)


opening.statements, opening.migrate = statements, with_a_small_cache
SQLiteStorage(DATABASE).close()
say("open")
"""


def killed_on_the_way(tmp_path, schema, every):
    content = zlib.decompress((FIXTURES / f"schema_{schema}.db.zlib").read_bytes()) if schema else None
    worker = program(tmp_path, MIGRATES)
    path = tmp_path / "musubito.db"
    for step in (step for step in STEPS if step > schema):
        number = len(statements(STEPS[step]))
        for at in range(-1, number) if every else sorted({-1, 0, min(1, number - 1), number // 2, number - 1}):
            for old in tmp_path.glob("musubito.db*"):
                old.unlink()
            if content is not None:
                path.write_bytes(content)
            process = start(worker, step, at)
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL
            assert sql(path, "PRAGMA integrity_check") == [("ok",)]
            assert sql(path, "PRAGMA user_version") == [(step - 1,)]
            # Whoever comes next ends it.
            SQLiteStorage(path).close()
            assert sql(path, "PRAGMA user_version") == [(max(STEPS),)]
            assert sql(path, "SELECT count(*) FROM nodes")[0][0] == (20 if schema else 0)
    assert findings(path) == []
    return path


@pytest.mark.parametrize("schema", [0, *OLDER])
def test_a_migration_that_is_killed_begins_again_and_ends(tmp_path, schema):
    path = killed_on_the_way(tmp_path, schema, every=False)
    if schema:
        assert call_everything(path) == {"gave": GAVE, "ran": RUNS_AGAIN[schema]}


@pytest.mark.soak
@pytest.mark.parametrize("schema", [0, *OLDER])
def test_a_migration_that_is_killed_at_any_statement_begins_again_and_ends(tmp_path, schema):
    killed_on_the_way(tmp_path, schema, every=True)


AT_ONCE = """
from musubito.store.sqlite import opening

statements = opening.statements
kept = {id(script): step for step, script in opening.STEPS.items()}


def counted(script):
    log(f"step {kept[id(script)]}")
    return statements(script)


opening.statements = counted
say("up")
while not os.path.exists(f"{DATABASE}.go"):
    time.sleep(0.001)
SQLiteStorage(DATABASE).close()
say("open")
"""


@pytest.mark.parametrize("schema", OLDER)
@pytest.mark.parametrize("processes", [2, 8])
def test_processes_that_open_it_at_once_migrate_it_once(tmp_path, schema, processes):
    path = database(tmp_path, schema)
    worker = program(tmp_path, AT_ONCE)
    workers = [start(worker) for _ in range(processes)]
    assert [heard(each) for each in workers] == ["up"] * processes
    (tmp_path / "musubito.db.go").touch()
    for each in workers:
        assert finish(each) == ["open"]
    assert (tmp_path / "log").read_text().splitlines() == [f"step {step}" for step in STEPS if step > schema]
    assert call_everything(path) == {"gave": GAVE, "ran": RUNS_AGAIN[schema]}
