"""Read what one function names outside of itself: in its syntax tree, or in its instructions if it has no source.

Names are resolved as Python resolves them (`musubito.code.syntax.scopes`). So a local is never taken for the global of
the same name.
"""

from __future__ import annotations

import ast
import dis
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from types import CodeType
from typing import Final, NamedTuple

from musubito.code.displays import may_show
from musubito.code.syntax.expressions import attribute_chain, body_of, parameters_of
from musubito.code.syntax.scopes import Scope, mangled, names_bound_by, private_class
from musubito.code.syntax.shown import shown_names
from musubito.code.syntax.source import FunctionNode, codes
from musubito.parsing import children_of, parsed

DYNAMIC: Final = frozenset({"eval", "exec", "globals", "__import__"})
"""Builtins by which code may read and write any name: all names of the module count then."""
ANNOTATION_READERS: Final = frozenset(
    [
        *("signature", "from_callable", "get_type_hints", "get_annotations", "getfullargspec", "__annotations__"),
        *("__annotate__", "__signature__"),
    ]
)
"""Names by which code reads the annotations or the signature of other code."""
FIELD_READERS: Final = frozenset({"vars", "__dict__", "__getstate__", "attrgetter", "deepcopy"})
"""Names by which code reads fields of an object without their names."""
DOC_READERS: Final = frozenset({"__doc__", "getdoc"})
"""Names by which code reads docstrings."""
SOURCE_READERS: Final = frozenset({"getsource", "getsourcelines", "getcomments", "findsource", "getblock"})
"""Functions of `inspect` that return the text of code."""
IMPORTERS: Final = frozenset({"import_module", "__import__"})
"""Functions that import a module by its name as a text."""
LOOKS: Final = frozenset(
    {
        *("len", "bool", "str", "repr", "format", "print", "isinstance", "issubclass", "callable", "id", "type"),
        *("sum", "hash", "getattr", "hasattr", "setattr", "delattr", "sorted", "min", "max", "any", "all", "iter"),
        *("enumerate", "range", "int", "float", "map", "filter", "zip", "list", "tuple", "set", "dict", "frozenset"),
        *("next", "reversed", "abs", "round", "super"),
    }
)
"""Builtins that look at their arguments and hand them to nobody."""
PLAIN_STORES: Final = (ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.comprehension, ast.For, ast.AsyncFor)
"""Nodes that bind a name to a value, and hand it to nobody."""
FIXED: Final = (ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.If, ast.IfExp, ast.While, ast.FormattedValue)
"""Nodes around a value that look at it, or make another value of it."""


class Root(Enum):
    """The kinds of places that a name may lead to."""

    GLOBAL = "global"
    CLOSURE = "closure"
    RECEIVER = "receiver"
    SUPER = "super"
    IMPORT = "import"


class NameRead(NamedTuple):
    """A name that is read, and the attributes that directly follow it."""

    root: Root
    name: str
    attributes: tuple[str, ...] = ()


class Place(NamedTuple):
    """The outside value that an expression leads to. If `exact` is false, an item of `read` is meant, or its own."""

    read: NameRead
    exact: bool = True

    def attribute(self, name: str) -> Place:
        """Return the place one attribute further; what lies inside an item stays the item's."""
        read = self.read
        return self._replace(read=read._replace(attributes=(*read.attributes, name))) if self.exact else self


