"""The plain values that everything above them speaks in. Nothing here does anything.

Ids are 32-byte digests inside and hexadecimal text to the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from types import CoroutineType
from typing import Any, Final, Generic, NewType, Protocol, TypeVar, runtime_checkable

__all__ = [
    "UNSTORABLE",
    "Digest",
    "EffectHappened",
    "EffectNeverHappened",
    "MusubitoResult",
    "NodeStatus",
    "ReplayDecision",
    "ReplayReason",
    "StepConfiguration",
    "StepDefinition",
    "StepLike",
    "StepType",
    "check_inputs",
    "check_name",
]

T_co = TypeVar("T_co", covariant=True)

Digest = NewType("Digest", bytes)

UNSTORABLE = "unstorable-"
"""What the artifact id of an output begins with that could not be stored; such an id never repeats."""


class StepType(Enum):
    """What a step's function is, and with it what may be done with its results."""

    DETERMINISTIC = "deterministic"
    """Equal inputs, equal answers: one stored result serves every call."""
    STOCHASTIC = "stochastic"
    """Each answer is a sample: within one run each stored sample is given at most once."""
    EXTERNAL_EFFECT = "external_effect"
    """It changes the world: never repeated because code or anything upstream was edited."""


class NodeStatus(Enum):
    """What a reader is told about a node."""

    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    STALE = "STALE"
    INVALID = "INVALID"
    EXTERNAL = "EXTERNAL"


class ReplayReason(Enum):
    """Why a call was replayed (the three hits) or run (all others)."""

    EXACT_HIT = "exact hit"
    EARLY_CUTOFF_HIT = "early cutoff hit"
    CROSS_PARENT_HIT = "cross parent hit"
    NODE_NOT_FOUND = "node not found"
    CODE_CHANGED = "code changed"
    INPUT_CHANGED = "input changed"
    UPSTREAM_CHANGED = "upstream changed"
    NODE_FAILED = "node failed"
    NODE_INVALID = "node invalid"
    NODE_RUNNING = "node running"
    FORCE_REEXECUTION = "force reexecution"
    TTL_EXPIRED = "ttl expired"
    READ_CHANGED = "read changed"
    ARTIFACT_MISSING = "artifact missing"
    ARTIFACT_CORRUPT = "artifact corrupt"
    ARTIFACT_UNREADABLE = "artifact unreadable"
    DEPENDENCY_EXPIRED = "dependency expired"
    NOT_REPLAYABLE = "not replayable"

    @property
    def says(self) -> str:
        """Return the reason as a sentence without a subject of its own: "its code changed"."""
        return _SAYS[self]


_SAYS: Final = {
    ReplayReason.EXACT_HIT: "the same was stored",
    ReplayReason.EARLY_CUTOFF_HIT: "what it consumes came out equal",
    ReplayReason.CROSS_PARENT_HIT: "its code and its input are the same",
    ReplayReason.NODE_NOT_FOUND: "no result was stored for it",
    ReplayReason.CODE_CHANGED: "its code changed",
    ReplayReason.INPUT_CHANGED: "its input changed",
    ReplayReason.UPSTREAM_CHANGED: "what it consumed changed",
    ReplayReason.NODE_FAILED: "the last attempt had failed",
    ReplayReason.NODE_INVALID: "the stored result had been invalidated",
    ReplayReason.NODE_RUNNING: "it is running elsewhere",
    ReplayReason.FORCE_REEXECUTION: "it was told to run whatever is stored",
    ReplayReason.TTL_EXPIRED: "the stored result was too old",
    ReplayReason.READ_CHANGED: "what it reads changed",
    ReplayReason.ARTIFACT_MISSING: "the stored result was gone",
    ReplayReason.ARTIFACT_CORRUPT: "the stored result was damaged",
    ReplayReason.ARTIFACT_UNREADABLE: "the stored result could not be read",
    ReplayReason.DEPENDENCY_EXPIRED: "something that it was built on was too old",
    ReplayReason.NOT_REPLAYABLE: "the stored result may not be replayed",
}


