"""Tell whether code looks inside ids, or only tells them apart: it compares them, hands them on or prints them.

1. *These are ids*: `.id` or `.tool_call_id` of anything, `["id"]` and the like (but not of a call's `["args"]`), a name
   `tool_call_id`. If an id is assigned, handed to a function that is read or returned by it, the target is an id, too.
   So is a text that has an id in it. A name means the same in a whole source text, whatever its scopes.
2. *Looked inside* is an id by an index or slice, by any of its methods, or by iteration. Ordering ids, and formatting
   an id with a width, look inside, too. Some functions look inside their arguments, too (`INSIDE`, `MODULES`): `int`,
   `UUID`, `hash`, `hashlib.md5`, `re.match`.
3. *Any other use* only distinguishes ids. Functions whose source is not read are not seen; if they put a part of an id
   into the output, it is found there.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from enum import Flag, auto
from functools import lru_cache
from typing import Final, NamedTuple

from musubito.code.syntax.expressions import literal_key
from musubito.code.syntax.single_function import tree_of
from musubito.parsing import nodes_in

IDS: Final = frozenset({"id", "tool_call_id", "call_id", "tool_use_id"})
"""Names of attributes and keys that hold ids."""
GETTERS: Final = frozenset({"attrgetter", "itemgetter"})
"""Functions that make a function which reads an attribute or a key."""
AS_TEXT: Final = frozenset({"str", "repr", "format", "cast", "copy", "deepcopy", "min", "max", "next", "dumps"})
"""Functions whose result is or holds an id if an argument does."""
AS_GROUP: Final = frozenset(
    {"list", "tuple", "set", "frozenset", "sorted", "reversed", "filter", "iter", "deque", "chain", "enumerate", "zip"}
)
"""Functions whose result is a collection of ids if an argument is one."""
ORDER: Final = frozenset({"sorted", "min", "max", "sort", "nlargest", "nsmallest", "heapify", "heappush", "merge"})
"""Functions that put their arguments in an order."""
BY_KEY: Final = ORDER | {"bisect", "bisect_left", "bisect_right", "insort", "insort_left", "insort_right"}
"""Functions that take a `key` to sort or search by."""
HASHES: Final = frozenset(
    {"hash", "UUID", "uuid3", "uuid5", "crc32", "adler32", "md5", "blake2b", "blake2s", "Random", "seed", "hexdigest"}
    | {f"sha{size}" for size in ("1", "224", "256", "384", "512", "3_256", "3_512")}
)
"""Functions that make a value of all characters of an id, so that the value depends on the id."""
INSIDE: Final = (ORDER | HASHES | AS_GROUP | {"int", "ord", "bytes", "bytearray", "len", "map", "shorten"}) - {"merge"}
"""Functions that look inside an id that they are given."""
MODULES: Final = frozenset({"re", "regex", "hashlib", "zlib", "binascii", "base64", "struct", "random", "fnmatch"})
"""Modules whose functions look inside an id that they are given."""
MODULES_OF_HASHES: Final = frozenset({"hashlib", "zlib", "xxhash", "mmh3", "binascii"})
"""Modules whose functions make a value of all characters of an id."""
TAKES_IN: Final = frozenset({"append", "appendleft", "add", "insert", "extend", "update", "push", "put"})
"""Methods that add their arguments to a collection."""


class IdUsage(NamedTuple):
    """The uses that code makes of ids besides distinguishing them."""

    inside: bool
    """True if the code looks inside of ids."""
    makes: bool
    """True if the code may make ids of something else, so that they look random and are not."""


class _Kind(Flag):
    NONE = 0
    ID = auto()
    GROUP = auto()
    """A collection of ids."""
    KEYED = auto()
    """A dict whose keys are ids."""


NONE, ID, GROUP, KEYED = _Kind.NONE, _Kind.ID, _Kind.GROUP, _Kind.KEYED


PARTS: Final = (ast.Attribute, ast.Name, ast.Subscript, ast.Call)
"""The parts of an expression for a text that may be ids."""
FOLLOWED: Final = (
    *(ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr, ast.For, ast.AsyncFor, ast.comprehension, ast.Subscript),
    *(ast.Call, ast.Starred, ast.FormattedValue, ast.Compare, ast.BinOp),
)
"""The kinds of nodes that hand an id on or look inside it."""
MOST_SOURCES: Final = 2_048
"""Number of sources whose parts are kept."""


def what_is_dissected(sources: Iterable[str | None]) -> IdUsage:
    """Return what the functions with these sources do to ids; the sources are read as one program.

    If a function has no source, it may do anything.
    """
    texts = [None if source is None else _text_of(source) for source in sources]
    readable = [text for text in texts if text is not None]
    if len(readable) < len(texts):
        return IdUsage(inside=True, makes=True)
    makes = any(text.makes for text in readable)
    try:
        return IdUsage(_Reader(readable).looks_inside(), makes)
    except RecursionError:  # nested too deeply to be read
        return IdUsage(inside=True, makes=makes)


class _Text(NamedTuple):
    """The parts of one source that may have to do with ids."""

    functions: list[ast.FunctionDef | ast.AsyncFunctionDef]
    returned: list[tuple[str, ast.expr]]
    """The expressions that functions return, each with the function's name."""
    nodes: list[ast.AST]
    """The nodes that hand an id on or look inside it."""
    makes: bool
    """Whether the source may make ids of something else."""


