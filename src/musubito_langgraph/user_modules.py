"""Find the modules of the user's own code that a Runnable runs.

Code in site-packages counts by name, unless it belongs to the step's own package. The function of a node may be a
framework's, as in an agent. Then what the user gave it is in its closure: middleware, tools, hooks. A package that
comes from a package index is treated as a framework there. The package counts by its version, and its objects are
searched for code of the user's.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from types import FunctionType, MethodType
from typing import Any, Final, NamedTuple

from langchain_core.runnables import Runnable, RunnableLambda, RunnableSequence
from langchain_core.tools import BaseTool

from musubito.code.installed_packages import is_released
from musubito.code.live import contents, fields_of
from musubito.errors import LOGGER
from musubito.values.own_names import is_own
from musubito_langgraph import _compat

CHAINS: Final = frozenset({"langchain", "langchain_core", "langchain_classic", "langgraph"})
"""Top-level packages of frameworks whose objects hold functions of the user's."""
FRAMEWORKS: Final = CHAINS | {"langchain_protocol", "langgraph_sdk", "langsmith", "pydantic", "pydantic_core"}
"""Top-level packages that are never the user's own code, besides Musubito and the standard library."""
MOST: Final = 2000
"""Number of objects that are looked at."""


class Homes(NamedTuple):
    """The modules of the code that a Runnable runs, without frameworks."""

    own: str
    """Modules of the user, separated by blanks."""
    released: tuple[str, ...]
    """Modules of packages that come from a package index."""


def homes_of(code: Any) -> Homes:
    """Return the modules of the functions and classes that `code` runs, without frameworks."""
    own: set[str] = set()
    released: set[str] = set()
    ahead, seen = [code], dict[int, Any]()
    while ahead and len(seen) < MOST:
        thing = ahead.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        module = str(thing.__module__ if isinstance(thing, FunctionType | type) else type(thing).__module__)
        runs = _is_users(module) and (not isinstance(thing, Runnable) or thing is code)
        if runs and not _is_released(module):
            own.add(module)
            continue
        if runs:
            released.add(module)
        try:
            ahead += _inside(thing, runs=runs)
        except Exception as error:  # for example a proxy that has nothing behind it here: it holds no code
            LOGGER.debug("%s is not looked into: %r", type(thing), error)
    return Homes(" ".join(sorted(own)), tuple(sorted(released)))


def _is_released(module: str) -> bool:
    try:
        return is_released(module)
    except OSError as error:
        LOGGER.debug("the package of %s cannot be read: %r", module, error)
        return False


def _is_users(module: str) -> bool:
    top = module.partition(".")[0]
    return top not in FRAMEWORKS and top not in sys.stdlib_module_names and not is_own(module)


def _inside(thing: Any, *, runs: bool) -> Iterable[Any]:
    """Return what an object of a framework was given and may be the user's.

    `runs` tells whether the object belongs to a package that comes from a package index.
    """
    match thing:
        case _compat.RunnableCallable() | RunnableLambda():
            tools = getattr(thing, "tools_by_name", {})  # of a tool node
            return [getattr(thing, "func", None), getattr(thing, "afunc", None), *tools.values()]
        case BaseTool():
            return [getattr(thing, "func", None) or getattr(thing, "coroutine", None) or type(thing)]
        case RunnableSequence() | _compat.RunnableSeq():
            return list(thing.steps)
        case Runnable():
            return ()
        case functools.partial():
            return [thing.func]
        case MethodType():
            return [thing.__func__, thing.__self__]
        case FunctionType():
            return map(contents, thing.__closure__ or ())
        case list() | tuple() | set() | frozenset():
            return thing
        case dict():
            return thing.values()
        case _ if runs or str(type(thing).__module__).partition(".")[0] in CHAINS:
            # A decorator may make an object of the user's function, such as a middleware, and a class for that object.
            return [*vars(type(thing)).values(), *(fields_of(thing) or {}).values()]
    return ()
