"""Gather what is shown of one step result, on its page and in an exported file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from musubito.lineage import Attempt, Lineage, NodeReport, Why
from musubito.lineage.readers.files import FileRead, files_read
from musubito.lineage.readers.formatting import not_shown
from musubito.lineage.readers.unrepeatable import unrepeatable_of
from musubito.lineage.readers.why import why
from musubito.lineage.reports import WITHHELD, without_texts
from musubito.web.contents import Contents

SIDES: Final = ("input", "output")


class Side(NamedTuple):
    """The input or the output of a result. `says` stands in its place if it is not shown."""

    name: str
    contents: Contents
    says: str | None


@dataclass(frozen=True, slots=True)
class ResultView:
    """A step result, as a page shows it."""

    node: NodeReport
    attempt: Attempt | None
    why: Why | None
    sides: tuple[Side, ...]
    files: Sequence[FileRead]
    unrepeatable: Sequence[object]

    @property
    def is_elsewhere(self) -> bool:
        """Tell whether the function ran under another node."""
        answer = self.node.execution
        return answer is not None and answer.producer_node_id != self.node.node_id


def view_of(lineage: Lineage, node: NodeReport, *, contents: bool = True) -> ResultView:
    """Return what is shown of a result. Without `contents`, inputs, outputs and what differs in them are left out."""
    is_known = bool(node.operation)
    return ResultView(
        node if contents else without_texts(node),
        lineage.attempt(node),
        why(lineage, node.node_id) if is_known and contents else None,
        tuple(side_of(lineage, node, name) if contents else Side(name, Contents(), WITHHELD) for name in SIDES),
        files_read(lineage, [node]) if is_known else (),
        unrepeatable_of(lineage, node) if is_known else (),
    )


def side_of(lineage: Lineage, node: NodeReport, name: str) -> Side:
    """Return the input or the output of a result."""
    value = _input(lineage, node) if name == "input" else lineage.output(node)
    says = not_shown(value)
    if value is None:
        absent = "(null, or not stored)" if name == "output" and node.execution else "(not stored)"
        says = "(erased with 'musubito forget')" if node.is_erased else absent
    return Side(name, Contents.of(None if says else value), says)


def _input(lineage: Lineage, node: NodeReport) -> Any:
    value = lineage.input(node) if node.input_hash else None
    # The node of a graph has one argument, of this name.
    return value["input"] if isinstance(value, dict) and value.keys() == {"input"} else value
