"""Many processes, one store: a batch of reports on a Dask cluster of four workers.

Five readers want a report on each of some cities. Each city is researched once in the whole cluster. The first worker
that is asked does it; the others wait for its result, or replay it. A second batch runs nothing. A third batch loses a
worker half-way: what that worker had done is replayed, and another worker does what it had begun.

    python cluster.py                                    the workers share a SQLite file
    python cluster.py postgresql://user@host/database    they share a database, and may be on many machines

It needs `pip install 'musubito[langgraph,postgres]' distributed`. For workers on other machines, give `Client` the
address of a scheduler in place of a `LocalCluster`.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import tempfile
import time

from distributed import Client, LocalCluster, as_completed
from reports import CITIES, READERS, Report, report_for, told

from musubito import MusubitoEngine, MusubitoError, use_musubito_engine

WORKERS = 4
OTHERS = ["Split", "Trieste", "Bruges", "Riga"]


def sent(engine: MusubitoEngine, city: str, reader: str) -> Report:
    """Make a report in a worker. The engine was pickled by the client, and reconnects once in each worker."""
    with use_musubito_engine(engine):
        return report_for(city, reader)


def batch(client: Client, engine: MusubitoEngine, title: str, cities: list[str], *, kill: bool = False) -> None:
    """Ask for all reports at once, and print how many steps each worker ran."""
    print(f"\n{title}")
    began = time.perf_counter()
    readers = [reader for reader in READERS for _ in cities]
    futures = client.map(sent, [engine] * len(readers), cities * len(READERS), readers, pure=False)
    reports: list[Report] = []
    for _, report in as_completed(futures, with_results=True):
        reports.append(report)
        if kill and len(reports) == len(futures) // 4:
            victim = next(iter(client.run(os.getpid).values()))
            os.kill(victim, signal.SIGKILL)
            print(f"  worker {victim} was killed")
    seconds = time.perf_counter() - began
    for worker in sorted({report.worker for report in reports}):
        its = [report for report in reports if report.worker == worker]
        ran = sum(len(report.ran) for report in its)
        print(f"  worker {worker:<7} ran {ran:>2}  replayed {sum(report.replayed for report in its):>2}")
    print(f"  {told(reports)}, in {seconds:.1f} s")


def main(url: str) -> None:
    """Run three batches."""
    # In a new namespace there is nothing to replay from an earlier time.
    with (
        MusubitoEngine.from_url(url, namespace=f"example {secrets.token_hex(4)}") as engine,
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=2, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster) as client,
    ):
        print(f"{WORKERS} workers and one store: {engine.storage}")
        batch(client, engine, "First batch: each city is researched once, for all readers", CITIES)
        batch(client, engine, "The same again: nothing runs", CITIES)
        batch(client, engine, "Other cities, and a worker is killed half-way", OTHERS, kill=True)


if __name__ == "__main__":
    try:
        with tempfile.TemporaryDirectory() as folder:
            main(sys.argv[1] if sys.argv[1:] else f"sqlite:///{folder}/musubito.db")
    except MusubitoError as error:
        sys.exit(str(error))
