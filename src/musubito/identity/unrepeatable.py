"""What code asks for that is another each time: the clock, random numbers, ids.

A DETERMINISTIC step that does so is replayed with the moment of its first run, so it is named. Which function a name
leads to decides, not how it is spelled. A value that only a logger, `print` or `sleep` is given does not count: a small
analysis follows it through the function that asked, by operators, texts and locals.
"""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from musubito.identity.description import ABSENT, step_of
from musubito.identity.occurrences import Led, Occurrence, Occurrences, defaults_of, led_to

if TYPE_CHECKING:
    from musubito.identity.closure import Walk
    from musubito.identity.functions import Text

__all__ = ["KINDS", "Unrepeatable", "note_unrepeatable", "unrepeatable_in"]

KINDS: Final[Mapping[str, str]] = {
    "clock": "reads the clock: {}",
    "random": "draws random numbers: {}",
    "ids": "makes ids: {}",
    "network": "opened a connection to {}",
    "process": "started a process: {}",
}
"""The kinds of what cannot be repeated, each with how it is told."""


class Unrepeatable(NamedTuple):
    """One thing that an execution asked for and that is another each time; `what` names it, without its value."""

    kind: str
    what: str

    def __str__(self) -> str:
        return KINDS[self.kind].format(self.what)


class _Source(NamedTuple):
    """A function that answers otherwise each time, if it is given fewer than so many arguments."""

    kind: str
    called: str
    fewer: int | None = None
    generator: int = 0
    """The id of the generator whose numbers it draws."""


ALWAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "clock": (
        "time.time",
        "time.time_ns",
        "time.monotonic",
        "time.monotonic_ns",
        "time.perf_counter",
        "time.perf_counter_ns",
        "time.process_time",
        "time.process_time_ns",
        "time.thread_time",
        "time.thread_time_ns",
        "time.clock_gettime",
        "time.clock_gettime_ns",
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
    ),
    "random": (
        "posix.urandom",
        "posix.getrandom",
        "nt.urandom",
        "secrets.token_bytes",
        "secrets.token_hex",
        "secrets.token_urlsafe",
        "secrets.randbelow",
        "random.SystemRandom",
    ),
    "ids": ("uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7"),
}
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
"""Those that are given a moment or a seed repeat themselves."""
TABLE: Final = {
    name: _Source(kind, name.replace("posix.", "os.").replace("nt.", "os."))
    for kind, names in ALWAYS.items()
    for name in names
} | {
    name: _Source(kind, name, fewer) for name, (kind, fewer) in BELOW.items()
}
OF_GENERATORS: Final = frozenset({"getstate", "setstate", "get_state", "set_state", "bit_generator", "spawn"})
SEEDS: Final = frozenset({"seed", "set_state", "setstate"})
LOGS: Final = frozenset(
    "trace debug info success warning warn error exception critical fatal log write_log".split()  # noqa: SIM905
)
LOGGERS: Final = frozenset({"logging", "loguru", "structlog"})
PASSED_THROUGH: Final = frozenset({"abs", "float", "format", "int", "max", "min", "repr", "round", "str", "sum", "divmod"})
"""Builtins whose result is another form of what they are given."""
SINKS: Final = frozenset({"builtins.print", "time.sleep", "asyncio.tasks.sleep", "warnings.warn"})


def note_unrepeatable(walk: Walk, function: FunctionType, name: str, text: Text) -> None:
    """Note what a function that can run asks for, unless only a logger is given it."""
    led = [led_to(function, read) for read in text.scan.reads]
    led += [Led(value, ()) for value in defaults_of(function).values()]
    sources = [source for source in map(_source_of, led) if source is not None]
    if not sources:
        return
    if text.source is not None:
        sources = _Uses(Occurrences(text.source.node, function)).sources()
    for source in sources:
        walk.asks.append((walk.number, Unrepeatable(source.kind, f"{source.called} in {name}")))


