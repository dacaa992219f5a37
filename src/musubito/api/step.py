"""The decorator, which binds a call's arguments, identifies its code, and passes the call to the engine.

There is one wrapper for each kind of callable. Each turns a call into a `Call` value; the engine does everything else.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, overload

from musubito.api.answer_kinds import Answer, answer_of, declared_answer
from musubito.api.binding import binding_of, counted, function_in
from musubito.api.stream import MusubitoStream, UnrecordedStream
from musubito.code.fingerprint import Fingerprint
from musubito.code.live import contents
from musubito.code.made import Sent
from musubito.code.rebound_functions import LATEST, Unchanged
from musubito.code.sent_code import sent
from musubito.code.tracker import CodeTracker
from musubito.deferred import asyncio
from musubito.dependencies.events import listen
from musubito.engine.call_identity import Call
from musubito.engine.code_version import CodeVersion
from musubito.engine.engine import MusubitoEngine
from musubito.engine.engine_in_use import current_engine
from musubito.engine.mode_in_use import current_mode
from musubito.engine.modes import OFF
from musubito.engine.unrecorded import run_unrecorded, run_unrecorded_async
from musubito.engine.watched_loop import loop_is_watched
from musubito.model import UNSTORABLE, MusubitoResult, StepConfiguration, StepDefinition, StepType, check_inputs
from musubito.store.rows import CodeRecord
from musubito.values.class_instances import count_script_as
from musubito.values.class_names import canonical_module, find_module, is_script, qualified_name, script_name

P = ParamSpec("P")
T = TypeVar("T")

USUAL: Final = (None, None, None, (), None, b"", None)
"""The last fields of a `Call`, as every step has them."""
Version: TypeAlias = str | Callable[[], str | int]


# A coroutine function is also a function that returns a coroutine: the first overload that fits is meant.
# mypy: disable-error-code="overload-overlap"


class _Decorator:
    """The decorator `@musubito_step(...)`, typed for each kind of callable."""

    def __init__(
        self, semantics: StepConfiguration | None, operation_version: Version | None, name: str | None
    ) -> None:
        self._semantics = semantics or StepConfiguration()
        self._is_configured = semantics is not None
        self._operation_version = operation_version
        self._name = name

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]]
    ) -> Callable[P, Coroutine[Any, Any, MusubitoResult[T]]]: ...
    @overload
    def __call__(self, function: Callable[P, AsyncIterator[T]]) -> Callable[P, MusubitoStream[T]]: ...
    @overload
    def __call__(self, function: Callable[P, Iterator[T]]) -> Callable[P, MusubitoStream[T]]: ...
    @overload
    def __call__(self, function: Callable[P, T]) -> Callable[P, MusubitoResult[T]]: ...
    def __call__(self, function: Callable[..., Any]) -> Any:
        if isinstance(function, staticmethod | classmethod):
            kind = type(function).__name__
            raise TypeError(f"put @{kind} above @musubito_step, not below it")
        _check(function)
        if self._name is not None and type(self._name) is not str:
            raise TypeError(f"name is a text, not {self._name!r}")
        effect = self._semantics.step_type is StepType.EXTERNAL_EFFECT
        name = self._name
        if name is None:
            name = _name_of_effect(function) if effect else _name_of(function)
        return _wrap(StepDefinition(function, name, self._semantics, self._operation_version, self._is_configured))


def _check(function: Any) -> None:
    """Raise TypeError for a callable that cannot be a step."""
    if not callable(function):
        raise TypeError(f"musubito_step decorates functions and what is called like one, not {function!r}")
    if isinstance(function, type) or function_in(function) is None:
        what = "is a class" if isinstance(function, type) else "is not written in Python, so its code cannot be told"
        raise TypeError(
            f"musubito_step: {function!r} {what}; decorate a function that calls it: "
            "def name_of_the_step(x): return ...(x)"
        )
    if declared_answer(function) is Answer.CONTEXT_MANAGER:
        raise TypeError(_context_manager_advice(function))


def _context_manager_advice(function: Any) -> str:
    return (
        f"musubito_step: {_name_of(function)} gives a context manager, which cannot be stored and replayed; "
        "decorate a function that does the work in the `with` block and returns its result"
    )


def _name_of(function: Callable[..., Any]) -> str:
    """Return the name of a callable: its own, or the name of the function or class that it is made of."""
    named: Any = function
    if isinstance(function, functools.partial):
        named = function_in(function)
    elif getattr(function, "__qualname__", None) is None:
        named = type(function)
    return f"{canonical_module(named.__module__)}.{named.__qualname__}"


def _name_of_effect(function: Callable[..., Any]) -> str:
    """Return the name of an effect. Raise TypeError for a name that two effects might share.

    An effect is identified by its name, and not by its code. An effect of a script is named after the script's file, as
    if the script had been imported.
    """
    qualname = getattr(function, "__qualname__", None)
    if qualname is None:
        raise TypeError(f"{function!r} has no name of its own: as an EXTERNAL_EFFECT it needs a name=...")
    module: str | None = function.__module__  # None if text was run that has no `__name__`
    if "<locals>" in qualname or module is None:
        place = "inside a function" if module is not None else "in no module"
        raise TypeError(
            f"{module}.{qualname}: an EXTERNAL_EFFECT that is made {place} needs a name=..., "
            "one for each effect that differs"
        )
    if is_script(module):
        main = find_module(module)
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        module = spec.name if spec is not None else Path(file).stem if file else module
    return f"{module}.{qualname}"


@overload
def musubito_step(
    semantics: Callable[P, Coroutine[Any, Any, T]], /
) -> Callable[P, Coroutine[Any, Any, MusubitoResult[T]]]: ...
@overload
def musubito_step(semantics: Callable[P, AsyncIterator[T]], /) -> Callable[P, MusubitoStream[T]]: ...
@overload
def musubito_step(semantics: Callable[P, Iterator[T]], /) -> Callable[P, MusubitoStream[T]]: ...
@overload
def musubito_step(semantics: Callable[P, T], /) -> Callable[P, MusubitoResult[T]]: ...
@overload
def musubito_step(
    semantics: StepConfiguration | None = None, *, operation_version: Version | None = None, name: str | None = None
) -> _Decorator: ...
def musubito_step(
    semantics: StepConfiguration | Callable[..., Any] | None = None,
    *,
    operation_version: Version | None = None,
    name: str | None = None,
) -> Any:
    """Make a function a step: its calls are recorded, and replayed where that is safe.

    A call returns a `MusubitoResult`; the call of a generator returns a `MusubitoStream`. If an argument cannot be
    identified, the call raises `InputError` before anything runs.

    `operation_version` stands for things that code cannot show: a prompt on a server, a remote model. A callable
    without arguments is called at each call of the step, and returns a text or an int. `name` is the operation's name;
    by default it is the function's module and qualified name.

    The decorator works bare and with arguments, and under and above other decorators. It takes sync and async
    functions, generators, methods, partial objects, and objects with `__call__`.

    >>> from musubito import StepConfiguration, musubito_step
    >>> @musubito_step(StepConfiguration("deterministic"), name="shop.total")
    ... def total(prices: list[int]) -> int:
    ...     return sum(prices)
    >>> total([3, 4]).value
    7
    """
    if isinstance(semantics, StepConfiguration) or semantics is None:
        return _Decorator(semantics, operation_version, name)
    if callable(semantics) or isinstance(semantics, staticmethod | classmethod):
        return _Decorator(None, operation_version, name)(semantics)
    raise TypeError(f"musubito_step takes a StepConfiguration, not {semantics!r}")


def _wrap(definition: StepDefinition) -> Callable[..., Any]:
    function = definition.function
    caller = _Caller(definition)
    declared = declared_answer(function)
    step: Any
    if declared is Answer.AWAITABLE:

        @_looks_like(function)
        async def step(*args: Any, **kwargs: Any) -> Any:
            return await _call_async(caller, args, kwargs)

    elif declared is not None:
        caller.check(declared)

        @_looks_like(function)
        def step(*args: Any, **kwargs: Any) -> Any:
            return _stream(caller, declared, args, kwargs)

    else:

        @_looks_like(function)
        def step(*args: Any, **kwargs: Any) -> Any:
            if not caller.gives_value:
                answer = caller.find_answer()
                if answer is Answer.AWAITABLE:
                    return _call_async(caller, args, kwargs)
                if answer is not Answer.VALUE:
                    return _stream(caller, answer, args, kwargs)
            mode = current_mode()
            if mode is OFF:
                result = run_unrecorded(definition.name, functools.partial(function, *args, **kwargs))
            else:
                engine = current_engine()
                result = engine._perform(caller.call(engine, args, kwargs), mode)
            if result.producer_node_id is result.node_id and result.artifact_id.startswith(UNSTORABLE):
                # It ran just now. If its value is an awaitable, which was not foreseen, the caller awaits the result.
                return _awaiting(result) if inspect.isawaitable(result.value) else result
            return result

    step.__musubito_step__ = definition
    step.__musubito_call__ = caller.call
    step.__musubito_recorded_call__ = caller.recorded_call
    typed: Callable[..., Any] = step
    return typed


def _looks_like(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a step look like the callable that it was made of."""

    def wraps(step: Callable[..., Any]) -> Callable[..., Any]:
        if isinstance(function, FunctionType):
            return functools.wraps(function)(step)
        step.__name__, step.__qualname__ = (_name_of(function).rpartition(".")[2],) * 2
        functools.update_wrapper(step, function, updated=())
        if isinstance(function, functools._lru_cache_wrapper):
            for method in ("cache_info", "cache_clear", "cache_parameters"):
                setattr(step, method, getattr(function, method))
        return step

    return wraps


