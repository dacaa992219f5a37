"""Find the text of a class, and tell its own members from those that a library generates."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from musubito.code.cached_functions import know
from musubito.code.live import step_of
from musubito.code.ownership import Owner, Owners, module_name
from musubito.code.syntax.ast_digest import normalised_class
from musubito.code.syntax.expressions import attribute_chain
from musubito.code.syntax.function_text import script_of, text_of
from musubito.code.syntax.source import SENT, File, cells, file_of, first_line, sent_texts, source_of
from musubito.parsing import parsed
from musubito.values.class_names import functions_in, module_of_class, qualified_name, was_sent

FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
UNUSED: Final = frozenset({"__init_subclass__", "__set_name__", "__setstate__", "__prepare__", "__class_getitem__"})
"""Methods that Python calls while classes and objects are made, and not for the step."""
PLAIN_DECORATORS: Final = frozenset(
    [
        *("property", "setter", "getter", "deleter", "cached_property", "classmethod", "staticmethod"),
        *("abstractmethod", "override", "overload", "final", "wraps", "cache", "lru_cache"),
    ]
)
"""Decorators that register a method nowhere."""
SHOWING: Final = ("__pydantic_fields__", "__total__", "__struct_fields__")
"""Attributes of classes whose docstring is part of the schema that a model is shown."""
SCHEMAS: Final = (*SHOWING, "__dataclass_fields__", "__attrs_attrs__", "_field_defaults")
"""Attributes by which classes keep a schema of their fields."""
PASSIVE: Final = frozenset({"abc", "builtins", "enum", "typing", "typing_extensions", "pydantic.main"})
"""Modules with base classes that call no method of the user's by a name of their own."""


class ClassText(NamedTuple):
    """The `class` statement of a class."""

    file: File
    node: ast.ClassDef
    methods: frozenset[str]
    """The names of its functions, each of which counts by itself."""
    registered: frozenset[str]
    """The names of its functions that a decorator was given, which may call them or register them: a validator."""

    def normal(self) -> bytes:
        """Return the statement without its methods and its docstring, without how it is written."""
        return normalised_class(self.node, self.methods)

    def text(self) -> str:
        """Return the lines of the statement that are no method's."""
        methods = [each for each in self.node.body if isinstance(each, FUNCTIONS)]
        left_out = {line for each in methods for line in range(first_line(each), (each.end_lineno or each.lineno) + 1)}
        first, last = first_line(self.node), self.node.end_lineno or self.node.lineno
        return "".join(self.file.lines[number - 1] for number in range(first, last + 1) if number not in left_out)


_texts: Final[WeakKeyDictionary[type, ClassText | None]] = WeakKeyDictionary()


def class_text(cls: type) -> ClassText | None:
    """Return the statement of a class, or None for a class that was made in another way."""
    if cls not in _texts:
        found = _find(cls)
        methods = [] if found is None else [node for node in found[1].body if isinstance(node, FUNCTIONS)]
        registered = frozenset(node.name for node in methods if not all(map(_is_plain, node.decorator_list)))
        names = frozenset(node.name for node in methods)
        _texts[cls] = None if found is None else ClassText(*found, names, registered)
    return _texts[cls]


