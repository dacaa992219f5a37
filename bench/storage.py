"""How much room things take, and how long it takes to get it back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from bench.bulk import fill
from bench.goals import size
from bench.measure import Sample
from bench.replay import conversation
from bench.rows import Row
from musubito import MusubitoEngine, SQLiteStorage
from musubito.lineage import Lineage
from musubito.lineage.removal.prune import prune, release_space
from musubito.payloads.compression import METHODS, compressed
from musubito.values.artifact_codec import encode_value

NODES: Final = 1_000_000


def room(folder: Path) -> dict[str, Sample]:
    """Bytes on disk."""
    path = folder / "musubito.db"
    fill(path, NODES)
    return {f"{NODES:,} nodes": Sample.of([on_disk(path)])}


def pruning(folder: Path) -> dict[str, Sample]:
    """Prune all that can go."""
    path = folder / "musubito.db"
    fill(path, NODES)
    return {f"{NODES:,} nodes": Sample.of([pruned(path)])}


def pruned(path: Path) -> float:
    """How many seconds it took."""
    with MusubitoEngine(SQLiteStorage(path), strict=True) as engine:
        began = time.perf_counter()
        removed = prune(Lineage(engine), time.time() + 1)
        release_space(Lineage(engine))
        assert removed.executions > 0
        return time.perf_counter() - began


def on_disk(path: Path) -> float:
    """Bytes of a database and of what lies beside it."""
    return float(sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*")))


def chats(_folder: Path) -> dict[str, Sample]:
    """Measure a compressed conversation of 50 messages, as a part of its size."""
    payload = memoryview(encode_value(conversation(50)))
    return {each: Sample.of([sum(map(len, compressed(each, payload))) / len(payload)]) for each in METHODS}


ROWS: Final = {
    "room": Row("the database of many small nodes", (), room, size),
    "prune": Row("pruning, others go on meanwhile", (), pruning),
    "compression": Row("50 messages compressed, against plain", (), chats, lambda part: f"{part:.2f} ×"),
}
