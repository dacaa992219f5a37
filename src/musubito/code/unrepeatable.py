"""Find requests of code whose answer differs each time: the clock, random numbers, ids, data that is kept outside.

A DETERMINISTIC step with such a request is replayed with the answer of its first run, so the request is named. The
function that a name leads to decides, not the spelling of the name. A value that only a logger receives does not count
(see `musubito.code.syntax.value_flow`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from musubito.code.ownership import module_name
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.occurrences import Occurrence, Occurrences, Resolved, defaults_of, resolve
from musubito.code.syntax.value_flow import Escapes, definition_of, receiver_of
from musubito.deferred import loaded_class

if TYPE_CHECKING:
    from musubito.code.fingerprint import Fingerprint

WRITTEN: Final = "written"
"""The kind of a file that a step wrote."""
KINDS: Final[Mapping[str, str]] = {
    "clock": "reads the clock: {}",
    "random": "draws random numbers: {}",
    "ids": "makes ids: {}",
    "network": "opened a connection to {}",
    "process": "started a process: {}",
    WRITTEN: "wrote the file {}",
}
"""The kinds of requests that cannot be repeated, each with the sentence that names one."""
OUTSIDE: Final = KINDS.keys() - {"clock", "random", "ids"}
"""The kinds that a replay is warned of. Clock, chance and ids do not count."""
CHOICES: Final = (
    'Say step_type="live" in its StepConfiguration if it writes. Say ttl_seconds=... if it reads what changes. '
    'Say "external_effect" if it must happen once. Say "stochastic" or "deterministic" if a replay is right.'
)
"""The ways to say how a step that did something outside is replayed."""
MOST: Final = 50
"""Different things that are kept of one execution at most."""
MOST_NAMED: Final = 3
"""Things that one sentence names at most."""


class Unrepeatable(NamedTuple):
    """One request of an execution whose answer differs each time; `what` names it, without its value."""

    kind: str
    what: str

    def __str__(self) -> str:
        return KINDS[self.kind].format(self.what)


def named(things: Sequence[Unrepeatable]) -> str:
    """Return the sentences of a few of these things, and how many more there are."""
    more = [f"and {len(things) - MOST_NAMED} more"] if len(things) > MOST_NAMED else []
    return "; ".join([*map(str, things[:MOST_NAMED]), *more])


class Source(NamedTuple):
    """A function whose answer differs each time, if it is given fewer than `fewer` arguments."""

    kind: str
    called: str
    fewer: int | None = None
    generator: int = 0
    """The id of the generator whose numbers the function draws."""


ALWAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "clock": (
        *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter"),
        *("time.perf_counter_ns", "time.process_time", "time.process_time_ns", "time.thread_time"),
        *("time.thread_time_ns", "time.clock_gettime", "time.clock_gettime_ns", "datetime.datetime.now"),
        *("datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
    ),
    "random": (
        *("posix.urandom", "posix.getrandom", "nt.urandom", "secrets.token_bytes", "secrets.token_hex"),
        *("secrets.token_urlsafe", "secrets.randbelow", "random.SystemRandom"),
    ),
    "ids": ("uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7"),
}
"""Functions whose answers differ each time, by kind."""
BELOW: Final[Mapping[str, tuple[str, int]]] = {
    "time.localtime": ("clock", 1),
    "time.gmtime": ("clock", 1),
    "time.ctime": ("clock", 1),
    "time.asctime": ("clock", 1),
    "time.strftime": ("clock", 2),
    "email.utils.formatdate": ("clock", 1),
    "random.Random": ("random", 1),
    "numpy.random.default_rng": ("random", 1),
    "numpy.random.RandomState": ("random", 1),
    "uuid.uuid8": ("ids", 3),
}
"""Functions that repeat their answers if they are given a moment or a seed, each with its kind.

