"""Perform the requests of a call: `drive` in this thread, `drive_async` on an event loop.

On an event loop, reads happen in place if the store waits for nobody (a WAL reader takes some microseconds). Writes
happen on the engine's writer thread, all writes of one tick of the loop in one transaction. A write that has begun is
finished even if the task is cancelled. The cancellation is kept until the call has dealt with the answer. A detector of
blocking calls (blockbuster, which `langgraph dev` uses) may watch the loop. Then all work that touches a file happens
in a thread.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Token
from typing import Any, Final, TypeVar, assert_never

from musubito.deferred import asyncio, running_loop
from musubito.engine.host import EngineHost
from musubito.engine.requests import (
    CallSteps,
    CheckDependency,
    FetchLatest,
    FetchOrClaim,
    Invoke,
    Join,
    Offload,
    Raised,
    Request,
    Returned,
    RunQuery,
    Sleep,
    Write,
)
from musubito.engine.scope import SCOPE, Scope
from musubito.engine.single_flight import FlightOutcome, FlightResult, JoinResult
from musubito.engine.watched_loop import loop_is_watched
from musubito.errors import MusubitoError
from musubito.store.changes import Claim

T = TypeVar("T")


READS = (FetchLatest, RunQuery)
PATIENCE: Final = 1.0
"""Seconds of a wait after which it is checked whether the wait can end, again and again."""


def drive(steps: CallSteps[T | Raised], engine: EngineHost) -> T:
    """Perform the requests of a call in this thread, and return its value or raise its error."""
    try:
        result = _perform_from(steps, steps.send(None), engine)
    except StopIteration as stop:
        result = stop.value
    except BaseException as error:
        if inspect.getgeneratorstate(steps) != inspect.GEN_SUSPENDED:
            raise
        # An interrupt (Ctrl-C) came between two requests: the call releases what it has begun.
        try:
            result = _perform_from(steps, steps.throw(error), engine)
        except StopIteration as stop:
            result = stop.value
    if isinstance(result, Raised):
        raise result.error
    return result


def _perform_from(steps: CallSteps[T], request: Request, engine: EngineHost) -> T:
    """Perform this request and all that follow. Raises StopIteration with the call's result, as the generator does."""
    store = engine.storage
    while True:
        try:
            if type(request) is FetchLatest:
                answer: Any = store.newest(*request)
            elif type(request) is Write:
                answer = store.write((request.change,))[0]
            elif type(request) is Invoke:
                answer = _invoke(request.function, request.scope)
            else:
                answer = perform(request, engine)
        except BaseException as error:
            request = steps.throw(error)
        else:
            request = steps.send(answer)


def perform(request: Request, engine: EngineHost) -> Any:
    """Perform one request in this thread and return its answer."""
    match request:
        case FetchLatest(keys, namespace):
            return engine.storage.newest(keys, namespace)
        case FetchOrClaim(store, claim, namespace):
            return store.newest_or_claim(claim, namespace)
        case RunQuery(query):
            return engine.storage.find(query)
        case Write(change):
            return engine.storage.write((change,))[0]
        case Invoke(function, scope):
            return _invoke(function, scope)
        case CheckDependency(function):
            return _check_dependency(function)
        case Offload(function):
            return function()
        case Join(key, frame):
            joined = engine.flights.join(key, frame, running_loop())
            return joined if isinstance(joined, JoinResult) else _wait_for_flight(key, joined, engine)
        case Sleep(seconds):
            return time.sleep(seconds)
        case _:
            assert_never(request)


def _invoke(function: Callable[[], Any], scope: Scope) -> Returned[Any] | Raised:
    token = SCOPE.set(scope)
    try:
        return Returned(function())
    except BaseException as error:
        return Raised(_without_own_frame(error))
    finally:
        SCOPE.reset(token)


def _check_dependency(function: Callable[[], Any]) -> Returned[Any] | Raised:
    try:
        value = function()
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise TypeError("an awaitable answer needs an async step")
        return Returned(value)
    except Exception as error:
        return Raised(error)