@lru_cache(MOST_SOURCES)
def _text_of(source: str) -> _Text | None:
    """Return what is read of a source, which many steps may reach; None if it cannot be parsed."""
    tree = tree_of(source)
    if tree is None:
        return None
    nodes = list(nodes_in(tree))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    returned = [
        (function.name, node.value)
        for function in functions
        for node in nodes_in(function)
        if isinstance(node, ast.Return) and node.value is not None
    ]
    return _Text(functions, returned, [node for node in nodes if isinstance(node, FOLLOWED)], any(map(_makes, nodes)))


def _makes(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and (_name(node.func) in HASHES or _module(node.func) in MODULES_OF_HASHES)


def _name(function: ast.expr) -> str:
    return str(getattr(function, "attr", None) or getattr(function, "id", ""))


def _module(function: ast.expr) -> str:
    return str(getattr(getattr(function, "value", None), "id", ""))


class _Reader:
    """A reader of sources, which repeats until it finds no more ids."""

    def __init__(self, texts: Sequence[_Text]) -> None:
        self._texts = texts
        self._names: list[dict[str, _Kind]] = [defaultdict(lambda: NONE, tool_call_id=ID) for _ in texts]
        self._attributes: dict[str, _Kind] = defaultdict(lambda: NONE, dict.fromkeys(("id", "tool_call_id"), ID))
        self._given_back: dict[str, _Kind] = defaultdict(lambda: NONE)
        self._defined: dict[str, list[tuple[dict[str, _Kind], ast.arguments]]] = defaultdict(list)
        self._here = self._names[0] if texts else {}
        self._grew = True

    def looks_inside(self) -> bool:
        for text, names in zip(self._texts, self._names, strict=True):
            for function in text.functions:
                self._defined[function.name].append((names, function.args))
        while self._grew:
            self._grew = False
            for node in self._nodes():
                self._follow(node)
        return any(self._inside(node) for node in self._nodes())

    def _nodes(self) -> Iterator[ast.AST]:
        for text, names in zip(self._texts, self._names, strict=True):
            self._here = names
            for function, value in text.returned:
                self._learn(self._given_back, function, self._of(value))
            yield from text.nodes

    def _of(self, node: ast.expr | None) -> _Kind:
        match node:
            case ast.Name():
                return self._here.get(node.id, NONE)
            case ast.Attribute():
                return self._attributes.get(node.attr, NONE)
            case ast.Subscript(value, ast.Constant(str(key))) if key in IDS:
                return NONE if "args" in (literal_key(value), getattr(value, "attr", None)) else ID
            case ast.Subscript(value, ast.Slice()):
                return self._of(value)
            case ast.Subscript(value):
                return ID if GROUP in self._of(value) else NONE
            case ast.NamedExpr() | ast.Await() | ast.Starred() | ast.FormattedValue():
                return self._of(node.value)
            case ast.IfExp():
                return self._of(node.body) | self._of(node.orelse)
            case ast.BoolOp(values=values):
                return self._any(values)
            case ast.BinOp(op=ast.Add() | ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                return self._of(node.left) | self._of(node.right)
            case ast.BinOp(op=ast.Mod()) | ast.JoinedStr():
                return ID if any(self._of(part) for part in ast.walk(node) if isinstance(part, PARTS)) else NONE
            case ast.List(elts=part) | ast.Tuple(elts=part) | ast.Set(elts=part):
                return GROUP if self._any(part) else NONE
            case ast.ListComp(elt=part) | ast.SetComp(elt=part) | ast.GeneratorExp(elt=part):
                return GROUP if self._of(part) else NONE
            case ast.DictComp():
                return (KEYED if self._of(node.key) else NONE) | (GROUP if self._of(node.value) else NONE)
            case ast.Dict():
                return KEYED if any(self._of(key) for key in node.keys) else NONE
            case ast.Call():
                return self._of_call(node)
        return NONE

    def _any(self, nodes: Iterable[ast.expr | None]) -> _Kind:
        kinds = NONE
        for node in nodes:
            kinds |= self._of(node)
        return kinds

    def _of_call(self, call: ast.Call) -> _Kind:
        name = _name(call.func)
        arguments = self._any((*call.args, *(keyword.value for keyword in call.keywords)))
        key = next((part.value for part in call.args if isinstance(part, ast.Constant) and part.value in IDS), None)
        owner = self._of(call.func.value) if isinstance(call.func, ast.Attribute) else NONE
        if (key is not None and name in {"getattr", "get", "pop"}) or (owner & GROUP and name in {"pop", "popleft"}):
            return ID
        if any(self._gives_ids(argument) for argument in call.args):
            return GROUP
        if name in {"join", "format"} and arguments:
            return ID
        if name in AS_TEXT and arguments:
            return ID
        if name in AS_GROUP and arguments & (GROUP | KEYED):
            return GROUP
        if name in {"keys", "items"} and owner & KEYED:
            return GROUP
        if owner & (GROUP | KEYED) and name in {"copy", "union", "intersection", "difference", "values"}:
            return owner
        return self._given_back.get(name, NONE)

    def _gives_ids(self, function: ast.expr) -> bool:
        """Tell whether a function makes ids of messages, as a key for sorting may do."""
        match function:
            case ast.Lambda():
                return any(self._of(node) for node in ast.walk(function.body) if isinstance(node, ast.expr))
            case ast.Call() if _name(function.func) in GETTERS:
                return any(isinstance(argument, ast.Constant) and argument.value in IDS for argument in function.args)
            case ast.Name() | ast.Attribute():
                return bool(self._given_back.get(_name(function), NONE))
        return False

    def _learn(self, names: dict[str, _Kind], name: str, kind: _Kind) -> None:
        if kind & ~names.get(name, NONE):
            names[name] = names.get(name, NONE) | kind
            self._grew = True

    def _follow(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets, value):
                for target in targets:
                    self._bind(target, self._of(value), value)
                    if isinstance(target, ast.Name) and isinstance(value, ast.Lambda) and self._gives_ids(value):
                        self._learn(self._given_back, target.id, ID)
            case ast.AnnAssign(target, _, value) | ast.AugAssign(target, _, value) | ast.NamedExpr(target, value):
                self._bind(target, self._of(value), value)
            case ast.For(target, each) | ast.AsyncFor(target, each) | ast.comprehension(target, each):
                self._bind_each(target, each)
            case ast.Subscript(ast.Name(name), key, ast.Store()) if self._of(key):
                self._learn(self._here, name, KEYED)
            case ast.Call():
                self._hand(node)

    def _bind(self, target: ast.expr, kind: _Kind, value: ast.expr | None) -> None:
        match target:
            case ast.Name(name):
                self._learn(self._here, name, kind)
            case ast.Attribute(attr=attr):
                self._learn(self._attributes, attr, kind)
            case ast.Starred(inner):
                self._bind(inner, kind, value)
            case ast.Tuple(elts) | ast.List(elts):
                if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(elts):
                    for place, part in zip(elts, value.elts, strict=True):
                        self._bind(place, self._of(part), part)
                elif kind:
                    for place in elts:
                        self._bind(place, ID, None)

    def _bind_each(self, target: ast.expr, group: ast.expr) -> None:
        """Bind the target of a loop."""
        places = target.elts if isinstance(target, ast.Tuple) else []
        match group:
            case ast.Call(ast.Name("zip"), args) if len(args) == len(places):
                for place, part in zip(places, args, strict=True):
                    self._bind_each(place, part)
            case ast.Call(ast.Name("enumerate"), [part, *_]) if len(places) == 2:
                self._bind_each(places[1], part)
            case ast.Call(ast.Attribute(keyed, "items")) if len(places) == 2 and KEYED in self._of(keyed):
                self._bind(places[0], ID, None)
            case _ if self._of(group) & (GROUP | KEYED):
                self._bind(target, ID, None)

    def _hand(self, call: ast.Call) -> None:
        name = _name(call.func)
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and name in TAKES_IN:
            self._learn(self._here, call.func.value.id, GROUP if self._any(call.args) else NONE)
        for names, arguments in self._defined.get(name, ()):
            places = [parameter.arg for parameter in (*arguments.posonlyargs, *arguments.args)]
            if isinstance(call.func, ast.Attribute) and places and places[0] in {"self", "cls"}:
                places = places[1:]
            for place, argument in zip(places, call.args, strict=False):
                self._learn(names, place, self._of(argument))
            for keyword in call.keywords:
                if keyword.arg is not None:
                    self._learn(names, keyword.arg, self._of(keyword.value))

    def _inside(self, node: ast.AST) -> bool:
        match node:
            case ast.Subscript(value, _, ast.Load()):
                return ID in self._of(value)
            case ast.For(iter=each) | ast.AsyncFor(iter=each) | ast.comprehension(iter=each):
                return ID in self._of(each)
            case ast.Starred(value):
                return ID in self._of(value)
            case ast.FormattedValue(value, _, spec):
                return spec is not None and bool(self._of(value))
            case ast.Compare(left, ops, comparators):
                for first, op, second in zip((left, *comparators), ops, comparators, strict=False):
                    if isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) and self._any((first, second)):
                        return True
                    if isinstance(op, ast.In | ast.NotIn) and ID in self._of(second):
                        return True
            case ast.BinOp(left, ast.Mod(), _):
                text = left.value if isinstance(left, ast.Constant) else None
                return bool(self._of(node)) and not (isinstance(text, str) and "%." not in text)
            case ast.BinOp(left, ast.Mult(), right):
                return ID in self._any((left, right))
            case ast.Call():
                return self._inside_call(node)
        return False

    def _inside_call(self, call: ast.Call) -> bool:
        name = _name(call.func)
        if isinstance(call.func, ast.Attribute):
            owner = self._of(call.func.value)
            if ID in owner or (name == "sort" and owner):
                return True
        key = next((keyword.value for keyword in call.keywords if keyword.arg == "key"), None)
        if key is not None and name in BY_KEY and self._gives_ids(key):
            return True
        arguments = self._any((*call.args, *(keyword.value for keyword in call.keywords)))
        if name in HASHES or _module(call.func) in MODULES_OF_HASHES:
            return any(self._of(node) for node in ast.walk(call) if isinstance(node, ast.expr))
        if name in ORDER:
            return bool(arguments)
        return ID in arguments and (name in INSIDE or _module(call.func) in MODULES)
