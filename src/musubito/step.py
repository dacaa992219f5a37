"""The decorator: binds a call's arguments, identifies its code, and hands it to the engine.

One wrapper for each kind of callable; each turns a call into a `Call` value and everything else happens below.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

from musubito.engine.current import current_engine
from musubito.engine.drivers import loop_is_watched
from musubito.engine.engine import MusubitoEngine
from musubito.engine.modes import OFF, current_mode
from musubito.engine.protocol import Call
from musubito.engine.unrecorded import run_unrecorded, run_unrecorded_async
from musubito.identity.fingerprint import CodeTracker
from musubito.identity.names import SCRIPT, known_as, loaded, name_of
from musubito.identity.source import bring
from musubito.model import MusubitoResult, StepConfiguration, StepDefinition, StepType
from musubito.stream import MusubitoStream, UnrecordedStream

__all__ = ["musubito_step"]

P = ParamSpec("P")
T = TypeVar("T")


# A coroutine function is also a function that returns a coroutine: the first overload that fits is meant.
# mypy: disable-error-code="overload-overlap"


class _Decorator:
    """`@musubito_step(...)`: typed for each kind of callable."""

    def __init__(self, semantics: StepConfiguration, operation_version: str | None, name: str | None) -> None:
        self._semantics = semantics
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
        if not inspect.isroutine(function):
            raise TypeError(f"musubito_step decorates functions and methods, not {function!r}")
        for text in (self._operation_version, self._name):
            if text is not None and type(text) is not str:
                raise TypeError(f"operation_version and name are text, not {text!r}")
        effect = self._semantics.step_type is StepType.EXTERNAL_EFFECT
        name = self._name or (_name_of_effect(function) if effect else _name(function))
        return _wrap(StepDefinition(function, name, self._semantics, self._operation_version))


def _name(function: Callable[..., Any]) -> str:
    return f"{known_as(function.__module__)}.{function.__qualname__}"


def _name_of_effect(function: Callable[..., Any]) -> str:
    """An effect is known by its name and not by its code, so two effects must not share one.

    That of a script goes by the script's file, as if it had been imported.
    """
    module: str | None = function.__module__  # None where text was run that says no `__name__`
    qualname = function.__qualname__
    if "<locals>" in qualname or module is None:
        where = "inside a function" if module is not None else "in no module"
        raise TypeError(
            f"{module}.{qualname}: an EXTERNAL_EFFECT that is made {where} needs a name=..., "
            "one for each effect that differs"
        )
    if known_as(module) == SCRIPT:
        main = loaded(module)
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
    semantics: StepConfiguration | None = None, *, operation_version: str | None = None, name: str | None = None
) -> _Decorator: ...
def musubito_step(
    semantics: StepConfiguration | Callable[..., Any] | None = None,
    *,
    operation_version: str | None = None,
    name: str | None = None,
) -> Any:
    """Make a function a step: its calls are recorded, and replayed where that is safe.

    A call gives back a `MusubitoResult` (a generator's a `MusubitoStream`). `operation_version` stands for what code
    cannot show: a prompt on a server, a remote model. `name` is the operation's name, by default the function's module
    and qualified name. Works bare and with arguments, on sync and async functions, generators and methods.

    Raises `InputError` at a call, before anything runs, if an argument cannot be identified.
    """
    if isinstance(semantics, StepConfiguration) or semantics is None:
        return _Decorator(semantics or StepConfiguration(), operation_version, name)
    if callable(semantics) or isinstance(semantics, staticmethod | classmethod):
        return _Decorator(StepConfiguration(), operation_version, name)(semantics)
    raise TypeError(f"musubito_step takes a StepConfiguration, not {semantics!r}")


def _wrap(definition: StepDefinition) -> Callable[..., Any]:
    function = definition.function
    caller = _Caller(definition)
    streams = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if streams and definition.semantics.step_type is StepType.EXTERNAL_EFFECT:
        raise TypeError(
            f"{definition.name}: a generator cannot be an EXTERNAL_EFFECT; let a function collect its chunks"
        )
    if streams:

        @functools.wraps(function)
        def step(*args: Any, **kwargs: Any) -> Any:
            is_async = inspect.isasyncgenfunction(function)
            if current_mode() is OFF:
                return UnrecordedStream(
                    functools.partial(function, *args, **kwargs), definition.name, is_async=is_async
                )
            engine = current_engine()
            make = functools.partial(caller.call, engine, args, kwargs)
            return MusubitoStream(engine, make, definition.name, is_async=is_async)

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def step(*args: Any, **kwargs: Any) -> Any:
            mode = current_mode()
            if mode is OFF:
                return await run_unrecorded_async(functools.partial(function, *args, **kwargs))
            if loop_is_watched():
                # Opening the default engine and reading source texts touch files.
                engine = await asyncio.to_thread(current_engine)
                return await engine.aperform(await asyncio.to_thread(caller.call, engine, args, kwargs), mode)
            engine = current_engine()
            return await engine.aperform(caller.call(engine, args, kwargs), mode)

    else:

        @functools.wraps(function)
        def step(*args: Any, **kwargs: Any) -> Any:
            mode = current_mode()
            if mode is OFF:
                return run_unrecorded(functools.partial(function, *args, **kwargs))
            engine = current_engine()
            return engine.perform(caller.call(engine, args, kwargs), mode)

    step.__musubito_step__ = definition  # type: ignore[attr-defined]
    step.__musubito_call__ = caller.call  # type: ignore[attr-defined]
    return step


class _Caller:
    """Turns a call's arguments into a `Call`."""

    def __init__(self, definition: StepDefinition) -> None:
        self._definition = definition
        self._function = definition.function
        parameters = list(inspect.signature(self._function).parameters)
        self._receiver = parameters[0] if _is_method(self._function) and parameters else None
        self._bind = _binder(self._function)
        self._tracker = CodeTracker(self._function)
        self._trackers: dict[type, CodeTracker] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        statements = (each.statements() for each in (self._tracker, *self._trackers.values()))
        return _caller_again, (self._definition, tuple(dict.fromkeys(itertools.chain(*statements))))

    def call(self, engine: MusubitoEngine, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """Raises TypeError, as the function would, if the arguments do not fit."""
        arguments = self._bind(*args, **kwargs)
        tracker = self._tracker if self._receiver is None else self._tracker_of(arguments)
        fingerprint = tracker.current()
        definition = self._definition
        head, code = engine.identified(definition, fingerprint)
        function = functools.partial(self._function, *args, **kwargs)
        # What Call(...) does by way of a function written in Python.
        fields = definition, fingerprint, tracker.current, head, code, arguments, function, None, None
        call: Call = tuple.__new__(Call, fields)
        return call

    def _tracker_of(self, arguments: dict[str, Any]) -> CodeTracker:
        """A method's code is that of its receiver's class."""
        receiver = arguments[self._receiver or ""]
        if isinstance(receiver, type):
            # A class method: the class counts by its name and, in the fingerprint, by its code.
            arguments[self._receiver or ""] = f"{known_as(receiver.__module__)}.{name_of(receiver)[1]}"
            owner = receiver
        else:
            owner = type(receiver)
        tracker = self._trackers.get(owner)
        if tracker is None:
            tracker = self._trackers[owner] = CodeTracker(self._function, owner=owner)
        return tracker


def _caller_again(definition: StepDefinition, statements: tuple[str, ...]) -> _Caller:
    bring(statements)
    return _Caller(definition)


def _is_method(function: Callable[..., Any]) -> bool:
    outer = function.__qualname__.rpartition(".")[0]
    parameters = list(inspect.signature(function).parameters)
    return bool(outer) and not outer.endswith("<locals>") and bool(parameters) and parameters[0] in ("self", "cls")


def _binder(function: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """A function with the same parameters that gives back its arguments by name, defaults filled in.

    Python's own call does the binding: some ten times faster than `inspect.Signature.bind`, with the usual errors.
    """
    parameters = inspect.signature(function).parameters.values()
    # The defaults are attached below; here they only have to be there.
    bare = [p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else _Default()) for p in parameters]
    taken = {p.name for p in bare}
    name = next(n for n in ("bind", "bind_", "bind__") if n not in taken)
    names = ", ".join(f"{p.name!r}: {p.name}" for p in bare)
    source = f"def {name}{inspect.Signature(bare)}:\n    return {{{names}}}\n"
    namespace: dict[str, Any] = {}
    exec(compile(source, "<musubito binder>", "exec"), namespace)  # noqa: S102 - the text is made of parameter names
    bind: Any = namespace[name]
    bind.__name__, bind.__qualname__ = function.__name__, function.__qualname__
    bind.__defaults__ = getattr(function, "__defaults__", None)
    bind.__kwdefaults__ = getattr(function, "__kwdefaults__", None)
    result: Callable[..., dict[str, Any]] = bind
    return result


class _Default:
    """Stands for a default value in the text of a binder."""

    def __repr__(self) -> str:
        return "None"
