"""Read what one function names outside of itself, in its syntax tree.

Names are resolved as Python resolves them (`musubito.code.syntax.scopes`). So a local is never taken for the global of
the same name.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType
from typing import ClassVar, Final, TypeAlias

from musubito.code.displays import may_show
from musubito.code.syntax.annotation_text import annotation_nodes
from musubito.code.syntax.expressions import attribute_chain, body_of, gives_globals, module_imported_by
from musubito.code.syntax.name_usage import DYNAMIC, FIELD_READERS, LOOKS, Lookup, NameRead, NameUsage, Place, Root
from musubito.code.syntax.places import PlaceFinder
from musubito.code.syntax.scopes import Scope, mangled, names_bound_by
from musubito.code.syntax.shown import shown_names
from musubito.code.syntax.single_function import FunctionNode
from musubito.parsing import children_of

Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
OF_DATA: Final = frozenset(
    {"ValueError", "KeyError", "IndexError", "LookupError", "TypeError", "AttributeError", "ImportError"}
)
"""Errors that no attempt to reach a service ends with."""
PLAIN_STORES: Final = (ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.comprehension, ast.For, ast.AsyncFor)
"""Nodes that bind a name to a value, and hand it to nobody."""
FIXED: Final = (ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.If, ast.IfExp, ast.While, ast.FormattedValue)
"""Nodes around a value that look at it, or make another value of it."""


def scan(function: FunctionNode, code: CodeType, parents: Mapping[ast.AST, ast.AST]) -> NameUsage:
    """Return all that `function`, whose code is `code`, names. `parents` are those of its nodes."""
    visitor = NameVisitor(function, code, parents)
    visitor.run()
    usage = visitor.usage
    usage.stores |= usage.rebinds
    if may_show(usage.mentions):
        usage.shown, usage.lists_shown = shown_names(function)
    return usage


class NameVisitor(PlaceFinder):
    """Visits the tree of one function, with its scopes, and collects what it names."""

    def __init__(self, function: FunctionNode, code: CodeType, parents: Mapping[ast.AST, ast.AST]) -> None:
        super().__init__(function, code)
        self.usage = NameUsage()
        self._parents = parents

    def run(self) -> None:
        """Visit the whole function."""
        for statement in body_of(self.function):
            self._visit(statement)

    def _visit(self, node: ast.AST) -> None:
        pending: list[ast.AST] = [node]
        while pending:
            inner = pending.pop()
            visit = self._VISITS.get(type(inner))
            pending += children_of(inner) if visit is None else visit(self, inner)

    def _visit_name(self, node: ast.Name) -> Iterable[ast.AST]:
        usage, around = self.usage, self._parents.get(node)
        scope, root = self.resolve(node.id)
        is_load = isinstance(node.ctx, ast.Load)
        if root is not None and not is_load:
            usage.rebinds.add(mangled(node.id, self.private_class))
            if not isinstance(around, ast.AugAssign):
                return ()
        if scope is not None and scope.is_class and is_load and node.id not in scope.bound:
            usage.reads.add(NameRead(Root.GLOBAL, mangled(node.id, self.private_class)))
        self._read(node)
        is_called = isinstance(around, ast.Call) and around.func is node
        if is_called and node.id == self.receiver:
            usage.mention("__class__")
        if root is Root.GLOBAL:
            usage.dynamic |= node.id in DYNAMIC and not (is_called and gives_globals(around))
            usage.reads_fields |= node.id in FIELD_READERS
        return ()

    def _visit_attribute(self, node: ast.Attribute) -> Iterable[ast.AST]:
        usage, around = self.usage, self._parents.get(node)
        name = mangled(node.attr, self.private_class)
        if not isinstance(node.ctx, ast.Load):
            usage.stores.add(name)
            usage.act(self.place(node.value))
            if isinstance(around, ast.AugAssign):
                usage.mention(name)
            return (node.value,)
        usage.mention(name)
        if isinstance(around, ast.Call) and around.func is node:
            self._act_on(node.value)
        if isinstance(attribute_chain(node)[0], ast.Name | ast.Call) and self._read(node):
            return self._rest_of_path(node.value)
        return (node.value,)

    def _visit_subscript(self, node: ast.Subscript) -> Iterable[ast.AST]:
        if not isinstance(node.ctx, ast.Load):
            self._act_on(node.value)
        elif (place := self.place(node)) is not None:
            self._hand_on(node, place)
        return (node.value, node.slice)

    def _visit_augmented(self, node: ast.AugAssign) -> Iterable[ast.AST]:
        self._act_on(node.target)
        return children_of(node)

    def _visit_loop(self, node: ast.For | ast.AsyncFor) -> Iterable[ast.AST]:
        place = self.place(node.iter)
        self.usage.act(place and place._replace(exact=False))
        if isinstance(node.iter, ast.Attribute):
            self.usage.entered.add(mangled(node.iter.attr, self.private_class))
        return children_of(node)

    def _visit_call(self, node: ast.Call) -> Iterable[ast.AST]:
        usage = self.usage
        match node:
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[value, name, *_]):
                usage.act(self.place(value))
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    usage.stores.add(name.value)
            case ast.Call(func=called, args=[ast.Constant(value=str(module)), *_]) if self.imports(called):
                module = module_imported_by(node, module)
                usage.imports.add(module)
                usage.reads.add(NameRead(Root.IMPORT, module))
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(key)), *rest]):
                usage.mention(key)
                if self._read(node):
                    return (node.func, *rest)
            case ast.Call(func=ast.Name(id="getattr"), args=[value, _, *_]):
                usage.reads_fields = True
                if (place := self.place(value)) is not None:
                    usage.handed.add((place.read, None))
                    usage.computed.add(place.read)
            case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)]) if name == self.receiver:
                usage.mention("__class__")
                return (node.func,)
        return children_of(node)

    def _visit_keyword(self, node: ast.keyword) -> Iterable[ast.AST]:
        if node.arg is not None:
            self.usage.mention(node.arg)
        return (node.value,)

    def _visit_constant(self, node: ast.Constant) -> Iterable[ast.AST]:
        if isinstance(node.value, str) and node.value.isidentifier():
            self.usage.mention(node.value)
        return ()

    def _visit_handler(self, node: ast.ExceptHandler) -> Iterable[ast.AST]:
        if not isinstance(node.body[-1], ast.Raise) and getattr(node.type, "id", "") not in OF_DATA:
            self.usage.mention("except")
        return children_of(node)

    def _visit_class_pattern(self, node: ast.MatchClass) -> Iterable[ast.AST]:
        for attr in node.kwd_attrs:
            self.usage.mention(mangled(attr, self.private_class))
        return children_of(node)

    def _visit_imported(self, node: ast.Import) -> Iterable[ast.AST]:
        self.usage.imports.update(alias.name for alias in node.names)
        self._bind(*(alias.asname or alias.name.partition(".")[0] for alias in node.names))
        return ()

    def _visit_imported_from(self, node: ast.ImportFrom) -> Iterable[ast.AST]:
        self.usage.imports.add("." * node.level + (node.module or ""))
        for alias in node.names:
            self.usage.mention(alias.name)
            self._bind(alias.asname or alias.name)
        return ()

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Iterable[ast.AST]:
        self._visit_nested(node, body_of(node))
        defaults = (*node.args.defaults, *filter(None, node.args.kw_defaults))
        if isinstance(node, ast.Lambda):
            return defaults
        self._bind(node.name)
        return (*node.decorator_list, *defaults, *(annotation_nodes(node) if node.decorator_list else ()))

    def _visit_nested_class(self, node: ast.ClassDef) -> Iterable[ast.AST]:
        self._bind(node.name)
        self._visit_nested(node, node.body)
        return (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords))

    def _visit_comprehension(self, node: Comprehension) -> Iterable[ast.AST]:
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for number, part in enumerate(node.generators):
            parts += [*([part.iter] if number else []), part.target, *part.ifs]
        self._visit_nested(node, parts)
        return (node.generators[0].iter,)

    def _visit_declared(self, node: ast.AnnAssign) -> Iterable[ast.AST]:
        annotation = (node.annotation,) if self.scope.is_class else ()
        return (*filter(None, (node.target, node.value)), *annotation)

    def _bind(self, *names: str) -> None:
        """Note names that a statement binds, if they are declared as global or nonlocal."""
        self.usage.rebinds.update(mangled(name, self.private_class) for name in names if name in self.scope.outer)

    def _read(self, node: ast.expr) -> bool:
        """Note what an expression reads, and what is done with its value; return whether it leads outside."""
        place = self.place(node)
        if place is None:
            return False
        if not place.exact:
            if isinstance(node, ast.Name):
                self._hand_on(node, place)
            return False
        is_alias = isinstance(node, ast.Name) and self.resolve(node.id)[0] is not None
        if not is_alias or place.read.root in (Root.IMPORT, Root.RECEIVER):
            self.usage.reads.add(place.read)
        self._hand_on(node, place)
        return True

    def _hand_on(self, node: ast.AST, place: Place) -> None:
        itself, around = node, self._parents.get(node)
        if place.exact and not (isinstance(around, ast.Assign | ast.NamedExpr) and self.is_alias(around)):
            self.usage.lookups.add(self._lookup(node, around, place))
        is_called = False
        if isinstance(around, ast.Call) and around.func is node:
            is_called = True
            self.usage.act(place)
            node, around = around, self._parents.get(around)
        while isinstance(around, ast.Starred | ast.keyword | ast.Tuple | ast.List | ast.Set | ast.Dict | ast.Await):
            node, around = around, self._parents.get(around)
        callee: NameRead | None = None
        match around:
            case ast.Attribute() | ast.Subscript() | ast.Expr() | ast.withitem() | ast.AugAssign() | ast.Assert():
                return
            case ast.Call(func=func):
                if func is node or (isinstance(func, ast.Name) and func.id in LOOKS and self.is_builtin(func.id)):
                    return
                called = self.place(func)
                callee = None if called is None or not called.exact else called.read
            case ast.BinOp(op=ast.BitOr() | ast.RShift()):
                self.usage.act(place)  # a pipeline of parts that it runs
                return
            case _ if isinstance(around, (*PLAIN_STORES, *FIXED)):
                if isinstance(around, ast.Assign | ast.NamedExpr) and node is itself and self.is_alias(around):
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
                is_changed = isinstance(self._parents.get(around), ast.AugAssign)
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
                known = None if key is None else self.place(key)
                yield known.read if known is not None and known.exact else None

    def _act_on(self, node: ast.expr) -> None:
        self.usage.act(self.place(node))
        if isinstance(node, ast.Attribute):
            self.usage.acted.add(mangled(node.attr, self.private_class))
        elif isinstance(node, ast.Subscript):
            self._act_on(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            self._act_on(node.func.value)

    def _visit_nested(self, node: ast.AST, body: Iterable[ast.AST]) -> None:
        outer, self.scope = self.scope, Scope(self.scope, node)
        outer_class = self.private_class
        if isinstance(node, ast.ClassDef):
            self.private_class = node.name
        for statement in body:
            self._visit(statement)
            self.scope.bound |= names_bound_by(statement)
        self.scope, self.private_class = outer, outer_class

    def _rest_of_path(self, node: ast.expr) -> Iterator[ast.AST]:
        """Yield the parts of a path that are still to be visited after the path was read."""
        while isinstance(node, ast.Attribute):
            self.usage.mention(mangled(node.attr, self.private_class))
            node = node.value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node
        elif isinstance(node, ast.Call):
            yield from (*node.args, *(keyword.value for keyword in node.keywords), node.func)

    _VISITS: ClassVar[dict[type[ast.AST], Callable[..., Iterable[ast.AST]]]] = {
        ast.Name: _visit_name,
        ast.Attribute: _visit_attribute,
        ast.Subscript: _visit_subscript,
        ast.AugAssign: _visit_augmented,
        **dict.fromkeys((ast.For, ast.AsyncFor), _visit_loop),
        ast.Call: _visit_call,
        ast.keyword: _visit_keyword,
        ast.Constant: _visit_constant,
        ast.ExceptHandler: _visit_handler,
        ast.MatchClass: _visit_class_pattern,
        ast.Import: _visit_imported,
        ast.ImportFrom: _visit_imported_from,
        **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda), _visit_function),
        ast.ClassDef: _visit_nested_class,
        **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), _visit_comprehension),
        ast.AnnAssign: _visit_declared,
    }
    """How kinds of nodes are visited. Each visit returns the nodes inside that are still to be visited."""
