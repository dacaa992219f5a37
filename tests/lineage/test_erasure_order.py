"""What is erased first and last: a process may be killed in between, and the same command has to find the rest."""

from __future__ import annotations

import random
from pathlib import Path

from click.testing import CliRunner

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from musubito.cli.root import root
from musubito.lineage import Lineage
from musubito.store.changes import Forget
from musubito.store.relational import by_hand


def test_inputs_by_which_a_search_finds_executions_go_last(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("a note")

    @musubito_step(name="read")
    def read(user: str) -> str:
        return note.read_text() + random.Random(user).randbytes(5000).hex()

    with MusubitoEngine(SQLiteStorage(tmp_path / "db")) as engine, use_musubito_engine(engine):
        node = bytes.fromhex(read("ann").node_id)
        engine.flush()
        writer = engine.storage._writer

        def left() -> tuple[bool, bool, bool]:
            given = writer.execute(
                "SELECT 1 FROM _inputs i JOIN _nodes n ON n.operation = i.operation AND n.input_hash = i.input_hash"
            ).fetchall()
            reads, artifacts = (
                writer.execute(f"SELECT 1 FROM {table}").fetchall() for table in ("_reads", "_artifacts")
            )
            return bool(given), bool(reads), bool(artifacts)

        assert left() == (True, True, True)
        seen = []
        for answer in by_hand.steps_of(writer, writer.numbers, Forget("", nodes=[node])):
            seen.append(left())
            if answer:
                break
        assert seen[-1] == (False, False, False)
        assert all(given or not (reads or artifacts) for given, reads, artifacts in seen)


def test_a_search_that_finds_nothing_removes_the_large_outputs_that_were_left(tmp_path: Path) -> None:
    @musubito_step(name="make")
    def make(user: str) -> bytes:
        return random.Random(user).randbytes(3_000_000)

    path = tmp_path / "db"
    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        node = bytes.fromhex(make("ann").node_id)
        engine.flush()
        lineage = Lineage(engine)
        # Killed after the last transaction, and before the output itself was removed.
        engine.storage.write([Forget("", nodes=[node])])
        assert blobs_of(lineage)
    done = CliRunner().invoke(root, ["--db", str(path), "forget", "--where", "$.user=ann", "--yes"])
    assert done.exit_code == 2
    with MusubitoEngine(SQLiteStorage(path)) as engine:
        assert not blobs_of(Lineage(engine))


def blobs_of(lineage: Lineage) -> list[object]:
    store = lineage.engine.contents.blobs
    return [] if store is None else list(store.files())
