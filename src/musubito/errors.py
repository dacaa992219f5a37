"""Define the errors of Musubito.

Every error is a `MusubitoError`. Its text names the fault and the remedy, and its attributes hold the facts. An error
of the user's own step is never one of these: it is re-raised untouched.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

LOGGER: Final = logging.getLogger("musubito")
# A program that sets up no logging gets no output of ours.
LOGGER.addHandler(logging.NullHandler())
_OWN: Final = tuple(f"{Path(__file__).parent}{end}{os.sep}" for end in ("", "_langgraph"))
"""The beginnings of the paths of all files in the two packages."""
_STANDARD_LIBRARY: Final = (f"{Path(os.__file__).parent}{os.sep}", "<frozen ")
_INSTALLED: Final = re.compile(rf"{re.escape(os.sep)}(?:site|dist)-packages{re.escape(os.sep)}").search


class MusubitoError(Exception):
    """The root of all errors that Musubito raises itself.

    >>> from musubito import MusubitoError, record_usage
    >>> try:
    ...     record_usage(input_tokens=10, output_tokens=2)
    ... except MusubitoError as error:
    ...     print("not inside a step")
    not inside a step
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes send these errors. `args` are not the arguments of `__init__`, so the default would fail.
        return _restored_error, (type(self), self.args), self.__dict__


def _restored_error(cls: type[MusubitoError], args: tuple[Any, ...]) -> MusubitoError:
    return cls.__new__(cls, *args)


class MusubitoWarning(UserWarning):
    """A warning that something was not recorded, or not as the user may expect. The user's own work went on.

    >>> import warnings
    >>> from musubito import MusubitoWarning
    >>> warnings.simplefilter("ignore", MusubitoWarning)
    """


def warn(message: str, function: Callable[..., Any] | None = None, *, may_raise: bool = False) -> None:
    """Issue one `MusubitoWarning`, at the line of the user's code that led here.

    Where threads of a package stand between, it is the line where `function` is defined, if the user defined it. If
    warnings are errors, the message is logged instead: an exception would lose work that is done and paid for. With
    `may_raise` it is raised, since nothing has run yet.
    """
    frame, code = _frame_of_user(), _code_of_user(function)
    if frame is None and code is not None:
        place = (code.co_filename, code.co_firstlineno, "musubito")
        registry = None
    else:
        frame = frame or _frame_of_another()
        place = (frame.f_code.co_filename, frame.f_lineno, frame.f_globals.get("__name__", "musubito"))
        registry = frame.f_globals.setdefault("__warningregistry__", {})
    try:
        warnings.warn_explicit(message, MusubitoWarning, *place, registry)
    except MusubitoWarning:
        if may_raise:
            raise
        LOGGER.warning(message)


def warn_at(message: str, function: Callable[..., Any] | None, module: str) -> None:
    """Issue one `MusubitoWarning` at the line where a function of the user's is defined.

    Without such a function it stands at the line of the user's code that led here, or at the beginning of `module`. If
    warnings are errors, see `warn`.
    """
    frame, code = _frame_of_user(), _code_of_user(function)
    if code is not None:
        file, line = code.co_filename, code.co_firstlineno
    elif frame is not None:
        file, line = frame.f_code.co_filename, frame.f_lineno
    else:
        file, line = getattr(sys.modules.get(module.partition(" ")[0]), "__file__", None) or module, 1
    try:
        warnings.warn_explicit(message, MusubitoWarning, file, line, module)
    except MusubitoWarning:
        LOGGER.warning(message)


def _frame_of_user() -> FrameType | None:
    """Return the innermost frame of the user's code, or None."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_users(frame.f_code):
        frame = frame.f_back
    return frame


def _frame_of_another() -> FrameType:
    """Return the innermost frame that is not of Musubito, else the outermost one."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_OWN) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _code_of_user(function: Callable[..., Any] | None) -> CodeType | None:
    """Return the code of a function, if the user defined it."""
    code: CodeType | None = getattr(function, "__code__", None)
    return code if code is not None and _is_users(code) else None


def _is_users(code: CodeType) -> bool:
    file = code.co_filename
    return not (file.startswith((*_OWN, *_STANDARD_LIBRARY)) or _INSTALLED(file))


def at_line_of_user(what: str) -> str:
    """Return the text with the function, the file and the line of the user's code that led here, if any did.

    Code of packages is skipped. The search ends at the step that called the code.
    """
    inside = False
    caller: FrameType | None = sys._getframe(1)
    while caller is not None:
        code = caller.f_code
        if code.co_filename.startswith(_OWN):
            if inside:
                return what
        else:
            inside = True
            if _is_users(code):
                return f"{what} in {code.co_name} ({Path(code.co_filename).name}:{caller.f_lineno})"
        caller = caller.f_back
    return what


