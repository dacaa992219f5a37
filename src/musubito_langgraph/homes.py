"""Where the user's own code is that a Runnable runs.

What is installed in site-packages counts by name, unless it is of the step's own package. The function of a node may be
a framework's, as in an agent, and what it was given by the user is in its closure: middleware, tools, hooks.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from types import FunctionType, MethodType
from typing import Any, Final

from langchain_core.runnables import Runnable, RunnableLambda, RunnableSequence
from langchain_core.tools import BaseTool

from musubito.errors import LOGGER
from musubito.identity.description import fields_of
from musubito_langgraph import _compat

__all__ = ["modules_of"]

CHAINS: Final = ("langchain", "langgraph")
FRAMEWORKS: Final = (*CHAINS, "langsmith", "musubito", "pydantic")
MOST: Final = 2000
"""So many things are looked at and no more."""


def modules_of(code: Any) -> str:
    """The modules of the functions and classes that it runs and that are no framework's, separated by blanks."""
    found: set[str] = set()
    ahead, seen = [code], dict[int, Any]()
    while ahead and len(seen) < MOST:
        thing = ahead.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        module = thing.__module__ if isinstance(thing, FunctionType | type) else type(thing).__module__
        if _is_users(module) and (not isinstance(thing, Runnable) or thing is code):
            found.add(str(module))
        else:
            try:
                ahead += _inside(thing)
            except Exception as error:  # a proxy, say, that has nothing behind it here: it holds no code
                LOGGER.debug("%s is not looked into: %r", type(thing), error)
    return " ".join(sorted(found))


def _is_users(module: object) -> bool:
    name = str(module)
    return not name.startswith(FRAMEWORKS) and name.partition(".")[0] not in sys.stdlib_module_names


def _inside(thing: Any) -> Iterable[Any]:
    """What a framework's thing was given that may be the user's."""
    match thing:
        case RunnableSequence() | _compat.RunnableSeq():
            return thing.steps
        case _compat.RunnableCallable() | RunnableLambda():
            tools = _compat.tools_of(thing).values() if _compat.is_tool_node(thing) else ()
            return [getattr(thing, "func", None), getattr(thing, "afunc", None), *tools]
        case BaseTool():
            function = getattr(thing, "func", None) or getattr(thing, "coroutine", None)
            return [function or type(thing)]
        case functools.partial():
            return [thing.func]
        case MethodType():
            return [thing.__func__, thing.__self__]
        case FunctionType():
            return _held(thing)
        case list() | tuple() | set() | frozenset():
            return thing
        case dict():
            return thing.values()
        case Runnable():
            return ()
        case _ if str(type(thing).__module__).startswith(CHAINS):
            # What a decorator made of the user's function, such as a middleware: an object of a class made for it.
            return [*vars(type(thing)).values(), *(fields_of(thing) or {}).values()]
    return ()


def _held(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not bound yet
            continue
