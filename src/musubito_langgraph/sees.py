"""What code reads of the things that differ from run to run.

The config that a node is handed names the thread, the run, the task and the checkpoint, and so does
`runtime.execution_info`; `runtime.server_info` names the user and the assistant, `runtime.previous` is what the thread
came to last. They cannot count for every node, or none would ever be replayed; and they must count for a node that
reads them. So the texts of the code that a node reaches are read. To say "not seen" of what is seen would be a wrong
replay, to say "seen" of what is not is only a run too many: whatever these rules do not name is seen whole.

1. *What is followed.* A config is: a parameter named `config` (of a constructor only if it is handed one) or annotated
   with `RunnableConfig`, what `get_config`, `ensure_config`, `patch_config` and `merge_configs` give, and `.config` of
   a runtime. A runtime is: a parameter named `runtime` or annotated with `Runtime` or `ToolRuntime`, `get_runtime()`,
   and `.runtime` of anything. `.execution_info` and `.server_info` of anything are followed, and so is
   `["configurable"]` of anything; and `["metadata"]`, `["tags"]` and `["callbacks"]` of anything that may be a config.
   Only a name that is bound by nothing but parameters, loops and literals, and that no config reaches, may not.
2. *What is harmless.* A literal key by `[...]`, `.get`, `.pop`, `.setdefault`, `in` or `case {...}`, and an attribute
   by `.name` or `getattr`: they are named. Tests for truth and identity, `isinstance` and `hasattr`. An attribute that
   no dict has: what has it is no config. To become the value of a local name, by `or` and `if` too: every use of that
   name, in nested functions as well, is judged like the thing itself, in whatever order they are written.
3. *Where it may be handed.* A config to a method that Runnables and graphs have, at the place where they take one;
   those that look up the state of a thread read the ids in it; and to LangChain's functions that dispatch events.
   Anything to a function of these texts: called by a name that only `def` or `class` binds, or as a method of `self`,
   `cls` or a class of these texts (not of `super()`, which may be anybody's); then its parameter is followed.
   Functions of one name are taken together, and a decorator hands on what it gets. What a wrapper (`@wraps(f)`) or
   `__call__` takes as `*args, **kwargs` may be handed on just so.
4. *Everything else* looks at the whole: other calls, returning, storing, iterating, copying, printing, variable keys.

Not followed: what is not in the texts, `eval` among it (it sees the local names, but not through `get_config`), and
objects that hold a runtime as one of many things, when these are looked at as a whole (the request of a middleware).
What things are called otherwise is known from the imports in a text and from its module (`aliases`).
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import repeat
from typing import Final, TypeAlias

from musubito.identity.source import parsed
from musubito_langgraph.aliases import NAMES, Aliases

__all__ = ["ABOUT", "DIFFER", "Sees", "what_is_seen"]

WHOLE: Final = frozenset({"configurable", "metadata", "execution", "tags", "config"})
DIFFER: Final = frozenset({"previous"})
"""What of a runtime differs from run to run, besides `ABOUT`."""
ABOUT: Final = ("execution_info", "server_info")
"""Attributes of a runtime that say which execution this is, and for whom."""


@dataclass(frozen=True, slots=True)
class Sees:
    """What is read, by name where the name is certain."""

    configurable: frozenset[str] = frozenset()
    """Keys of `config["configurable"]`."""
    metadata: frozenset[str] = frozenset()
    """Keys of `config["metadata"]`."""
    execution: frozenset[str] = frozenset()
    """Attributes of `runtime.execution_info` and `runtime.server_info`."""
    whole: frozenset[str] = frozenset()
    """Which of `WHOLE` may be looked at as a whole. Tags have no names, so any look at them is one at the whole; and
    where "config" is here, all of them are: a config that is printed shows its runtime, too."""
    top: frozenset[str] = frozenset()
    """Keys of the config itself, but for configurable, metadata, tags and callbacks."""
    runtime: frozenset[str] = frozenset()
    """Attributes of the runtime itself: those of `DIFFER`."""

    def __or__(self, other: Sees) -> Sees:
        """What two see together."""
        return Sees(
            self.configurable | other.configurable,
            self.metadata | other.metadata,
            self.execution | other.execution,
            self.whole | other.whole,
            self.top | other.top,
            self.runtime | other.runtime,
        )


def what_is_seen(sources: Iterable[str | None], aliases: Iterable[Aliases] = repeat({})) -> Sees:
    """What the functions with these texts read, taken as one program. `aliases`: what else things are called where
    each of them stands.

    A text may be of a function, a method, a class, or the lines that a lambda stands on. What has no text (None) or
    none that can be read sees everything.
    """
    trees = [_named(_tree(source), known) for source, known in zip(sources, aliases, strict=False)]
    reader = _Reader([tree for tree in trees if tree is not None])
    try:
        reader.read()
    except RecursionError:  # nested deeper than can be followed: not read
        trees.append(None)
    whole = WHOLE if None in trees or "config" in reader.whole else frozenset(reader.whole)
    return Sees(
        frozenset(reader.configurable),
        frozenset(reader.metadata),
        frozenset(reader.execution),
        whole,
        frozenset(reader.top),
        frozenset(reader.runtime),
    )


def _tree(source: str | None) -> ast.Module | None:
    if source is None:
        return None
    try:
        tree: ast.Module = parsed(textwrap.dedent(source))
    except SyntaxError:
        return _lambdas(source)
    except (ValueError, RecursionError, MemoryError):
        return None
    return tree


def _lambdas(source: str) -> ast.Module | None:
    """Of lines that are no statement, such as `.add_node("a", lambda state: ...)`: each lambda with as much of what
    follows as can be read, which is at least itself. None if one cannot be, or if this is no lambda's text."""
    if re.search(r"^\s*(@|async\s|def\s|class\s)", source, re.MULTILINE):
        return None
    body: list[ast.stmt] = []
    for start in re.finditer(r"\blambda\b", source):
        for end in range(len(source), start.end(), -1):
            try:
                body += parsed(f"({source[start.start() : end]}\n)").body
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            break
        else:
            return None
    return ast.Module(body, []) if body else None


