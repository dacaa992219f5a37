"""Make each call of a LangChain Runnable a call of a step, whether it is invoked or streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.messages import AIMessage, BaseMessageChunk, message_chunk_to_message
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
    RunnableWithFallbacks,
    ensure_config,
)
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.passthrough import RunnableAssign
from langchain_core.runnables.utils import AddableDict
from langchain_core.utils.aiter import aclosing

from musubito import MusubitoStream
from musubito.adapter import SCOPE, Call, Mode, in_scope, off_loop, ran_unrecorded, register_policy
from musubito.api.stream import Recording
from musubito_langgraph.call_site import ANYWHERE, CallSite
from musubito_langgraph.graph_step import GraphStep
from musubito_langgraph.id_renaming import encodable, restored
from musubito_langgraph.message_walk import chunk_of
from musubito_langgraph.node_call import NodeCall
from musubito_langgraph.recorder.watching import within
from musubito_langgraph.settings import invocation_of

if TYPE_CHECKING:
    from musubito.code.policies import Reach


class RecordedRunnable(Runnable[Any, Any]):
    """A Runnable that does what another Runnable does, as a step. It needs its whole input before it begins."""

    def __init__(self, runnable: Runnable[Any, Any], step: GraphStep) -> None:
        self._runnable = runnable
        self._step = step
        self.name = getattr(runnable, "name", None) if _is_there(runnable) else None

    # -- where it stands; for those that are nodes ---------------------------------------------------------------------
    def _place(self, config: RunnableConfig) -> CallSite:
        return ANYWHERE

    def _ended(self, attempt: NodeCall, output: Any) -> None:
        """Learn the output of a call; subclasses note it."""

    def _ending(self, attempt: NodeCall) -> Callable[[Any], None]:
        return lambda output: self._ended(attempt, _as_whole(output, self._runnable))

    def _attempt(self, value: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> NodeCall:
        others = {"keywords": kwargs} if kwargs else None
        whole = ensure_config(config)
        return NodeCall(self._step, value, whole, self._place(whole), others, config or {})

    # -- what it does --------------------------------------------------------------------------------------------------
    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return what the Runnable returns, or what it returned earlier."""
        attempt = self._attempt(input, config, kwargs)
        output = attempt.run(lambda config: self._runnable.invoke(input, config, **kwargs), self._ending(attempt))
        return _as_whole(output, self._runnable)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return what the Runnable returns, or what it returned earlier."""
        attempt = self._attempt(input, config, kwargs)
        output = await attempt.arun(
            lambda config: self._runnable.ainvoke(input, config, **kwargs), self._ending(attempt)
        )
        return _as_whole(output, self._runnable)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Yield the chunks of the Runnable as they come, or as they came earlier."""
        if self._step.is_effect:  # an effect is done or not, and is not streamed
            yield _as_chunk(self.invoke(input, config, **kwargs), self._runnable)
            return

        def go(config: RunnableConfig) -> Iterator[Any]:
            return self._runnable.stream(input, config, **kwargs)

        attempt = self._attempt(input, config, kwargs)
        stream = attempt.if_recorded(lambda: _Stream(attempt, self._runnable, go, is_async=False))
        if stream is not None:
            yield from stream
            attempt.ended(stream.result)
            attempt.dispatch()
        elif attempt.invocation.mode is Mode.OFF:
            ran_unrecorded()
            yield from go(attempt.config)
        else:
            # In a context of its own: otherwise the scope of the steps inside would also hold for the code that
            # iterates.
            context = copy_context()
            context.run(SCOPE.set, attempt.engine_and_scope()[1])
            chunks = go(attempt.begin())
            ended: Any = object()
            while (chunk := context.run(next, chunks, ended)) is not ended:
                yield chunk
        self._ended(attempt, None if stream is None else _as_whole(stream.output, self._runnable))

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Yield the chunks of the Runnable as they come, or as they came earlier."""
        if self._step.is_effect:
            yield _as_chunk(await self.ainvoke(input, config, **kwargs), self._runnable)
            return

        def go(config: RunnableConfig) -> AsyncIterator[Any]:
            return self._runnable.astream(input, config, **kwargs)

        attempt = self._attempt(input, config, kwargs)
        stream = await off_loop(
            lambda: attempt.if_recorded(lambda: _Stream(attempt, self._runnable, go, is_async=True))
        )
        if stream is not None:
            async with aclosing(aiter(stream)) as chunks:
                async for chunk in chunks:
                    yield chunk
            attempt.ended(stream.result)
            await attempt.adispatch()
        elif attempt.invocation.mode is Mode.OFF:
            ran_unrecorded()
            async with aclosing(go(attempt.config)) as chunks:
                async for chunk in chunks:
                    yield chunk
        else:
            scope, ended = attempt.engine_and_scope()[1], cast("Any", object())
            async with aclosing(go(attempt.begin())) as chunks:
                while True:
                    with in_scope(scope):
                        chunk = await anext(chunks, ended)
                    if chunk is ended:
                        break
                    yield chunk
        self._ended(attempt, None if stream is None else _as_whole(stream.output, self._runnable))

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Yield the chunks that the Runnable makes of the whole input."""
        chunks = list(input)
        if chunks:
            yield from self.stream(_as_input(chunks), config, **kwargs)
        else:
            yield from self._runnable.transform(iter(()), config, **kwargs)

    async def atransform(
        self,
        input: AsyncIterator[Any],
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Yield the chunks that the Runnable makes of the whole input."""
        chunks = [chunk async for chunk in input]
        outputs = (
            self.astream(_as_input(chunks), config, **kwargs)
            if chunks
            else self._runnable.atransform(_nothing(), config, **kwargs)
        )
        async for chunk in outputs:
            yield chunk

    def batch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """Return the outputs for all inputs, in one run, so that equal inputs are given different samples."""
        with self._one_run(config):
            return super().batch(inputs, config, **kwargs)

    async def abatch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """Return the outputs for all inputs, in one run, so that equal inputs are given different samples."""
        with self._one_run(config):
            return await super().abatch(inputs, config, **kwargs)

    @contextmanager
    def _one_run(self, config: Any) -> Iterator[None]:
        first: Any = config[0] if isinstance(config, list) and config else config if isinstance(config, dict) else {}
        invocation = invocation_of(ensure_config(first))
        engine = self._step.settings.engine_for(invocation)
        scope = SCOPE.get()
        if invocation.mode is Mode.OFF or (scope.engine is engine and scope.run is not None):
            yield
            return
        name = self._step.operation.name
        run = engine._open_run(name, scope.frame, name, only_asks=invocation.mode is Mode.REPLAY_ONLY)
        try:
            with in_scope(scope._replace(engine=engine, run=run, mode=invocation.said or scope.mode)):
                yield
        finally:
            engine._end_run(run)

    # -- what it looks like --------------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        return repr(self._runnable)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_runnable", "_step"):
            raise AttributeError(name)
        return getattr(self._runnable, name)

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the Runnable that this one stands for."""
        return name_of(self._runnable, suffix, name)


def _asked_behind(name: str) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: getattr(self._runnable, name)(*args, **kwargs)


for _name in ("InputType", "OutputType", "config_specs"):
    setattr(RecordedRunnable, _name, property(attrgetter(f"_runnable.{_name}")))
for _name in ("get_input_schema", "get_output_schema", "get_graph"):
    setattr(RecordedRunnable, _name, _asked_behind(_name))


def name_of(runnable: Runnable[Any, Any], suffix: str | None = None, name: str | None = None) -> str:
    """Return the name of a Runnable."""
    return runnable.get_name(suffix, name=name or (None if _is_there(runnable) else type(runnable).__name__))


def _is_there(runnable: Runnable[Any, Any]) -> bool:
    """Tell whether the Runnable can be asked for its name.

    A model that is chosen for each call has to be made before it can be asked.
    """
    try:
        hasattr(runnable, "name")
    except Exception:  # making a model may raise any error
        return False
    return True


# -- pieces and wholes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Streamed:
    """The stored form of an output that came in chunks."""

    chunks: list[Any]


def _plain(value: Any) -> Any:
    return {key: _plain(part) for key, part in value.items()} if type(value) is AddableDict else value


def added(chunks: list[Any]) -> Any:
    """Return the sum of all chunks, as LangChain adds them.

    A chunk that cannot be added replaces the sum of the chunks before it.
    """
    output, *others = chunks or [None]
    for chunk in others:
        try:
            output = output + chunk
        except TypeError:
            output = chunk
    return output


def _as_input(chunks: list[Any]) -> Any:
    """Return the sum of the chunks that came in, as `invoke` would be given it: both are then the same input."""
    return _plain(added(chunks))


async def _nothing() -> AsyncIterator[Any]:
    nothing: list[Any] = []
    for chunk in nothing:
        yield chunk


_FUNCTIONS: Final = (RunnableLambda, RunnableGenerator)
"""Runnables whose output is the same value whether it is streamed or not. Only the chunks of a generator are
added up."""


def _end_of(runnable: Any) -> Any:
    """Return the part of a Runnable that its output comes from."""
    while True:
        if isinstance(runnable, RunnableSequence):
            runnable = runnable.last
        elif isinstance(runnable, RunnableBindingBase):
            runnable = runnable.bound
        elif isinstance(runnable, RunnableWithFallbacks):
            ends = [_end_of(choice) for choice in runnable.runnables]
            return next((end for end in ends if not isinstance(end, _FUNCTIONS)), ends[0])
        elif isinstance(runnable, RecordedRunnable):
            runnable = runnable._runnable
        else:
            return runnable


def _as_whole(output: Any, runnable: Runnable[Any, Any]) -> Any:
    """Return an output as `invoke` returns it: the chunks are added up, and a model's chunks become a message."""
    if type(output) is not Streamed:
        return output
    whole = added(output.chunks)
    return whole if isinstance(_end_of(runnable), RunnableGenerator) else _messages(_plain(whole))


def _messages(value: Any) -> Any:
    if isinstance(value, BaseMessageChunk):
        return message_chunk_to_message(value)
    return {key: _messages(part) for key, part in value.items()} if type(value) is dict else value


def _as_chunk(output: Any, runnable: Runnable[Any, Any]) -> Any:
    """Return an output as `stream` yields it: a model's message becomes a chunk, and so do the values of a dict."""
    end = _end_of(runnable)
    if isinstance(end, _FUNCTIONS):
        return output
    if type(output) is AIMessage:
        return chunk_of(output)
    steps: Any = None
    if isinstance(end, RunnableAssign):
        steps = end.mapper.steps__
    elif isinstance(end, RunnableParallel):
        steps = end.steps__
    if steps is not None and type(output) is dict:
        return AddableDict({key: _as_chunk(part, steps[key]) if key in steps else part for key, part in output.items()})
    return output


class _Recording(Recording):
    """A recording whose chunks may be of classes of LangChain that have no encoding."""

    def _copied(self, chunk: Any) -> object:
        return restored(super()._copied(encodable(chunk)))


class _Stream(MusubitoStream[Any]):
    """A stream that shares its stored results with `invoke`."""

    def __init__(
        self, attempt: NodeCall, runnable: Runnable[Any, Any], go: Callable[[RunnableConfig], Any], *, is_async: bool
    ) -> None:
        self._attempt = attempt
        self._runnable = runnable
        self._go = go
        self.output: Any = None
        """The output as it is stored, once the stream has ended."""
        self._engine_of, scope = attempt.engine_and_scope()
        mode = attempt.invocation.mode
        super().__init__(self._engine_of, self._call, attempt.step.operation.name, scope, mode, is_async=is_async)

    def _call(self) -> Call:
        return self._attempt.call(self._engine_of, self._arun if self._is_async else self._run)

    def _recording(self) -> Recording:
        return _Recording(self._engine, self._make, self._scope, self._kept, self._mode)

    def _run(self) -> Iterator[Any]:
        config = self._attempt.begin()
        with within(config, self._attempt.config):
            yield from self._go(config)

    async def _arun(self) -> AsyncIterator[Any]:
        config = self._attempt.begin()
        with within(config, self._attempt.config):
            async with aclosing(self._go(config)) as chunks:
                async for chunk in chunks:
                    yield chunk

    def _kept(self, chunks: list[Any]) -> Any:
        self.output = Streamed(chunks)
        return self._attempt.packed(self.output)

    def _given(self, value: Any) -> Iterable[Any]:
        output = self.output = self._attempt.unpacked(value)
        return output.chunks if type(output) is Streamed else [_as_chunk(output, self._runnable)]


# -- as code -----------------------------------------------------------------------------------------------------------


def of_recorded(value: RecordedRunnable, walk: Reach) -> tuple[str, ...]:
    """Return the names of the fields that do not count for code that reaches the Runnable."""
    walk.steps.add(value._step.operation.name)
    return ("_step",)


def _how_replayed(value: RecordedRunnable) -> object:
    """Return the part of a step's configuration that counts for code that calls the step."""
    semantics = value._step.operation.definition.semantics
    return "runs each time" if semantics.runs_each_time else semantics.ttl_seconds


register_policy(RecordedRunnable, of_recorded, _how_replayed)
