"""Find the models, prompts, inputs and files that led to a result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from musubito.lineage.corruption import reports_damage
from musubito.lineage.readers.files import FileRead, files_read
from musubito.lineage.readers.prompts import prompts_in
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.reports import NodeReport, Tokens


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text in the code that may be a prompt.

    `part` is the function or constant that has the text. `operations` are the operations whose code reaches this part.
    """

    part: str
    text: str
    operations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RootInput:
    """A call that consumed no result and was called by no node of the lineage.

    `value` is its arguments as plain data, None if they are not stored.
    """

    node: NodeReport
    value: Any


@dataclass(frozen=True, slots=True)
class Provenance:
    """The models, prompts, inputs and files that led to a result.

    `models` has the tokens of all executions in the lineage, each counted once. `files` has the files and folders that
    these executions read.
    """

    models: Mapping[str, Tokens]
    prompts: tuple[Prompt, ...]
    inputs: tuple[RootInput, ...]
    files: tuple[FileRead, ...]


@reports_damage
def provenance(lineage: Lineage, node: str) -> Provenance:
    """Return the models, prompts, inputs and files that led to the result of a node.

    Raises `LineageError` if the node does not exist.
    """
    number = lineage.number(node)
    links = lineage.rows("links_above", id=number)
    numbers = sorted({number}.union(*((below, above) for below, above, _ in links)))
    nodes = dict(zip(numbers, lineage.nodes(numbers), strict=True))
    # A node that consumed a result has its input from there, and a called node has its input from its caller.
    consumed = {below for below, _, kind in links if kind == "data"}
    called = {above for _, above, kind in links if kind == "call"}
    roots = [root for at, root in nodes.items() if at not in consumed and at not in called and root.input_hash]
    inputs = lineage.inputs((root.namespace, root.operation, bytes.fromhex(root.input_hash)) for root in roots)
    return Provenance(
        _models(lineage, nodes.values()),
        _prompts(lineage, nodes.values()),
        tuple(RootInput(root, value) for root, value in zip(roots, inputs, strict=True)),
        files_read(lineage, nodes.values()),
    )


def _models(lineage: Lineage, nodes: Any) -> dict[str, Tokens]:
    executions = [*(node.execution for node in nodes if node.execution), *lineage.attempts(nodes).values()]
    models: defaultdict[str, Tokens] = defaultdict(Tokens)
    # The totals would count calls inside twice: they have executions of their own here.
    for _, model, own_in, own_out, *_ in lineage.about("usage_of_executions", (done.number for done in executions)):
        models[model] = models[model].plus(Tokens(own_in, own_out))
    return {model: used for model, used in sorted(models.items()) if used.total}


def _prompts(lineage: Lineage, nodes: Any) -> tuple[Prompt, ...]:
    operations: defaultdict[str, set[str]] = defaultdict(set)
    for node in nodes:
        if node.code:
            operations[node.code].add(node.operation)
    codes = sorted(operations)
    rows = lineage.ask(*(("code_of", {"fingerprint": bytes.fromhex(code)}) for code in codes))
    users: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for code, parts in zip(codes, rows, strict=True):
        for part, _, source in parts:
            for text in prompts_in(source) if source else ():
                users[part, text] |= operations[code]
    return tuple(Prompt(part, text, tuple(sorted(by))) for (part, text), by in sorted(users.items()))
