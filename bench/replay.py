"""A call of one step, against other caches: replayed, run, and with inputs as large as agents pass around."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import diskcache
import joblib

from bench.goals import Difference, Ratio
from bench.measure import Call, Sample, interleave
from bench.rows import Row, engine_in, executions_in
from musubito import MusubitoEngine, SQLiteStorage, musubito_step
from musubito.engine.call import CallProtocol
from musubito.engine.effects import EffectCall
from musubito.engine.modes import Mode

Function = Callable[[Any], Any]


def small(number: int) -> dict[str, object]:
    """Return a result of the size that most steps have."""
    return {"answer": number, "text": "hello"}


def answer(messages: list[dict[str, Any]]) -> str:
    """Do with a conversation as an agent does, without the model."""
    return str(messages[-1]["content"])[:20]


def first_line(text: str) -> str:
    """Do with a document as a step does."""
    return text[:20]


@contextmanager
def cached(folder: Path, function: Function) -> Iterator[dict[str, Function]]:
    """Return the function as each contender wraps it."""
    cache = diskcache.Cache(str(folder / "diskcache"))
    memory = joblib.Memory(folder / "joblib", verbose=0)
    with engine_in(folder):
        yield {
            "musubito": musubito_step(function),
            "diskcache": cache.memoize()(function),
            "joblib": memory.cache(function),
            "bare": function,
        }
    cache.close()


def replayed(folder: Path, functions: dict[str, Function], argument: object, *, calls: int) -> dict[str, Sample]:
    """Measure the same call over and over: replays, once the first has run."""

    def repeat(function: Function) -> Call:
        return lambda _: function(argument)

    samples = interleave({name: repeat(f) for name, f in functions.items()}, rounds=10, calls=calls)
    assert executions_in(folder) == 1
    return samples


def replay_small(folder: Path) -> dict[str, Sample]:
    """Replay a small step."""
    with cached(folder, small) as functions:
        return replayed(folder, functions, 3, calls=400)


def miss_small(folder: Path) -> dict[str, Sample]:
    """Run and record a small step: each call has an argument of its own."""
    with cached(folder, small) as functions:
        samples = interleave(functions, rounds=10, calls=200)
    assert executions_in(folder) >= samples["musubito"].calls
    return samples


def replay_chat(folder: Path) -> dict[str, Sample]:
    """Replay with a conversation as input."""
    with cached(folder, answer) as functions:
        return replayed(folder, functions, conversation(50), calls=40)


def replay_text(folder: Path) -> dict[str, Sample]:
    """Replay with a large document as input."""
    with cached(folder, first_line) as functions:
        return replayed(folder, functions, text_of(1_000_000, seed=2), calls=15)


class Untold(CallProtocol):
    """A call of which the ledger is told nothing."""

    __slots__ = ()

    def _add_to_history(self, *_: Any) -> None:
        pass


class OfOneKind(MusubitoEngine):
    """An engine whose steps' stories are all of one kind."""

    kind: type[CallProtocol] = CallProtocol

    def _protocol(self, call: Any, mode: Any = Mode.REPLAY, scope: Any = None, kinds: Any = None) -> CallProtocol:
        """See `MusubitoEngine`."""
        return super()._protocol(call, mode, scope, (self.kind, EffectCall))


def ledger(folder: Path) -> dict[str, Sample]:
    """Replay as always, and without a line for the ledger being made, kept or written."""
    (folder / "with").mkdir()
    (folder / "without").mkdir()
    engine = OfOneKind(SQLiteStorage(folder / "with" / "musubito.db"), strict=True)
    forgetful = OfOneKind(SQLiteStorage(folder / "without" / "musubito.db"), strict=True)
    forgetful.kind = Untold

    def using(engine: MusubitoEngine) -> Call:
        return lambda _: engine.execute("bench.small", {"number": 3}, small)

    try:
        return interleave({"musubito": using(engine), "no ledger": using(forgetful)}, rounds=50, calls=2_000)
    finally:
        engine.close()
        forgetful.close()


def conversation(messages: int) -> list[dict[str, Any]]:
    """Plain messages of 100 to 700 characters, as a chat with a model has them."""
    words = random.Random(1)
    return [
        {
            "role": "assistant" if number % 2 else "user",
            "content": text_of(words.randint(100, 700), seed=number),
        }
        for number in range(messages)
    ]


def text_of(size: int, *, seed: int) -> str:
    """So many characters that look like words."""
    source = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    words = ["".join(source.choices(letters, weights=range(26, 0, -1), k=source.randint(2, 9))) for _ in range(2_000)]
    return " ".join(source.choices(words, k=size // 4))[:size]


ROWS: Final = {
    "small": Row("replay of a small step", (Ratio(0.75, "diskcache"),), replay_small),
    "miss": Row("miss of a small step", (Ratio(1.3, "diskcache"),), miss_small),
    "chat": Row("replay with 50 messages as input", (Ratio(0.10, "diskcache"),), replay_chat),
    "text": Row("replay with 1 MB of text as input", (Ratio(0.35, "diskcache"),), replay_text),
    "ledger": Row("what the ledger costs a replay", (Difference(3e-6, over="no ledger"),), ledger),
}
