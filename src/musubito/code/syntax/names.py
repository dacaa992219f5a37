"""Read what one function names outside of itself, in its syntax tree.

Names are resolved as Python resolves them (`musubito.code.syntax.scopes`). So a local is never taken for the global of
the same name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType
from typing import Final

from musubito.code.displays import may_show
from musubito.code.syntax.annotation_text import annotation_nodes
from musubito.code.syntax.expressions import attribute_chain, body_of, gives_globals, module_imported_by
from musubito.code.syntax.name_usage import DYNAMIC, FIELD_READERS, LOOKS, Lookup, NameRead, NameUsage, Place, Root
from musubito.code.syntax.scopes import Scope, mangled, names_bound_by, private_class
from musubito.code.syntax.shown import shown_names
from musubito.code.syntax.single_function import FunctionNode
from musubito.parsing import children_of

IMPORTERS: Final = frozenset({"import_module", "__import__"})
"""Functions that import a module by its name as a text."""
OF_DATA: Final = frozenset(
    {"ValueError", "KeyError", "IndexError", "LookupError", "TypeError", "AttributeError", "ImportError"}
)
"""Errors that no attempt to reach a service ends with."""
PLAIN_STORES: Final = (ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.comprehension, ast.For, ast.AsyncFor)
"""Nodes that bind a name to a value, and hand it to nobody."""
FIXED: Final = (ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.If, ast.IfExp, ast.While, ast.FormattedValue)
"""Nodes around a value that look at it, or make another value of it."""
PASSED: Final = frozenset(
    [
        *(*FIXED, ast.Expr, ast.Return, ast.Try, ast.Raise, ast.Assert, ast.With, ast.withitem, ast.arguments),
        *(ast.JoinedStr, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.Starred, ast.Await, ast.Slice, ast.Pass),
    ]
)
"""Nodes of which only the nodes inside name something."""


def scan(function: FunctionNode, code: CodeType, parents: Mapping[int, ast.AST]) -> NameUsage:
    """Return all that `function`, whose code is `code`, names. `parents` are those of its nodes, by their ids."""
    visitor = NameVisitor(function, code, parents)
    visitor.run()
    usage = visitor.usage
    usage.stores |= usage.rebinds
    if may_show(usage.mentions):
        usage.shown, usage.lists_shown = shown_names(function)
    return usage


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
                return Place(NameRead(Root.IMPORT, module_imported_by(node, module)))
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

    def _visit(self, node: ast.AST) -> None:
        pending: list[ast.AST] = [node]
        while pending:
            inner = pending.pop()
            pending += children_of(inner) if type(inner) in PASSED else self._step(inner)

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
                    is_own = isinstance(around, ast.Call) and around.func is node and gives_globals(around)
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
                name = module_imported_by(node, module)
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
            case ast.ExceptHandler(type=kind, body=body):
                if not isinstance(body[-1], ast.Raise) and getattr(kind, "id", "") not in OF_DATA:
                    usage.mention("except")
                yield from children_of(node)
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
        if place.exact and not (isinstance(around, ast.Assign | ast.NamedExpr) and self._is_alias(around)):
            self.usage.lookups.add(self._lookup(node, around, place))
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
            case ast.BinOp(op=ast.BitOr() | ast.RShift()):
                self.usage.act(place)  # a pipeline of parts that it runs
                return
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

    def _lookup(self, node: ast.AST, around: ast.AST | None, place: Place) -> Lookup:
        """Return the method and the key by which the code looks into a value, as far as they can be told."""
        key: ast.expr | None = None
        match around:
            case ast.Subscript(value=value, slice=index, ctx=ctx) if value is node:
                is_changed = isinstance(self._parents.get(id(around)), ast.AugAssign)
                method = "__getitem__" if isinstance(ctx, ast.Load) else "setdefault" if is_changed else "__setitem__"
                place, key = place.attribute(method), index
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()]) if left is not node:
                place, key = place.attribute("__contains__"), left
            case ast.Call(func=func, args=[first, *_]) if func is node:
                key = first
        return Lookup(place.read, tuple(self._joined(key)))

    def _joined(self, key: ast.expr | None) -> Iterator[object]:
        """Yield the parts that make a key: those of an f-string or a sum, or the one of another expression."""
        match key:
            case ast.Constant(value=value):
                yield value
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                yield from self._joined(value)
            case ast.JoinedStr() | ast.BinOp(op=ast.Add()):
                for part in key.values if isinstance(key, ast.JoinedStr) else (key.left, key.right):
                    yield from self._joined(part)
            case _:
                known = None if key is None else self._place(key)
                yield known.read if known is not None and known.exact else None

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