def _wait_for_flight(key: bytes, future: Future[FlightResult], engine: EngineHost) -> FlightResult:
    try:
        while True:
            try:
                return future.result(PATIENCE)
            except TimeoutError:
                if engine.flights.is_stuck(key):
                    return FlightOutcome.RUN_YOURSELF
    finally:
        future.cancel()
        engine.flights.leave_waiting(future)


def _without_own_frame(error: BaseException) -> BaseException:
    """Remove our own frame from a traceback, so that it begins in the user's function."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    return error


async def drive_async(steps: CallSteps[T | Raised], engine: EngineHost) -> T:
    """Perform the requests of a call in this task, and return its value or raise its error."""
    cancelled: asyncio.CancelledError | None = None
    result: T | Raised
    try:
        request = steps.send(None)
        while True:
            try:
                watched = loop_is_watched()
                in_place = engine.reads_in_place and not watched
                if type(request) is FetchLatest and in_place:
                    answer: Any = engine.storage.newest(*request)
                elif (
                    type(request) is Write and type(request.change) is Claim and engine.claims_in_place and not watched
                ):
                    if cancelled is not None:
                        raise cancelled
                    answer = engine.storage.write((request.change,))[0]
                elif type(request) is Write:
                    answer, late = await _result_of(engine.writer.submit(request.change))
                    cancelled = cancelled or late
                elif type(request) is Offload or type(request) is FetchOrClaim:
                    answer, late = await _result_of(asyncio.ensure_future(asyncio.to_thread(perform, request, engine)))
                    cancelled = cancelled or late
                elif cancelled is not None and type(request) is not RunQuery:
                    raise cancelled
                elif type(request) in READS and not in_place:
                    answer = await asyncio.to_thread(perform, request, engine)
                else:
                    answer = await _perform_async(request, engine)
            except GeneratorExit as error:
                # The loop is being closed: nothing can be awaited any more.
                result = _perform_from(steps, steps.throw(error), engine)
                break
            except BaseException as error:
                request = steps.throw(error)
            else:
                request = steps.send(answer)
    except StopIteration as stop:
        result = stop.value
    if isinstance(result, Raised):
        raise result.error
    if cancelled is not None:
        raise cancelled
    return result


async def _perform_async(request: Request, engine: EngineHost) -> Any:
    match request:
        case Invoke(function, scope):
            return await _invoke_async(function, scope)
        case CheckDependency(function):
            return await _check_dependency_async(function)
        case Join(key, frame):
            joined = engine.flights.join(key, frame, None)
            return joined if isinstance(joined, JoinResult) else await _wait_for_flight_async(key, joined, engine)
        case Sleep(seconds):
            return await asyncio.sleep(seconds)
        case _:
            return perform(request, engine)


async def _invoke_async(function: Callable[[], Any], scope: Scope) -> Returned[Any] | Raised:
    token: Token[Scope] = SCOPE.set(scope)
    outcome: Returned[Any] | Raised
    try:
        outcome = Returned(await function())
    except GeneratorExit:
        # The coroutine may be closed in another context, where resetting the token would raise.
        raise
    except BaseException as error:
        outcome = Raised(_without_own_frame(error))
    SCOPE.reset(token)
    return outcome


async def _check_dependency_async(function: Callable[[], Any]) -> Returned[Any] | Raised:
    try:
        value = await asyncio.to_thread(function) if loop_is_watched() else function()
        return Returned(await value if inspect.isawaitable(value) else value)
    except Exception as error:
        return Raised(error)


async def _wait_for_flight_async(key: bytes, future: Future[FlightResult], engine: EngineHost) -> FlightResult:
    landing = asyncio.wrap_future(future)
    try:
        while not (await asyncio.wait([landing], timeout=PATIENCE))[0]:
            if engine.flights.is_stuck(key):
                return FlightOutcome.RUN_YOURSELF
        return landing.result()
    finally:
        landing.cancel()
        engine.flights.leave_waiting(future)


async def _result_of(work: asyncio.Future[Any]) -> tuple[Any, asyncio.CancelledError | None]:
    """Return the result of the work, and a cancellation that came meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            cancelled = error
        except MusubitoError:
            break
    return work.result(), cancelled
