"""Steps that are generators: streamed as they go, recorded when exhausted, replayed chunk by chunk.

Streams take no single-flight: two equal streams that are zipped together must not wait for each other. The first to
finish is recorded.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import Context, copy_context
from typing import Any, Final, Generic, TypeVar

from musubito.engine.context import SCOPE, Scope
from musubito.engine.drivers import arun, run
from musubito.engine.effects import Find, Raised, Returned
from musubito.engine.engine import MusubitoEngine
from musubito.engine.protocol import Begun, Call, Story, Telling
from musubito.errors import EncodingError, MusubitoError
from musubito.identity.codecs import decode_value, encode_value
from musubito.model import MusubitoResult
from musubito.store.base import Began

__all__ = ["MusubitoStream"]

T = TypeVar("T")

UNCHANGEABLE: Final = (str, bytes, int, float, bool, type(None))


class _StreamStory(Story):
    """Nobody waits for a stream, and a stream waits for nobody."""

    __slots__ = ()

    def _begin(self) -> Telling[MusubitoResult[Any] | Raised | Begun]:
        hit = yield from self.look()
        return Begun((yield Find(Began()))) if hit is None else hit


class MusubitoStream(Generic[T]):
    """The chunks of one call of a generator step; iterable once, with `for` or `async for` as the function is.

    When it is exhausted, `result` is the `MusubitoResult` of the list of chunks. Closed early or failed, there is none.
    """

    def __init__(self, engine: MusubitoEngine, call: Call) -> None:
        self._engine = engine
        self._call = call
        self._scope = SCOPE.get()
        self._started = False
        self._result: MusubitoResult[list[T]] | None = None

    def __repr__(self) -> str:
        state = "exhausted" if self._result is not None else "begun" if self._started else "not begun"
        return f"<MusubitoStream of {self._call.definition.name}, {state}>"

    @property
    def result(self) -> MusubitoResult[list[T]]:
        """All chunks, once the stream is exhausted; `MusubitoError` before that."""
        if self._result is None:
            raise MusubitoError(f"{self._call.definition.name}: a stream has a result when it is exhausted")
        return self._result

    def __iter__(self) -> Iterator[T]:
        if inspect.isasyncgenfunction(self._call.definition.function):
            raise TypeError(f"{self._call.definition.name} is an async generator: use `async for`")
        self._start()
        return self._stream()

    def __aiter__(self) -> AsyncIterator[T]:
        if not inspect.isasyncgenfunction(self._call.definition.function):
            raise TypeError(f"{self._call.definition.name} is no async generator: use `for`")
        self._start()
        return self._astream()

    def _start(self) -> None:
        if self._started:
            raise MusubitoError(f"{self._call.definition.name}: a stream can be iterated once; call the step again")
        self._started = True

    def _stream(self) -> Iterator[T]:
        engine = self._engine
        recording = _Recording(engine, self._call, self._scope)
        begun: Any = run(recording.story.begin(), engine)
        if isinstance(begun, MusubitoResult):
            self._result = begun
            yield from begun.value
            return
        recording.open()
        generator = recording.context.run(self._call.function)
        try:
            while True:
                try:
                    chunk = recording.context.run(next, generator)
                except StopIteration:
                    break
                recording.add(chunk)
                yield chunk
        except BaseException as error:
            recording.context.run(generator.close)
            run(recording.end(begun, Raised(error)), engine)
        self._result = run(recording.end(begun, Returned(recording.chunks)), engine)

    async def _astream(self) -> AsyncIterator[T]:
        engine = self._engine
        recording = _Recording(engine, self._call, self._scope)
        begun: MusubitoResult[Any] | Begun = await arun(recording.story.begin(), engine)
        if isinstance(begun, MusubitoResult):
            self._result = begun
            for chunk in begun.value:
                yield chunk
            return
        recording.open()
        generator = recording.context.run(self._call.function)
        try:
            while True:
                try:
                    chunk = await _in(recording.context, generator.__anext__())
                except StopAsyncIteration:
                    break
                recording.add(chunk)
                yield chunk
        except BaseException as error:
            await _in(recording.context, generator.aclose())
            await arun(recording.end(begun, Raised(error)), engine)
        self._result = await arun(recording.end(begun, Returned(recording.chunks)), engine)


async def _in(context: Context, step: Any) -> Any:
    """One step of an async generator in the generator's own context."""

    async def take() -> Any:
        try:
            return Returned(await step)
        except (StopAsyncIteration, StopIteration) as end:
            # A task cannot end with these.
            return Raised(end)

    outcome = await asyncio.get_running_loop().create_task(take(), context=context)
    if isinstance(outcome, Raised):
        raise outcome.error
    return outcome.value


class _Recording:
    """What a stream has given so far, and the context in which its generator runs."""

    def __init__(self, engine: MusubitoEngine, call: Call, scope: Scope) -> None:
        self.story = _StreamStory(
            engine, call, scope if scope.engine is engine else scope._replace(engine=engine, run=None)
        )
        self.chunks: list[Any] = []
        self.context = copy_context()

    def open(self) -> None:
        """The generator is about to begin: its node is described before it can change its arguments in place."""
        self.story.place()
        self.context.run(SCOPE.set, self.story.body_scope())
        self._started_at = self.story.engine.now()
        self._clock = time.perf_counter()

    def add(self, chunk: Any) -> None:
        """As it is now: whoever is given it may change it."""
        if not isinstance(chunk, UNCHANGEABLE):
            try:
                chunk = decode_value(encode_value(chunk), self.story.call.fingerprint.classes)
            except EncodingError:
                # It cannot be stored, so neither can the stream: that is said when it ends.
                self.chunks.append(chunk)
                return
        self.chunks.append(chunk)

    def end(self, begun: Begun, outcome: Returned[Any] | Raised) -> Telling[MusubitoResult[Any] | Raised]:
        """Record the stream; gives back what it raised."""
        return self.story.finish(begun, outcome, self._started_at, (time.perf_counter() - self._clock) * 1000)