class NameUsage:
    """All that one function names."""

    def __init__(self) -> None:
        self.reads: set[NameRead] = set()
        self.handed: set[tuple[NameRead, NameRead | None]] = set()
        """Reads whose value is handed on, each with the function that is called with it, if that has a name."""
        self.made: set[tuple[NameRead, NameRead | None]] = set()
        """Reads that are called, and whose results are handed on, in the same way."""
        self.imports: set[str] = set()
        """Modules that the function itself imports, with leading dots if they are relative."""
        self.mentions: set[str] = set()
        """Attributes, keywords and texts that are names: what something may be looked up by."""
        self.stores: set[str] = set()
        """Names and attributes that the function binds outside of itself."""
        self.rebinds: set[str] = set()
        """Those of them that are variables, declared as global or nonlocal."""
        self.acted: set[str] = set()
        """Names and attributes whose values the function may change: by a method, an item or code that is given it."""
        self.entered: set[str] = set()
        """Names and attributes of whose values the function may change an item."""
        self.dynamic = False
        """Whether the function may reach names that its text does not show (see `DYNAMIC`)."""
        self.reads_fields = False
        """Whether the function may read fields in other ways than by name."""
        self.computed: set[NameRead] = set()
        """Values whose attributes the function gets by names that it computes."""
        self.reads_docs = False
        self.reads_annotations = False
        self.reads_source = False
        self.shown: frozenset[str] = frozenset()
        """Names that are used only to show their values (see `musubito.code.displays`)."""
        self.lists_shown = False
        """Whether the function lists fields that are shown, so that their order counts."""

    def mention(self, name: str) -> None:
        """Note a name by which something may be looked up."""
        self.mentions.add(name)
        self.reads_annotations |= name in ANNOTATION_READERS
        self.reads_docs |= name in DOC_READERS
        self.reads_source |= name in SOURCE_READERS
        self.reads_fields |= name in FIELD_READERS

    def act(self, place: Place | None) -> None:
        """Note that the value at a place may be changed."""
        if place is not None:
            (self.acted if place.exact else self.entered).update((place.read.name, *place.read.attributes))


def scan(function: FunctionNode, code: CodeType, parents: Mapping[int, ast.AST]) -> NameUsage:
    """Return all that `function`, whose code is `code`, names. `parents` are those of its nodes, by their ids."""
    visitor = NameVisitor(function, code, parents)
    visitor.run()
    usage = visitor.usage
    usage.stores |= usage.rebinds
    if may_show(usage.mentions):
        usage.shown, usage.lists_shown = shown_names(function)
    return usage


def _gives_globals(node: ast.Call) -> bool:
    """Return whether this runs a program text with globals that are spelled out, or with the builtins alone."""
    match node:
        case ast.Call(func=ast.Name(id="exec" | "eval"), args=[ast.Starred(), *_]):
            return False
        case ast.Call(func=ast.Name(id="exec" | "eval"), args=[_, ast.Dict(keys=keys), *_]):
            return None not in keys
        case ast.Call(
            func=ast.Name(id="exec" | "eval"),
            args=[_, ast.Attribute(value=ast.Name(id="builtins"), attr="__dict__"), *_],
        ):
            return True
    return False