class EncodingError(MusubitoError):
    """A value that has no canonical encoding.

    `path` leads from the outermost value to this one (`$.messages[3].content`). `problem` says what is wrong with it.

    >>> from musubito import EncodingError
    >>> from musubito.values.canonical import canonical
    >>> try:
    ...     canonical({"files": [open]})
    ... except EncodingError as error:
    ...     print(error.path)
    $.files[0]
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class InputError(MusubitoError):
    """An argument that cannot be compared. The error is raised before anything runs.

    `argument` is the name of the parameter. `path` leads from the argument, `$`, to the offending value.

    >>> from musubito import InputError, musubito_step
    >>> @musubito_step
    ... def read(source: object) -> str:
    ...     return str(source)
    >>> try:
    ...     read(source=[1, object()])
    ... except InputError as error:
    ...     print(error.argument, error.path)
    source $[1]
    """

    def __init__(self, operation: str, argument: str, path: str, problem: str) -> None:
        super().__init__(f"{operation}: argument {argument}{path[1:]} cannot be compared: {problem}")
        self.operation = operation
        self.argument = argument
        self.path = path
        self.problem = problem


class CodeError(MusubitoError):
    """The code of a step that cannot be identified: an object in the code raises when it is inspected."""

    def __init__(self, operation: str, error: Exception) -> None:
        super().__init__(f"{operation}: an object in its code cannot be compared: {error!r}")
        self.operation = operation
        self.problem = repr(error)


class ChangedInput(MusubitoError):
    """The arguments of an effect, or its surroundings, were changed while the effect waited. It was not done."""

    def __init__(self, operation: str) -> None:
        super().__init__(
            f"{operation}: what it was given, or what is around it, was changed while it waited. It was not done; call "
            "it again with arguments that nothing changes meanwhile. If nothing changed them, they hold instances of "
            "two classes with one name, which cannot be told apart: use one class."
        )
        self.operation = operation


class StoreError(MusubitoError):
    """The database cannot be opened, read or written.

    >>> from pathlib import Path
    >>> from musubito import SQLiteStorage, StoreError
    >>> written = Path("notes.db").write_text("these are no tables, but a text of some length")
    >>> try:
    ...     SQLiteStorage("notes.db")
    ... except StoreError:
    ...     print("the file is no database")
    the file is no database
    """


class StoreClosed(StoreError):
    """The store was closed."""


class StoreBusy(StoreError):
    """The database was locked by another process for longer than the store waits."""


class StoreFull(StoreError):
    """The disk of the database has no room for what was to be written."""


class SchemaError(StoreError):
    """The database was written by a newer Musubito, or is not one of its databases.

    >>> import sqlite3
    >>> from musubito import SchemaError, SQLiteStorage
    >>> other = sqlite3.connect("other.db")
    >>> made = other.execute("CREATE TABLE invoices (number INTEGER)")
    >>> other.close()
    >>> try:
    ...     SQLiteStorage("other.db")
    ... except SchemaError:
    ...     print("the file belongs to another program")
    the file belongs to another program
    """


class ArtifactUnreadable(MusubitoError):
    """A stored payload that cannot be decoded: its format is unknown, or a class in it does not exist any more.

    >>> from musubito import ArtifactUnreadable, MusubitoResult
    >>> def shown(result: MusubitoResult[str]) -> str:
    ...     try:
    ...         return result.value
    ...     except ArtifactUnreadable as error:
    ...         return f"not readable in this process: {error}"
    """


class ArtifactMissing(ArtifactUnreadable):
    """A stored payload that is not at the place that its row names."""


class ArtifactCorrupt(ArtifactUnreadable):
    """A stored payload whose bytes are not those that were stored."""


class WrongKey(MusubitoError):
    """A namespace is encrypted with another key than the engine's, or one of the two has no key.

    Nothing was read or stored.

    >>> from musubito import MusubitoEngine, WrongKey, musubito_step, use_musubito_engine
    >>> @musubito_step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> for key in (bytes(32), bytes(range(32))):
    ...     with MusubitoEngine.from_url("sqlite:///secret.db", namespace="secret", key=key, strict=True) as engine:
    ...         with use_musubito_engine(engine):
    ...             try:
    ...                 print(double(11).value)
    ...             except WrongKey as error:
    ...                 print(error.namespace)
    22
    secret
    """

    def __init__(self, namespace: str, why: str) -> None:
        super().__init__(f"the namespace {namespace!r} {why}.")
        self.namespace = namespace
        self.why = why


class NotReplayed(MusubitoError):
    """A call in the mode `replay_only` that would have to run.

    `why` says that nothing is recorded yet, or what differs from the nearest earlier call. `explanation` is the whole
    `Explanation`, or None for an effect and if the store failed.

    >>> from musubito import NotReplayed, musubito_step, run
    >>> @musubito_step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> with run(mode="replay_only"):
    ...     try:
    ...         double(10)
    ...     except NotReplayed as error:
    ...         print(error.why)
    not recorded yet
    """

    def __init__(self, operation: str, why: str, explanation: Any = None, *, mode: str = "replay_only") -> None:
        super().__init__(f"{operation}: {why} (mode {mode})")
        self.operation = operation
        self.why = why
        self.explanation = explanation


class NotEdited(MusubitoError):
    """A stored result that was not corrected by hand. Its text says why, and what to do."""


class EffectOutcomeUnknown(MusubitoError):
    """An external effect was begun, and nobody knows whether it took place.

    The error is raised instead of running the effect once more. There are two remedies:

    - If the remote side ignores a repeated idempotency key, a policy with `on_unknown="rerun"`.
    - Otherwise, a policy with a callable that finds out (`on_unknown=reconcile`).

    >>> from musubito import EffectOutcomeUnknown, StepConfiguration, musubito_step
    >>> @musubito_step(StepConfiguration("external_effect"))
    ... def send(letter: str) -> str:
    ...     raise ConnectionError("no answer from the server")
    >>> for attempt in range(2):
    ...     try:
    ...         send("Dear Ann")
    ...     except (ConnectionError, EffectOutcomeUnknown) as error:
    ...         print(type(error).__name__)
    ConnectionError
    EffectOutcomeUnknown
    """

    def __init__(self, operation: str, idempotency_key: str, why: str, remedy: str) -> None:
        super().__init__(f"{operation}: {why}. Its idempotency key is {idempotency_key}. {remedy}")
        self.operation = operation
        self.idempotency_key = idempotency_key
        self.why = why
