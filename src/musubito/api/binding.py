"""The binding of a call's arguments as Python does it: the outermost callable decides what is accepted.

The code of a function shows its parameters. A wrapper (`functools.wraps`, a retry, a tracer) mostly takes anything, and
shows its callers the parameters of the function below. So the arguments of a wrapper get these names, but no defaults:
a wrapper may look at how it was called, and may fill in arguments that were left out. If its syntax tree shows that a
wrapper merely passes on its arguments, they are bound as the function below binds them, defaults included.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.code.live import ABSENT, below, contents, static
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.wrappers import only_passes_on

BY_KEYWORD: Final = "by keyword"
"""The key of the names that a wrapper got by keyword and could have got by position, since it can tell the two."""
AS_GIVEN: Final = "as given"
"""The key that marks arguments of a wrapper that have no names of their own."""
DEEPEST: Final = 100
"""The number of wrappers that are followed, one inside the other."""
Bind: TypeAlias = Callable[..., dict[str, Any]]


class Binding(NamedTuple):
    """The binding of the calls of a callable. `bind` returns the arguments by name, or raises what the call would.

    `positional` names the parameters that take arguments by position, and `rest` the parameter that takes all further
    ones. `names` are all names that arguments may have; None if they are not known. A binding is valid as long as the
    functions have this code and these defaults, and the cells hold these functions.
    """

    bind: Bind
    positional: tuple[str, ...]
    rest: str | None
    names: frozenset[str] | None
    functions: tuple[tuple[FunctionType, CodeType, Any, Any], ...]
    cells: tuple[tuple[CellType, Any], ...] = ()


def function_in(function: Any) -> FunctionType | None:
    """Return the outermost function written in Python that runs when this is called; None if there is none."""
    for _ in range(DEEPEST):
        if type(function) is FunctionType:
            return function
        inner = below(function)
        if inner is None:
            # The object stands for a function, and only the function that it wraps can be inspected.
            wrapped = ABSENT if isinstance(function, type) else static(function, "__wrapped__")
            if wrapped is ABSENT:
                return None
            function = function.__wrapped__
        else:
            function = inner[0]
    return None


def binding_of(function: Any, *, complete: bool, depth: int = DEEPEST) -> Binding:
    """Return the binding of a callable as it is now.

    `complete`: every wrapper counts as one that passes on its arguments. `depth` wrappers are followed.
    """
    if type(function) is FunctionType:
        wrapped = function.__dict__.get("__wrapped__", ABSENT)
        if wrapped is ABSENT or depth == 0:
            return _binding_of_code(function)
        return _binding_of_wrapper(function, wrapped, complete, depth)
    inner = below(function) if depth else None
    if inner is not None:
        return _binding_with_more(binding_of(inner[0], complete=complete, depth=depth - 1), *inner[1:])
    return _binding_of_callable(function)


def counted(arguments: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments that have these names; all arguments if their names are not known."""
    if AS_GIVEN in arguments:
        return arguments
    chosen = {name: arguments[name] for name in names if name in arguments}
    by_keyword = [name for name in arguments.get(BY_KEYWORD, ()) if name in chosen]
    return {**chosen, BY_KEYWORD: by_keyword} if by_keyword else chosen


# -- functions ---------------------------------------------------------------------------------------------------------


class _Parameters(NamedTuple):
    """The parameters of a function's code."""

    only_positional: tuple[str, ...]
    positional: tuple[str, ...]
    """All parameters that take arguments by position, the positional-only ones included."""
    keywords: tuple[str, ...]
    """The parameters that take arguments by keyword alone."""
    rest: str | None
    named: str | None

    def names(self) -> tuple[str, ...]:
        return (*self.positional, *self.keywords, *filter(None, (self.rest, self.named)))


def _parameters(code: CodeType) -> _Parameters:
    names = iter(code.co_varnames)

    def some(count: int) -> tuple[str, ...]:
        return tuple(next(names) for _ in range(count))

    positional, keywords = some(code.co_argcount), some(code.co_kwonlyargcount)
    rest = next(names) if code.co_flags & inspect.CO_VARARGS else None
    named = next(names) if code.co_flags & inspect.CO_VARKEYWORDS else None
    return _Parameters(positional[: code.co_posonlyargcount], positional, keywords, rest, named)


def _binding_of_code(function: FunctionType) -> Binding:
    """Return a binding by a new function with the same parameters, which returns its arguments by name.

    Defaults are filled in. Python's own call does the binding: it is some ten times faster than
    `inspect.Signature.bind`, and raises the usual errors.
    """
    code = function.__code__
    takes = _parameters(code)
    names = takes.names()
    name = next(n for n in ("bind", "bind_", "bind__", "bind___") if n not in names)
    shown = ", ".join(f"{parameter!r}: {parameter}" for parameter in names)
    source = f"def {name}({', '.join(_parameter_text(takes, function))}):\n    return {{{shown}}}\n"
    namespace: dict[str, Any] = {}
    exec(compile(source, "<musubito binder>", "exec"), namespace)  # noqa: S102 - the text is made of parameter names
    bind: Any = namespace[name]
    bind.__name__, bind.__qualname__ = function.__name__, function.__qualname__
    bind.__defaults__, bind.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return Binding(
        bind,
        takes.positional,
        takes.rest,
        frozenset(names),
        ((function, code, function.__defaults__, function.__kwdefaults__),),
    )


