"""What the size of the database costs: replays among many nodes, and a change above many descendants."""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from bench.bulk import bulk_engine, fill, item
from bench.goals import Ratio, Seconds
from bench.measure import Call, Sample, interleave
from bench.rows import Row, executions_in
from musubito import (
    MusubitoEngine,
    MusubitoResult,
    SQLiteStorage,
    StepConfiguration,
    musubito_merge,
    musubito_step,
)

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
WARMING_READS: Final = 60_000
DESCENDANTS: Final = 100_000
LAYER: Final = 1_000
FORCED: Final = StepConfiguration(force_reexecution=True)


# -- replays among many nodes --------------------------------------------------------------------------------
def replay_among_many(folder: Path) -> dict[str, Sample]:
    """Replay nodes picked evenly from databases of different sizes, after warming them."""
    with ExitStack() as stack:
        contenders = {f"{size:,} nodes": stack.enter_context(replaying(folder / str(size), size)) for size in SIZES}
        return interleave(contenders, rounds=10, calls=2_000)


@contextmanager
def replaying(folder: Path, size: int) -> Iterator[Call]:
    """Replay a node picked evenly from a database of this size."""
    path = folder / "musubito.db"
    fill(path, size)
    pick = random.Random(size).randrange
    with MusubitoEngine(SQLiteStorage(path), strict=True) as engine:

        def call(_: int) -> MusubitoResult[object]:
            return engine.execute("bench.item", {"number": pick(size)}, item)

        for each in range(WARMING_READS):
            call(each)
        yield call
    assert executions_in(folder) == size


# -- a change above many descendants -------------------------------------------------------------------------
def root() -> int:
    """Never the same twice."""
    return time.time_ns()


@musubito_step()
def below(number: int) -> int:
    """Return a descendant; the merge around the call says its parents."""
    return number


def chain(top: MusubitoResult[int]) -> None:
    """Each below the one before."""
    parent = top
    for number in range(DESCENDANTS):
        with musubito_merge(parent):
            parent = below(number)


def fan(top: MusubitoResult[int]) -> None:
    """All below the top."""
    with musubito_merge(top):
        for number in range(DESCENDANTS):
            below(number)


def layered(top: MusubitoResult[int]) -> None:
    """In layers, each below three of the layer above."""
    above = [top]
    for start in range(0, DESCENDANTS, LAYER):
        layer = []
        for number in range(LAYER):
            parents = {
                above[(number * step) % len(above)].node_id: above[(number * step) % len(above)] for step in (1, 3, 7)
            }
            with musubito_merge(*parents.values()):
                layer.append(below(start + number))
        above = layer


def change_above_many(folder: Path) -> dict[str, Sample]:
    """Run the root again with another result; every descendant becomes STALE."""
    return {shape.__name__: changes_above(folder / shape.__name__, shape) for shape in SHAPES}


def changes_above(folder: Path, shape: Callable[[MusubitoResult[int]], None], rounds: int = 5) -> Sample:
    """Change the root of a fresh copy of the same database, again and again."""
    original = folder / "original.db"
    with bulk_engine(original) as engine:
        shape(engine.execute("bench.root", {}, root))
    taken = []
    for each in range(rounds):
        copy = folder / f"{each}.db"
        shutil.copy(original, copy)
        with MusubitoEngine(SQLiteStorage(copy), strict=True) as engine:
            began = time.perf_counter()
            engine.execute("bench.root", {}, root, FORCED)
            taken.append(time.perf_counter() - began)
    with closing(sqlite3.connect(folder / "0.db")) as database:
        (stale,) = database.execute("SELECT count(*) FROM nodes WHERE status = 'STALE'").fetchone()
    assert stale == DESCENDANTS, f"{stale} nodes became STALE"
    return Sample.of(taken)


SHAPES: Final = (chain, fan, layered)
ROWS: Final = {
    "growth": Row(
        "replay of any node, by how many there are",
        (Ratio(1.5, "1,000 nodes", subject="1,000,000 nodes"),),
        replay_among_many,
    ),
    "invalidation": Row(
        f"a change above {DESCENDANTS:,} descendants",
        tuple(Seconds(0.5, subject=shape.__name__) for shape in SHAPES),
        change_above_many,
    ),
}
