"""Whatever a program of deterministic steps does: what a run spent and what it saved are together what it would have
cost without Musubito."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from musubito import MusubitoEngine, MusubitoResult, SQLiteStorage, record_usage, run, use_musubito_engine
from musubito.lineage import Cost, Lineage, Tokens
from musubito.lineage.readers.savings import savings

MODELS = ("", "gpt-4o", "claude-sonnet-4-5")


class Operation(NamedTuple):
    """Asks a model, then calls others, each with its own argument plus a number. `fails`: raises at its end."""

    model: str
    tokens: Tokens
    calls: tuple[tuple[int, int], ...]
    fails: bool
    version: int = 0


class Round(NamedTuple):
    """One run: which operation is edited before it (with other tokens), and what is called: an operation, its argument,
    whether the result before goes into it, whether in a run inside the run."""

    edited: int | None
    calls: tuple[tuple[int, int, bool, bool], ...]


@st.composite
def operations(draw) -> list[Operation]:
    found: list[Operation] = []
    for number in range(draw(st.integers(1, 5))):
        calls = st.tuples(st.integers(0, number - 1), st.integers(0, 1)) if number else st.nothing()
        found.append(
            Operation(
                draw(st.sampled_from(MODELS)),
                Tokens(draw(st.integers(0, 50)), draw(st.integers(0, 50))),
                tuple(draw(st.lists(calls, max_size=4 if number else 0))),
                draw(st.integers(0, 5)) == 0,
            )
        )
    return found


rounds = st.lists(
    st.builds(
        Round,
        st.none() | st.integers(0, 4),
        st.lists(
            st.tuples(st.integers(0, 4), st.integers(0, 2), st.booleans(), st.booleans()), min_size=1, max_size=4
        ).map(tuple),
    ),
    min_size=1,
    max_size=4,
)


class Program:
    def __init__(self, engine: MusubitoEngine, operations: list[Operation]) -> None:
        self.engine = engine
        self.operations = operations

    def __musubito_identity__(self) -> str:
        """Spare the walks all that a program holds: `version` counts what matters of it."""
        return "program"

    def version(self, number: int) -> str:
        """As a fingerprint does, it covers what is called."""
        operation = self.operations[number]
        return f"{operation.version}({' '.join(self.version(inner) for inner, _ in operation.calls)})"

    def recorded(self, number: int, x: int, before: MusubitoResult[int] | None = None) -> MusubitoResult[int] | None:
        operation = self.operations[number]

        def function(x: int, before: Any) -> int:
            record_usage(
                input_tokens=operation.tokens.input + x, output_tokens=operation.tokens.output, model=operation.model
            )
            for inner, more in operation.calls:
                self.recorded(inner, x + more)
            if operation.fails:
                raise ValueError(x)
            return number

        try:
            return self.engine.execute(
                f"step {number}", {"x": x, "before": before}, function, operation_version=self.version(number)
            )
        except ValueError:
            return None

    def plain(self, number: int, x: int) -> Counter[tuple[str, str]]:
        """What it costs if all of it runs."""
        operation = self.operations[number]
        cost = Counter(
            {(operation.model, "in"): operation.tokens.input + x, (operation.model, "out"): operation.tokens.output}
        )
        for inner, more in operation.calls:
            cost += self.plain(inner, x + more)
        return cost


def counted(*costs: Cost) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for cost in costs:
        for model, tokens in cost.tokens.items():
            counts += Counter({(model, "in"): tokens.input, (model, "out"): tokens.output})
    return counts


@settings(max_examples=3 * settings().max_examples // 10)
@given(operations(), rounds)
def test_spent_and_saved_are_what_it_would_have_cost(operations: list[Operation], rounds: list[Round]) -> None:
    with (
        TemporaryDirectory() as folder,
        MusubitoEngine(SQLiteStorage(Path(folder) / "musubito.db")) as engine,
        use_musubito_engine(engine),
    ):
        program = Program(engine, operations)
        expected: dict[str, Counter[tuple[str, str]]] = {}
        for edited, calls in rounds:
            if edited is not None:
                old = operations[edited % len(operations)]
                operations[edited % len(operations)] = old._replace(
                    version=old.version + 1, tokens=old.tokens.plus(Tokens(1, 2))
                )
            # The second one is warm.
            for _ in range(2):
                cost: Counter[tuple[str, str]] = Counter()
                with run("outer") as outer:
                    result = None
                    for number, x, chained, nested in calls:
                        number %= len(operations)
                        before = result if chained else None
                        if nested:
                            with run("inner"):
                                result = program.recorded(number, x, before)
                        else:
                            result = program.recorded(number, x, before)
                        cost += program.plain(number, x)
                expected[outer.run_id] = cost
        lineage = Lineage(engine)
        by_run = savings(lineage, by="run")
        assert {row.key: counted(row.spent, row.saved) for row in by_run.rows} == expected
        for row in by_run.rows:
            summary = lineage.run(row.key).summary
            assert (counted(row.spent), counted(row.saved)) == (counted(summary.spent), counted(summary.saved))
            assert (row.calls, row.replayed) == (summary.calls, summary.replayed)
        everything = sum(expected.values(), Counter())
        for by in ("day", "model", "operation", "run"):
            found = savings(lineage, by=by)
            assert counted(found.total.spent, found.total.saved) == everything
            assert counted(*(row.spent for row in found.rows)) == counted(found.total.spent)
            assert counted(*(row.saved for row in found.rows)) == counted(found.total.saved)