The number is that of the arguments from which on the answers repeat.
"""
TABLE: Final = {
    name: Source(kind, name.replace("posix.", "os.").replace("nt.", "os."))
    for kind, names in ALWAYS.items()
    for name in names
} | {name: Source(kind, name, fewer) for name, (kind, fewer) in BELOW.items()}
"""All of these functions, by the name of their definition."""
OF_GENERATORS: Final = frozenset({"getstate", "setstate", "get_state", "set_state", "bit_generator", "spawn"})
"""Methods of generators that draw no number."""
SEEDS: Final = frozenset({"seed", "set_state", "setstate"})
"""Methods that set the state of a generator."""


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
    return tuple(sorted({each for name in mine if name in functions for each in _requests(functions[name], name)}))


def _requests(function: FunctionType, name: str) -> Iterator[Unrepeatable]:
    text = text_of(function)
    resolved = [resolve(function, read) for read in text.scan.reads]
    resolved += [Resolved(value, ()) for value in defaults_of(function).values()]
    sources: Iterable[Source] = [source for source in map(source_of, resolved) if source is not None]
    if sources and text.source is not None:
        sources = _Uses(Occurrences(text.source, function)).sources()
    for source in sources:
        yield Unrepeatable(source.kind, f"{source.called} in {name}")


# -- what a name leads to ----------------------------------------------------------------------------------------------
def source_of(resolved: Resolved) -> Source | None:
    """Return the function that a name leads to, if its answer differs each time; None otherwise."""
    value, rest = resolved
    cls: type = type(value)  # a proxy may claim another class
    if issubclass(cls, type):
        return _source_of_class(value, *rest) if len(rest) < 2 else None
    if _is_generator(cls):
        return _random_source(value, rest[0]) if len(rest) == 1 else None
    if rest:
        return None
    owner = receiver_of(value)
    if _is_generator(type(owner)):
        return _random_source(owner, value.__name__)
    if issubclass(type(owner), type):
        return _source_of_class(owner, value.__name__)
    return TABLE.get(definition_of(value))


def _source_of_class(cls: type, method: str | None = None) -> Source | None:
    if method is None:
        return TABLE.get(definition_of(cls))
    owner = next((base for base in cls.__mro__ if method in vars(base)), None)
    if owner is None:
        return None
    name = f"{definition_of(owner)}.{method}"
    source = TABLE.get(name)
    if source is None and owner.__name__ == "Timestamp" and module_name(owner).partition(".")[0] == "pandas":
        source = Source("clock", "") if method in ("now", "today", "utcnow") else None
    return None if source is None else source._replace(called=f"{cls.__qualname__}.{method}")


def _is_generator(cls: type) -> bool:
    return issubclass(cls, loaded_class("random", "Random")) or any(
        base.__name__ in ("Generator", "RandomState") and module_name(base).startswith("numpy.random")
        for base in cls.__mro__
    )


def _random_source(generator: Any, method: str) -> Source | None:
    if method.startswith("_") or method in OF_GENERATORS | SEEDS:
        return None
    module = module_name(type(generator)).removesuffix(".mtrand")
    return Source("random", f"{module}.{method}", None, id(generator))


# -- what becomes of it ------------------------------------------------------------------------------------------------
class _Uses:
    """Tells which of the values that one function asks for are used."""

    def __init__(self, occurrences: Occurrences) -> None:
        self._occurrences = occurrences
        self._escapes = Escapes(occurrences)

    def sources(self) -> Iterator[Source]:
        """Yield the sources whose values reach anything but a logger."""
        seeded = {generator for each in self._occurrences.all if (generator := self._seeded_by(each)) is not None}
        for occurrence in self._occurrences.all:
            source = source_of(occurrence.resolved)
            if source is None or source.generator in seeded or id(occurrence.node) in self._occurrences.aliased:
                continue
            given = self._occurrences.arguments(occurrence)
            if given is not None and source.fewer is not None and given >= source.fewer:
                continue
            if given is None and issubclass(type(occurrence.resolved.value), type) and not occurrence.resolved.rest:
                continue  # a class that is named need not be instantiated
            acts = source.called.endswith(".shuffle")  # it returns nothing, and changes its argument
            if acts or self._escapes.from_function(occurrence.node):
                yield source

    def _seeded_by(self, occurrence: Occurrence) -> int | None:
        """Return the id of the generator that is seeded here: numbers drawn from it then repeat themselves."""
        value, rest = occurrence.resolved
        if not self._occurrences.arguments(occurrence):
            return None
        if definition_of(value) == "numpy.random.seed":
            # This is the generator that the functions of `numpy.random` share.
            return id(vars(sys.modules["numpy.random.mtrand"]).get("_rand"))
        owner, method = (
            (value, rest[0]) if rest else (receiver_of(value), getattr(receiver_of(value) and value, "__name__", ""))
        )
        return id(owner) if method in SEEDS and _is_generator(type(owner)) else None
