"""Dask runs what a script defines: its classes come to the workers by value, again with every task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import musubito

LIBRARY = str(Path(musubito.__file__).parents[1])
SCRIPT = """
import json
import os
import time
from dataclasses import dataclass, field

from distributed import Client, LocalCluster
from langgraph.graph import START, StateGraph

from musubito import MusubitoEngine, musubito_step, use_musubito_engine
from musubito_langgraph import musubito_graph


def twice(text):
    return text * 2


def log(what):
    with open("log", "a") as file:
        file.write(what + "\\n")
    time.sleep(0.01)


@dataclass
class Fact:
    text: str

    def told(self):
        return twice(self.text)


@dataclass
class State:
    topic: str = ""
    facts: list[Fact] = field(default_factory=list)

    def told(self):
        return twice(self.topic)


def research(state: State):
    log("research " + state.topic)
    return {"facts": [Fact(twice(state.topic)), Fact(state.told())]}


def write(state: State):
    log("write " + state.topic)
    return {"topic": "".join(fact.told() for fact in state.facts)}


@musubito_step
def fact(state):
    log("fact " + state.topic)
    return Fact(twice(state.told()))


agent = StateGraph(State).add_sequence([research, write]).add_edge(START, "research").compile(name="report")

if __name__ == "__main__":
    engine = MusubitoEngine.from_url(os.environ["MUSUBITO_URL"])
    graph = musubito_graph(agent, engine=engine)
    topics = [name * 2 for name in "abcde"] * 6

    def here(topics):
        with use_musubito_engine(engine):
            return [(graph.invoke({"topic": topic})["topic"], fact(State(topic)).value.text) for topic in topics]

    here(["aa", "bb"])
    log("-")
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster, Client(cluster) as client:
        for _ in range(2):
            told = client.map(graph.invoke, [{"topic": topic} for topic in topics], pure=False)
            made = client.map(fact, [State(topic) for topic in topics], pure=False)
            found = [(state["topic"], fact.value.text) for state, fact in zip(client.gather(told), client.gather(made))]
            log("-")
    assert found == here(topics)
    log("-")
    print(json.dumps(found))
"""


def test_each_runs_once_and_what_one_ran_no_other_does(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": LIBRARY, "MUSUBITO_URL": f"sqlite:///{tmp_path}/m.db"}
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, timeout=120, check=True)
    assert json.loads(done.stdout)[0] == ["a" * 16, "a" * 8]
    here, there, *again = (Counter(part.split("\n")[:-1]) for part in (tmp_path / "log").read_text().split("-\n")[:-1])
    steps = "research", "write", "fact"
    assert here == {f"{step} {topic}": 1 for step in steps for topic in ("aa", "bb")}
    assert there == {f"{step} {topic}": 1 for step in steps for topic in ("cc", "dd", "ee")}
    assert again == [{}, {}]
