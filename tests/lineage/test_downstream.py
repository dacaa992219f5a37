"""What is erased with a result, and how much of it, in random stores: as sets of Python say it, too."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage
from musubito.lineage import Lineage
from musubito.lineage.removal.erase import with_downstream
from musubito.lineage.removal.erase_preview import preview_forget
from musubito.store.changes import Forget
from musubito.store.rows import ExecutionFlags
from tests.fresh import fresh

HASHES = [bytes([number]) * 32 for number in (1, 2, 3)]
RUNS = [bytes([number]) * 17 for number in (1, 2)]


@dataclass
class World:
    """The rows of a store, by their numbers."""

    operation: dict[int, int | None]
    """Of each node; None for a parent that is not in this store."""
    input: dict[int, bytes] = field(default_factory=dict)
    ran_at: dict[int, int] = field(default_factory=dict)
    erased: set[int] = field(default_factory=set)
    payload: dict[int, int] = field(default_factory=dict)
    """Bytes of the small artifact of each execution that has one; the others gave the large one of `artifact`."""
    artifact: dict[int, bytes] = field(default_factory=dict)
    answer: dict[int, int] = field(default_factory=dict)
    uses: set[tuple[int, int]] = field(default_factory=set)
    edges: set[tuple[int, int, int]] = field(default_factory=set)
    calls: list[tuple[bytes, int | None, int, int | None]] = field(default_factory=list)
    """The run, the outer call, the node and the execution."""
    reads: set[tuple[int, bytes]] = field(default_factory=set)

    @classmethod
    def random(cls, dice: random.Random) -> World:
        world = cls({node: dice.choice((1, 2, 3, 3, None)) for node in range(2, dice.randint(5, 12))})
        world.operation[1] = 1
        nodes = [node for node, operation in world.operation.items() if operation]
        world.input = {node: dice.choice(HASHES) for node in nodes}
        for number in range(1, dice.randint(5, 16)):
            world.ran_at[number] = dice.choice(nodes)
            world.artifact[number] = dice.choice(HASHES)
            if dice.random() < 0.15:
                world.erased.add(number)
            elif dice.random() < 0.5:
                world.payload[number] = dice.randint(1, 9)
        for node in nodes:
            alike = [e for e, at in world.ran_at.items() if world.operation[at] == world.operation[node]]
            own = [e for e in alike if world.ran_at[e] == node]
            if choice := dice.choice((own, own, alike, [])):
                world.answer[node] = dice.choice(choice)
        for _ in range(dice.randint(0, 2 * len(world.ran_at))):
            called, caller = sorted(dice.sample(list(world.ran_at), 2))
            world.uses.add((caller, called))
        for _ in range(dice.randint(0, 5)):
            parent, child = dice.choice(list(world.operation)), dice.choice(nodes)
            world.edges.add((parent, child, dice.randint(0, 4) // 4))
        for call in range(dice.randint(0, 8)):
            # A call that was replayed names another node than the execution.
            execution = dice.choice([None, *world.ran_at])
            world.calls.append((dice.choice(RUNS), dice.choice((None, call)), dice.choice(nodes), execution))
        world.reads = {(dice.choice(list(world.ran_at)), dice.choice(HASHES)) for _ in range(dice.randint(0, 3))}
        return world

    def store(self, path: Path) -> None:
        with closing(sqlite3.connect(fresh(path))) as database:
            put = database.executemany
            put("INSERT INTO _namespaces (id, name) VALUES (?, ?)", [(1, "default")])
            put("INSERT INTO _operations VALUES (?, 1, ?)", [(number, f"op{number}") for number in (1, 2, 3)])
            put(
                "INSERT INTO _nodes (id, node_id, operation, input_hash, execution, listed) VALUES (?, ?, ?, ?, ?, 1)",
                [(n, node_id(n), o, self.input.get(n), self.answer.get(n)) for n, o in self.operation.items()],
            )
            put(
                "INSERT INTO _executions (id, node, reuse_key, sample, outcome, started_at, duration_ms, artifact, payload, "
                "holds) VALUES (?, ?, x'', 0, 1, 0, 0, ?, ?, ?)",
                [
                    (
                        e,
                        at,
                        self.artifact[e],
                        bytes(self.payload[e]) if e in self.payload else None,
                        ExecutionFlags.ERASED if e in self.erased else 0,
                    )
                    for e, at in self.ran_at.items()
                ],
            )
            put("INSERT INTO _uses VALUES (?, ?, ?, x'')", [(*use, self.ran_at[use[1]]) for use in self.uses])
            put("INSERT INTO _edges VALUES (?, ?, ?, x'')", self.edges)
            put(
                "INSERT INTO _calls (run_id, call, parent, node, execution, outcome, reason, at, duration_ms, compute_ms, "
                "saved_tokens) VALUES (?, ?, ?, ?, ?, 'ran', '', 0, 0, 0, 0)",
                [(run, k, outer, node_id(n), e) for k, (run, outer, n, e) in enumerate(self.calls)],
            )
            put("INSERT INTO _reads VALUES (?, 'file', ?, ?)", [(e, digest.hex(), digest) for e, digest in self.reads])
            put("INSERT INTO _inputs VALUES (?, ?, ?)", [(o, h, bytes(o * h[0])) for o in (1, 2, 3) for h in HASHES])
            put("INSERT INTO _artifacts VALUES (1, ?, 'msgpack', x'', ?, 0)", [(h, 100 * h[0]) for h in HASHES])
            database.commit()

    # -- what is to be said -------------------------------------------------------------------------------------------
    def executions(self, nodes: set[int]) -> set[int]:
        """Those that ran at nodes or answer there."""
        return {e for e, at in self.ran_at.items() if at in nodes} | {e for n, e in self.answer.items() if n in nodes}

    def nodes(self, executions: set[int]) -> set[int]:
        """Those at which executions ran, and those that they answer."""
        return {self.ran_at[e] for e in executions} | {n for n, e in self.answer.items() if e in executions}

    def downstream(self, named: set[int]) -> set[int]:
        below: set[int] = set()
        more = set(named)
        while not more <= below:
            below |= more
            gone = self.executions(below)
            more = {child for parent, child, kind in self.edges if parent in below and kind == 0}
            more |= self.nodes(gone | {caller for caller, called in self.uses if called in gone})
        on_top = {e for _, outer, _, e in self.calls if outer is None}
        gone = self.executions(below) | self.erased
        reached = self.executions(below)
        while alone := {
            called
            for caller, called in self.uses
            if caller in reached
            and called not in gone | on_top
            and {above for above, below_it in self.uses if below_it == called} <= gone
        }:
            gone |= alone
            reached |= alone
        return below | self.nodes(reached - self.erased)

    def size(self, executions: set[int], operations: set[int]) -> tuple[int, int, int]:
        """How many executions and inputs are erased, and their bytes."""
        others = self.ran_at.keys() - executions - self.erased
        artifacts = {self.artifact[e] for e in executions} - {self.artifact[e] for e in others - self.payload.keys()}
        given = {(self.operation[n], self.input[n]) for n in self.nodes(executions)}
        read = {(self.operation[self.ran_at[e]], digest) for e, digest in self.reads if e in executions}
        kept = {(self.operation[n], self.input[n]) for n in self.nodes(others)}
        kept |= {(self.operation[self.ran_at[e]], digest) for e, digest in self.reads if e not in executions}
        inputs = (given | read) - kept | {(operation, digest) for operation in operations for digest in HASHES}
        size = sum(self.payload.get(e, 0) for e in executions) + sum(100 * digest[0] for digest in artifacts)
        return len(executions), len(inputs), size + sum(o * digest[0] for o, digest in inputs if o)


def node_id(number: int) -> bytes:
    return bytes([number]) * 32


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(5, 200))])
def test_what_goes_with_a_step_a_call_or_a_run(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    world = World.random(dice)
    world.store(tmp_path / "musubito.db")
    with Lineage(MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db"))) as lineage:
        for _ in range(5):
            operations = set(dice.sample((1, 2, 3), dice.randint(0, 2)))
            nodes = set(dice.sample(list(world.operation), dice.randint(0, 2)))
            runs = dice.sample(RUNS, dice.randint(0, 1))
            wanted = [Forget("default", operation=f"op{number}") for number in operations]
            wanted += [Forget("", run=run) for run in runs]
            wanted += [Forget("", nodes=[node_id(number) for number in sorted(nodes)])] if nodes else []
            of_operations = {node for node, operation in world.operation.items() if operation in operations}
            of_runs = {world.ran_at[e] for run, _, _, e in world.calls if run in runs and e is not None}
            of_runs |= {node for run, _, node, _ in world.calls if run in runs}
            executions = world.executions(nodes | of_operations)
            executions |= {e for run, _, _, e in world.calls if run in runs and e is not None}
            assert tuple(preview_forget(lineage, wanted)) == world.size(executions, operations)

            below = world.downstream(nodes | of_operations | of_runs)
            more = with_downstream(lineage, wanted)
            assert more[: len(wanted)] == wanted
            expected = sorted(below - nodes - of_operations)
            assert [node for change in more[len(wanted) :] for node in change.nodes] == list(map(node_id, expected))
            assert tuple(preview_forget(lineage, more)) == world.size(executions | world.executions(below), operations)
