"""Define the plain values that all other modules use. They only check their own fields.

Ids are 32-byte digests inside, and hexadecimal text for readers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar

from musubito.deferred import NOTEBOOK
from musubito.reasons import ReplayReason

__all__ = [
    "UNSTORABLE",
    "EffectHappened",
    "EffectNeverHappened",
    "MusubitoResult",
    "NodeStatus",
    "ReplayDecision",
    "ReplayReason",
    "StepConfiguration",
    "StepDefinition",
    "StepType",
    "check_inputs",
    "check_name",
]

T_co = TypeVar("T_co", covariant=True)

UNSTORABLE = "unstorable-"
"""The beginning of the artifact id of an output that could not be stored. Such an id never repeats."""


class StepType(Enum):
    """The kind of a step's function, which decides how its results may be used.

    >>> from musubito import StepConfiguration, StepType
    >>> StepConfiguration("live").step_type is StepType.LIVE
    True
    """

    DETERMINISTIC = "deterministic"
    """Equal inputs have equal outputs: one stored result answers every call."""
    STOCHASTIC = "stochastic"
    """Each output is a sample: within one run each stored sample is given at most once."""
    LIVE = "live"
    """The function runs at each call, and is recorded. Only `replay_only` and recorded tests replay it."""
    EXTERNAL_EFFECT = "external_effect"
    """The function changes the world. It is never repeated because its code or anything upstream was edited."""


class NodeStatus(Enum):
    """The status of a node, as readers see it.

    >>> from musubito import NodeStatus
    >>> NodeStatus("FAILED").name
    'FAILED'
    """

    RUNNING = "RUNNING"
    """The step is being computed."""
    SUCCESS = "SUCCESS"
    """A result is stored."""
    FAILED = "FAILED"
    """The last attempt failed."""
    STALE = "STALE"
    """A result that it consumed was invalidated."""
    INVALID = "INVALID"
    """The result was invalidated, or a result of a step that it called."""
    EXTERNAL = "EXTERNAL"
    """An external effect took place."""


@dataclass(frozen=True, slots=True)
class ReplayDecision:
    """The decision whether a call is replayed (`replay`), and the `reason`.

    >>> from musubito import ReplayDecision, ReplayReason
    >>> decision = ReplayDecision(replay=False, reason=ReplayReason.CODE_CHANGED)
    >>> decision.reason.word
    'code changed'
    """

    replay: bool
    reason: ReplayReason


@dataclass(frozen=True, slots=True)
class EffectHappened:
    """The answer of a reconcile callable that the effect took place. `value` becomes the step's result.

    >>> from musubito import EffectHappened, EffectNeverHappened
    >>> sent = {"key-1": "letter 7"}
    >>> def find_out(idempotency_key: str) -> EffectHappened | EffectNeverHappened:
    ...     letter = sent.get(idempotency_key)
    ...     return EffectNeverHappened() if letter is None else EffectHappened(letter)
    >>> find_out("key-1")
    EffectHappened(value='letter 7')
    """

    value: Any


@dataclass(frozen=True, slots=True)
class EffectNeverHappened:
    """The answer of a reconcile callable that the effect did not take place, so that it may run.

    >>> from musubito import EffectNeverHappened, StepConfiguration
    >>> policy = StepConfiguration("external_effect", on_unknown=lambda idempotency_key: EffectNeverHappened())
    """


@dataclass(frozen=True, slots=True)
class StepConfiguration:
    """The policy of a step, which decides when its results are replayed.

    - `step_type`: the kind of the step's function, as a member of `StepType` or by its value, such as `"stochastic"`.
    - `force_reexecution`: run each call, whatever is stored; `step_type="live"` says the same of the kind of step.
    - `ttl_seconds`: seconds after the start of an execution, from which on it is not replayed.
    - `allow_cross_parent_reuse`: let a result answer whatever the parents were. `None` means the default of the place
      where the step is used: off in the core, on for graph nodes.
    - `definite_failures`: exceptions of an EXTERNAL_EFFECT that prove that nothing happened outside.
    - `on_unknown`: the reaction to an unknown outcome of an effect. "raise" raises `EffectOutcomeUnknown`, "rerun" runs
      the effect with the same idempotency key. A callable takes the idempotency key, and returns `EffectHappened` or
      `EffectNeverHappened`.
    - `once_per`: how often an EXTERNAL_EFFECT takes place. "arguments" does it once for the same arguments, for ever.
      "run" does it once in each run: a retry, a resume or a replay of the same run does not repeat it.
    - `record_inputs`: store the inputs of calls that ran, for `why` and other readers. No replay needs them.
    - `ignore_files`: patterns (as of `fnmatch`: `"*.log"`, `"cache/*"`) for paths and names of files and folders. A
      file or folder that matches does not count, though the step reads it.
    - `inputs`: the names of the arguments that count; for a graph's node, the keys of its state. Calls that differ only
      in other arguments are the same call. `None`: all arguments count.
    - `code`: "source" counts the code that a step reaches, "version" only its `operation_version`. With "version"
      neither an edit of the code nor one of its arguments' classes runs the step again.
    - `packages`: the installed packages that count by version and contents, if the code names them. "version" counts
      all, "ignore" none. `None` counts packages that are no release of a package index: installed from a folder, an
      archive or a repository, copied into site-packages, marked `Private ::`, or with a local version (`1.2+build`).
    - `ignore_settings`: names of settings of packages' clients and models that do not count, as their classes call
      them: `("base_url",)`. Timeouts, retries and proxies never count, unless the code may show a failure.

    >>> from musubito import StepConfiguration
    >>> policy = StepConfiguration("live", ttl_seconds=3600, ignore_settings=("base_url", "service_tier"))
    >>> policy.step_type.value
    'live'
    """

    step_type: StepType | Literal["deterministic", "stochastic", "live", "external_effect"] = StepType.DETERMINISTIC
    force_reexecution: bool = False
    ttl_seconds: float | None = None
    allow_cross_parent_reuse: bool | None = None
    definite_failures: tuple[type[BaseException], ...] = ()
    on_unknown: Literal["raise", "rerun"] | Callable[[str], Any] = "raise"
    once_per: Literal["arguments", "run"] = "arguments"
    record_inputs: bool = True
    ignore_files: tuple[str, ...] = ()
    inputs: tuple[str, ...] | None = None
    code: Literal["source", "version"] = "source"
    packages: Literal["version", "ignore"] | None = None
    ignore_settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "step_type", _member("step_type", StepType, self.step_type))
        for name, allowed in (
            ("force_reexecution", (True, False)),
            ("allow_cross_parent_reuse", (True, False, None)),
            ("record_inputs", (True, False)),
        ):
            value: object = getattr(self, name)
            if not any(value is option for option in allowed):
                raise TypeError(f"{name} must be {' or '.join(map(str, allowed))}, not {value!r}")
        ttl: object = self.ttl_seconds
        if ttl is not None and (not isinstance(ttl, int | float) or isinstance(ttl, bool) or not ttl >= 0):
            raise ValueError(f"ttl_seconds must be None or a number of seconds >= 0, not {ttl!r}")
        failures: object = self.definite_failures
        if not isinstance(failures, tuple) or not all(
            isinstance(failure, type) and issubclass(failure, BaseException) for failure in failures
        ):
            raise TypeError(f"definite_failures must be a tuple of exception classes, not {failures!r}")
        patterns: object = self.ignore_files
        if not isinstance(patterns, tuple) or not all(isinstance(pattern, str) and pattern for pattern in patterns):
            raise TypeError(f'ignore_files must be a tuple of patterns, such as ("*.log",), not {patterns!r}')
        if not callable(self.on_unknown) and self.on_unknown not in ("raise", "rerun"):
            raise ValueError(f'on_unknown must be "raise", "rerun" or a callable, not {self.on_unknown!r}')
        if self.once_per not in ("arguments", "run"):
            raise ValueError(f'once_per must be "arguments" or "run", not {self.once_per!r}')
        if self.once_per == "run" and self.step_type is not StepType.EXTERNAL_EFFECT:
            raise ValueError('once_per="run" is for effects alone: give the step step_type="external_effect" as well')
        inputs: object = self.inputs
        if inputs is not None and (not isinstance(inputs, tuple) or not all(type(name) is str for name in inputs)):
            raise TypeError(f'inputs must be None or a tuple of names, such as ("question",), not {inputs!r}')
        if self.code not in ("source", "version"):
            raise ValueError(f'code must be "source" or "version", not {self.code!r}')
        settings: object = self.ignore_settings
        if not isinstance(settings, tuple) or not all(type(name) is str and name.isidentifier() for name in settings):
            raise TypeError(f'ignore_settings must be a tuple of names, such as ("base_url",), not {settings!r}')
        if self.packages not in (None, "version", "ignore"):
            raise ValueError(f'packages must be "version", "ignore" or None, not {self.packages!r}')

    @property
    def runs_each_time(self) -> bool:
        """Tell whether each call runs, whatever is stored."""
        return self.force_reexecution or self.step_type is StepType.LIVE


def _member(field: str, kind: type[StepType], value: object) -> StepType:
    """Return a member of an enumeration, passed as such or by its value."""
    if isinstance(value, kind):
        return value
    values = ", ".join(f'"{member.value}"' for member in kind)
    if not isinstance(value, str):
        raise TypeError(f"{field} must be a {kind.__name__} or one of {values}, not {value!r}")
    try:
        return kind(value.lower())
    except ValueError:
        raise ValueError(f"{field} must be one of {values}, not {value!r}") from None


@dataclass(frozen=True, slots=True)
class MusubitoResult(Generic[T_co]):
    """The result of a step call: the value, and where it comes from.

    `artifact_id` addresses the value by its content. `node_id` is the place of this call in the lineage.
    `producer_node_id` is the node under which the function actually ran. `step` is the name of the step.

    >>> from musubito import musubito_step
    >>> @musubito_step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> result = double(9)
    >>> result.value, result.artifact_id == double(9).artifact_id
    (18, True)
    """

    value: T_co
    artifact_id: str
    producer_node_id: str
    node_id: str
    step: str = field(default="", compare=False, repr=False)

    def __bool__(self) -> bool:
        """Raise TypeError: a result is not its value."""
        raise TypeError(f"a MusubitoResult is neither true nor false; {self._use_value()}")

    def __str__(self) -> str:
        """Raise TypeError: a result is not its value."""
        raise TypeError(f"MusubitoResult is not a string; {self._use_value()}, or repr() of the result")

    def __format__(self, spec: str) -> str:
        """Raise TypeError: a result is not its value."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the value as text, and folded, where it comes from."""
        html: str = NOTEBOOK.html_of_result(self)
        return html

    def _use_value(self) -> str:
        step = f" {self.step!r}" if self.step else ""
        return f"use `.value`, the output of the step{step}"

    if not TYPE_CHECKING:  # a type checker would take these for what a result can do

        def __getattr__(self, name: str) -> NoReturn:
            if name in MusubitoResult.__slots__:  # while it is being copied or unpickled
                raise AttributeError(name)
            raise AttributeError(
                f"a MusubitoResult has no attribute {name!r}; {self._use_value()}", name=name, obj=self
            )

        def __len__(self) -> int:
            raise TypeError(f"a MusubitoResult has no length; {self._use_value()}")

        def __iter__(self) -> NoReturn:
            raise TypeError(f"a MusubitoResult cannot be iterated; {self._use_value()}")

        def __contains__(self, item: object) -> bool:
            raise TypeError(f"a MusubitoResult contains nothing; {self._use_value()}")

        def __add__(self, other: object) -> NoReturn:
            raise TypeError(f"a MusubitoResult cannot be added to anything; {self._use_value()}")

        __radd__ = __add__

        def __getitem__(self, key: object) -> NoReturn:
            raise TypeError(f"a MusubitoResult has no items; {self._use_value()}")


