"""Find the things that annotations name: the classes that rebuild stored results, and links to all of them.

The links count where reached code reads annotations. Annotations that are text are parsed, never evaluated.
"""

from __future__ import annotations

import ast
import builtins
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import FunctionType, MethodType, ModuleType
from typing import Any

from musubito.code.graph_record import ABSENT, contents
from musubito.code.guard import Guard
from musubito.code.ownership import module_name
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.expressions import attribute_chain
from musubito.code.walk import Walk
from musubito.parsing import parsed
from musubito.values.class_instances import lies_in_its_module
from musubito.values.class_names import (
    Ambiguous,
    canonical_module,
    functions_in,
    module_of_class,
    qualified_name,
    was_sent,
)

DEPTH = 20
"""Levels of nested annotations that are entered."""


def annotations_of(cls: Any) -> dict[str, Any]:
    """Return the annotations that a class or function itself has, as they are: text or objects."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - new in 3.14

        if not callable(getattr(cls, "__annotate__", None) or dict):
            return {}  # a class of Cython's, whose instances have annotations
        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    annotations = vars(cls).get("__annotations__") if isinstance(cls, type) else getattr(cls, "__annotations__", None)
    return dict(annotations) if isinstance(annotations, dict) else {}


def annotation_links(walk: Walk, thing: Any, name: str) -> list[tuple[str, bytes]]:
    """Return links to the annotations of a class or function itself, and to the things that their text names."""
    links: list[tuple[str, bytes]] = []
    scopes = [vars(thing), *_globals_of(walk, thing)] if isinstance(thing, type) else [thing.__globals__]
    annotations = annotations_of(thing)  # from Python 3.14 on, this also lets the thing keep them
    guard_annotations(walk.guard, thing)
    for each, annotation in annotations.items():
        bound = f"{name}.{each}:"
        if isinstance(annotation, str):
            links.append((f"{each}:", b"s" + tokens(annotation)))
        else:
            links.append((f"{each}:", walk.link(annotation, walk.part_name(annotation, bound))))
        entered: set[str] = set()
        for text in _texts_in(annotation):
            links += text_links(walk, text, scopes, bound, entered)
    return links


def guard_annotations(guard: Guard, thing: Any) -> None:
    """Require that the annotations of a class or function, which were asked for, are what they are now."""
    if isinstance(thing, type):
        members = vars(thing)
        at = "__annotations_cache__" if "__annotations_cache__" in members else "__annotations__"
        annotations = members.get(at)
        if annotations is not None:
            guard.item(members, at, annotations)
        else:  # the dict is made when somebody first asks for it
            guard.absent(members, at)
    else:
        try:
            annotations = thing.__annotations__
        except Exception:  # from Python 3.14 on, they are evaluated late: a name may be missing
            guard.attribute(thing, "__annotate__", thing.__annotate__)
            return
        guard.attribute(thing, "__annotations__", annotations)
    if isinstance(annotations, dict):
        guard.mapping(annotations, tuple(annotations), tuple(annotations.values()))


def _globals_of(walk: Walk, cls: type) -> Iterator[dict[str, Any]]:
    """Yield the globals that a class was defined among.

    - If its module has the class, these are the module's globals.
    - Otherwise they are the globals of the class's functions, or of the step's function.
    - Without such a function, they are the globals of the module of that name.
    """
    module = module_of_class(cls)
    if module is not None and lies_in_its_module(cls):
        yield vars(module)
        return
    function = walk.function
    for each in (*functions_in(cls), *([function] if isinstance(function, FunctionType) else ())):
        if canonical_module(str(each.__globals__.get("__name__"))) == module_name(cls):
            yield each.__globals__
            break
    else:
        if module is not None:
            yield vars(module)
    if was_sent(cls):
        yield _classes_led_to(cls)


def _classes_led_to(cls: type) -> dict[str, Any]:
    """Return, by name, the bases of a class, its parameters, and the classes in the types of its fields.

    The functions of a class that was sent from another process lack some of the globals that they had.
    """
    classes = {base.__name__: base for base in (*getattr(cls, "__parameters__", ()), *reversed(cls.__mro__))}
    fields = (vars(cls).get("__pydantic_fields__") or {}).values()
    factories = (
        getattr(value, "default_factory", None) for value in (vars(cls).get("__dataclass_fields__") or {}).values()
    )
    for annotation in (*(field.annotation for field in fields), *factories):
        for named in _classes_in(annotation, {}, {}):
            classes.setdefault(named.__name__, named)
    return classes


def _texts_in(annotation: Any, depth: int = 0) -> Iterator[str]:
    """Yield the texts in an annotation: all of the annotation, or parts of it."""
    if isinstance(annotation, typing.ForwardRef):
        yield annotation.__forward_arg__
    elif isinstance(annotation, str):
        yield annotation
    elif depth < DEPTH:
        for inner in annotation if isinstance(annotation, list) else typing.get_args(annotation):
            yield from _texts_in(inner, depth + 1)


@lru_cache(maxsize=4096)
def _expression(text: str) -> ast.Expression:
    """Return the syntax tree of an annotation's text.

    The same text stands at the fields of many classes, and each walk asks again. A plain text has a hash for the cache.
    """
    tree: ast.Expression = parsed(text, "eval")
    return tree


@lru_cache(maxsize=4096)
def _naming_nodes(text: str) -> tuple[ast.Name | ast.Attribute | ast.Constant, ...]:
    """Return the nodes of a text that name something, or may."""
    return tuple(
        node for node in ast.walk(_expression(text)) if isinstance(node, ast.Name | ast.Attribute | ast.Constant)
    )


def text_links(
    walk: Walk, text: str, scopes: Sequence[Mapping[str, Any]], name: str, entered: set[str] | None = None
) -> list[tuple[str, bytes]]:
    """Return links to the things that the text of an annotation names.

    `entered` holds the texts that were already followed for this annotation: an alias may name itself.
    """
    links: list[tuple[str, bytes]] = []
    entered = set() if entered is None else entered
    text = str.strip(text)
    if text in entered:
        return links
    entered.add(text)
    try:
        pending: list[ast.AST] = [_expression(text)]
    except (SyntaxError, ValueError):
        return links  # the text is not an expression, so it names nothing
    while pending:
        node, chain = attribute_chain(pending.pop())
        attributes = list(chain)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            links += text_links(walk, node.value, scopes, name, entered)
        elif not isinstance(node, ast.Name):
            pending += ast.iter_child_nodes(node)
        else:
            value = _look_up(walk, node.id, scopes)
            while attributes and isinstance(value, ModuleType | type):
                inner = vars(value).get(attributes[0], ABSENT)
                if inner is not ABSENT:
                    walk.guard.item(vars(value), attributes[0], inner)
                value = inner
                attributes.pop(0)
            if isinstance(value, str):
                links += text_links(walk, value, scopes, name, entered)
            reference = b"unbound" if value is ABSENT else walk.link(value, walk.part_name(value, name))
            links.append((f"{name}{node.id}", reference))
    return links


def _look_up(walk: Walk, name: str, scopes: Sequence[Mapping[str, Any]]) -> Any:
    for scope in (*scopes, vars(builtins)):
        if name in scope:
            walk.guard.item(scope, name, scope[name])
            return scope[name]
        walk.guard.absent(scope, name)
    return ABSENT


def annotated_classes(function: Any, owner: type | None, reached: Iterable[type]) -> dict[tuple[str, str], type]:
    """Return the classes that rebuild a step's results, by module and qualified name, without builtins.

    The classes are those in `reached` and in the function's annotations. The bases of each class follow, and the
    classes that its annotations name.
    """
    result: dict[tuple[str, str], type] = {}
    pending: list[type] = []
    is_code = isinstance(function, FunctionType | MethodType)
    names, local = (function.__globals__, _closure_values(function)) if is_code else ({}, {})
    if owner is not None:
        local[owner.__name__] = owner
    for annotation in annotations_of(function).values() if isinstance(function, FunctionType) else ():
        pending += _classes_in(annotation, names, local)
    pending += reached
    entered: dict[int, type] = {}
    while pending:
        cls = pending.pop()
        if id(cls) in entered:
            continue  # most classes share bases
        entered[id(cls)] = cls
        key = qualified_name(cls)
        if key[0] in ("builtins", "typing"):
            continue
        if key in result:
            if result[key] is not cls:
                result[key] = Ambiguous
            continue
        result[key] = cls
        pending += cls.__mro__[1:]
        module = module_of_class(cls)
        scope, inner = vars(module) if module is not None else names, {**local, cls.__name__: cls}
        for annotation in annotations_of(cls).values():
            if id(annotation) not in entered:
                pending += _classes_in(annotation, scope, inner)
    return result


def _closure_values(function: Any) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    return {name: contents(cell) for name, cell in cells if contents(cell) is not ABSENT}


def _classes_in(annotation: Any, names: Mapping[str, Any], local: Mapping[str, Any]) -> Iterator[type]:
    """Yield the classes that an annotation names.

    A type alias may name itself, so each text and each object is entered once.
    """
    seen: set[object] = set()
    pending: list[Any] = [annotation]
    kept: list[Any] = []
    while pending:
        each = pending.pop()
        if isinstance(each, typing.ForwardRef):
            each = each.__forward_arg__
        key = each if type(each) is str else id(each)
        if key in seen:
            continue
        seen.add(key)
        kept.append(each)  # so that its id stays its own
        if isinstance(each, str):
            pending += _things_named_in(each, names, local)
        elif typing.get_origin(each) is not None:
            pending += (*reversed(typing.get_args(each)), typing.get_origin(each))
        elif isinstance(each, list | tuple):
            pending += reversed(each)
        elif isinstance(each, type):
            yield each


def _things_named_in(text: str, names: Mapping[str, Any], local: Mapping[str, Any]) -> list[Any]:
    """Return the objects and the inner texts that an annotation's text names, in reverse order."""
    try:
        naming = _naming_nodes(str.strip(text))
    except (SyntaxError, ValueError):
        return []  # the text is not an expression, so it names no class
    result: list[Any] = []
    for node in naming:
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                result.append(node.value)
        else:
            value = _resolve_node(node, names, local)
            if value is not None and not isinstance(value, str):
                result.append(value)
    return result[::-1]


def _resolve_node(node: ast.expr, names: Mapping[str, Any], local: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            return local.get(name, names.get(name, getattr(builtins, name, None)))
        case ast.Attribute(value=value, attr=attr):
            of = _resolve_node(value, names, local)
            return vars(of).get(attr) if isinstance(of, ModuleType | type) else None
        case _:
            return None