def _named(tree: ast.Module | None, aliases: Aliases) -> ast.Module | None:
    """The tree, with things called by their own names."""
    if tree is None:
        return None
    known = dict(aliases)
    nodes = list(ast.walk(tree))
    for node in nodes:
        match node:
            case ast.alias(name, str(other)) if name in NAMES:
                known[other] = known.get(other, frozenset()) | {name}
    for node in nodes if known else ():
        match node:
            case ast.Name(name, ast.Load()) if name in known:
                node.id = _own_name(known[name])
            case ast.arg(annotation=ast.expr() as annotation):
                for part in ast.walk(annotation):
                    match part:
                        case ast.Constant(str(text)):
                            part.value = re.sub(r"\w+", lambda word: " ".join(known.get(word[0], {word[0]})), text)
    return tree


def _own_name(names: frozenset[str]) -> str:
    if len(names) == 1:
        return next(iter(names))
    # What is called like several types is a parameter's annotation; else anything may come of it.
    return next(iter(AMBIENT)) if names & (GIVES.keys() | AMBIENT) else " | ".join(sorted(names))


class _Kind(Enum):
    CONFIG = auto()
    CONFIGURABLE = auto()
    METADATA = auto()
    CALLBACKS = auto()
    RUNTIME = auto()
    EXECUTION = auto()
    ARGUMENTS = auto()
    """The `*args` or `**kwargs` of a function: a config or anything else may be among them."""


_Kinds: TypeAlias = frozenset[_Kind]
_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Block: TypeAlias = ast.Module | ast.ClassDef | _Function

NOTHING: Final[_Kinds] = frozenset()
CONFIG: Final[_Kinds] = frozenset({_Kind.CONFIG})
RUNTIME: Final[_Kinds] = frozenset({_Kind.RUNTIME})
ARGUMENTS: Final[_Kinds] = frozenset({_Kind.ARGUMENTS})
CALLBACKS: Final[_Kinds] = frozenset({_Kind.CALLBACKS})
LEAKS: Final = {_Kind.CONFIGURABLE: "configurable", _Kind.METADATA: "metadata", _Kind.EXECUTION: "execution"}
"""What is seen when a thing is looked at as a whole; of the others it is everything."""

