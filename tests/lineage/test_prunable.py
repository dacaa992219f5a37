"""What a prune takes is what the rules say, told by a plain search over all rows of random stores."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from musubito import (
    MusubitoEngine,
    MusubitoResult,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage
from musubito.lineage.removal.prune import number_prunable, prunable, prune
from musubito.store.postgres.storage import PostgreSQLStorage
from tests.server import drop_database, new_store

HOUR = 3600.0
DAY = 24 * HOUR
STOCHASTIC = StepConfiguration(step_type=StepType.STOCHASTIC, allow_cross_parent_reuse=True)


@musubito_step(STOCHASTIC, name="draw")
def draw(x: int) -> int:
    return x


@musubito_step(name="outer")
def outer(x: int) -> int:
    if x == 4:
        raise ValueError(x)
    return draw(x).value + draw(x % 2).value


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
def send(x: int) -> int:
    return x


class World:
    now = 100 * DAY

    def __init__(self, storage: Any) -> None:
        self.engine = MusubitoEngine(storage, now_provider=lambda: self.now)
        self.lineage = Lineage(self.engine)
        self.storage = storage

    def sql(self, statement: str) -> list[Any]:
        with self.storage.copy_session(snapshot=False) as session:
            rows = session.rows(statement)
        return [tuple(bytes(value) if isinstance(value, memoryview) else value for value in row) for row in rows]

    def work(self, choice: random.Random) -> None:
        results: list[MusubitoResult[int]] = []
        version = str(choice.randrange(2))
        edited = musubito_step(name="edited", operation_version=version)(lambda x: x // 2)
        with run("some"):
            for _ in range(choice.randrange(1, 6)):
                self.now += choice.choice((0.0, HOUR, 2 * DAY))
                parents = choice.sample(results, min(len(results), choice.randrange(3)))
                step = choice.choice((draw, outer, outer, edited, edited, send))
                with suppress(ValueError), musubito_merge(*parents):
                    results.append(step(choice.randrange(5)))
        self.engine.flush()

    def not_needed(self, before: float) -> tuple[list[int], list[bytes]]:
        """Return the executions and nodes that nothing needs, by a search over everything that each needs."""
        executions = self.sql(
            "SELECT id, node, reuse_key, cross_key, outcome, started_at, invalid, holds FROM _executions"
        )
        nodes = self.sql("SELECT id, node_id, execution FROM _nodes")
        calls = self.sql(f"SELECT execution, node FROM _calls WHERE at >= {before}")
        numbers = {node_id: number for number, node_id, _ in nodes}
        needs: defaultdict[tuple[str, int], set[tuple[str, int]]] = defaultdict(set)
        valid: defaultdict[bytes, list[int]] = defaultdict(list)
        for number, node, reuse, cross, outcome, _, invalid, _ in executions:
            needs["execution", number].add(("node", node))
            if outcome == 1 and not invalid:
                valid[cross or reuse].append(number)
        for same in valid.values():
            for earlier, later in zip(sorted(same), sorted(same)[1:], strict=False):
                needs["execution", earlier].add(("execution", later))
        for execution, called, node in self.sql("SELECT execution, called, node FROM _uses"):
            needs["execution", execution] |= {("execution", called), ("node", node)}
        for parent, child in self.sql("SELECT parent, child FROM _edges"):
            needs["node", child].add(("node", parent))
        for number, _, execution in nodes:
            needs["node", number].add(("execution", execution))
        ahead = [("execution", row[0]) for row in executions if row[5] >= before or row[7] & 8]
        ahead += [("execution", max(row[0] for row in executions))]
        ahead += [("execution", row[0]) for row in self.sql("SELECT execution FROM _effects")]
        ahead += [("execution", execution) for execution, _ in calls]
        ahead += [("node", numbers[node]) for _, node in calls if node in numbers]
        kept = set(ahead)
        while ahead:
            new = needs[ahead.pop()] - kept
            kept |= new
            ahead += new
        return (
            sorted(row[0] for row in executions if ("execution", row[0]) not in kept),
            sorted(node_id for number, node_id, _ in nodes if ("node", number) not in kept),
        )


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = new_store() if request.param == "postgresql" else ""
    world = World(PostgreSQLStorage(url) if url else SQLiteStorage(tmp_path / "m.db"))
    with world.engine, use_musubito_engine(world.engine):
        yield world
    if url:
        drop_database(url)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (2, 3))])
def test_nothing_goes_but_what_nothing_needs(world: World, seed: int) -> None:
    choice = random.Random(seed)
    gone = 0
    for _ in range(8):
        world.work(choice)
        if not choice.randrange(5):
            world.engine.invalidate("draw")
        for age in (0.0, HOUR, 3 * DAY, 10 * DAY, 50 * DAY):
            before = world.now - age
            expected = world.not_needed(before)
            found = prunable(world.lineage, before)
            assert (sorted(found.executions), sorted(found.bare + found.nodes)) == expected
            assert number_prunable(world.lineage, before) == tuple(map(len, expected))
            gone += len(expected[0])
        if not choice.randrange(3):
            prune(world.lineage, world.now - 20 * DAY, rest=lambda _: None)
    assert gone
