"""Read from the syntax tree of one function the outside names that it reads, writes and imports.

Names are resolved as Python resolves them (`musubito.code.syntax.scopes`). So a local is never taken for the global of
the same name.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import Final

from musubito.code.displays import is_showing_method, is_shown_field
from musubito.code.syntax.expressions import attribute_chain, body_of, parameters_of
from musubito.code.syntax.field_reads import field_names, fields_taken_out, gets_at_fields, hands_super
from musubito.code.syntax.name_usage import (
    ANNOTATION_READERS,
    ANY_FIELD,
    DYNAMIC,
    ORDER_READERS,
    SOURCE_READERS,
    AccessPath,
    NameRead,
    NameUsage,
    NameWrite,
    PathStep,
    Root,
)
from musubito.code.syntax.scopes import Scope, mangled, names_bound_by, private_class
from musubito.code.syntax.source import FunctionNode
from musubito.code.syntax.special_methods import special_methods
from musubito.code.syntax.write_methods import ADDERS, ADDS, MUTATORS, makes_new_value, names_checked, only_looked_at
from musubito.parsing import parsed

LEADING = (ast.Name, ast.Attribute, ast.Subscript, ast.Call)
"""Expressions that may lead to a value from outside the function."""
IMPORTERS: Final = frozenset({"import_module", "__import__"})
"""Functions that import a module by its name as a text."""


def scan(function: FunctionNode, code: CodeType, given: frozenset[str]) -> NameUsage:
    """Return all that `function`, whose code is `code`, names.

    `given` is explained at `NameUsage`.
    """
    visitor = NameVisitor(function, code, given)
    visitor.run()
    for statement in body_of(function):
        visitor.usage.mentions |= special_methods(statement)
        visitor.mention(statement)
    usage = visitor.usage
    usage.fields = frozenset((*usage.mentions, *usage.of_receiver, *field_names(function)))
    usage.reads_fields = gets_at_fields(function)
    usage.hands_receiver = visitor.receiver in given or hands_super(function)
    usage.shown, usage.lists_shown = _shown_names(function)
    return usage


def _shown_names(function: FunctionNode) -> tuple[frozenset[str], bool]:
    """Return the names that are used only to show their values, and whether their order counts.

    They are handed to methods that show them, alone, in lists or through variables. A comprehension may list fields
    that are shown: `[tool.name for tool in tools]`.
    """
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    values: dict[str, ast.expr] = {}
    pending: list[ast.expr] = []
    listed: list[ast.expr] = []
    for node in ast.walk(function):
        match node:
            case ast.Call(ast.Attribute(attr=method), args, keywords) if is_showing_method(method):
                pending += (*args, *(keyword.value for keyword in keywords if keyword.arg == "tools"))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                listed += _whose_fields_are_shown(node)
            case ast.Assign([ast.Name(name)], value):
                values[name] = value
    shown: set[int] = set()
    pending += listed
    while pending:
        match pending.pop():
            case ast.Name(name) as each:
                shown.add(id(each))
                if all(id(n) in shown for n in names if n.id == name and isinstance(n.ctx, ast.Load)):
                    pending += [values.pop(name)] if name in values else []
            case ast.List(elts=inner) | ast.Tuple(elts=inner):
                pending += inner
            case ast.Starred(value=inner) | ast.Subscript(value=inner) | ast.ListComp(elt=inner):
                pending.append(inner)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                pending += (left, right)
    only_shown = frozenset(name.id for name in names if id(name) in shown) - {n.id for n in names if id(n) not in shown}
    return only_shown, bool(listed)


def _whose_fields_are_shown(node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Iterator[ast.expr]:
    """Yield what a comprehension goes through only to read fields that are shown."""
    read = {id(each.value) for each in ast.walk(node) if isinstance(each, ast.Attribute) and is_shown_field(each.attr)}
    for part in node.generators:
        if isinstance(part.target, ast.Name):
            uses = [each for each in ast.walk(node) if isinstance(each, ast.Name) and each.id == part.target.id]
            if all(each is part.target or id(each) in read for each in uses):
                yield part.iter


def gives_globals(node: ast.Call) -> bool:
    """Return whether this runs a program text with globals that are spelled out, or with the builtins alone.

    Such a program finds no other name of the module. A variable may hold None, which stands for the module's globals.
    """
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

    def __init__(self, function: FunctionNode, code: CodeType, given: frozenset[str]) -> None:
        self.usage = NameUsage()
        first = [*function.args.posonlyargs, *function.args.args][:1]
        self.receiver = first[0].arg if first else None
        """The name of the first parameter."""
        self._function = function
        self._given = given
        self._free = frozenset(code.co_freevars)
        self._class = private_class(code.co_qualname)
        self._scope = self._root = Scope(None, function)
        self._looked_at = frozenset(map(id, only_looked_at(function)))
        nodes = list(ast.walk(function))
        self._counted = frozenset(id(node.target) for node in nodes if isinstance(node, ast.AugAssign))
        self._asked_for = frozenset(names_checked(function))
        self._of_own_globals = frozenset(
            id(node.func) for node in nodes if isinstance(node, ast.Call) and gives_globals(node)
        )
        self._added_to: set[NameRead] = set()

    def run(self) -> None:
        """Visit the whole function."""
        for statement in body_of(self._function):
            self._visit(statement)
        usage, reads = self.usage, {(read.root, read.name) for read in self.usage.reads}
        usage.added_to = frozenset(added for added in self._added_to if (added.root, added.name) not in reads)
        usage.reads |= self._added_to
        renamed = (read.attributes[-1:] for name, read in self._root.imports.items() if name in self._given)
        given = (*self._given, *fields_taken_out(self._function))
        usage.given = frozenset((*(mangled(each, self._class) for each in given), *itertools.chain(*renamed)))

    def mention(self, statement: ast.AST) -> None:
        """Note every attribute that is named, of any object."""
        usage = self.usage
        for node in ast.walk(statement):
            match node:
                case ast.Attribute(value=value, attr=attr, ctx=ctx):
                    pass
                case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[value, ast.Constant(value=str(attr)), *_]):
                    ctx = ast.Load()
                case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[value, ast.Constant(value=str(attr)), *_]):
                    ctx = ast.Store()
                case ast.MatchClass(kwd_attrs=attrs):
                    usage.mentions |= {mangled(attr, self._class) for attr in attrs}
                    continue
                case ast.Call(
                    func=ast.Name(id="methodcaller") | ast.Attribute(attr="methodcaller"),
                    args=[ast.Constant(value=str(attr)), *_],
                ):
                    usage.mentions.add(attr)
                    continue
                case ast.ImportFrom(names=names):
                    usage.reads_annotations |= any(alias.name in ANNOTATION_READERS for alias in names)
                    usage.reads_source |= any(alias.name in SOURCE_READERS for alias in names)
                    continue
                case ast.AugAssign(target=ast.Attribute(value=value, attr=attr)):
                    ctx = ast.Load()
                case _:
                    continue
            own = isinstance(value, ast.Name) and value.id == self.receiver
            own |= isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "super"
            name = mangled(attr, self._class)
            usage.note_reader(attr)
            if not isinstance(ctx, ast.Load):
                usage.stores.add(name)
            else:
                (usage.of_receiver if own else usage.mentions).add(name)

    # -- names ---------------------------------------------------------------------------------------------------------

    def _resolve(self, name: str) -> tuple[Scope | None, Root | None]:
        """Return (the scope whose local the name is, None), or (None, the root outside of the function)."""
        scope: Scope | None = self._scope
        first = True
        while scope is not None:
            if (declared := scope.outer.get(name)) is not None and declared:
                return None, Root.GLOBAL
            if name in scope.locals and (first or not scope.is_class):
                return scope, None
            first = False
            scope = scope.parent
        name = mangled(name, self._class)
        return None, Root.CLOSURE if name in self._free else Root.GLOBAL

    def _place(self, node: ast.expr, depth: int = 0) -> AccessPath | None:
        """Return where an expression leads, if it is a path of attributes and items from outside the function."""
        match node:
            case ast.Name(id=name):
                scope, root = self._resolve(name)
                if root is not None:
                    return AccessPath(root, mangled(name, self._class))
                if scope is None:
                    return None
                if (imported := scope.imports.get(name)) is not None:
                    return AccessPath(
                        Root.IMPORT,
                        imported.name,
                        tuple(PathStep(True, attribute) for attribute in imported.attributes),
                    )
                if scope is self._root and name == self.receiver and len(scope.locals[name]) == 1:
                    return AccessPath(Root.RECEIVER, name)
                value = scope.alias(name)
                return self._place(value, depth + 1) if value is not None and depth < 8 else None
            case ast.Attribute(value=value, attr=attr):
                place = self._place(value, depth)
                return place and place.down(PathStep(True, mangled(attr, self._class)))
            case ast.Subscript(value=value, slice=key):
                place, item = self._place(value, depth), _item(key)
                return place and (place._replace(exact=False) if item is None else place.down(item))
            case ast.Call(func=ast.Attribute(value=value, attr="setdefault" | "get"), args=[key, *_]):
                place, item = self._place(value, depth), _item(key)
                # The None in `variable.get(None)` is the default of a context variable, and no key.
                is_key = item is not None and isinstance(item.key, str | int)
                return place and (place.down(item) if item is not None and is_key else place._replace(exact=False))
            case ast.Call(func=ast.Name(id="super")):
                return AccessPath(Root.SUPER, "super")
            case ast.Call(func=called, args=[ast.Constant(value=str(module)), *_]) if self._imports(called):
                return AccessPath(Root.IMPORT, _module_imported_by(node, module))
            case ast.Call(func=ast.Name(id="type"), args=[value]):
                place = self._place(value, depth)
                if place is None or place.root is not Root.RECEIVER or place.path:
                    return None
                return place.down(PathStep(True, "__class__"))
            case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(value=str(attr)), *_]):
                place = self._place(value, depth)
                return place and place.down(PathStep(True, attr))
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
        return called.id in IMPORTERS or (imported is not None and imported.attributes[-1:] == ("import_module",))

    def _call(self, called: ast.expr) -> None:
        place = self._place(called)
        if isinstance(called, ast.Attribute):
            self.usage.called_names.add(mangled(called.attr, self._class))
        if place is not None and place.is_chain:
            self.usage.calls.add(place.read())
            if place.root is Root.RECEIVER and not place.path:
                self.usage.mentions.add("__call__")
        elif not isinstance(called, ast.Attribute):
            self.usage.mentions.add("__call__")

    def _write(self, node: ast.AST, container: ast.expr, key: PathStep | None, mutator: str | None = None) -> None:
        """Note a write at `key` of a container.

        Without the name of a mutator, `key` is a field.
        """
        place = self._place(container)
        if place is not None:
            counts = key is not None and place.exact and id(node) in self._counted
            written = place if key is None or not key.attribute else place.down(key)
            last = next((str(step.key) for step in reversed(written.path) if step.attribute), place.name)
            lazily = mutator == "setdefault" or last in self._asked_for
            key = key if place.exact else None
            self.usage.writes.add(NameWrite(place.root, place.name, place.path, key, counts=counts, lazily=lazily))
        unknown = place is None or place.root in (Root.RECEIVER, Root.SUPER)
        if mutator is not None and unknown and not self._is_fresh(container):
            self.usage.mutators.add(mutator)

    def _is_fresh(self, node: ast.expr) -> bool:
        """Return whether the function itself has made the value of an expression."""
        if not isinstance(node, ast.Name):
            return makes_new_value(node)
        scope, _ = self._resolve(node.id)
        values = [] if scope is None else scope.locals[node.id]
        return bool(values) and all(value is not None and makes_new_value(value) for value in values)

    def _hand_on(self, node: ast.expr) -> None:
        place = self._place(node)
        if place is not None and not isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
            self.usage.handed.add(place)

    def _note_addition(self, node: ast.expr, *method: str) -> bool:
        """Note a statement that merely adds to a name that leads outside; return False for any other node."""
        if not isinstance(node, ast.Name):
            return False
        place = self._place(node)
        if place is None or place.path or place.root not in (Root.GLOBAL, Root.CLOSURE) or place.name != node.id:
            return False
        self._added_to.add(NameRead(place.root, place.name, method))
        return True

    # -- the walk ------------------------------------------------------------------------------------------------------

    def _visit(self, node: ast.AST) -> None:
        pending: list[ast.AST] = [node]
        while pending:
            pending.extend(self._step(pending.pop()))

    def _step(self, node: ast.AST) -> Iterator[ast.AST]:
        if isinstance(node, ast.Call):
            self._call(node.func)
        if isinstance(node, LEADING) and id(node) not in self._looked_at:
            self._hand_on(node)
        match node:
            case ast.Name(id=name, ctx=ctx):
                scope, root = self._resolve(name)
                if root is not None and not isinstance(ctx, ast.Load):
                    counts, lazily = id(node) in self._counted, name in self._asked_for
                    bound = mangled(name, self._class)
                    self.usage.writes.add(NameWrite(root, bound, rebinds=True, counts=counts, lazily=lazily))
                    if isinstance(ctx, ast.Store):
                        self._note_addition(node)
                        return
                if scope is not None and scope.is_class and isinstance(ctx, ast.Load) and name not in scope.bound:
                    self.usage.reads.add(NameRead(Root.GLOBAL, mangled(name, self._class)))
                if root is not None or (scope is not None and (name in scope.imports or name == self.receiver)):
                    place = self._place(node)
                    if place is not None:
                        self.usage.reads.add(place.read())
                if root is Root.GLOBAL and name in DYNAMIC and id(node) not in self._of_own_globals:
                    self.usage.dynamic = True
                if root is Root.GLOBAL:
                    self.usage.reads_order |= name in ORDER_READERS
            case ast.Attribute(value=value, attr=attr, ctx=ctx):
                self.usage.reads_docs |= attr == "__doc__"
                if not isinstance(ctx, ast.Load):
                    self._write(node, value, PathStep(True, mangled(attr, self._class)))
                    yield value
                elif (place := self._place(node)) is not None and isinstance(
                    attribute_chain(node)[0], ast.Name | ast.Call
                ):
                    self.usage.reads.add(place.read())
                    yield from self._rest_of_path(value)
                else:
                    yield value
            case ast.Subscript(value=value, slice=index, ctx=ast.Store() | ast.Del()):
                self._write(node, value, _item(index), "__setitem__")
                if isinstance(node.ctx, ast.Del) or not self._note_addition(value):
                    yield value
                yield index
            case ast.AugAssign(target=ast.Name() as target, op=ast.Add() | ast.BitOr() as op):
                if not self._is_fresh(target):
                    self.usage.mutators.add("__iadd__" if isinstance(op, ast.Add) else "__ior__")
                yield from (target, node.value)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=value, attr=method)) as call) if (
                method in ADDS and self._note_addition(value, method)
            ):
                self._write(node, value, None, method)
                yield from (*call.args, *call.keywords)
            case ast.Call(func=ast.Attribute(value=value, attr=method), args=args) if method in MUTATORS:
                self._write(node, value, _item(args[0]) if args and method in ADDERS else None, method)
                yield from ast.iter_child_nodes(node)
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[value, name, *_]):
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    self._write(node, value, PathStep(True, name.value))
                else:
                    self.usage.stores.add(ANY_FIELD)
                yield from ast.iter_child_nodes(node)
            case ast.Call(func=called, args=[ast.Constant(value=str(module)), *_]) if self._imports(called):
                name = _module_imported_by(node, module)
                self.usage.imports.add(name)
                self.usage.reads.add(NameRead(Root.IMPORT, name))
                yield from ast.iter_child_nodes(node)
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(attr)), *rest]):
                self.usage.reads_docs |= attr == "__doc__"
                if (place := self._place(node)) is not None:
                    self.usage.reads.add(place.read())
                    yield from (node.func, *rest)
                else:
                    yield from ast.iter_child_nodes(node)
            case ast.Call(func=ast.Attribute(attr="getdoc")):
                self.usage.reads_docs = True
                yield from ast.iter_child_nodes(node)
            case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)]) if name == self.receiver:
                yield node.func
            case ast.Import(names=names):
                self.usage.imports.update(alias.name for alias in names)
            case ast.ImportFrom():
                self.usage.imports.add("." * node.level + (node.module or ""))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from getattr(node, "decorator_list", ())
                yield from (*node.args.defaults, *filter(None, node.args.kw_defaults))
                if not isinstance(node, ast.Lambda) and (node.decorator_list or node.name in self._given):
                    yield from _annotation_nodes(node)
                self._visit_nested(node, body_of(node))
            case ast.ClassDef():
                yield from (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords))
                self._visit_nested(node, node.body)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                yield node.generators[0].iter
                parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
                for number, each in enumerate(node.generators):
                    parts += [*([each.iter] if number else []), each.target, *each.ifs]
                self._visit_nested(node, parts)
            case ast.AnnAssign():
                yield from filter(None, (node.target, node.value))
                if self._scope.is_class:
                    yield node.annotation
            case _:
                yield from ast.iter_child_nodes(node)

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
        while isinstance(node, ast.Attribute | ast.Subscript):
            if isinstance(node, ast.Subscript):
                yield node.slice
            node = node.value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node
        elif isinstance(node, ast.Call):
            yield from (*node.args, *(keyword.value for keyword in node.keywords), node.func)


def _item(key: ast.expr) -> PathStep | None:
    """Return the step to an item, if the item's key is literal."""
    match key:
        case ast.Constant(value=str() | int() | bytes() | float() | None as literal):
            return PathStep(False, literal)
    return None


def _module_imported_by(call: ast.Call, module: str) -> str:
    """Return the module that a call imports by its literal name; `__import__` returns the outermost package."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return module.partition(".")[0] if name == "__import__" else module


def _annotation_nodes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """Yield the annotations of a nested function: code that is given the function may read them."""
    annotated = (parameter.annotation for parameter in parameters_of(function.args))
    pending: list[ast.AST] = [each for each in annotated if each is not None]
    pending += [function.returns] if function.returns is not None else []
    for annotation in pending:
        yield annotation
        for node in ast.walk(annotation):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                try:
                    pending.append(parsed(node.value, "eval").body)
                except (SyntaxError, ValueError):
                    continue  # a text that is no expression names nothing