@dataclass(frozen=True, slots=True)
class ReplayDecision:
    """Whether a call is replayed, and why (not)."""

    replay: bool
    reason: ReplayReason


@dataclass(frozen=True, slots=True)
class EffectHappened:
    """What a reconcile callable gives back when the effect did take place; `value` becomes the step's result."""

    value: Any


@dataclass(frozen=True, slots=True)
class EffectNeverHappened:
    """What a reconcile callable gives back when the effect did not take place, so that it may run."""


@dataclass(frozen=True, slots=True)
class StepConfiguration:
    """How a step may be replayed.

    `ttl_seconds`: age, counted from the start of the execution, from which on it is not replayed.
    `allow_cross_parent_reuse`: a result may answer whatever the parents were; `None` means the default of where the
    step is used (off in the core, on for graph nodes).
    `definite_failures`: exceptions of an EXTERNAL_EFFECT that prove that nothing happened outside.
    `on_unknown`: what to do when an effect's outcome is unknown: "raise" `EffectOutcomeUnknown`, "rerun" with the same
    idempotency key, or a callable that takes the idempotency key and gives back `EffectHappened` or
    `EffectNeverHappened`.
    `ignore_files`: patterns (as of `fnmatch`: `"*.log"`, `"cache/*"`) for paths and names of files and folders that the
    step reads and that do not count.
    `record_inputs`: keep what calls that ran were given, for `why` and other readers; no replay needs it.
    `packages`: which installed packages that the code names count by version and contents: "version" for all, "ignore"
    for none. `None` means those that no package index gave out as a release: installed from a folder, an archive or a
    repository, copied into site-packages, marked `Private ::`, or with a local version (`1.2+build`).
    `inputs`: the names of the arguments that count; of a graph's node, the keys of its state. Calls that differ only in
    others are the same call. `None`: all arguments count.
    `code`: "source" counts the code that a step reaches, "version" only its `operation_version`. With "version" neither
    an edit of the code nor one of its arguments' classes runs the step again.

    Enumerations are given as members or by their values, such as `step_type="stochastic"`.
    """

    step_type: StepType = StepType.DETERMINISTIC
    force_reexecution: bool = False
    ttl_seconds: float | None = None
    allow_cross_parent_reuse: bool | None = None
    definite_failures: tuple[type[BaseException], ...] = ()
    on_unknown: str | Callable[[str], Any] = "raise"
    record_inputs: bool = True
    ignore_files: tuple[str, ...] = ()
    inputs: tuple[str, ...] | None = None
    code: str = "source"
    packages: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "step_type", _member("step_type", StepType, self.step_type))
        for name, allowed in (
            ("force_reexecution", (True, False)),
            ("allow_cross_parent_reuse", (True, False, None)),
            ("record_inputs", (True, False)),
        ):
            said: object = getattr(self, name)
            if not any(said is each for each in allowed):
                raise TypeError(f"{name} must be {' or '.join(map(str, allowed))}, not {said!r}")
        ttl: object = self.ttl_seconds
        if ttl is not None and (not isinstance(ttl, int | float) or isinstance(ttl, bool) or not ttl >= 0):
            raise ValueError(f"ttl_seconds must be None or a number of seconds >= 0, not {ttl!r}")
        failures: object = self.definite_failures
        if not isinstance(failures, tuple) or not all(
            isinstance(each, type) and issubclass(each, BaseException) for each in failures
        ):
            raise TypeError(f"definite_failures must be a tuple of exception classes, not {failures!r}")
        patterns: object = self.ignore_files
        if not isinstance(patterns, tuple) or not all(isinstance(each, str) and each for each in patterns):
            raise TypeError(f'ignore_files must be a tuple of patterns, such as ("*.log",), not {patterns!r}')
        if not callable(self.on_unknown) and self.on_unknown not in ("raise", "rerun"):
            raise ValueError(f'on_unknown must be "raise", "rerun" or a callable, not {self.on_unknown!r}')
        inputs: object = self.inputs
        if inputs is not None and (not isinstance(inputs, tuple) or not all(type(each) is str for each in inputs)):
            raise TypeError(f'inputs must be None or a tuple of names, such as ("question",), not {inputs!r}')
        if self.code not in ("source", "version"):
            raise ValueError(f'code must be "source" or "version", not {self.code!r}')
        if self.packages not in (None, "version", "ignore"):
            raise ValueError(f'packages must be "version", "ignore" or None, not {self.packages!r}')