def unrepeatable_in(
    values: Sequence[Any],
    edges: Sequence[Sequence[int]],
    lives: Sequence[bool],
    names: Sequence[str],
    asks: Sequence[tuple[int, Unrepeatable]],
) -> tuple[Unrepeatable, ...]:
    """Return what the first of these values asks for, itself or by what it reaches, without the steps that it reaches:
    those are named themselves. `edges` say what each leads to, by number."""
    of_steps = {id(step.function) for step in map(step_of, values) if step is not None}
    mine, ahead = {0}, [0]
    for number in ahead:
        for each in edges[number] if number < len(edges) else ():
            value = values[each]
            if each not in mine and id(value) not in of_steps and step_of(value) is None:
                mine.add(each)
                ahead.append(each)
    found = [each for number, each in asks if number in mine]
    for number in sorted(mine):
        value = values[number]
        if not lives[number] or isinstance(value, FunctionType | ModuleType) or _is_namespace(value):
            continue
        # What holds such a function and is no function itself calls it when its user does not see it.
        for each in edges[number]:
            source = None if isinstance(values[each], type) else _source_of(Led(values[each], ()))
            if _is_generator(type(values[each])):
                source = _Source("random", type(values[each]).__qualname__)
            if source is not None and not isinstance(value, MethodType):
                found.append(Unrepeatable(source.kind, f"{source.called} in {names[number]}"))
    return tuple(sorted(set(found)))


def _is_namespace(value: Any) -> bool:
    return type(value).__name__ == "Namespace" and type(value).__module__.startswith("musubito.")


# -- what a name leads to ----------------------------------------------------------------------------------------------
def _source_of(led: Led) -> _Source | None:
    value, rest = led
    cls = type(value)
    if isinstance(value, type) and len(rest) == 1:
        owner = next((each for each in value.__mro__ if rest[0] in vars(each)), None)
        found = None if owner is None else TABLE.get(f"{owner.__module__}.{owner.__qualname__}.{rest[0]}")
        if found is None and owner is not None and _is_moment(owner) and rest[0] in ("now", "today", "utcnow"):
            found = _Source("clock", "")
        return None if found is None else found._replace(called=f"{value.__qualname__}.{rest[0]}")
    if len(rest) == 1 and _is_generator(cls):
        return _drawn(value, rest[0])
    if rest:
        return None
    if isinstance(value, type):
        return TABLE.get(f"{_module_of(value)}.{value.__qualname__}")
    if isinstance(value, FunctionType):
        return TABLE.get(f"{value.__globals__.get('__name__')}.{value.__code__.co_qualname}")
    if isinstance(value, BuiltinFunctionType | MethodType):
        owner = value.__self__
        if _is_generator(type(owner)):
            return _drawn(owner, value.__name__)
        if isinstance(owner, type):
            return _source_of(Led(owner, (value.__name__,)))
    if cls.__name__ in ("builtin_function_or_method", "cython_function_or_method"):
        return TABLE.get(f"{value.__module__}.{value.__name__}")
    return None


def _module_of(cls: type) -> str:
    module = cls.__module__
    return "numpy.random" if module == "numpy.random.mtrand" else module


def _is_moment(cls: type) -> bool:
    """Whether it is a moment of pandas."""
    return cls.__name__ == "Timestamp" and cls.__module__.partition(".")[0] == "pandas"


def _is_generator(cls: type) -> bool:
    return issubclass(cls, Random) or any(
        each.__name__ in ("Generator", "RandomState") and each.__module__.startswith("numpy.random")
        for each in cls.__mro__
    )


def _drawn(generator: Any, method: str) -> _Source | None:
    if method.startswith("_") or method in OF_GENERATORS | SEEDS:
        return None
    module = type(generator).__module__.removesuffix(".mtrand")
    return _Source("random", f"{module}.{method}", None, id(generator))