GIVES: Final = {
    "get_config": CONFIG,
    "ensure_config": CONFIG,
    "patch_config": CONFIG,
    "merge_configs": CONFIG,
    "get_runtime": RUNTIME,
}
MERGE: Final = frozenset({"ensure_config", "patch_config", "merge_configs"})
"""The functions above that take configs."""
DISPATCH: Final = frozenset({"dispatch_custom_event", "adispatch_custom_event"})
"""Functions that look up in a config whom they tell."""
TAKES: Final = {
    **dict.fromkeys(("invoke", "ainvoke", "stream", "astream", "stream_events", "astream_events", "astream_log"), 1),
    **dict.fromkeys(("batch", "abatch", "batch_as_completed", "abatch_as_completed", "transform", "atransform"), 1),
    **dict.fromkeys(("with_config", "get_graph", "aget_graph", "get_prompts", "get_input_schema"), 0),
    **dict.fromkeys(("get_output_schema", "get_input_jsonschema", "get_output_jsonschema"), 0),
    **dict.fromkeys(("get_state", "aget_state", "get_state_history", "aget_state_history"), 0),
    **dict.fromkeys(("update_state", "aupdate_state", "bulk_update_state", "abulk_update_state"), 0),
    "bind": -1,  # by keyword alone
}
"""The methods of Runnables and graphs that take a config, and at which place they take it."""
IDS: Final = frozenset({"thread_id", "checkpoint_id", "checkpoint_ns"})
"""By these the methods that have `state` in their names look up what they give."""
COPY: Final = frozenset({"override", "merge", "patch_execution_info"})
"""Methods of a runtime that give another one."""
CONSTRUCTORS: Final = frozenset({"__init__", "__new__", "__post_init__"})
AMBIENT: Final = frozenset({"var_child_runnable_config", "f_locals"})
LOCALS: Final = frozenset({"locals", "eval", "exec"})
DICT: Final = frozenset(dir(dict))
BUILTINS: Final = frozenset(dir(builtins))


class _Scope:
    """A function, a class, or the texts themselves: what is bound in it, and what its names may stand for."""

    def __init__(self, block: _Block, outer: _Scope | None) -> None:
        self.block = block
        self.outer = outer
        self.bound: dict[str, set[str]] = {}
        """By name: how it is bound, as "def", "param", "loop", "made" (by a literal) or "other"."""
        self.defs: dict[str, list[_Function | ast.ClassDef]] = {}
        self.kinds: dict[str, _Kinds] = {}

    def bind(self, name: str, how: str) -> None:
        self.bound.setdefault(name, set()).add(how)

    def owner(self, name: str) -> _Scope | None:
        """Where a name that is used here is bound; None if that is not in the texts."""
        scope: _Scope | None = self
        while scope is not None and (
            name not in scope.bound or (scope is not self and isinstance(scope.block, ast.ClassDef))
        ):
            scope = scope.outer
        return scope


