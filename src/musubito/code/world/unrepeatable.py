"""Find requests of code whose answer differs each time: the clock, random numbers, ids, data that is kept outside.

A DETERMINISTIC step with such a request is replayed with the answer of its first run, so the request is named. The
function that a name leads to decides, not the spelling of the name. A value that only a logger receives does not count
(see `musubito.code.syntax.value_flow`).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, NamedTuple

from musubito.code.graph_record import step_of
from musubito.code.ownership import module_name
from musubito.code.round_cache import kept_for_a_round
from musubito.code.syntax.function_text import FunctionText
from musubito.code.syntax.occurrences import Occurrence, Occurrences, Resolved, defaults_of, resolve
from musubito.code.syntax.value_flow import Escapes, definition_of, receiver_of
from musubito.code.walk import Walk
from musubito.code.world.compiled_readers import opens_unseen
from musubito.code.world.memory_databases import is_in_memory
from musubito.code.world.outside_data import is_source
from musubito.deferred import loaded_class

UNSEEN_FILE: Final = "unseen file"
"""The kind of a request that opens a file where no audit event tells its path."""
WRITTEN: Final = "written"
"""The kind of a file that a step wrote."""
OWN_STATE: Final = "own state"
"""The kind of a thing that a step changes and whose changed value it uses."""
KINDS: Final[Mapping[str, str]] = {
    "clock": "reads the clock: {}",
    "random": "draws random numbers: {}",
    "ids": "makes ids: {}",
    "network": "opened a connection to {}",
    "process": "started a process: {}",
    "source": "reaches data that is kept outside: {}",
    UNSEEN_FILE: "opens a file whose path is not known: {}",
    WRITTEN: "wrote the file {}",
    OWN_STATE: "depends on what it changes itself: {}",
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
    # Drivers that are compiled open connections where no audit event tells.
    "source": (
        *("psycopg.Connection.connect", "psycopg.AsyncConnection.connect", "psycopg2.connect", "pyodbc.connect"),
        *("sqlalchemy.engine.create.create_engine", "sqlalchemy.ext.asyncio.engine.create_async_engine"),
    ),
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


def note_unrepeatable(walk: Walk, function: FunctionType, name: str, text: FunctionText) -> None:
    """Note the requests of a function that can run, unless only a logger receives the answer."""
    resolved = [resolve(function, read) for read in text.scan.reads]
    resolved += [Resolved(value, ()) for value in defaults_of(function).values()]
    sources = [source for source in map(source_of, resolved) if source is not None]
    if sources and text.source is not None:
        sources = [*_Uses(Occurrences(text.source.node, function)).sources()]
    for source in sources:
        walk.note_request(source.kind, f"{source.called} in {name}")


def unrepeatable_in(
    values: Sequence[Any],
    edges: Sequence[Sequence[int]],
    holders: Mapping[int, str],
    asks: Sequence[tuple[int, Unrepeatable]],
) -> tuple[Unrepeatable, ...]:
    """Return the requests of the first of these values, and of all that it reaches.

    - The steps that it reaches are left out: they are named themselves.
    - `edges` are the numbers that each value leads to, by its own number.
    - `holders` are the names, by number, of values that code which can run uses and that are no code.
    - `asks` are the requests of functions.
    """
    of_steps = {id(step.function) for step in map(step_of, values) if step is not None}
    ahead = [0] if edges else []  # plain data leads nowhere
    mine = set(ahead)
    for number in ahead:
        for each in edges[number]:
            if each not in mine and id(values[each]) not in of_steps:
                mine.add(each)
                ahead.append(each)
    result = {each for number, each in asks if number in mine}
    for number in mine & holders.keys():
        # Code that holds such a function calls it where no walk sees the call.
        for value in (values[target] for target in edges[number]):
            source = None if issubclass(type(value), type) else source_of(Resolved(value, ()))
            if _is_generator(type(value)):
                source = Source("random", type(value).__qualname__)
            if source is not None:
                result.add(Unrepeatable(source.kind, f"{source.called} in {holders[number]}"))
        if is_source(values[number]) and not is_in_memory(values[number]):
            cls = type(values[number])
            result.add(Unrepeatable("source", f"{holders[number]}, a {module_name(cls)}.{cls.__qualname__}"))
    return tuple(sorted(result))


# -- what a name leads to ----------------------------------------------------------------------------------------------
def source_of(resolved: Resolved) -> Source | None:
    """Return the function that a name leads to, if its answer differs each time; None otherwise."""
    value, rest = resolved
    cls = type(value)  # a proxy may claim another class
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
    source = TABLE.get(definition_of(value))
    if source is None and type(value) in (FunctionType, BuiltinFunctionType):
        # A package's decorator may stand around the function that opens a file.
        source = _opener(f"{module_name(value)}.{value.__qualname__}")
    return source


def _source_of_class(cls: type, method: str | None = None) -> Source | None:
    if method is None:
        return TABLE.get(definition_of(cls)) or _opener(definition_of(cls))
    owner = next((base for base in cls.__mro__ if method in vars(base)), None)
    if owner is None:
        return None
    name = f"{definition_of(owner)}.{method}"
    source = TABLE.get(name) or _opener(name)
    if source is None and owner.__name__ == "Timestamp" and module_name(owner).partition(".")[0] == "pandas":
        source = Source("clock", "") if method in ("now", "today", "utcnow") else None
    return None if source is None else source._replace(called=f"{cls.__qualname__}.{method}")


def _opener(definition: str) -> Source | None:
    package, _, rest = definition.partition(".")
    return Source(UNSEEN_FILE, f"{package}.{rest.rpartition('.')[2]}") if opens_unseen(definition) else None


@kept_for_a_round
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
            call = self._called(occurrence.node)
            if call is not None and source.fewer is not None and _arguments(call) >= source.fewer:
                continue
            if call is None and issubclass(type(occurrence.resolved.value), type) and not occurrence.resolved.rest:
                continue  # a class that is named need not be instantiated
            # A shuffle returns nothing, and changes its argument. A database is changed by calls of what this returns.
            acts = source.kind == "source" or source.called.endswith(".shuffle")
            if acts or self._escapes.from_function(occurrence.node):
                yield source

    def _called(self, node: ast.expr) -> ast.Call | None:
        """Return the call of an expression's value, if the value is called."""
        call = self._occurrences.parent(node)
        return call if isinstance(call, ast.Call) and call.func is node else None

    def _seeded_by(self, occurrence: Occurrence) -> int | None:
        """Return the id of the generator that is seeded here: numbers drawn from it then repeat themselves."""
        value, rest = occurrence.resolved
        call = self._called(occurrence.node)
        if call is None or not _arguments(call):
            return None
        if definition_of(value) == "numpy.random.seed":
            # This is the generator that the functions of `numpy.random` share.
            return id(vars(sys.modules["numpy.random.mtrand"]).get("_rand"))
        owner, method = (
            (value, rest[0]) if rest else (receiver_of(value), getattr(receiver_of(value) and value, "__name__", ""))
        )
        return id(owner) if method in SEEDS and _is_generator(type(owner)) else None


def _arguments(call: ast.Call) -> int:
    return len(call.args) + len(call.keywords)
