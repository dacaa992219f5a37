"""Steps that are generators: streamed as they go, recorded when exhausted, replayed chunk by chunk.

A call begins when its stream is first asked for a chunk. The code runs then, so code and arguments are identified then.
Streams take no single-flight: two equal streams that are zipped together must not wait for each other. The first stream
to finish is recorded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, closing
from contextvars import copy_context
from typing import Any, Final, Generic, TypeVar

from musubito.deferred import asyncio
from musubito.engine.call import CallProtocol
from musubito.engine.call_identity import Call, input_of
from musubito.engine.call_state import StartedExecution
from musubito.engine.drivers import drive, drive_async
from musubito.engine.effects import EffectCall
from musubito.engine.engine import MusubitoEngine, replays
from musubito.engine.frame import Dependencies
from musubito.engine.mode_in_use import current_mode
from musubito.engine.modes import Mode
from musubito.engine.requests import CallSteps, Raised, Returned, RunQuery
from musubito.engine.scope import SCOPE, Scope
from musubito.engine.unrecorded import ran_unrecorded, result_of
from musubito.engine.watched_loop import loop_is_watched
from musubito.errors import ArtifactUnreadable, EncodingError, MusubitoError
from musubito.model import MusubitoResult
from musubito.reasons import ReplayReason
from musubito.store.queries import CurrentMoment
from musubito.values.artifact_codec import FORMAT, ArtifactPacker, decode_value
from musubito.values.class_names import qualified_name

T = TypeVar("T")

UNCHANGEABLE: Final = (str, bytes, int, float, bool, type(None))
"""Types of chunks that a reader cannot change, so that they need no copy."""


class StreamCall(CallProtocol):
    """The call of a stream. It waits for no other call, and no other call waits for it."""

    def _begin(self) -> CallSteps[MusubitoResult[Any] | Raised | StartedExecution]:
        hit = yield from self.lookup()
        return StartedExecution((yield RunQuery(CurrentMoment()))) if hit is None else hit


class MusubitoStream(Generic[T]):
    """The chunks of one call of a generator step; iterable once, with `for` or `async for` as the function is.

    When the stream is exhausted, `result` is the `MusubitoResult` of the list of chunks. If the stream was closed early
    or failed, there is no result.

    A stream is only iterated. Values sent and errors thrown into its iterator do not reach the generator (a throw
    closes it). The return value of the generator is not kept. An async generator lives in a task of its own, from its
    first chunk to its last. That task does not run ahead of the reader.

    >>> from collections.abc import Iterator
    >>> from musubito import musubito_step
    >>> @musubito_step
    ... def words(text: str) -> Iterator[str]:
    ...     yield from text.split()
    >>> stream = words("one two")
    >>> [word for word in stream], stream.result.value
    (['one', 'two'], ['one', 'two'])
    """

    def __init__(
        self,
        engine: MusubitoEngine,
        make: Callable[[], Call],
        name: str,
        scope: Scope | None = None,
        mode: Mode | None = None,
        *,
        is_async: bool,
    ) -> None:
        """Prepare a stream.

        `make` returns the call as it is now. It is called here, so that wrong arguments raise an error where they are
        passed. It is called again when the stream begins.
        """
        self._engine = engine
        self._make = make
        # The mode of the place where the stream is made counts, not of the place where it is iterated.
        self._mode = current_mode() if mode is None else mode
        self._scope = scope or SCOPE.get()
        self._name = name
        self._is_async = is_async
        self._started = False
        self._result: MusubitoResult[list[T]] | None = None
        # Source texts are read from files, which would block a watched loop: there errors come when the stream begins.
        if not loop_is_watched():
            input_of(make(), self._scope)

    def _kept(self, chunks: list[Any]) -> Any:
        """Return the value that is stored for these chunks."""
        return chunks

    def _given(self, value: Any) -> Iterable[T]:
        """Return the chunks of a stored value."""
        chunks: Iterable[T] = value
        return chunks

    def __repr__(self) -> str:
        state = "exhausted" if self._result is not None else "begun" if self._started else "not begun"
        return f"<MusubitoStream of {self._name}, {state}>"

    @property
    def result(self) -> MusubitoResult[list[T]]:
        """The result with all chunks, once the stream is exhausted. Raises `MusubitoError` before that."""
        if self._result is None:
            raise MusubitoError(f"{self._name}: a stream has a result when it is exhausted")
        return self._result

    def __iter__(self) -> Iterator[T]:
        if self._is_async:
            raise TypeError(f"{self._name} is an async generator: use `async for`")
        self._start()
        return self._stream()

    def __aiter__(self) -> AsyncIterator[T]:
        if not self._is_async:
            raise TypeError(f"{self._name} is no async generator: use `for`")
        self._start()
        return self._astream()

    def _start(self) -> None:
        if self._started:
            raise MusubitoError(f"{self._name}: a stream can be iterated once; call the step again")
        self._started = True

    def _recording(self) -> Recording:
        return Recording(self._engine, self._make, self._scope, self._kept, self._mode)

    def _stream(self) -> Iterator[T]:
        recording = self._recording()
        begun: Any = drive(recording.protocol.begin(), self._engine)
        if isinstance(begun, MusubitoResult):
            self._result = begun
            yield from self._given(begun.value)
            return
        recording.open(begun)
        outcome: Returned[Any] | Raised
        try:
            generator = recording.protocol.call.function()
            try:
                while True:
                    try:
                        chunk = recording.context.run(next, generator)
                    except StopIteration:
                        break
                    recording.add(chunk)
                    yield chunk
            finally:
                recording.context.run(generator.close)
            outcome = Returned(recording.context.run(recording.kept))
        except BaseException as error:
            outcome = Raised(error)
        self._result = drive(recording.end(outcome), self._engine)

    async def _astream(self) -> AsyncIterator[T]:
        # Source texts are read from files, which would block the loop.
        recording = await asyncio.to_thread(self._recording) if loop_is_watched() else self._recording()
        begun: MusubitoResult[Any] | StartedExecution = await drive_async(recording.protocol.begin(), self._engine)
        if isinstance(begun, MusubitoResult):
            self._result = begun
            for chunk in self._given(begun.value):
                yield chunk
            return
        recording.open(begun)
        life = _Life(recording)
        try:
            while await life.goes_on():
                yield life.chunks.popleft()
        except BaseException as error:
            await life.close(error)
            raise
        self._result = life.result()


class UnrecordedStream(MusubitoStream[T]):
    """The chunks of a generator in the mode `off`: it runs without Musubito."""

    def __init__(self, function: Callable[[], Any], name: str, *, is_async: bool) -> None:
        self._function = function
        self._name = name
        self._is_async = is_async
        self._started = False
        self._result = None

    def _stream(self) -> Iterator[T]:
        ran_unrecorded()
        chunks: list[T] = []
        with closing(self._function()) as generator:
            for chunk in generator:
                chunks.append(chunk)
                yield chunk
        self._result = result_of(self._name, chunks)

    async def _astream(self) -> AsyncIterator[T]:
        ran_unrecorded()
        chunks: list[T] = []
        async with aclosing(self._function()) as generator:
            async for chunk in generator:
                chunks.append(chunk)
                yield chunk
        self._result = result_of(self._name, chunks)


class Recording:
    """The chunks of a stream so far, and the context in which its generator runs."""

    def __init__(
        self,
        engine: MusubitoEngine,
        make: Callable[[], Call],
        scope: Scope,
        keep: Callable[[list[Any]], Any],
        mode: Mode,
    ) -> None:
        self._make = make
        self._keep = keep
        kinds = (replays()[0] if mode is Mode.REPLAY_ONLY else StreamCall, EffectCall)
        self.protocol = engine._protocol(make(), mode, scope, kinds)
        self.chunks: list[Any] = []
        self.context = copy_context()

    def open(self, begun: StartedExecution) -> None:
        """Prepare the context of the generator, which is about to begin."""
        self._begun = self.protocol.look_once_more(begun)
        self.context.run(SCOPE.set, self.protocol.body_scope())
        self._around = tuple(self.protocol.frame().around)
        for frame in self._around:
            frame.stream_begins()
        self._started_at = self.protocol.engine.now()
        self._clock = time.perf_counter()

    def kept(self) -> Any:
        """Return the value that is stored for all chunks. It is called in the context in which the generator ran."""
        return self._keep(self.chunks)

    def add(self, chunk: Any) -> None:
        """Keep a copy of a chunk as it is now, since the reader may change the chunk."""
        if not isinstance(chunk, UNCHANGEABLE):
            try:
                chunk = self._copied(chunk)
            except (EncodingError, ArtifactUnreadable) as error:
                # The recorded chunk may differ from the chunk that the reader got.
                self._not_replayable(ReplayReason.NOT_STORABLE.of(f"a chunk: {error}"))
        self.chunks.append(chunk)

    def _not_replayable(self, why: str) -> None:
        self.protocol.frame().absorb(Dependencies((), (), None, None, why, samples=False))

    def _copied(self, chunk: Any) -> object:
        """Return a copy of a chunk. Its classes are at hand now, even those made inside the generator."""
        packer = ArtifactPacker()
        payload = FORMAT + packer.pack(chunk)
        classes = self.protocol.call.fingerprint.classes
        if packer.classes:
            own = {qualified_name(cls): cls for cls in packer.classes}
            if len(own) < len(packer.classes):
                raise ArtifactUnreadable("two classes of one name")
            classes = {**classes, **own}
        return decode_value(payload, classes)

    def end(self, outcome: Returned[Any] | Raised) -> CallSteps[MusubitoResult[Any] | Raised]:
        """Record the stream; return its result, or its error as `Raised`."""
        duration_ms = (time.perf_counter() - self._clock) * 1000
        try:
            return (yield from self.protocol.finish(self._begun, outcome, self._started_at, duration_ms))
        finally:
            for frame in self._around:
                frame.stream_ended()


class _Life:
    """The task in which an async generator lives, and the signals between that task and the reader.

    One task runs from the first chunk to the last, as time limits and task groups inside the generator need it. The
    task waits until it is asked for a chunk. If it is cancelled while it waits, by such a time limit for example, it
    cancels the generator where the generator stands. A chunk that the generator yields in answer is kept until it is
    asked for.
    """

    def __init__(self, recording: Recording) -> None:
        self.chunks: deque[Any] = deque()
        self._recording = recording
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Returned[MusubitoResult[Any]] | Raised] = loop.create_future()
        self._wanted = False
        self._closing: BaseException | None = None
        self._bell: asyncio.Future[None] | None = None
        self._answer: asyncio.Future[None] | None = None
        self._task = loop.create_task(self._live(), context=recording.context)

    # -- the reader ----------------------------------------------------------------------------------------------------
    async def goes_on(self) -> bool:
        """Wait for the next chunk; return False if there is none."""
        if not self.chunks and not self._ended.done():
            self._wanted = True
            _wake(self._bell)
        while not self.chunks and not self._ended.done():
            try:
                await self._answered()
            except asyncio.CancelledError as error:
                if self.chunks or self._ended.done():
                    raise
                # The generator is cancelled as if this task awaited it, and may yield in answer.
                self._task.cancel(*error.args)
        return bool(self.chunks)

    async def close(self, error: BaseException) -> None:
        """End the generator after the reader left with this error; raise the error that the generator raises for it."""
        self._closing = error
        _wake(self._bell)
        while not self._ended.done():
            try:
                await self._answered()
            except asyncio.CancelledError as cancelled:
                self._task.cancel(*cancelled.args)
        self.result()

    def result(self) -> MusubitoResult[Any]:
        """Return the result with all chunks; raise the error that the generator raised."""
        ended = self._ended.result()
        if isinstance(ended, Raised):
            raise ended.error
        return ended.value

    async def _answered(self) -> None:
        self._answer = asyncio.get_running_loop().create_future()
        await self._answer

    # -- the task ------------------------------------------------------------------------------------------------------
    async def _live(self) -> None:
        recording, engine = self._recording, self._recording.protocol.engine
        try:
            try:
                outcome = await self._make_chunks()
            except GeneratorExit as error:
                # The generator was dropped together with its loop: nothing can be awaited any more.
                drive(recording.end(Raised(error)), engine)
                raise
            except BaseException as error:
                outcome = Raised(error)
            self._ended.set_result(Returned(await drive_async(recording.end(outcome), engine)))
        except BaseException as error:
            self._ended.set_result(Raised(error))
        _wake(self._answer)

    async def _make_chunks(self) -> Returned[Any] | Raised:
        generator = self._recording.protocol.call.function()
        while True:
            step: Awaitable[Any]
            try:
                await self._asked()
            except asyncio.CancelledError as error:
                step = generator.athrow(error)
            else:
                if self._closing is not None:
                    await generator.aclose()
                    return Raised(self._closing)
                step = generator.__anext__()
            try:
                chunk = await step
            except StopAsyncIteration:
                return Returned(self._recording.kept())
            self._recording.add(chunk)
            self.chunks.append(chunk)
            self._wanted = False
            _wake(self._answer)

    async def _asked(self) -> None:
        while not self._wanted and self._closing is None:
            self._bell = asyncio.get_running_loop().create_future()
            await self._bell


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
