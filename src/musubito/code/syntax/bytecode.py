"""Find what a function names in its bytecode: without a source, and as a second look with one.

Names are exact. A chain of attributes directly follows its name. Seen writes are `global`, attributes and items of a
named thing, and calls of methods that change a container.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType
from typing import Any

from musubito.code.syntax.name_usage import DYNAMIC, AccessPath, NameRead, NameUsage, NameWrite, PathStep, Root
from musubito.code.syntax.source import codes
from musubito.code.syntax.special_methods import special_methods
from musubito.code.syntax.write_methods import ADDERS, MUTATORS
from musubito.deferred import deferred_pattern

ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
"""Instructions that get an attribute."""
GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
"""Instructions that load a global."""
CLOSURES = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
"""Instructions that load a variable of an enclosing function."""
KEYS = GLOBALS | {"LOAD_CONST"}
"""Instructions that may load a key."""
BLANK = deferred_pattern(r"\s")
"""Matches a blank."""
WORD = deferred_pattern(r"\w+")
"""Matches a word of a text."""
IGNORED = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "RESUME", "PUSH_NULL", "PRECALL"})
"""Instructions that do nothing that counts here."""


def words_of(code: CodeType) -> frozenset[str]:
    """Return every name that the code mentions: of globals, attributes, imports and parameters, and in its texts.

    A text that is an identifier is also returned in brackets: something may be looked up by it.
    """
    words: set[str] = set()
    for inner in codes(code):
        parameters = inner.co_argcount + inner.co_kwonlyargcount
        words.update(inner.co_names, inner.co_varnames[:parameters], words_in(inner.co_consts))
        words.update(f"[{text}]" for text in inner.co_consts if isinstance(text, str) and text.isidentifier())
    return frozenset(words)


def words_in(value: Any) -> Iterator[str]:
    """Yield the words of the texts in a constant.

    A text with blanks in it is prose or a prompt, and names nothing.
    """
    if isinstance(value, str):
        if not BLANK.search(value):
            yield from WORD.findall(value)
    elif isinstance(value, tuple | frozenset):
        for item in value:
            yield from words_in(item)


def keys_of(code: CodeType, name: str, attributes: tuple[str, ...]) -> Iterator[dis.Instruction | None]:
    """Yield the instruction that loads the key by which a mapping is looked into, wherever the code loads its names.

    `name` and `attributes` are the chain of names that leads to the mapping. Yield None if no single instruction loads
    the key.
    """
    for inner in codes(code):
        instructions = [i for i in dis.get_instructions(inner) if i.opname not in IGNORED]
        for number, instruction in enumerate(instructions):
            if instruction.opname not in GLOBALS | CLOSURES or instruction.argval != name:
                continue
            end = number + 1 + len(attributes)
            chain = instructions[number + 1 : end]
            if any(i.opname not in ATTRIBUTES for i in chain) or tuple(i.argval for i in chain) != attributes:
                continue
            following = instructions[end] if end < len(instructions) else None
            if following is not None and following.opname in ATTRIBUTES:
                continue  # another chain
            if following is not None and following.opname == "CONTAINS_OP" and number:
                following = instructions[number - 1]
            yield following if following is not None and following.opname in KEYS else None


def scan_bytecode(code: CodeType) -> NameUsage:
    """Return what the code names, as far as its instructions tell."""
    usage = NameUsage()
    free = frozenset(code.co_freevars)
    for inner in codes(code):
        instructions = [i for i in dis.get_instructions(inner) if i.opname not in IGNORED]
        receiver = inner.co_varnames[0] if inner is code and inner.co_argcount else None
        for number, instruction in enumerate(instructions):
            name, value = instruction.opname, instruction.argval
            if name in GLOBALS:
                _chain(usage, Root.GLOBAL, value, instructions[number + 1 :])
                usage.dynamic |= value in DYNAMIC
            elif name in CLOSURES and value in free:
                _chain(usage, Root.CLOSURE, value, instructions[number + 1 :])
            elif receiver is not None and (value == receiver or (isinstance(value, tuple) and receiver in value)):
                last = value == receiver or value[-1] == receiver
                _chain(usage, Root.RECEIVER, receiver, instructions[number + 1 :] if last else [])
            elif name == "IMPORT_NAME":
                _imports(usage, value, instructions[number - 2].argval, instructions[number - 1].argval)
            elif name in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                usage.writes.add(NameWrite(Root.GLOBAL, value, rebinds=True))
            elif name in ("STORE_DEREF", "DELETE_DEREF") and value in free:
                usage.writes.add(NameWrite(Root.CLOSURE, value, rebinds=True))
            elif name in ATTRIBUTES:
                usage.mentions.add(value)
                usage.called_names.add(value)
            elif name in ("STORE_ATTR", "DELETE_ATTR"):
                usage.stores.add(value)
            if isinstance(value, str):
                usage.note_reader(value)
                usage.reads_docs |= value in {"__doc__", "getdoc"}
    usage.mentions |= special_methods(None)
    usage.calls |= usage.reads
    usage.handed = {AccessPath(read.root, read.name) for read in usage.reads}
    usage.mutators = set(MUTATORS)
    usage.given = frozenset((*(read.name for read in usage.reads), *usage.mentions))
    return usage


def _chain(usage: NameUsage, root: Root, name: str, following: list[dis.Instruction]) -> None:
    attributes: list[str] = []
    for instruction in following:
        if instruction.opname not in ATTRIBUTES:
            break
        attributes.append(instruction.argval)
    usage.reads.add(NameRead(root, name, tuple(attributes)))
    rest = following[len(attributes) : len(attributes) + 4]
    path = tuple(PathStep(True, attribute) for attribute in attributes)
    constant = rest[0].argval if rest and rest[0].opname in ("LOAD_CONST", "LOAD_SMALL_INT") else ...
    literal = PathStep(False, constant) if isinstance(constant, str | int | None) else None
    if attributes and attributes[-1] in MUTATORS:
        usage.writes.add(NameWrite(root, name, path[:-1], literal if attributes[-1] in ADDERS else None))
    elif rest and rest[0].opname in ("STORE_ATTR", "DELETE_ATTR"):
        usage.writes.add(NameWrite(root, name, path, PathStep(True, rest[0].argval)))
    elif rest and rest[0].opname == "COPY" and attributes == [] and len(rest) > 1 and rest[1].opname in ATTRIBUTES:
        if any(each.opname == "STORE_ATTR" and each.argval == rest[1].argval for each in following[:10]):
            usage.writes.add(NameWrite(root, name, path, PathStep(True, rest[1].argval)))
    elif literal is not None:
        after = [each.opname for each in rest[1:3]]
        if after[:1] in (["STORE_SUBSCR"], ["DELETE_SUBSCR"]) or after == ["COPY", "COPY"]:
            usage.writes.add(NameWrite(root, name, path, literal))


def _imports(usage: NameUsage, module: str, level: object, names: object) -> None:
    full = "." * (level if isinstance(level, int) else 0) + module
    usage.imports.add(full)
    if isinstance(names, tuple) and names:
        usage.reads.update(NameRead(Root.IMPORT, full, (name,)) for name in names)
    else:
        usage.reads.add(NameRead(Root.IMPORT, full))
