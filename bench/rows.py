"""What a row of the benchmark is; each module of rows ends with a table of them, by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.goals import Goal, duration
from bench.measure import Sample
from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine

__all__ = ["Row", "engine_in", "executions_in"]

Measure = Callable[[Path], dict[str, Sample]]
"""Measures in an empty folder that it has for itself; gives back each contender's sample."""


@dataclass(frozen=True, slots=True)
class Row:
    """Something that is measured: `title` says what, `goals` what it is held to, `show` how a figure is written.

    `left_out` tells what cannot be measured here, and why.
    """

    title: str
    goals: tuple[Goal, ...]
    measure: Measure
    show: Callable[[float], str] = duration
    left_out: Callable[[], str] = str


@contextmanager
def engine_in(folder: Path) -> Iterator[MusubitoEngine]:
    """Use an engine on a database in this folder until the end of the block."""
    engine = MusubitoEngine(SQLiteStorage(db_path=folder / "musubito.db"), strict=True)
    try:
        with use_musubito_engine(engine):
            yield engine
    finally:
        engine.close()


def executions_in(folder: Path) -> int:
    """How often steps ran, by the database in this folder; a replay that is measured must not add to it."""
    with closing(sqlite3.connect(folder / "musubito.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM executions").fetchone()
    return int(count)
