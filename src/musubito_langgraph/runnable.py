"""Make steps of LangChain Runnables: models, prompts, tools, and all that is made of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any, overload

from langchain_core.runnables import Runnable
from langchain_core.runnables.base import coerce_to_runnable

from musubito import MusubitoEngine, StepConfiguration
from musubito.values.class_names import canonical_module
from musubito_langgraph import _compat
from musubito_langgraph.graph_step import GraphStep
from musubito_langgraph.recorded_runnable import RecordedRunnable, name_of
from musubito_langgraph.settings import SAMPLE, Settings, calling_module, checked_engine


class MusubitoRunnable(RecordedRunnable):
    """The Runnable that `musubito_runnable` returns."""

    def __getattr__(self, name: str) -> Any:
        attribute = super().__getattr__(name)
        if isinstance(attribute, MethodType) and attribute.__self__ is self._runnable:
            return self._recorded_method(attribute)
        return attribute

    def _recorded_method(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that makes a recorded Runnable where `method` makes a Runnable.

        Such methods are `bind_tools` and `with_structured_output`.
        """

        @functools.wraps(method)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if not isinstance(result, Runnable):
                return result
            step = self._step
            return _recorded(result, step.settings, is_configured=step.operation.definition.is_configured)

        return recorded


def _recorded(
    runnable: Runnable[Any, Any], settings: Settings, name: str | None = None, *, is_configured: bool
) -> MusubitoRunnable:
    name = name or name_of(runnable)
    step = GraphStep(name, runnable, settings.semantics(name), settings, is_configured=is_configured)
    return MusubitoRunnable(runnable, step)


@overload
def musubito_runnable(
    runnable: Runnable[Any, Any] | Callable[..., Any],
    *,
    semantics: StepConfiguration | None = None,
    engine: MusubitoEngine | None = None,
) -> Runnable[Any, Any]: ...
@overload
def musubito_runnable(
    runnable: None = None, *, semantics: StepConfiguration | None = None, engine: MusubitoEngine | None = None
) -> Callable[[Runnable[Any, Any] | Callable[..., Any]], Runnable[Any, Any]]: ...
def musubito_runnable(
    runnable: Any = None,
    *,
    semantics: StepConfiguration | None = None,
    engine: MusubitoEngine | None = None,
) -> Any:
    """Return a Runnable that does what `runnable` does, as a step: recorded, and replayed where that is safe.

    This is also a decorator, for a function or a Runnable.

    The step returns plain values, and composes as any Runnable does. Each answer is a sample (`StepType.STOCHASTIC`)
    unless `semantics` says otherwise. A stream is replayed chunk by chunk, and shares its stored results with `invoke`.
    A stream begins when the whole input is there. A method that makes another Runnable of the step (`bind_tools`,
    `with_structured_output`) makes a recorded Runnable. If no `engine` is given, the step uses the engine in use.

    Raise TypeError if `runnable` is neither a Runnable nor can be made a Runnable.

    >>> from langchain_core.runnables import RunnableConfig
    >>> from musubito_langgraph import musubito_runnable
    >>> @musubito_runnable
    ... def shout(text: str) -> str:
    ...     return text.upper()
    >>> (shout | len).invoke("hello")
    5
    """
    if runnable is None:
        return functools.partial(musubito_runnable, semantics=semantics, engine=engine)
    if isinstance(runnable, RecordedRunnable) and semantics is None and engine is None:
        return runnable
    if isinstance(runnable, _compat.Pregel):
        raise TypeError("musubito_runnable is for Runnables; wrap a graph with musubito_graph")
    if isinstance(runnable, type) or not (isinstance(runnable, Runnable | dict) or callable(runnable)):
        raise TypeError(f"musubito_runnable takes a Runnable or a function, not {runnable!r}")
    checked_engine(engine)
    if semantics is not None and not isinstance(semantics, StepConfiguration):
        raise TypeError(f"semantics must be a StepConfiguration, not {semantics!r}")
    name = f"{canonical_module(runnable.__module__)}.{runnable.__qualname__}" if inspect.isroutine(runnable) else None
    settings = Settings(engine=engine, default=semantics or SAMPLE, home=calling_module(), inner=False)
    return _recorded(coerce_to_runnable(runnable), settings, name, is_configured=semantics is not None)