def _parameter_text(takes: _Parameters, function: FunctionType) -> Iterator[str]:
    """Yield the parameters as text. The defaults are attached later; here they only have to be there."""
    defaults = len(function.__defaults__ or ())
    for number, name in enumerate(takes.positional):
        yield name if number < len(takes.positional) - defaults else f"{name}=None"
        if number == len(takes.only_positional) - 1:
            yield "/"
    if takes.rest is not None or takes.keywords:
        yield f"*{takes.rest or ''}"
    for name in takes.keywords:
        yield f"{name}=None" if name in (function.__kwdefaults__ or {}) else name
    if takes.named is not None:
        yield f"**{takes.named}"


# -- wrappers ----------------------------------------------------------------------------------------------------------


def _binding_of_wrapper(function: FunctionType, wrapped: Any, complete: bool, depth: int) -> Binding:
    own, takes = _binding_of_code(function), _parameters(function.__code__)
    if takes.rest is None:
        return own  # its parameters are its own
    inner = binding_of(wrapped, complete=complete, depth=depth - 1)
    cell = _passing_cell(function, wrapped, takes)
    functions = (*own.functions, *inner.functions)
    if cell is not None:
        bind = _either(inner.bind, own.bind)
        return inner._replace(bind=bind, functions=functions, cells=(*inner.cells, (cell, wrapped)))
    first = len(takes.positional) if inner.positional[: len(takes.positional)] == takes.positional else 0
    shown = inner.positional[first:]
    bind = _by_shown_names(own.bind, takes, shown)
    if complete:
        bind = _either(_with_own_keywords(takes, own.bind, inner.bind), bind)
    names = None if inner.names is None else inner.names.union(takes.names())
    return Binding(bind, (*takes.positional, *shown), takes.rest, names, functions, inner.cells)


def _either(bind: Bind, otherwise: Bind) -> Bind:
    def either(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return bind(*args, **kwargs)
        except TypeError:
            # The wrapper is called all the same, and may accept these arguments.
            return {**otherwise(*args, **kwargs), AS_GIVEN: True}

    return either


def _with_own_keywords(takes: _Parameters, own: Bind, inner: Bind) -> Bind:
    """Bind as the function below does, and add the wrapper's own keywords if they are passed."""

    def bind(*args: Any, **kwargs: Any) -> dict[str, Any]:
        own(*args, **kwargs)
        own_keywords = {name: kwargs[name] for name in takes.keywords if name in kwargs}
        rest = {name: value for name, value in kwargs.items() if name not in own_keywords}
        return {**inner(*args, **rest), **own_keywords}

    return bind


def _by_shown_names(own: Bind, takes: _Parameters, shown: tuple[str, ...]) -> Bind:
    """Bind each argument to the name that the wrapper shows for it.

    Two calls that the wrapper can tell apart never get the same arguments.
    """
    rest, named = takes.rest or "", takes.named
    taken = {*takes.names(), BY_KEYWORD, AS_GIVEN}
    may_be_shown = not taken.intersection(shown)

    def bind(*args: Any, **kwargs: Any) -> dict[str, Any]:
        bound = own(*args, **kwargs)
        more: Mapping[str, Any] = bound[named] if named is not None else {}
        values: tuple[Any, ...] = bound[rest]
        names = dict(zip(shown, values, strict=False))
        if not may_be_shown or not taken.isdisjoint(more) or not names.keys().isdisjoint(more):
            return {**bound, AS_GIVEN: True}
        arguments = {name: value for name, value in bound.items() if name not in (rest, named)} | names
        arguments.update(more)
        if len(values) > len(shown):
            arguments[rest] = values[len(shown) :]
        by_keyword = sorted(more.keys() & set(shown))
        if by_keyword:
            arguments[BY_KEYWORD] = by_keyword
        return arguments

    return bind


def _passing_cell(function: FunctionType, wrapped: Any, takes: _Parameters) -> CellType | None:
    """Return the cell in which a wrapper holds the function below.

    Return None if the wrapper does more with its arguments than to call that function with them.
    """
    if takes.named is None or takes.positional or takes.keywords:
        return None
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    callees = [name for name, cell in cells.items() if contents(cell) is wrapped]
    source = text_of(function).source
    if len(callees) != 1 or source is None:
        return None
    called = callees[0]
    return cells[called] if only_passes_on(source.node, called, takes.rest or "", takes.named) else None


# -- other callables ---------------------------------------------------------------------------------------------------


def _binding_with_more(inner: Binding, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Binding:
    """Bind for a partial object, a bound method or an object with `__call__`. Added arguments count with its code."""
    if not args and not keywords:
        return inner
    filled, more = inner.positional[: len(args)], len(args) - len(inner.positional)

    def bind(*passed: Any, **named: Any) -> dict[str, Any]:
        bound = inner.bind(*args, *passed, **{**keywords, **named})
        if AS_GIVEN in bound:
            # Its names are those of a wrapper, and the parameters in `filled` may have the same names.
            return {"args": passed, "kwargs": named, AS_GIVEN: True}
        for name in filled:
            bound.pop(name, None)
        if more > 0 and inner.rest in bound:
            bound[inner.rest] = bound[inner.rest][more:]
        for name in keywords.keys() - named.keys():
            bound.pop(name, None)
        return bound

    names = None if inner.names is None else inner.names.difference(filled)
    return inner._replace(bind=bind, positional=inner.positional[len(args) :], names=names)


def _binding_of_callable(function: Any) -> Binding:
    """Bind for an object whose `__call__` is not written in Python. Its signature, if it shows one, names arguments."""
    try:
        shown = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        positional: tuple[str, ...] = ()  # it shows none
    else:
        positional = tuple(parameter.name for parameter in shown if parameter.kind <= parameter.POSITIONAL_OR_KEYWORD)

    def anything(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"args": args, "kwargs": kwargs}

    takes = _Parameters((), (), (), "args", "kwargs")
    return Binding(_by_shown_names(anything, takes, positional), positional, "args", None, ())
