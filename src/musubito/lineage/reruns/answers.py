"""Find what the calls of a recorded run were answered, so that its rerun can be answered the same."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from musubito.lineage.corruption import binary
from musubito.lineage.readers.reader import Lineage
from musubito.store.protocol import Row
from musubito.store.rows import CallKeys


class RecordedAnswer(NamedTuple):
    """What one call of a run was given: its execution, under the keys of the step result where that ran."""

    input_hash: bytes
    arguments: Mapping[str, str]
    code: bytes
    keys: CallKeys
    execution: int
    succeeded: bool


class RecordedAnswers:
    """The answers of a recorded run, by operation. Each is given once, in the order in which they were recorded.

    The calls inside of replayed calls have answers, too: they are found by the executions that answered the run.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._lock = threading.Lock()
        self._answers: defaultdict[str, list[RecordedAnswer]] = defaultdict(list)
        self._given: dict[tuple[str, bytes, bytes], RecordedAnswer] = {}
        for operation, input_hash, arguments, code, node, reuse, cross, execution, outcome in rows:
            self._answers[operation].append(
                RecordedAnswer(
                    binary(input_hash or b""),
                    dict(json.loads(arguments or "{}")),
                    binary(code or b""),
                    CallKeys(binary(node), binary(reuse), binary(cross)),
                    execution,
                    bool(outcome),
                )
            )

    def to_same_call(self, operation: str, input_hash: bytes, code: bytes) -> RecordedAnswer | None:
        """Take the next answer to a call of the same code with the same input; None if there is none."""
        found = self._take(operation, lambda answer: answer.input_hash == input_hash and answer.code == code)
        if found is not None:
            self._given[operation, input_hash, code] = found
        return found

    def given_to_same_call(self, operation: str, input_hash: bytes, code: bytes) -> RecordedAnswer | None:
        """Return the answer that such a call was given last: equal calls of a deterministic step share one."""
        return self._given.get((operation, input_hash, code))

    def to_same_question(
        self, operation: str, input_hash: bytes, arguments: Mapping[str, bytes]
    ) -> RecordedAnswer | None:
        """Take the next answer to a call with the same input, or with the same arguments, whatever code answered it.

        An argument whose value is hidden has no digest to compare.
        """
        asked = {name: digest.hex() for name, digest in arguments.items()}
        if all(asked.values()):
            return self._take(operation, lambda answer: answer.input_hash == input_hash or answer.arguments == asked)
        return self._take(operation, lambda answer: answer.input_hash == input_hash)

    def give_back(self, operation: str, answer: RecordedAnswer) -> None:
        """Let an answer be the next one again: the call could not be given it."""
        with self._lock:
            self._answers[operation].insert(0, answer)

    def use_up(self, executions: Collection[int]) -> None:
        """Take out the answers to calls inside of one that was answered as a whole."""
        with self._lock:
            for operation, recorded in self._answers.items():
                self._answers[operation] = [answer for answer in recorded if answer.execution not in executions]

    def _take(self, operation: str, answers: Callable[[RecordedAnswer], bool]) -> RecordedAnswer | None:
        with self._lock:
            recorded = self._answers.get(operation, [])
            found = next((place for place, answer in enumerate(recorded) if answers(answer)), None)
            return None if found is None else recorded.pop(found)


def answers_of(lineage: Lineage, run_ids: Collection[str]) -> Sequence[Row]:
    """Return the rows of what the calls of runs were answered, the oldest first, for `RecordedAnswers`."""
    parts = lineage.ask(*(("parts_of_run", {"run": bytes.fromhex(run)}) for run in run_ids))
    rows = lineage.ask(*(("answers_of_run", {"run": part}) for found in parts for part, *_ in found))
    by_execution = {row[7]: row for found in rows for row in found}
    return [by_execution[execution] for execution in sorted(by_execution)]