def _is_plain(decorator: ast.expr) -> bool:
    root, attributes = attribute_chain(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return (attributes[-1] if attributes else getattr(root, "id", None)) in PLAIN_DECORATORS


def _find(cls: type) -> tuple[File, ast.ClassDef] | None:
    name = cls.__name__
    for function in functions_in(cls):
        if function.__code__.co_qualname.rpartition(".")[0].rpartition(".")[2] == name:
            source = source_of(function.__code__, script_of(function))
            outer = None if source is None else source.file.parents.get(id(source.node))
            if source is not None and isinstance(outer, ast.ClassDef) and outer.name == name:
                return source.file, outer
    codes = [function.__code__ for function in functions_in(cls)]
    place = qualified_name(cls)[1]
    own = {code.co_name for code in codes if code.co_qualname.startswith(place)}
    methods = {method for method in own if not method.startswith(("_", "<"))}
    file = None if was_sent(cls) else getattr(module_of_class(cls), "__file__", None)
    found = file_of(file) if isinstance(file, str) else None
    for text in [found] if found is not None else [*reversed([*cells()]), *sent_texts()]:
        nodes = _classes_at(text.tree, [part for part in place.split(".") if part != "<locals>"])
        # Another class of this name may stand in another cell: it has no such methods.
        if nodes and methods <= {getattr(each, "name", "") for each in _defined_in(nodes[-1])}:
            return text, nodes[-1]
    return None


def _classes_at(node: ast.AST, path: list[str]) -> list[ast.ClassDef]:
    """Return the class statements at a path of names below a node."""
    nodes: list[ast.AST] = [node]
    for name in path:
        nodes = [inner for outer in nodes for inner in _defined_in(outer) if inner.name == name]  # type: ignore[attr-defined]
    return [each for each in nodes if isinstance(each, ast.ClassDef)]


def _defined_in(node: ast.AST) -> Iterator[ast.AST]:
    pending = [*ast.iter_child_nodes(node)]
    while pending:
        each = pending.pop(0)
        if isinstance(each, (*FUNCTIONS, ast.ClassDef)):
            yield each
        elif isinstance(each, ast.stmt | ast.ExceptHandler | ast.match_case):
            pending += ast.iter_child_nodes(each)


def functions_below(member: Any) -> list[FunctionType]:
    """Return the functions that a member of a class runs: its own, or those below decorators that show them."""
    found: list[FunctionType] = []
    pending, seen = [member], set[int]()
    while pending:
        value = pending.pop(0)
        if id(value) in seen or value is None:
            continue
        seen.add(id(value))
        kind = type(value)
        if kind is FunctionType:
            found.append(value)
        elif (step := step_of(value)) is not None:
            pending.append(step.function)
        elif issubclass(kind, classmethod | staticmethod | MethodType):
            pending.append(value.__func__)
        elif issubclass(kind, property):
            pending += (value.fget, value.fset, value.fdel)
        elif issubclass(kind, functools.cached_property | functools.partialmethod | functools.partial):
            pending.append(value.func)
        elif kind is functools._lru_cache_wrapper:
            know(value)
            pending.append(value.__wrapped__)
        elif kind is functools.singledispatchmethod:
            pending.append(value.func)
    return found


def is_generated(origins: Owners, function: FunctionType, text: ClassText | None) -> bool:
    """Return whether a library wrote a function for a class that has a text."""
    if text is None or function.__name__ in text.methods:
        return False
    file = function.__code__.co_filename
    is_written = text_of(function).source is not None if file == SENT else not file.startswith("<")
    return not is_written or origins.of_function(function) is not Owner.USER


def is_schema(cls: type) -> bool:
    """Return whether a class declares its fields: a dataclass, a model, a named tuple, a typed dict."""
    return any(attribute in vars(base) for base in cls.__mro__ for attribute in SCHEMAS)


def shows_docstring(cls: type) -> bool:
    """Return whether a class's docstring is part of the schema that a model is shown."""
    return any(attribute in vars(base) for base in cls.__mro__ for attribute in SHOWING)


def overrides(origins: Owners, cls: type, name: str) -> bool:
    """Return whether a base of another package's may call the member under a name of its own."""
    others = (base for base in cls.__mro__[1:-1] if module_name(base) not in PASSIVE and name in vars(base))
    return any(origins.of_class(base) is not Owner.USER for base in others)


def fields_declared(cls: type) -> set[str]:
    """Return the names of a class's own members and of its own fields."""
    names = {*vars(cls), *annotations_of(cls)}
    for fields in ("__dataclass_fields__", "__pydantic_fields__"):
        own, *inherited = (set(vars(base).get(fields) or ()) for base in cls.__mro__)
        names.update(own.difference(*inherited))
    return names


def annotations_of(thing: Any) -> dict[str, Any]:
    """Return the annotations that a class or function itself has, as they are: text or objects."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - new in 3.14

        if not callable(getattr(thing, "__annotate__", None) or dict):
            return {}  # a class of Cython's, whose instances have annotations
        return annotationlib.get_annotations(thing, format=annotationlib.Format.FORWARDREF)
    members = vars(thing).get("__annotations__") if isinstance(thing, type) else getattr(thing, "__annotations__", None)
    return dict(members) if isinstance(members, dict) else {}


def class_level(text: ClassText) -> Iterator[ast.AST]:
    """Yield the parts of a class statement that ran when the class was made."""
    node = text.node
    yield from (*node.bases, *node.keywords, *node.decorator_list)
    for statement in node.body:
        if isinstance(statement, FUNCTIONS):
            yield from statement.decorator_list
            continue
        yield statement
        if isinstance(statement, ast.AnnAssign):
            yield from _written_in(statement.annotation)


def _written_in(annotation: ast.AST) -> Iterator[ast.AST]:
    """Yield the expressions that stand as text in an annotation, at any depth."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner: ast.AST = parsed(node.value, "eval")
            except (SyntaxError, ValueError):
                continue  # a text that is no expression names nothing
            yield inner
            yield from _written_in(inner)