def check_name(what: str, name: object) -> None:
    """Raise TypeError or ValueError for a name that no store can keep."""
    if not isinstance(name, str):
        raise TypeError(f"{what} is a text, not a {type(name).__name__}")
    if not name:
        raise ValueError(f"{what} must not be empty")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} has half of a surrogate pair, at {error.start}: {name!r}") from None


def check_inputs(operation: str, inputs: tuple[str, ...], argument_names: Collection[str]) -> None:
    """Raise ValueError for names in `inputs` that no argument has."""
    unknown = [name for name in inputs if name not in argument_names]
    if unknown:
        raise ValueError(
            f"{operation}: inputs names {', '.join(map(repr, unknown))}, and its arguments are "
            f"{', '.join(sorted(argument_names)) or 'none'}"
        )


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """The definition of a step, which every decorated function carries as `__musubito_step__`.

    `operation_version` may be a callable without arguments, which is called at each call of the step. `is_configured`
    is true if `semantics` was given for this very step, and is no default.
    """

    function: Callable[..., Any]
    name: str
    semantics: StepConfiguration
    operation_version: str | Callable[[], str | int] | None
    is_configured: bool = False

    def __post_init__(self) -> None:
        check_name("a step's name", self.name)
        version: object = self.operation_version
        if version is not None and type(version) is not str and not callable(version):
            raise TypeError(
                f"{self.name}: operation_version is a text or a callable without arguments, not {version!r}"
            )
        if self.semantics.code == "version" and version is None:
            raise ValueError(f'{self.name}: code="version" needs an operation_version, since nothing else counts then')

    def version(self) -> str | None:
        """Return the operation's version as it is now.

        Raise TypeError for a value that is no version. Errors of the callable pass through.
        """
        version: object = self.operation_version
        if version is None or type(version) is str:
            return version
        assert callable(version)  # noqa: S101 - checked when the step was made
        version = version()
        if type(version) is int:
            return str(version)
        if type(version) is not str:
            if isinstance(version, CoroutineType):
                version.close()
            raise TypeError(f"{self.name}: its operation_version must return a text or an int, not {version!r}")
        return version