async def _call_async(caller: _Caller, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    mode = current_mode()
    if mode is OFF:
        function = functools.partial(caller.definition.function, *args, **kwargs)
        return await run_unrecorded_async(caller.definition.name, function)
    if loop_is_watched():
        # Opening the default engine and reading source texts touch files, which would block the loop.
        engine = await asyncio.to_thread(current_engine)
        return await engine._perform_async(await asyncio.to_thread(caller.call, engine, args, kwargs), mode)
    engine = current_engine()
    return await engine._perform_async(caller.call(engine, args, kwargs), mode)


async def _awaiting(result: MusubitoResult[Any]) -> MusubitoResult[Any]:
    return replace(result, value=await result.value)


def _stream(caller: _Caller, answer: Answer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MusubitoStream[Any]:
    is_async, definition = answer is Answer.ASYNC_CHUNKS, caller.definition
    if current_mode() is OFF:
        return UnrecordedStream(
            functools.partial(definition.function, *args, **kwargs), definition.name, is_async=is_async
        )
    engine = current_engine()
    make = functools.partial(caller.call, engine, args, kwargs)
    return MusubitoStream(engine, make, definition.name, is_async=is_async)


class _Caller:
    """The part of a step that turns a call's arguments into a `Call`."""

    def __init__(self, definition: StepDefinition) -> None:
        self.definition = definition
        self.answer: Answer | None = None
        """The kind of answer of a call; None until the first call."""
        self.gives_value = False
        self._function = definition.function
        self._bind_anew()
        self._receiver = self._receiver_of(self._positional)
        self._inputs = definition.semantics.inputs
        if self._inputs is not None and self._names is not None:
            check_inputs(definition.name, self._inputs, self._names)
        semantics = definition.semantics
        how = {"packages": semantics.packages, "ignore_settings": semantics.ignore_settings}
        self._track = functools.partial(CodeTracker, self._function, **how)  # type: ignore[arg-type]
        self._tracker = self._track()
        self._trackers: dict[type, CodeTracker] = {}
        self._version = CodeVersion(definition)
        self._last: tuple[weakref.ref[MusubitoEngine], Fingerprint, tuple[Any, CodeRecord]] | None = None
        """The engine and the code of the last call, with the beginning of all keys of these."""
        self._is_usual = definition.semantics.code == "source" and not callable(definition.operation_version)

    def __reduce__(self) -> tuple[Any, ...]:
        return _caller_again, (self.definition, script_name(), sent(self._tracker, *self._trackers.values()))

    def _bind_anew(self) -> None:
        effect = self.definition.semantics.step_type is StepType.EXTERNAL_EFFECT
        # A new wrapper must not repeat an effect, so every wrapper counts as one that passes on its arguments.
        binding = binding_of(self._function, complete=effect)
        self._bind, self._positional, _, self._names, functions, self._cells = binding

        def is_bound() -> bool:
            return all(
                function.__code__ is its_code
                and function.__defaults__ is defaults
                and function.__kwdefaults__ is keywords
                for function, its_code, defaults, keywords in functions
            )

        self._functions = Unchanged([function for function, *_ in functions], lambda: is_bound)

    def _receiver_of(self, positional: tuple[str, ...]) -> str | None:
        outer = getattr(self._function, "__qualname__", "").rpartition(".")[0]
        is_method = bool(outer) and not outer.endswith("<locals>") and positional[:1] in (("self",), ("cls",))
        return positional[0] if is_method else None

    def find_answer(self) -> Answer:
        """Return the kind of answer of a call; raise TypeError if it cannot be recorded."""
        if self.answer is None:
            answer = answer_of(self._function)
            self.check(answer)
            self.answer, self.gives_value = answer, answer is Answer.VALUE
        return self.answer

    def check(self, answer: Answer) -> None:
        """Raise TypeError if a step cannot give an answer of this kind."""
        if answer is Answer.CONTEXT_MANAGER:
            raise TypeError(_context_manager_advice(self._function))
        is_effect = self.definition.semantics.step_type is StepType.EXTERNAL_EFFECT
        if is_effect and answer in (Answer.CHUNKS, Answer.ASYNC_CHUNKS):
            raise TypeError(
                f"{self.definition.name}: a generator cannot be an EXTERNAL_EFFECT; let a function collect its chunks"
            )

    def call(self, engine: MusubitoEngine, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """Return a `Call` of these arguments. Raise TypeError, as the function would, if they do not fit."""
        functions = self._functions
        unchanged = functions.since is LATEST[0] or functions()
        if not unchanged or (self._cells and not all(contents(cell) is wrapped for cell, wrapped in self._cells)):
            self._bind_anew()
        arguments = self._bind(*args, **kwargs)
        tracker = self._tracker if self._receiver is None else self._tracker_of(arguments, args)
        definition = self.definition
        if self._inputs is not None:
            arguments = counted(arguments, self._inputs)
        if self._is_usual:
            fingerprint, current = tracker.current(), tracker.current
            last = self._last
            if last is not None and last[1] is fingerprint and last[0]() is engine:
                head, code = last[2]
            else:
                head, code = identified = engine.steps.identify(definition, fingerprint)
                self._last = weakref.ref(engine), fingerprint, identified
        else:
            definition, fingerprint, current = self._version.now(tracker)
            head, code = engine.steps.identify(definition, fingerprint)
        function = functools.partial(self._function, *args, **kwargs)
        # `Call(...)` does the same by a function written in Python, which costs every replay more.
        live = args, kwargs
        fields = definition, fingerprint, current, tracker, head, code, arguments, function, live, *USUAL
        call: Call = tuple.__new__(Call, fields)
        return call

    def recorded_call(self, engine: MusubitoEngine, owner: type | None) -> Call:
        """Return a call that was recorded, with the present code; its arguments are not known.

        `owner` is the class of which the step is a method.
        """
        tracker = self._tracker if owner is None or self._receiver is None else self._tracker_of_class(owner)
        definition, fingerprint, current = self._version.now(tracker)
        head, code = engine.steps.identify(definition, fingerprint)
        return Call(definition, fingerprint, current, tracker, head, code, {}, self._function, None)

    def _tracker_of(self, arguments: dict[str, Any], args: tuple[Any, ...]) -> CodeTracker:
        """Return the tracker of a method's code, which is that of its receiver's class."""
        name = self._receiver or ""
        receiver = args[0] if args else arguments[name]
        if isinstance(receiver, type):
            # A class method: the class counts by its name and, in the fingerprint, by its code.
            arguments[name] = f"{canonical_module(receiver.__module__)}.{qualified_name(receiver)[1]}"
            owner = receiver
        else:
            owner = type(receiver)
        return self._tracker_of_class(owner)

    def _tracker_of_class(self, owner: type) -> CodeTracker:
        tracker = self._trackers.get(owner)
        if tracker is None:
            tracker = self._trackers[owner] = self._track(owner=owner)
        return tracker


def _caller_again(definition: StepDefinition, script: str, known: Sent) -> _Caller:
    count_script_as(script)
    known.receive()
    return _Caller(definition)


# From the import on, since a program may read files into caches before its first step is made or called.
listen()