def _member(field: str, kind: type[StepType], said: object) -> StepType:
    """Return the member that is given as such or by its value."""
    if isinstance(said, kind):
        return said
    values = ", ".join(f'"{each.value}"' for each in kind)
    if not isinstance(said, str):
        raise TypeError(f"{field} must be a {kind.__name__} or one of {values}, not {said!r}")
    try:
        return kind(said.lower())
    except ValueError:
        raise ValueError(f"{field} must be one of {values}, not {said!r}") from None


@dataclass(frozen=True, slots=True)
class MusubitoResult(Generic[T_co]):
    """What a step call gives back: the value and where it comes from.

    `artifact_id` addresses the value by its content, `node_id` is this call's place in the lineage, and
    `producer_node_id` is the node under which the function actually ran.
    """

    value: T_co
    artifact_id: str
    producer_node_id: str
    node_id: str

    def __bool__(self) -> bool:
        """Raise TypeError: a result is not its value."""
        raise TypeError(f"a MusubitoResult is neither true nor false; {_USE_VALUE}")

    def __str__(self) -> str:
        """Raise TypeError: a result is not its value."""
        raise TypeError(f"a MusubitoResult is no text; {_USE_VALUE}, or repr() of the result")

    def __format__(self, spec: str) -> str:
        """Raise TypeError: a result is not its value."""
        return str(self)


_USE_VALUE = "what the step gave is its `.value`: use .value"


def check_name(what: str, name: object) -> None:
    """Raises TypeError and ValueError for a name that no store can keep."""
    if not isinstance(name, str):
        raise TypeError(f"{what} is a text, not a {type(name).__name__}")
    if not name:
        raise ValueError(f"{what} must not be empty")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} holds half of a surrogate pair, at {error.start}: {name!r}") from None


def check_inputs(operation: str, inputs: tuple[str, ...], known: Collection[str]) -> None:
    """Raise ValueError for names in `inputs` that no argument has."""
    unknown = [name for name in inputs if name not in known]
    if unknown:
        raise ValueError(
            f"{operation}: inputs names {', '.join(map(repr, unknown))}, and its arguments are "
            f"{', '.join(sorted(known)) or 'none'}"
        )


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """What a decorated step is made of; every step carries it as `__musubito_step__`.

    `operation_version` may be a callable without arguments: it is asked at each call.
    """

    function: Callable[..., Any]
    name: str
    semantics: StepConfiguration
    operation_version: str | Callable[[], str | int] | None

    def __post_init__(self) -> None:
        check_name("a step's name", self.name)
        version: object = self.operation_version
        if version is not None and type(version) is not str and not callable(version):
            raise TypeError(
                f"{self.name}: operation_version is a text or a callable without arguments, not {version!r}"
            )
        if self.semantics.code == "version" and version is None:
            raise ValueError(f'{self.name}: code="version" needs an operation_version, which is all that then counts')

    def version(self) -> str | None:
        """Return the operation's version as it is now.

        Raise TypeError for a value that is no version, and whatever the callable raises.
        """
        said: object = self.operation_version
        if said is None or type(said) is str:
            return said
        assert callable(said)  # noqa: S101 - as it was checked when the step was made
        said = said()
        if type(said) is int:
            return str(said)
        if type(said) is not str:
            if isinstance(said, CoroutineType):
                said.close()
            raise TypeError(f"{self.name}: what its operation_version gives is a text or an int, not {said!r}")
        return said


@runtime_checkable
class StepLike(Protocol):
    """Anything that carries a `StepDefinition`."""

    @property
    def __musubito_step__(self) -> StepDefinition: ...
