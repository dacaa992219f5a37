"""Keep the text of functions, read once, with what the text names."""

from __future__ import annotations

from types import CodeType, FunctionType
from weakref import WeakKeyDictionary

from musubito.code.syntax.ast_digest import normalised, normalised_bytecode
from musubito.code.syntax.bytecode_names import scan_bytecode
from musubito.code.syntax.names import scan
from musubito.code.syntax.source import Source, source_of
from musubito.parsing import parents_in


class FunctionText:
    """The code of a function in source form, if there is one, and what the code names."""

    def __init__(self, code: CodeType, source: Source | None) -> None:
        self.source = source
        self._written: dict[tuple[bool, bool], bytes] = {}
        """The code in its normal form, by whether docstrings and whether the signature are in it."""
        if source is not None:
            try:
                node, source.text = source.read()  # all that most callers need is read now: the tree is not kept
                self.scan = scan(node, code, parents_in(node))
                self._written[False, False] = normalised(node)
            except RecursionError:
                self.source = None  # an expression is nested deeper than Python recurses
        if self.source is None:
            self.scan = scan_bytecode(code)

    def normal(self, code: CodeType, *, docs: bool, signature: bool) -> bytes:
        """Return the normal form of `code`, the code of this text: of its syntax tree, or of its instructions."""
        if self.source is None:
            docs = signature = False
        cached = self._written.get((docs, signature))
        if cached is None:
            node = None if self.source is None else self.source.read()[0]
            cached = normalised_bytecode(code) if node is None else normalised(node, docs=docs, signature=signature)
            self._written[docs, signature] = cached
        return cached


_texts: WeakKeyDictionary[CodeType, dict[int, FunctionText]] = WeakKeyDictionary()
"""The texts by code, then by the id of the code."""


def text_of(function: FunctionType) -> FunctionText:
    """Return the source of a function's code, if there is one, and what the code names."""
    code = function.__code__
    kept = _texts.setdefault(code, {})  # equal code may stand in several files, with other comments
    text = kept.get(id(code))
    if text is None:
        text = kept[id(code)] = FunctionText(code, source_of(code, script_of(function)))
    return text


def script_of(function: FunctionType) -> str | None:
    """Return the file of the module that the function's globals name, if they name one."""
    file = function.__globals__.get("__file__")
    return file if isinstance(file, str) else None
