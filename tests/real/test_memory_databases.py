"""Databases of packages in the memory of the process, in globals of steps: they count by their content."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import json, sys
from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step, use_musubito_engine
VECTORS = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.5, 0.5]}
ran = []
"""
TAIL = """
@musubito_step(StepConfiguration(step_type="stochastic"))
def ask(q):
    ran.append(q)
    return find(q)
with MusubitoEngine(SQLiteStorage("m.db")) as engine, use_musubito_engine(engine):
    for text in sys.argv[1:]:
        put(text)
        assert ask("a").value == find("a")
        assert ask("a").value == find("a")
        print(json.dumps(ran))
        ran.clear()
"""
CHROMA = """
import chromadb
client = chromadb.EphemeralClient()
held = client.create_collection("words")
def put(text): held.add(ids=[text], documents=[text], embeddings=[VECTORS[text]])
"""
DATABASES = {
    "a collection of Chroma": (
        CHROMA + "def find(q): return sorted(held.query(query_embeddings=[VECTORS[q]], n_results=9)['ids'][0])"
    ),
    "a client of Chroma": CHROMA + "def find(q): return client.get_collection('words').get()['ids']",
    "a connection of DuckDB": """
import duckdb
held = duckdb.connect(":memory:")
held.execute("create table words (text varchar)")
def put(text): held.execute("insert into words values (?)", [text])
def find(q): return [text for text, in held.execute("from words").fetchall()]
""",
    "the connection of DuckDB itself": """
import duckdb
duckdb.execute("create table words (text varchar)")
def put(text): duckdb.execute("insert into words values (?)", [text])
def find(q): return [text for text, in duckdb.execute("from words").fetchall()]
""",
    "a temporary table of DuckDB": """
import duckdb
held = duckdb.connect(":memory:")
held.execute("create temp table words (text varchar)")
def put(text): held.execute("insert into words values (?)", [text])
def find(q): return [text for text, in held.execute("from words").fetchall()]
""",
    "a frame that is registered in DuckDB": """
import duckdb, pandas
held = duckdb.connect(":memory:")
frame = pandas.DataFrame({"text": ["z"]})
def put(text):
    global frame
    frame = pandas.concat([frame, pandas.DataFrame({"text": [text]})])
    held.register("words", frame)
def find(q): return [text for text, in held.execute("from words").fetchall()]
""",
    "a setting of DuckDB": """
import duckdb
held = duckdb.connect(":memory:")
for schema in "abc":
    held.execute(f"create schema {schema}")
path = []
def put(text):
    path.append(text)
    held.execute(f"set search_path = '{','.join(path)}'")
def find(q): return held.execute("select current_setting('search_path')").fetchall()[0][0]
""",
    "a client of fakeredis": """
import fakeredis
held = fakeredis.FakeRedis(decode_responses=True)
held.sadd("all", *VECTORS)
held.set("soon", "gone", ex=1000)
def put(text): held.rpush("words", text)
def find(q): return held.lrange("words", 0, -1)
""",
    "a client of Qdrant": """
from qdrant_client import QdrantClient, models
held = QdrantClient(":memory:")
held.create_collection("words", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
def put(text): held.upsert("words", points=[models.PointStruct(id=ord(text), vector=VECTORS[text], payload={"t": text})])
def find(q): return sorted(each.payload["t"] for each in held.query_points("words", query=VECTORS[q], limit=9).points)
""",
    "a table of LanceDB": """
import lancedb
database = lancedb.connect("memory://")
held = database.create_table("words", data=[{"vector": [0.0, 0.0], "t": "z"}])
def put(text): held.add([{"vector": VECTORS[text], "t": text}])
def find(q): return sorted(row["t"] for row in held.search(VECTORS[q]).limit(9).to_list())
""",
}
HAYSTACK = """
from haystack import Document
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
store = InMemoryDocumentStore()
held = InMemoryBM25Retriever(store)
def put(text): store.write_documents([Document(content=text)])
def find(q): return sorted(each.content for each in held.run(query=q)["documents"])
"""


def play(here: Path, *texts: str) -> list[list[str]]:
    """A new process puts each of these into the database and asks twice; what ran after each."""
    command = [sys.executable, "-W", "ignore", "program.py", *texts]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_documents_in_the_store_of_a_retriever_of_haystack_count(tmp_path: Path) -> None:
    pytest.importorskip("haystack")
    (tmp_path / "program.py").write_text(HEAD + HAYSTACK + TAIL)
    assert play(tmp_path, "a", "b") == [["a"], ["a"]]
    assert play(tmp_path, "a", "b", "c") == [[], [], ["a"]]


@pytest.mark.parametrize("text", DATABASES.values(), ids=DATABASES)
def test_a_database_in_memory_counts_by_its_content(tmp_path: Path, text: str) -> None:
    (tmp_path / "program.py").write_text(HEAD + text + TAIL)
    assert play(tmp_path, "a", "b") == [["a"], ["a"]]
    assert play(tmp_path, "a", "b", "c") == [[], [], ["a"]]
    assert play(tmp_path, "b") == [["a"]]


def test_a_connection_that_a_run_leaves_unread_is_no_reason_to_replay(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        HEAD
        + """
import duckdb
held = duckdb.connect(":memory:")
held.execute("create table words (text varchar)")
other = held.cursor()
def put(text): other.execute("insert into words values (?)", [text])
def find(q): return held.execute("select max(text) from words").fetchone()[0]
"""
        + TAIL
    )
    assert play(tmp_path, "a", "b") == [["a", "a"], ["a", "a"]]


def test_a_collection_on_a_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        HEAD
        + CHROMA.replace("EphemeralClient()", "PersistentClient('data')").replace("create_c", "get_or_create_c")
        + "def find(q): return held.count()\n"
        + TAIL
        + "    print(engine.explain(ask, 'a').unrepeatable)\n"
    )
    command = [sys.executable, "-W", "ignore", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "reaches data that is kept outside: " in done.stdout and "held, a chromadb.api.models" in done.stdout
