"""Make steps of the models and tools that a recorded call asks by itself.

The function of a node may ask a model, a tool may ask one, and a plain step may do both. Each such call is made as if
the model or the tool had been given to `musubito_runnable`. So a call that runs again asks a model only what was not
asked before. Tools run each time, unless they are opted in (see `Settings.of_tool`).

A model's step is identified by the model, its settings and the request. The step around it does not count: two steps
that ask the same question share the answers, which are samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any, Final

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, BaseLanguageModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.aiter import aclosing

from musubito import StepConfiguration
from musubito.adapter import SCOPE, Mode, off_loop, ran_live, ran_unrecorded
from musubito.code.ownership import Owner
from musubito_langgraph import _compat, _graph_parts
from musubito_langgraph.ambient_inputs import NodeAmbient, is_released_here
from musubito_langgraph.call_site import CallSite
from musubito_langgraph.graph_step import GraphStep
from musubito_langgraph.node_call import NodeCall
from musubito_langgraph.object_identity import ORIGINS, Identity
from musubito_langgraph.object_policies import in_any_order
from musubito_langgraph.observed_config import unwatched
from musubito_langgraph.recorded_runnable import RecordedRunnable
from musubito_langgraph.recorder.asked import known_messages
from musubito_langgraph.recorder.config import handlers, with_handler
from musubito_langgraph.recorder.events import AnswerRecorder, EventRecorder
from musubito_langgraph.settings import Settings, invocation_of

MODEL: Final = "model"
"""The name that stands for the names of all models' steps in their identity."""
ONE_ANSWER: Final = StepConfiguration(allow_cross_parent_reuse=True)
"""The configuration of embeddings: a text has one, however often it is asked for."""
MAX_STEPS: Final = 256
"""Number of models and tools that are kept as steps; a program may make them anew for each request."""
FOR_TRACERS: Final = frozenset({"ls_structured_output_format", "callbacks", "tags", "metadata", "run_name", "run_id"})
"""Keyword arguments of a model that decide nothing."""
_STEPS: Final[dict[tuple[int, str, bool, int, int], tuple[object, Settings, InnerCall]]] = {}
"""The steps, by the id of what is asked, the step around it, and the ids of its engine and settings. All of these are
kept, so that the ids stay theirs."""


class Question(NodeCall):
    """A call of a model that a step asks by itself.

    LangChain tells the callbacks of the call, and the config around it is the one of the step, which is watched. What
    a model reads of that config and of the store is noted for the call, as for any step that is open.
    """

    def _watched(self) -> tuple[RunnableConfig, EventRecorder]:
        events = AnswerRecorder(self.config)
        return {**self.config, "callbacks": with_handler(self.config.get("callbacks"), events)}, events

    def _around_now(self) -> None:
        return None  # a model is not given what it could change

    def _known_messages(self) -> list[BaseMessage]:
        return [] if self._code is None else known_messages(self.value, self._code)  # its keywords hold schemas