class NameVisitor:
    """Visits the tree of one function, with its scopes, and collects what it names."""

    def __init__(self, function: FunctionNode, code: CodeType, parents: Mapping[int, ast.AST]) -> None:
        self.usage = NameUsage()
        first = [*function.args.posonlyargs, *function.args.args][:1]
        self.receiver = first[0].arg if first else None
        """The name of the first parameter."""
        self._function = function
        self._free = frozenset(code.co_freevars)
        self._class = private_class(code.co_qualname)
        self._scope = self._root = Scope(None, function)
        self._parents = parents

    def run(self) -> None:
        """Visit the whole function."""
        for statement in body_of(self._function):
            self._visit(statement)

    # -- names ---------------------------------------------------------------------------------------------------------

    def _resolve(self, name: str) -> tuple[Scope | None, Root | None]:
        """Return (the scope whose local the name is, None), or (None, the root outside of the function)."""
        scope: Scope | None = self._scope
        first = True
        while scope is not None:
            if scope.outer.get(name):
                return None, Root.GLOBAL
            if name in scope.locals and (first or not scope.is_class):
                return scope, None
            first = False
            scope = scope.parent
        name = mangled(name, self._class)
        return None, Root.CLOSURE if name in self._free else Root.GLOBAL

    def _place(self, node: ast.expr, depth: int = 0) -> Place | None:
        """Return where an expression leads, if it is a path of attributes and items from outside the function."""
        match node:
            case ast.Name(id=name):
                scope, root = self._resolve(name)
                if root is not None:
                    return Place(NameRead(root, mangled(name, self._class)))
                if scope is None:
                    return None
                if (imported := scope.imports.get(name)) is not None:
                    return Place(NameRead(Root.IMPORT, *imported))
                if scope is self._root and name == self.receiver and len(scope.locals[name]) == 1:
                    return Place(NameRead(Root.RECEIVER, name))
                value = scope.alias(name)
                return self._place(value, depth + 1) if value is not None and depth < 8 else None
            case ast.Attribute(value=value, attr=attr):
                place = self._place(value, depth)
                return place and place.attribute(mangled(attr, self._class))
            case ast.Subscript(value=value):
                place = self._place(value, depth)
                return place and place._replace(exact=False)
            case ast.Call(func=ast.Attribute(value=value, attr="setdefault" | "get" | "values" | "items")):
                place = self._place(value, depth)
                return place and place._replace(exact=False)
            case ast.Call(func=ast.Name(id="super")):
                return Place(NameRead(Root.SUPER, "super"))
            case ast.Call(func=called, args=[ast.Constant(value=str(module)), *_]) if self._imports(called):
                return Place(NameRead(Root.IMPORT, _module_imported_by(node, module)))
            case ast.Call(func=ast.Name(id="type"), args=[value]):
                place = self._place(value, depth)
                return place if place is not None and place.read.root is Root.RECEIVER else None
            case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(value=str(attr)), *_]):
                place = self._place(value, depth)
                return place and place.attribute(attr)
            case _:
                return None

    def _imports(self, called: ast.expr) -> bool:
        """Return whether an expression is `importlib.import_module` or `__import__`, under whatever name."""
        if isinstance(called, ast.Attribute):
            return called.attr in IMPORTERS
        if not isinstance(called, ast.Name):
            return False
        scope, _ = self._resolve(called.id)
        imported = None if scope is None else scope.imports.get(called.id)
        return called.id in IMPORTERS or (imported is not None and imported[1][-1:] == ("import_module",))

    # -- the walk ------------------------------------------------------------------------------------------------------

    def _visit(self, node: ast.AST) -> None:
        pending: list[ast.AST] = [node]
        while pending:
            pending.extend(self._step(pending.pop()))

    def _step(self, node: ast.AST) -> Iterator[ast.AST]:
        usage = self.usage
        match node:
            case ast.Name(id=name, ctx=ctx):
                scope, root = self._resolve(name)
                if root is not None and not isinstance(ctx, ast.Load):
                    usage.rebinds.add(mangled(name, self._class))
                    if not isinstance(self._parents.get(id(node)), ast.AugAssign):
                        return
                if scope is not None and scope.is_class and isinstance(ctx, ast.Load) and name not in scope.bound:
                    usage.reads.add(NameRead(Root.GLOBAL, mangled(name, self._class)))
                self._read(node)
                around = self._parents.get(id(node))
                if name == self.receiver and isinstance(around, ast.Call) and around.func is node:
                    usage.mention("__class__")
                if root is Root.GLOBAL:
                    is_own = isinstance(around, ast.Call) and around.func is node and _gives_globals(around)
                    usage.dynamic |= name in DYNAMIC and not is_own
                    usage.reads_fields |= name in FIELD_READERS
            case ast.Attribute(value=value, attr=attr, ctx=ctx):
                name = mangled(attr, self._class)
                if not isinstance(ctx, ast.Load):
                    usage.stores.add(name)
                    usage.act(self._place(value))
                    if isinstance(self._parents.get(id(node)), ast.AugAssign):
                        usage.mention(name)
                    yield value
                    return
                usage.mention(name)
                around = self._parents.get(id(node))
                if isinstance(around, ast.Call) and around.func is node:
                    self._act_on(value)
                if isinstance(attribute_chain(node)[0], ast.Name | ast.Call) and self._read(node):
                    yield from self._rest_of_path(value)
                else:
                    yield value
            case ast.Subscript(value=value, slice=index, ctx=ctx):
                place = self._place(node)
                if not isinstance(ctx, ast.Load):
                    self._act_on(value)
                elif place is not None:
                    self._hand_on(node, place)
                yield from (value, index)
            case ast.AugAssign(target=target):
                self._act_on(target)
                yield from children_of(node)
            case ast.For(iter=source) | ast.AsyncFor(iter=source):
                place = self._place(source)
                usage.act(place and place._replace(exact=False))
                usage.entered.update([mangled(source.attr, self._class)] if isinstance(source, ast.Attribute) else ())
                yield from children_of(node)
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[value, name, *_]):
                usage.act(self._place(value))
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    usage.stores.add(name.value)
                yield from children_of(node)
            case ast.Call(func=called, args=[ast.Constant(value=str(module)), *_]) if self._imports(called):
                name = _module_imported_by(node, module)
                usage.imports.add(name)
                usage.reads.add(NameRead(Root.IMPORT, name))
                yield from children_of(node)
            case ast.Call(func=ast.Name(id="getattr"), args=[value, key, *rest]):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    usage.mention(key.value)
                    yield from (node.func, *rest) if self._read(node) else children_of(node)
                    return
                usage.reads_fields = True
                if (place := self._place(value)) is not None:
                    usage.handed.add((place.read, None))
                    usage.computed.add(place.read)
                yield from children_of(node)
            case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)]) if name == self.receiver:
                usage.mention("__class__")
                yield node.func
            case ast.keyword(arg=str(name), value=value):
                usage.mention(name)
                yield value
            case ast.Constant(value=str(text)):
                if text.isidentifier():
                    usage.mention(text)
            case ast.MatchClass(kwd_attrs=attrs):
                for attr in attrs:
                    usage.mention(mangled(attr, self._class))
                yield from children_of(node)
            case ast.Import(names=names):
                usage.imports.update(alias.name for alias in names)
                self._bind(*(alias.asname or alias.name.partition(".")[0] for alias in names))
            case ast.ImportFrom(names=names):
                usage.imports.add("." * node.level + (node.module or ""))
                for alias in names:
                    usage.mention(alias.name)
                    self._bind(alias.asname or alias.name)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._bind(getattr(node, "name", ""))
                yield from getattr(node, "decorator_list", ())
                yield from (*node.args.defaults, *filter(None, node.args.kw_defaults))
                if not isinstance(node, ast.Lambda) and node.decorator_list:
                    yield from annotation_nodes(node)
                self._visit_nested(node, body_of(node))
            case ast.ClassDef():
                self._bind(node.name)
                yield from (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords))
                self._visit_nested(node, node.body)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                yield node.generators[0].iter
                parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
                for number, part in enumerate(node.generators):
                    parts += [*([part.iter] if number else []), part.target, *part.ifs]
                self._visit_nested(node, parts)
            case ast.AnnAssign():
                yield from filter(None, (node.target, node.value))
                if self._scope.is_class:
                    yield node.annotation
            case _:
                yield from children_of(node)

    def _bind(self, *names: str) -> None:
        """Note names that a statement binds, if they are declared as global or nonlocal."""
        self.usage.rebinds.update(mangled(name, self._class) for name in names if name in self._scope.outer)

    def _read(self, node: ast.expr) -> bool:
        """Note what an expression reads, and what is done with its value; return whether it leads outside."""
        place = self._place(node)
        if place is None:
            return False
        if not place.exact:
            if isinstance(node, ast.Name):
                self._hand_on(node, place)
            return False
        is_alias = isinstance(node, ast.Name) and self._resolve(node.id)[0] is not None
        if not is_alias or place.read.root in (Root.IMPORT, Root.RECEIVER):
            self.usage.reads.add(place.read)
        self._hand_on(node, place)
        return True

    def _hand_on(self, node: ast.AST, place: Place) -> None:
        itself, around = node, self._parents.get(id(node))
        is_called = False
        if isinstance(around, ast.Call) and around.func is node:
            is_called = True
            self.usage.act(place)
            node, around = around, self._parents.get(id(around))
        while isinstance(around, ast.Starred | ast.keyword | ast.Tuple | ast.List | ast.Set | ast.Dict | ast.Await):
            node, around = around, self._parents.get(id(around))
        callee: NameRead | None = None
        match around:
            case ast.Attribute() | ast.Subscript() | ast.Expr() | ast.withitem() | ast.AugAssign() | ast.Assert():
                return
            case ast.Call(func=func):
                if func is node or (isinstance(func, ast.Name) and func.id in LOOKS and self._is_builtin(func.id)):
                    return
                called = self._place(func)
                callee = None if called is None or not called.exact else called.read
            case _ if isinstance(around, (*PLAIN_STORES, *FIXED)):
                if isinstance(around, ast.Assign | ast.NamedExpr) and node is itself and self._is_alias(around):
                    return
                if not isinstance(around, ast.Assign | ast.NamedExpr):
                    return
        if is_called:
            self.usage.made.update([(place.read, callee)] if isinstance(around, ast.Call) else [])
            return
        self.usage.handed.add((place.read, callee))
        if not isinstance(around, ast.Return):  # whoever is given a result is not this function
            self.usage.act(place)

    def _is_alias(self, node: ast.Assign | ast.NamedExpr) -> bool:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if not isinstance(target, ast.Name):
            return isinstance(target, ast.Attribute | ast.Subscript)
        scope, _ = self._resolve(target.id)
        return scope is not None and scope.alias(target.id) is node.value

    def _is_builtin(self, name: str) -> bool:
        return self._resolve(name) == (None, Root.GLOBAL)

    def _act_on(self, node: ast.expr) -> None:
        self.usage.act(self._place(node))
        if isinstance(node, ast.Attribute):
            self.usage.acted.add(mangled(node.attr, self._class))
        elif isinstance(node, ast.Subscript):
            self._act_on(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            self._act_on(node.func.value)

    def _visit_nested(self, node: ast.AST, body: Iterable[ast.AST]) -> None:
        outer, self._scope = self._scope, Scope(self._scope, node)
        outer_class = self._class
        if isinstance(node, ast.ClassDef):
            self._class = node.name
        for statement in body:
            self._visit(statement)
            self._scope.bound |= names_bound_by(statement)
        self._scope, self._class = outer, outer_class

    def _rest_of_path(self, node: ast.expr) -> Iterator[ast.AST]:
        """Yield the parts of a path that are still to be visited after the path was read."""
        while isinstance(node, ast.Attribute):
            self.usage.mention(mangled(node.attr, self._class))
            node = node.value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node
        elif isinstance(node, ast.Call):
            yield from (*node.args, *(keyword.value for keyword in node.keywords), node.func)


def _module_imported_by(call: ast.Call, module: str) -> str:
    """Return the module that a call imports by its literal name; `__import__` returns the outermost package."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return module.partition(".")[0] if name == "__import__" else module


def annotation_nodes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    """Yield the annotations of a function, and what is written as text inside of them."""
    pending = [each.annotation for each in parameters_of(function.args) if each.annotation is not None]
    pending += [function.returns] if function.returns is not None else []
    for annotation in pending:
        yield annotation
        for node in ast.walk(annotation):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                try:
                    pending.append(parsed(node.value, "eval").body)
                except (SyntaxError, ValueError):
                    continue  # a text that is no expression names nothing


# -- code without a source ---------------------------------------------------------------------------------------------
ATTRIBUTES: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"})
GLOBALS: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
CLOSURES: Final = frozenset({"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
IGNORED: Final = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "RESUME", "PUSH_NULL", "PRECALL"})


def scan_bytecode(code: CodeType) -> NameUsage:
    """Return what the code names, as far as its instructions tell. What it does with a value is not known."""
    usage = NameUsage()
    free = frozenset(code.co_freevars)
    for inner in codes(code):
        instructions = [each for each in dis.get_instructions(inner) if each.opname not in IGNORED]
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
