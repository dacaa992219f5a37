"""Read what a function without a source names, from its instructions."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType
from typing import Final

from musubito.code.syntax.name_usage import DYNAMIC, NameRead, NameUsage, Root
from musubito.code.syntax.same_code import codes

ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"})
GLOBALS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
CLOSURES: Final = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
BINDS_OUTSIDE: Final = frozenset({dis.opmap["STORE_GLOBAL"], dis.opmap["STORE_DEREF"]})
IGNORED: Final = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "RESUME", "PUSH_NULL", "PRECALL"})


def scan_bytecode(code: CodeType) -> NameUsage:
    """Return what the code names, as far as its instructions tell. What it does with a value is not known."""
    usage = NameUsage()
    free = frozenset(code.co_freevars)
    for inner in codes(code):
        instructions = [each for each in dis.get_instructions(inner) if each.opname not in IGNORED]
        usage.mentions.update(["except"] if inner.co_exceptiontable else ())
        receiver = inner.co_varnames[0] if inner is code and inner.co_argcount else None
        for number, instruction in enumerate(instructions):
            name, value = instruction.opname, instruction.argval
            if name in GLOBALS:
                usage.reads.add(_chain(Root.GLOBAL, value, instructions[number + 1 :]))
                usage.dynamic |= value in DYNAMIC
            elif name in CLOSURES and value in free:
                usage.reads.add(_chain(Root.CLOSURE, value, instructions[number + 1 :]))
            elif receiver is not None and value == receiver:
                usage.reads.add(_chain(Root.RECEIVER, receiver, instructions[number + 1 :]))
            elif name == "IMPORT_NAME":
                _note_import(usage, value, instructions[number - 2].argval, instructions[number - 1].argval)
            elif name.startswith(("STORE_", "DELETE_")) and isinstance(value, str):
                usage.stores.add(value)
            for word in value if isinstance(value, tuple) else (value,):
                if isinstance(word, str) and word.isidentifier():
                    usage.mention(word)
    usage.acted = {*usage.mentions, *(read.name for read in usage.reads)}
    usage.handed = {(read, None) for read in usage.reads}
    return usage


def _chain(root: Root, name: str, following: list[dis.Instruction]) -> NameRead:
    attributes: list[str] = []
    for instruction in following:
        if instruction.opname not in ATTRIBUTES:
            break
        attributes.append(instruction.argval)
    return NameRead(root, name, tuple(attributes))


def _note_import(usage: NameUsage, module: str, level: object, names: object) -> None:
    full = "." * (level if isinstance(level, int) else 0) + module
    usage.imports.add(full)
    if isinstance(names, tuple) and names:
        usage.reads.update(NameRead(Root.IMPORT, full, (name,)) for name in names)
    else:
        usage.reads.add(NameRead(Root.IMPORT, full))


def rebound_in(module: CodeType) -> Iterator[str]:
    """Yield the variables that functions of a module bind anew, which they declare as global or nonlocal."""
    for code in codes(module):
        if not BINDS_OUTSIDE.isdisjoint(code.co_code[::2]) and code is not module:
            for instruction in dis.get_instructions(code):
                if instruction.opcode in BINDS_OUTSIDE and (
                    instruction.opname == "STORE_GLOBAL" or instruction.argval in code.co_freevars
                ):
                    yield instruction.argval