class InnerCall(RecordedRunnable):
    """A model or a tool that a step asks by itself."""

    def _place(self, config: RunnableConfig) -> CallSite:
        """Return the site of a call. What releases the step around it releases the call."""
        return CallSite(is_released=is_released_here(), is_inner=True)

    def _attempt(self, value: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> NodeCall:
        if not isinstance(self._runnable, BaseLanguageModel):
            return super()._attempt(value, config, kwargs)
        value, keywords = _compat.request_of(self._runnable, value), _counting(kwargs)
        whole = unwatched(ensure_config(config))
        return Question(self._step, value, whole, self._place(whole), {"keywords": keywords} if keywords else None)

    def request(self, given: Mapping[str, Any]) -> NodeCall:
        """Return the call for the arguments of a method. A replay tells the callbacks of the first request."""
        (_, requests), *others = given.items()
        callbacks: Any = given.get("callbacks")
        heard = callbacks[0] if _are_of_each(callbacks) else callbacks
        config: RunnableConfig = {**unwatched(ensure_config()), "callbacks": heard}
        request = {"requests": requests, "keywords": _counting(dict(others))}
        return Question(self._step, request, config, self._place(config))


def _counting(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a model that decide its answer, as data. A class counts by its schema."""
    return {
        name: (name == "tools" and in_any_order(value)) or _schema_or_identity(value)
        for name, value in kwargs.items()
        if name not in FOR_TRACERS and (name, value) != ("stop", None)
    }


def _schema_or_identity(value: Any) -> object:
    schema = getattr(value, "model_json_schema", None) if isinstance(value, type) else None
    return Identity({}).of(value, "keyword") if schema is None else schema()


def inner_call(asked: Any, config: RunnableConfig | None = None) -> InnerCall | None:
    """Return the step of a model or tool that is asked here; None outside a recorded call, and in its own step."""
    scope = SCOPE.get()
    if scope.frame is None:
        return None
    around = scope.ambient.step if isinstance(scope.ambient, NodeAmbient) else None
    if around is not None and _graph_parts.unbound(around.code) is asked:
        return None
    if invocation_of(ensure_config(config)).mode is Mode.OFF:
        ran_unrecorded()
        return None
    settings = _PLAIN if around is None else around.settings
    is_model = not isinstance(asked, BaseTool)
    if is_model and not settings.models:
        return None
    within = scope.frame.definition
    key = id(asked), within.name, within.semantics.record_inputs, id(scope.engine), id(settings)
    kept = _STEPS.get(key)
    if kept is None:
        if len(_STEPS) >= MAX_STEPS:
            _STEPS.clear()
        step = _step(asked, within, replace(settings, engine=scope.engine), is_model=is_model)
        kept = _STEPS[key] = scope.engine, settings, InnerCall(asked, step)
    return kept[2]


_PLAIN: Final = Settings()
"""The settings in a plain step that no graph calls."""


def _step(asked: Any, within: Any, settings: Settings, *, is_model: bool) -> GraphStep:
    name = f"{within.name}/{type(asked).__name__ if is_model else asked.name}"
    path = name.partition("/")[2]  # without the name of the graph
    if is_model:
        said = ONE_ANSWER if isinstance(asked, Embeddings) else None
        semantics, is_configured = settings.semantics(path, said), path in settings.steps
    else:
        semantics, is_configured = settings.of_tool(path, asked)
    if not within.semantics.record_inputs and path not in settings.steps:
        # What it is asked holds what the step around it was given.
        semantics = replace(semantics, record_inputs=False)
    return GraphStep(
        *(name, asked, semantics, settings),
        is_done_anew=not is_model and path not in settings.steps,
        is_configured=is_configured,
        answers_as=MODEL if is_model else "",
    )


# -- the seam ----------------------------------------------------------------------------------------------------------


def _ask(original: Callable[..., Any], asked: Any, /, input: Any, config: Any = None, **kwargs: Any) -> Any:
    inner = inner_call(asked, config)
    ask = partial(original, asked) if inner is None else getattr(inner, original.__name__)  # `invoke` or `stream`
    return ask(input, config, **kwargs)


async def _ainvoke(original: Callable[..., Any], asked: Any, /, input: Any, config: Any = None, **kwargs: Any) -> Any:
    inner = await _inner_call(asked, config)
    answer = original(asked, input, config, **kwargs) if inner is None else inner.ainvoke(input, config, **kwargs)
    return await answer


async def _astream(original: Callable[..., Any], asked: Any, /, input: Any, config: Any = None, **kwargs: Any) -> Any:
    inner = await _inner_call(asked, config)
    answer = original(asked, input, config, **kwargs) if inner is None else inner.astream(input, config, **kwargs)
    async with aclosing(answer) as chunks:
        async for chunk in chunks:
            yield chunk


def _request(original: Callable[..., Any], asked: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Ask by a method whose first argument is the request, such as `generate` or `embed_query`."""
    inner = inner_call(asked)
    if inner is None:
        return original(asked, *args, **kwargs)
    ran: list[Any] = []

    def go(config: RunnableConfig) -> Any:
        ran.append(_watched(original, asked, args, kwargs, config)())
        return _without_run(ran[-1])

    answer = inner.request(_given(original, args, kwargs)).run(go)
    return ran[-1] if ran else answer


async def _arequest(original: Callable[..., Any], asked: Any, /, *args: Any, **kwargs: Any) -> Any:
    inner = await _inner_call(asked)
    if inner is None:
        return await original(asked, *args, **kwargs)
    ran: list[Any] = []

    async def go(config: RunnableConfig) -> Any:
        ran.append(await _watched(original, asked, args, kwargs, config)())
        return _without_run(ran[-1])

    answer = await inner.request(_given(original, args, kwargs)).arun(go)
    return ran[-1] if ran else answer


def _given(original: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a method by their names, without its object. The first one is the request."""
    _, *arguments = signature(original).bind(None, *args, **kwargs).arguments.items()
    named = dict(arguments)
    more = named.pop("kwargs", {})
    return {**named, **more}


def _watched(original: Any, asked: Any, args: Any, kwargs: Any, config: RunnableConfig) -> Callable[[], Any]:
    """Return a method with its arguments, and with the recorder of the call in its callbacks, if it takes any."""
    if "callbacks" not in signature(original).parameters:
        return partial(original, asked, *args, **kwargs)
    given, watched = _given(original, args, kwargs), config["callbacks"]
    callbacks: Any = given.get("callbacks")
    if _are_of_each(callbacks):
        watched = [with_handler(callback, handlers(config)[-1]) for callback in callbacks]
    return partial(original, asked, **{**given, "callbacks": watched})


def _are_of_each(callbacks: Any) -> bool:
    """Tell whether each request has callbacks of its own, as in a batch."""
    return isinstance(callbacks, list) and not all(isinstance(callback, BaseCallbackHandler) for callback in callbacks)


def _without_run(result: Any) -> Any:
    """Return a result without the ids of the run of `generate`, which belong to no other run."""
    return result.model_copy(update={"run": None}) if isinstance(result, LLMResult) else result


async def _inner_call(asked: Any, config: RunnableConfig | None = None) -> InnerCall | None:
    inner: InnerCall | None = await off_loop(lambda: inner_call(asked, config))
    return inner


def _run_tool(original: Callable[..., Any], asked: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run a tool. Where it is no step, since it is called past `invoke` or in a thread without context, note that."""
    inner = inner_call(asked)
    if SCOPE.get().frame is None:
        ran_live(asked.name)
    elif inner is not None and inner._step.is_live:
        ran_live(inner._step.operation.name)
    return original(asked, *args, **kwargs)


def watch_models_and_tools() -> None:
    """Let the models and tools of LangChain be steps where a recorded call asks them."""
    asked = {"invoke": _ask, "ainvoke": _ainvoke}
    for cls in (BaseChatModel, BaseLLM):
        streamed = {"stream": _ask, "astream": _astream}
        _compat.stand_before(cls, {**asked, **streamed, "generate": _request, "agenerate": _arequest})
    _compat.stand_before(BaseTool, {**asked, "run": _run_tool, "arun": _run_tool})
    _compat.stand_before_each(
        Embeddings,
        {"embed_documents": _request, "embed_query": _request}
        | {"aembed_documents": _arequest, "aembed_query": _arequest},
        lambda cls: ORIGINS.of_class(cls) is not Owner.USER,  # a class of the user's stays as it is
    )
