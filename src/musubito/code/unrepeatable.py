"""Find requests of code whose answer differs each time: the clock, random numbers, ids, data that is kept outside.

A DETERMINISTIC step with such a request is replayed with the answer of its first run, so `explain` names the request.
The function that a name leads to decides, not the spelling of the name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from musubito.code.ownership import module_name
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.resolution import Resolved, resolve
from musubito.deferred import loaded_class

if TYPE_CHECKING:
    from musubito.code.fingerprint import Fingerprint

WRITTEN: Final = "written"
"""The kind of a file that a step wrote."""
NOTICES: Final[Mapping[str, str]] = {
    "clock": "reads the clock: {}",
    "random": "draws random numbers: {}",
    "ids": "makes ids: {}",
    "network": "opened a connection to {}",
    "process": "started a process: {}",
    WRITTEN: "wrote the file {}",
}
"""The kinds of requests that cannot be repeated, each with the sentence that names one."""
OUTSIDE: Final = NOTICES.keys() - {"clock", "random", "ids"}
"""The kinds that a replay is warned of. Clock, chance and ids do not count."""
CHOICES: Final = (
    "Set `step_type` in the step's StepConfiguration: `live` (always run), `external_effect` (run once), or "
    "`deterministic`/`stochastic` (replay is fine); or set `ttl_seconds`."
)
"""The ways to say how a step that did something outside is replayed."""
MOST: Final = 50
"""Different things that are kept of one execution at most."""
MAX_NAMED: Final = 3
"""Things that one sentence names at most."""


class Unrepeatable(NamedTuple):
    """One request of an execution whose answer differs each time; `what` names it, without its value."""

    kind: str
    what: str

    def __str__(self) -> str:
        return NOTICES[self.kind].format(self.what)


def named(things: Sequence[Unrepeatable]) -> str:
    """Return the sentences of a few of these things, and how many more there are."""
    more = [f"and {len(things) - MAX_NAMED} more"] if len(things) > MAX_NAMED else []
    return "; ".join([*map(str, things[:MAX_NAMED]), *more])


ALWAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "clock": (
        *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter"),
        *("time.perf_counter_ns", "time.process_time", "time.process_time_ns", "time.thread_time"),
        *("time.thread_time_ns", "time.clock_gettime", "time.clock_gettime_ns", "datetime.datetime.now"),
        *("datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
        *("pandas.Timestamp.now", "pandas.Timestamp.today", "pandas.Timestamp.utcnow"),
    ),
    "random": (
        *("posix.urandom", "posix.getrandom", "nt.urandom", "secrets.token_bytes", "secrets.token_hex"),
        *("secrets.token_urlsafe", "secrets.randbelow", "random.SystemRandom"),
    ),
    "ids": ("uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7"),
}
"""Functions whose answers differ each time, by kind."""
TABLE: Final = {name: kind for kind, names in ALWAYS.items() for name in names}
"""The kinds of all of these functions, by the name of their definition."""
NO_DRAWS: Final = frozenset({"getstate", "setstate", "get_state", "set_state", "bit_generator", "spawn", "seed"})
"""Methods of generators that draw no number."""


def unrepeatable_in(fingerprint: Fingerprint) -> tuple[Unrepeatable, ...]:
    """Return the requests of the code of a step, without those of the steps that it reaches: they are named themselves.

    This looks at each function again. Nothing on the path of a call asks for it.
    """
    walk = fingerprint.walk
    functions = {reached.name: reached.function for reached in walk.functions.values()}
    ahead = [name for name in [next(iter(functions), None)] if name is not None]
    mine = dict.fromkeys(ahead)
    for name in ahead:
        for inner in sorted(walk.graph.edges.get(name, ())):
            if inner not in mine and inner not in walk.of_steps:
                mine[inner] = None
                ahead.append(inner)
    return tuple(
        sorted({request for name in mine if name in functions for request in _requests(functions[name], name)})
    )


def _requests(function: FunctionType, name: str) -> Iterator[Unrepeatable]:
    for read in text_of(function).scan.reads:
        source = _source(resolve(function, read))
        if source is not None:
            yield Unrepeatable(source[0], f"{source[1]} in {name}")


def _source(resolved: Resolved) -> tuple[str, str] | None:
    """Return the kind and the name of what a name leads to, if its answer differs each time; None otherwise."""
    value, rest = resolved
    cls: type = type(value)  # a proxy may claim another class
    if not rest and cls in (BuiltinFunctionType, MethodType):
        value, rest = (value.__self__, (value.__name__,)) if _is_class_or_generator(value.__self__) else (value, ())
    if rest and issubclass(type(value), type):
        owner = next((base for base in value.__mro__ if rest[0] in vars(base)), value)
        return _known(f"{_definition_of(owner)}.{rest[0]}", f"{value.__qualname__}.{rest[0]}")
    if rest and _is_generator(type(value)):
        module = module_name(type(value)).removesuffix(".mtrand")
        is_draw = not rest[0].startswith("_") and rest[0] not in NO_DRAWS
        return ("random", f"{module}.{rest[0]}") if is_draw else None
    name = "" if rest else _definition_of(value)
    return _known(name, name.replace("posix.", "os.").replace("nt.", "os."))


def _known(definition: str, called: str) -> tuple[str, str] | None:
    return (TABLE[definition], called) if definition in TABLE else None


def _is_class_or_generator(receiver: object) -> bool:
    return issubclass(type(receiver), type) or _is_generator(type(receiver))


def _is_generator(cls: type) -> bool:
    return issubclass(cls, loaded_class("random", "Random")) or any(
        base.__name__ in ("Generator", "RandomState") and module_name(base).startswith("numpy.random")
        for base in cls.__mro__
    )


def _definition_of(value: Any) -> str:
    """Return the module and the name under which a function or a class was defined, or "" for anything else."""
    cls = type(value)
    if issubclass(cls, type):
        return f"{module_name(value)}.{value.__qualname__}"
    if cls is FunctionType:
        return f"{value.__globals__.get('__name__')}.{value.__code__.co_qualname}"
    return f"{value.__module__}.{value.__name__}" if cls is BuiltinFunctionType else ""