# -- what becomes of it ------------------------------------------------------------------------------------------------
class _Uses:
    """What becomes, in one function, of the values that it asks for."""

    def __init__(self, occurrences: Occurrences) -> None:
        self._occurrences = occurrences

    def sources(self) -> Iterator[_Source]:
        """Yield the sources whose values get anywhere but to a logger."""
        seeded = {generator for each in self._occurrences.all for generator in self._seeds(each)}
        for each in self._occurrences.all:
            source = _source_of(each.led)
            if source is None or source.generator in seeded or id(each.node) in self._occurrences.aliased:
                continue
            call = self._occurrences.parent(each.node)
            called = isinstance(call, ast.Call) and call.func is each.node
            if called and source.fewer is not None and _arguments(call) >= source.fewer:
                continue
            if not called and isinstance(each.led.value, type) and not each.led.rest:
                continue  # a class that is named need not be made an instance of
            # To shuffle gives nothing, and changes what it is given.
            if source.called.endswith(".shuffle") or self._escapes(each.node, set()):
                yield source

    def _seeds(self, occurrence: Occurrence) -> Iterator[int]:
        """The generator that this call seeds, if it does: what is drawn then repeats itself."""
        value, rest = occurrence.led
        call = self._occurrences.parent(occurrence.node)
        if not isinstance(call, ast.Call) or call.func is not occurrence.node or not _arguments(call):
            return
        owner = value if rest else getattr(value, "__self__", None)
        method = rest[0] if rest else getattr(value, "__name__", "")
        if method in SEEDS and _is_generator(type(owner)):
            yield id(owner)
        elif method == "seed" and getattr(value, "__module__", "") == "numpy.random":
            # The generator that the functions of `numpy.random` share.
            yield id(vars(sys.modules["numpy.random.mtrand"]).get("_rand"))

    def _escapes(self, node: ast.AST, seen: set[str]) -> bool:
        """Whether what an expression gives gets anywhere but to a logger."""
        while True:
            around = self._occurrences.parent(node)
            match around:
                case ast.Expr():
                    return False
                case ast.Assign(targets=targets):
                    return not all(self._stays(each, seen) for each in targets)
                case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
                    return not self._stays(target, seen)
                case ast.NamedExpr(target=target):
                    if not self._stays(target, seen):
                        return True
                case ast.If(test=test, body=body, orelse=orelse) if test is node:
                    return not all(map(self._only_tells, (*body, *orelse)))
                case ast.Call(func=func):
                    if func is not node:
                        if self._is_sink(func):
                            return False
                        if not self._passes_through(func):
                            return True
                case (
                    ast.Attribute() | ast.BinOp() | ast.UnaryOp() | ast.BoolOp() | ast.Compare() | ast.IfExp()
                    | ast.JoinedStr() | ast.FormattedValue() | ast.keyword() | ast.Starred()
                    | ast.Subscript() | ast.Tuple() | ast.List() | ast.Dict() | ast.Set()
                ):
                    pass
                case _:
                    return True
            node = around

    def _stays(self, target: ast.AST, seen: set[str]) -> bool:
        """Whether what a local is bound to gets nowhere from there."""
        if not isinstance(target, ast.Name) or self._is_outer(target.id):
            return False
        if target.id in seen:
            return True
        seen.add(target.id)
        return not any(self._escapes(each, seen) for each in self._occurrences.loads(target.id))

    def _is_outer(self, name: str) -> bool:
        return any(
            name in node.names
            for node in ast.walk(self._occurrences.node)
            if isinstance(node, ast.Global | ast.Nonlocal)
        )

    def _only_tells(self, statement: ast.stmt) -> bool:
        match statement:
            case ast.Pass():
                return True
            case ast.Expr(value=ast.Call(func=func)):
                return self._is_sink(func)
            case _:
                return False

    def _passes_through(self, func: ast.expr) -> bool:
        led = self._occurrences.led.get(id(func))
        if isinstance(func, ast.Attribute) and func.attr == "format" and isinstance(func.value, ast.Constant):
            return True
        if led is None or led.rest:
            return False
        value = led.value
        return getattr(value, "__module__", None) == "builtins" and getattr(value, "__name__", "") in PASSED_THROUGH

    def _is_sink(self, func: ast.expr) -> bool:
        """Whether a call hands its arguments to a logger, a screen or a clock that waits."""
        led = self._occurrences.led.get(id(func), Led(ABSENT, ()))
        if led.value is ABSENT:
            # Nothing is known of a local or a field but its name.
            if not isinstance(func, ast.Attribute) or func.attr not in LOGS:
                return False
            holder = func.value
            name = getattr(holder, "attr", getattr(holder, "id", ""))
            return name.lower().endswith(("log", "logger"))
        if led.rest:
            return led.rest[-1] in LOGS and _is_logger(type(led.value))
        owner = getattr(led.value, "__self__", None)
        name = getattr(led.value, "__name__", "")
        if name in LOGS and (_is_logger(type(owner)) or getattr(led.value, "__module__", None) == "logging"):
            return True
        return f"{getattr(led.value, '__module__', None)}.{name}" in SINKS


def _is_logger(cls: type) -> bool:
    return issubclass(cls, logging.Logger | logging.LoggerAdapter) or any(
        each.__module__.partition(".")[0] in LOGGERS for each in cls.__mro__
    )


def _arguments(call: ast.Call) -> int:
    return len(call.args) + len(call.keywords)
