"""The steps that a recorded test names to run in its replay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from musubito.lineage.transfer.cassette import CassetteError, RecordedResult


class LiveSteps:
    """The steps that run in a replay: those that a test names, and those that one of them was recorded inside of.

    - `others`: the recorded results that hold none of them. A replay answers from these alone.

    A pattern, as of a shell, matches the name of a step, or what stands after the last slash of it.
    """

    def __init__(self, patterns: str | Iterable[str], recorded: Sequence[RecordedResult]) -> None:
        """Raise `CassetteError` if a pattern names none of the recorded steps."""
        self._patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        names = sorted({result.operation for result in recorded})
        for pattern in self._patterns:
            if names and not any(_matches(name, pattern) for name in names):
                raise CassetteError(f"live={pattern!r} names no recorded step; there are {', '.join(names)}")
        holds: dict[tuple[Any, ...], bool] = {}

        def has_live(result: RecordedResult) -> bool:
            if result.identity not in holds:
                holds[result.identity] = self._is_named(result.operation) or any(
                    has_live(call.result) for call in result.calls
                )
            return holds[result.identity]

        self.others = [result for result in recorded if not has_live(result)]
        self._around = {result.operation for result in recorded if has_live(result)}

    def runs(self, operation: str) -> bool:
        """Tell whether a step runs."""
        return operation in self._around or self._is_named(operation)

    def _is_named(self, operation: str) -> bool:
        return any(_matches(operation, pattern) for pattern in self._patterns)


def _matches(operation: str, pattern: str) -> bool:
    return fnmatchcase(operation, pattern) or fnmatchcase(operation.rpartition("/")[2], pattern)
