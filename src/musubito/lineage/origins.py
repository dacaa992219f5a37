"""Where an answer came from: the models, the prompts, the inputs and the files that led to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from musubito.lineage.damage import tells_damage
from musubito.lineage.files import FileRead, files_read
from musubito.lineage.literals import prompts_in
from musubito.lineage.reader import Lineage
from musubito.lineage.records import NodeReport, Tokens

__all__ = ["Origins", "Prompt", "RootInput", "origins"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text in the code that may be a prompt: the function or constant that it is in, and the operations that reach
    this."""

    part: str
    text: str
    operations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RootInput:
    """A call that consumed no other one's result, with its arguments as plain data; None if they are not stored."""

    node: NodeReport
    value: Any


@dataclass(frozen=True, slots=True)
class Origins:
    """What led to an answer. `models` has the tokens of all executions in its lineage, each counted once, and
    `files` what they read of files and folders."""

    models: Mapping[str, Tokens]
    prompts: tuple[Prompt, ...]
    inputs: tuple[RootInput, ...]
    files: tuple[FileRead, ...]


@tells_damage
def origins(lineage: Lineage, node: str) -> Origins:
    """Which models, prompts, inputs and files led to what this node gave. `LineageError` if it is not there."""
    number = lineage.number(node)
    links = lineage.rows("links_above", id=number)
    numbers = sorted({number}.union(*((below, above) for below, above, _ in links)))
    nodes = dict(zip(numbers, lineage.nodes(numbers), strict=True))
    # Whoever consumed something came of that; whoever was called was given his input by his caller.
    consumed = {below for below, _, kind in links if kind == "data"}
    called = {above for _, above, kind in links if kind == "call"}
    roots = [each for at, each in nodes.items() if at not in consumed and at not in called and each.input_hash]
    return Origins(
        _models(lineage, nodes.values()),
        _prompts(lineage, nodes.values()),
        tuple(RootInput(each, lineage.input(each)) for each in roots),
        files_read(lineage, nodes.values()),
    )


def _models(lineage: Lineage, nodes: Any) -> dict[str, Tokens]:
    done = [node.execution or lineage.attempt(node) for node in nodes]
    executions = sorted({each.number for each in done if each is not None})
    models: defaultdict[str, Tokens] = defaultdict(Tokens)
    for rows in lineage.ask(*(("usage", {"execution": each}) for each in executions)):
        # Its own alone: those of the calls inside are counted with them.
        for model, own_in, own_out, *_ in rows:
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