class _Binder(ast.NodeVisitor):
    """Finds all scopes and what is bound in them. All texts share one outermost scope."""

    def __init__(self) -> None:
        self.top = self.scope = _Scope(ast.Module([], []), None)
        self.scopes: dict[ast.AST, _Scope] = {}
        self.methods: dict[str, list[_Function]] = {}
        self.declared: set[str] = set()
        """Names that some `global` or `nonlocal` takes out of the order of scopes."""
        self.stored: set[str] = set()
        """Attributes that are assigned: a method of such a name may be hidden."""
        self.how: dict[ast.AST, str] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        decorators = {_last_name(decorator) for decorator in node.decorator_list}
        first = next((a.arg for a in (*node.args.posonlyargs, *node.args.args)), None)
        inside = isinstance(self.scope.block, ast.ClassDef)
        if inside or (self.scope is self.top and (first in {"self", "cls"} or "staticmethod" in decorators)):
            self.methods.setdefault(node.name, []).append(node)
        if inside or node not in self.methods.get(node.name, ()):
            self.scope.bind(node.name, "def")
            self.scope.defs.setdefault(node.name, []).append(node)
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._function(node, node.body, starred="wraps" in decorators or node.name == "__call__")

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node, [node.body], starred=False)

    def _function(self, node: _Function, body: Iterable[ast.AST], *, starred: bool) -> None:
        arguments = node.args
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None:
                self.visit(default)
        scope = _Scope(node, self.scope)
        for parameter in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            scope.bind(parameter.arg, "param")
            scope.kinds[parameter.arg] = _injected(parameter, getattr(node, "name", ""))
        method = getattr(node, "name", "")
        filled = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
        place = TAKES.get(method, -1) + 1
        if filled[:1] == ["self"] and 0 < place < len(filled):
            # A Runnable of the user's own is handed the config at that place, whatever he calls it.
            scope.kinds[filled[place]] |= CONFIG
        for star in (arguments.vararg, arguments.kwarg):
            if star is not None:
                scope.bind(star.arg, "other")
                scope.kinds[star.arg] = ARGUMENTS if starred else NOTHING
        self._visit_in(scope, body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scope.bind(node.name, "def")
        self.scope.defs.setdefault(node.name, []).append(node)
        for outside in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(outside)
        self._visit_in(_Scope(node, self.scope), node.body)

    def _visit_in(self, scope: _Scope, body: Iterable[ast.AST]) -> None:
        self.scopes[scope.block] = scope
        outer, self.scope = self.scope, scope
        for child in body:
            self.visit(child)
        self.scope = outer

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.scope.bind(node.id, self.how.get(node, "other"))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Store):
            self.stored.add(node.attr)
        self.generic_visit(node)

    def visit_For(self, node: ast.For | ast.AsyncFor | ast.comprehension) -> None:
        self.how.update((name, "loop") for name in ast.walk(node.target))
        self.generic_visit(node)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> None:
        self.visit_For(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self.visit_For(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.value, ast.Dict | ast.List | ast.Constant | ast.JoinedStr):
            self.how.update((target, "made") for target in node.targets)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        self.declared.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.visit_Global(node)

    def visit_alias(self, node: ast.alias) -> None:
        self.scope.bind(node.asname or node.name.partition(".")[0], "other")

    def visit_ExceptHandler(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar) -> None:
        if node.name is not None:
            self.scope.bind(node.name, "other")
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.visit_ExceptHandler(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self.visit_ExceptHandler(node)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest is not None:
            self.scope.bind(node.rest, "other")
        self.generic_visit(node)


def _injected(parameter: ast.arg, function: str) -> _Kinds:
    """What LangGraph or LangChain may hand to a parameter."""
    annotation = _words(parameter.annotation)
    name = parameter.arg if function not in CONSTRUCTORS else ""
    kinds = CONFIG if name == "config" or "RunnableConfig" in annotation else NOTHING
    if name == "runtime" or annotation & {"Runtime", "ToolRuntime"}:
        kinds |= RUNTIME
    return kinds | CALLBACKS if name in {"run_manager", "callbacks"} else kinds


def _words(annotation: ast.expr | None) -> set[str]:
    return set() if annotation is None else set(re.findall(r"\w+", ast.unparse(annotation)))


def _last_name(node: ast.expr) -> str | None:
    match node:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func):
            return _last_name(func)
    return None


class _Reader:
    """Reads trees until nothing new is learned of what names stand for. What has been seen stays seen."""

    def __init__(self, trees: list[ast.Module]) -> None:
        self.trees = trees
        self.configurable: set[str] = set()
        self.metadata: set[str] = set()
        self.execution: set[str] = set()
        self.runtime: set[str] = set()
        self.whole: set[str] = set()
        self.top: set[str] = set()
        self.binder = _Binder()
        self.keywords: set[str] = set()
        """By which names things that are followed went into some `**kwargs`."""
        self.learned = True

    def read(self) -> None:
        for tree in self.trees:
            self.binder.visit(tree)
        while self.learned:
            self.learned = False
            for tree in self.trees:
                self.each(tree.body, self.binder.top)

    # -- what becomes of things --------------------------------------------------------------------------------------
    def leak(self, kinds: Iterable[_Kind]) -> None:
        """They are looked at as a whole, or nobody knows."""
        self.whole.update(LEAKS.get(kind, "config") for kind in kinds)

    def leak_names(self, scope: _Scope | None) -> None:
        while scope is not None:
            for kinds in scope.kinds.values():
                self.leak(kinds)
            scope = scope.outer

    def learn(self, scope: _Scope, name: str, kinds: _Kinds) -> None:
        known = scope.kinds.get(name, NOTHING)
        if not kinds <= known:
            scope.kinds[name] = known | kinds
            self.learned = True

    def assign(self, target: ast.AST | None, kinds: _Kinds, scope: _Scope) -> None:
        match target:
            case ast.Name(name):
                self.assign_name(name, kinds, scope)
                return
            case ast.Attribute(value):
                self.value(value, scope)
            case ast.Subscript(value, key):
                self.value(value, scope)
                self.use(key, scope)
            case ast.Starred(value):
                self.assign(value, NOTHING, scope)
            case ast.Tuple(parts) | ast.List(parts):
                for part in parts:
                    self.assign(part, NOTHING, scope)
        self.leak(kinds)

    def assign_name(self, name: str | None, kinds: _Kinds, scope: _Scope) -> None:
        owner = None if name is None else scope.owner(name)
        if owner is None or name is None or name in self.binder.declared or isinstance(owner.block, ast.ClassDef):
            self.leak(kinds)
        else:
            self.learn(owner, name, kinds)

    def assign_value(self, target: ast.expr, value: ast.expr, scope: _Scope) -> None:
        match target, value:
            case ((ast.Tuple(targets) | ast.List(targets)), (ast.Tuple(values) | ast.List(values))) if len(
                targets
            ) == len(values) and not any(isinstance(part, ast.Starred) for part in (*targets, *values)):
                for one, of in zip(targets, values, strict=True):
                    self.assign_value(one, of, scope)
            case _:
                self.assign(target, self.value(value, scope), scope)

    # -- statements --------------------------------------------------------------------------------------------------
    def each(self, nodes: Iterable[ast.AST | None], scope: _Scope) -> None:
        for node in nodes:
            if node is not None:
                self.use(node, scope)

    def use(self, node: ast.AST, scope: _Scope) -> None:
        """A statement; or an expression of whose value anything may be made."""
        match node:
            case ast.expr():
                self.leak(self.value(node, scope))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.each(node.decorator_list, scope)
                self.function(node, node.body, scope)
            case ast.ClassDef():
                self.each((*node.decorator_list, *node.bases, *node.keywords), scope)
                self.each(node.body, self.binder.scopes[node])
            case ast.Assign(targets, value):
                for target in targets:
                    self.assign_value(target, value, scope)
            case ast.AnnAssign(target, annotation, value):
                self.value(annotation, scope)  # a line of a dict display reads as one, its value as the annotation
                kinds = NOTHING if value is None else self.value(value, scope)
                self.assign(target, kinds | (CONFIG if "RunnableConfig" in _words(annotation) else NOTHING), scope)
            case ast.AugAssign(target, _, value):
                self.use(value, scope)
                self.use(target, scope)
            case ast.For(target, source) | ast.AsyncFor(target, source):
                self.use(source, scope)
                self.assign(target, NOTHING, scope)
                self.each((*node.body, *node.orelse), scope)
            case ast.comprehension(target, source, tests):
                self.use(source, scope)
                self.assign(target, NOTHING, scope)
                for test in tests:
                    self.value(test, scope)
            case ast.withitem(value, target):
                self.use(value, scope)
                self.assign(target, NOTHING, scope)
            case ast.If(test, body, rest) | ast.While(test, body, rest):
                self.value(test, scope)
                self.each((*body, *rest), scope)
            case ast.Assert(test, message):
                self.value(test, scope)
                self.each([message], scope)
            case ast.Expr(value):
                self.value(value, scope)
            case ast.Delete(targets):
                for target in targets:
                    self.value(target, scope)
            case ast.Match(subject, cases):
                kinds, other = self.value(subject, scope), self.is_other(subject, scope)
                for one in cases:
                    self.pattern(one.pattern, kinds, scope, other=other)
                    if one.guard is not None:
                        self.value(one.guard, scope)
                    self.each(one.body, scope)
            case _:
                self.each(ast.iter_child_nodes(node), scope)

    def function(self, node: _Function, body: Iterable[ast.AST], scope: _Scope) -> None:
        inner = self.binder.scopes[node]
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [
            *zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
        for parameter, default in defaults:
            if default is not None:
                self.learn(inner, parameter.arg, self.value(default, scope))
        self.each(body, inner)

    def pattern(self, node: ast.pattern, kinds: _Kinds, scope: _Scope, *, other: bool) -> None:
        match node:
            case ast.MatchMapping(keys, parts, rest):
                for key, part in zip(keys, parts, strict=True):
                    self.pattern(part, self.entry(kinds, key, other=other), scope, other=False)
                if rest is not None:
                    self.leak(kinds)
            case ast.MatchClass(_, positional, names, parts):
                if positional:
                    self.leak(kinds)
                for part in positional:
                    self.pattern(part, NOTHING, scope, other=False)
                for name, part in zip(names, parts, strict=True):
                    self.pattern(part, self.attribute(kinds, name), scope, other=False)
            case ast.MatchAs(inner, name):
                if inner is not None:
                    self.pattern(inner, kinds, scope, other=other)
                if name is not None:
                    self.assign_name(name, kinds, scope)
            case ast.MatchOr(parts):
                for part in parts:
                    self.pattern(part, kinds, scope, other=other)
            case ast.MatchSequence(parts):
                self.leak(kinds)
                for part in parts:
                    self.pattern(part, NOTHING, scope, other=False)
            case _:
                self.leak(kinds)
                self.each(ast.iter_child_nodes(node), scope)

    # -- expressions -------------------------------------------------------------------------------------------------
    def value(self, node: ast.expr, scope: _Scope) -> _Kinds:
        """What an expression may stand for; what its parts do is seen on the way."""
        match node:
            case ast.Name(name):
                return self.name(name, scope)
            case ast.Attribute(base, name):
                return self.attribute(self.value(base, scope), name)
            case ast.Subscript(base, key):
                self.use(key, scope)
                return self.entry(self.value(base, scope), key, other=self.is_other(base, scope))
            case ast.Call():
                return self.call(node, scope)
            case ast.BoolOp(_, values):
                return NOTHING.union(*(self.value(value, scope) for value in values))
            case ast.IfExp(test, body, rest):
                self.value(test, scope)
                return self.value(body, scope) | self.value(rest, scope)
            case ast.NamedExpr(target, value):
                kinds = self.value(value, scope)
                self.assign(target, kinds, scope)
                return kinds
            case ast.UnaryOp(ast.Not(), value):
                self.value(value, scope)
            case ast.Compare(left, ops, others) if all(isinstance(op, ast.Is | ast.IsNot) for op in ops):
                for value in (left, *others):
                    self.value(value, scope)
            case ast.Compare(left, [ast.In() | ast.NotIn()], [whole]):
                self.use(left, scope)
                self.entry(self.value(whole, scope), left, other=self.is_other(whole, scope))
            case ast.Lambda():
                self.function(node, [node.body], scope)
            case ast.Dict(keys, values):
                self.each(keys, scope)
                for at, value in zip(keys, values, strict=True):
                    # Found again, for whatever takes it out of there by this key.
                    kept = CALLBACKS if _text(at) == "callbacks" else NOTHING
                    self.leak(self.value(value, scope) - kept)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                self.each((*node.generators, node.elt), scope)
            case ast.DictComp():
                self.each((*node.generators, node.key, node.value), scope)
            case _:
                self.each(ast.iter_child_nodes(node), scope)
        return NOTHING

    def name(self, name: str, scope: _Scope) -> _Kinds:
        if name in GIVES or name in AMBIENT:  # the function itself, not what it gives
            self.leak(CONFIG)
        owner = scope.owner(name)
        if owner is None:
            if name in LOCALS:
                self.leak_names(scope)
            return NOTHING
        return owner.kinds.get(name, NOTHING)

    def is_other(self, node: ast.expr, scope: _Scope) -> bool:
        """Whether a value is certainly no config."""
        match node:
            case ast.Name(name):
                owner = scope.owner(name)
                return (
                    owner is not None
                    and owner.bound[name] <= {"param", "loop", "made"}
                    and name not in self.binder.declared
                    and not owner.kinds.get(name)
                )
        return isinstance(node, ast.Dict)

    def attribute(self, kinds: _Kinds, name: str) -> _Kinds:
        if name in GIVES or name in AMBIENT:
            self.leak(CONFIG)
        found: set[_Kind] = set()
        if name in ABOUT:
            found.add(_Kind.EXECUTION)
        if name == "runtime":
            found.add(_Kind.RUNTIME)
        for kind in kinds:
            match kind:
                case _Kind.EXECUTION if name != "patch" and not name.startswith("__"):
                    self.execution.add(name)
                case _Kind.RUNTIME if name == "config":
                    found.add(_Kind.CONFIG)
                case _Kind.RUNTIME if name in DIFFER:
                    self.runtime.add(name)
                case _Kind.RUNTIME if name not in COPY and not name.startswith("__"):
                    pass
                case _Kind.CALLBACKS if name.startswith("on_"):
                    pass
                case _Kind.CONFIG | _Kind.CONFIGURABLE | _Kind.METADATA if name not in DICT:
                    pass
                case _:
                    self.leak([kind])
        return frozenset(found)

    def entry(self, kinds: _Kinds, at: ast.expr, *, other: bool) -> _Kinds:
        """What stands under a key."""
        key = _text(at)
        if key is None:
            self.leak(kinds)
            return NOTHING
        if not kinds and (key == "configurable" or (key in {"metadata", "tags", "callbacks"} and not other)):
            kinds = CONFIG
        found: set[_Kind] = set()
        for kind in kinds:
            match kind, key:
                case _Kind.CONFIG, "configurable":
                    found.add(_Kind.CONFIGURABLE)
                case _Kind.CONFIG, "metadata":
                    found.add(_Kind.METADATA)
                case _Kind.CONFIG, "callbacks":
                    found.add(_Kind.CALLBACKS)
                case _Kind.CONFIG, "tags":
                    self.whole.add("tags")
                case _Kind.CONFIG, _:
                    self.top.add(key)
                case _Kind.CONFIGURABLE, _:
                    self.configurable.add(key)
                case _Kind.METADATA, _:
                    self.metadata.add(key)
                case _Kind.ARGUMENTS, _ if key not in self.keywords:
                    found.update({"config": CONFIG, "runtime": RUNTIME}.get(key, NOTHING))
                case _:
                    self.leak([kind])
        return frozenset(found)

    # -- calls -------------------------------------------------------------------------------------------------------
    def call(self, node: ast.Call, scope: _Scope) -> _Kinds:
        match node:
            case ast.Call(ast.Name("getattr"), [base, ast.Constant(str(name)), *rest], []):
                kinds = self.attribute(self.value(base, scope), name)
                return kinds.union(*(self.value(default, scope) for default in rest))
            case ast.Call(
                ast.Attribute(base, "get" | "pop" | "setdefault" as method), [ast.Constant(str()) as key, *_]
            ):
                kinds = self.value(base, scope)
                found = self.entry(kinds, key, other=self.is_other(base, scope))
                for default in (*node.args[1:], *node.keywords):
                    if kinds and method != "setdefault" and isinstance(default, ast.expr):
                        found |= self.value(default, scope)
                    else:
                        self.use(default, scope)
                return found
            case ast.Call(ast.Name("isinstance" | "hasattr"), [value, what], []):
                self.value(value, scope)
                self.use(what, scope)
                return NOTHING
            case ast.Call(ast.Name("cast") | ast.Attribute(ast.Name("typing"), "cast"), [to, value], []):
                self.use(to, scope)
                return self.value(value, scope)
        gives = self.callee(node, scope)
        self.hand_on(node, scope)
        return gives

    def callee(self, node: ast.Call, scope: _Scope) -> _Kinds:
        """What a call gives, by what is called."""
        match node.func:
            case ast.Name(name) if name in GIVES:
                return GIVES[name]
            case ast.Name("vars") if not node.args:
                self.leak_names(scope)
            case ast.Attribute(base, name):
                kinds = self.value(base, scope)
                if name in GIVES:
                    return GIVES[name]
                if name in COPY and kinds == RUNTIME:
                    return RUNTIME
                if name == "get_child" and kinds == CALLBACKS:
                    return CALLBACKS
                self.leak(self.attribute(kinds, name))
            case func:
                self.leak(self.value(func, scope))
        return NOTHING

    def hand_on(self, node: ast.Call, scope: _Scope) -> None:
        """What becomes of the arguments of a call."""
        func = node.func
        name = func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""
        place = TAKES.get(name) if isinstance(func, ast.Attribute) else None
        targets = self.targets(func, scope)
        takers = targets
        if place is not None and not targets:
            # Whose `invoke` it is cannot be seen: each that there is among the texts takes what any is handed.
            takers = [(method, _offset(method)) for method in self.binder.methods.get(name, ())]
        for at, argument in _arguments(node):
            kinds = self.value(argument, scope)
            tells = name in DISPATCH and at == "config" and isinstance(func, ast.Name) and scope.owner(name) is None
            if tells or name in MERGE or (place is not None and at in {place, "config"}):
                if "state" in name and _Kind.CONFIG in kinds:
                    self.configurable.update(IDS)
                self.hand_to(takers, at, kinds & CONFIG)
                kinds -= CONFIG
            if at == "callbacks":
                kinds -= CALLBACKS
            if at is None and _Kind.ARGUMENTS in kinds:
                if place is not None:
                    self.hand_to(takers, place, CONFIG)
                    kinds -= ARGUMENTS
                elif self.is_wrapped(func, scope):
                    kinds -= ARGUMENTS
            if not targets or not self.hand_to(targets, at, kinds):
                self.leak(kinds)

    def hand_to(self, targets: list[tuple[_Function, int]], at: int | str | None, kinds: _Kinds) -> bool:
        """Whether of all of them it is known where it ends up."""
        known = [self.hand(one, at + offset if isinstance(at, int) else at, kinds) for one, offset in targets]
        return all(known)

    def targets(self, func: ast.expr, scope: _Scope) -> list[tuple[_Function, int]]:
        """The functions among the texts that are called, each with the number of parameters that are filled already;
        none if it may be another."""
        match func:
            case ast.Name(name):
                found: list[tuple[_Function, int]] = []
                for one in self.defined(name, scope):
                    if not isinstance(one, ast.ClassDef):
                        found.append((one, 0))
                        continue
                    constructors = self.binder.scopes[one].defs.get("__init__", [])
                    if not constructors:
                        return []
                    found += [(init, 1) for init in constructors if not isinstance(init, ast.ClassDef)]
                return found
            case ast.Attribute(base, name) if name not in self.binder.stored:
                methods = self.binder.methods.get(name, [])
                match base:
                    case ast.Name("self" | "cls"):
                        return [(method, _offset(method)) for method in methods]
                    case ast.Name(owner) if any(isinstance(one, ast.ClassDef) for one in self.defined(owner, scope)):
                        return [(method, _offset(method, "cls")) for method in methods]
        return []

    def defined(self, name: str, scope: _Scope) -> list[_Function | ast.ClassDef]:
        """What `def` and `class` bind a name to; nothing if something else binds it as well."""
        owner = scope.owner(name)
        if owner is None or owner.bound[name] != {"def"} or name in self.binder.declared:
            return []
        return [] if owner is self.binder.top and name in BUILTINS else owner.defs[name]

    def is_wrapped(self, func: ast.expr, scope: _Scope | None) -> bool:
        """Whether what is called is what a function around the call stands for."""
        while scope is not None:
            match scope.block, func:
                case (ast.FunctionDef() | ast.AsyncFunctionDef()) as block, ast.Name(name):
                    for decorator in block.decorator_list:
                        match decorator:
                            case ast.Call(wraps, [ast.Name(wrapped)]) if _last_name(wraps) == "wraps":
                                if wrapped == name:
                                    return True
                case (
                    (ast.FunctionDef(name="__call__") | ast.AsyncFunctionDef(name="__call__")),
                    ast.Attribute(ast.Name("self")),
                ):
                    return True
            scope = scope.outer
        return False

    def hand(self, function: _Function, at: int | str | None, kinds: _Kinds) -> bool:
        """A function gets something at this place; whether it is known where it ends up."""
        if not kinds:
            return True
        arguments = function.args
        positional = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
        scope = self.binder.scopes[function]
        if isinstance(at, int) and at < len(positional):
            self.learn(scope, positional[at], kinds)
        elif isinstance(at, str) and at in {a.arg for a in (*arguments.args, *arguments.kwonlyargs)}:
            self.learn(scope, at, kinds)
        elif isinstance(at, int) and arguments.vararg is not None:
            self.learn(scope, arguments.vararg.arg, ARGUMENTS)
        elif isinstance(at, str) and arguments.kwarg is not None:
            self.learn(scope, arguments.kwarg.arg, ARGUMENTS)
            self.learned |= at not in self.keywords
            self.keywords.add(at)
        else:
            return False
        return True


def _text(key: ast.expr | None) -> str | None:
    return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None


def _offset(method: _Function, *filled: str) -> int:
    """How many parameters of a method its receiver fills."""
    first = next((a.arg for a in (*method.args.posonlyargs, *method.args.args)), None)
    return int(first in (filled or ("self", "cls")))


def _arguments(node: ast.Call) -> Iterator[tuple[int | str | None, ast.expr]]:
    """The arguments of a call and where they go: by position, by name, or unknown."""
    starred = False
    for position, argument in enumerate(node.args):
        starred = starred or isinstance(argument, ast.Starred)
        yield None if starred else position, argument.value if isinstance(argument, ast.Starred) else argument
    for keyword in node.keywords:
        yield keyword.arg, keyword.value
