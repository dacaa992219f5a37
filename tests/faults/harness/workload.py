"""What workers do: steps whose every value a pure function says as well, and random operations on them.

Each run of a body is a line in a file beside the store: "begin" and "end", with the key under which it may be replayed.
Nothing that tells one worker from another may be reached by a step, since that would be a part of its code.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from musubito import StepConfiguration, StepType, current_idempotency_key, musubito_step

__all__ = ["Operation", "built_on", "expected", "log", "operations", "perform"]


def _told(name: str) -> str:
    """What this worker is told in its environment; by a name that is computed, since one that is plain is a part of
    the code that reaches it."""
    return os.environ.get(f"HARNESS_{name}", "")


def log(kind: str, **fields: Any) -> None:
    """One line, in one write: nothing of it is lost when the process is killed a moment later."""
    fields |= {"kind": kind, "pid": os.getpid(), "thread": threading.get_ident(), "at": time.monotonic()}
    descriptor = os.open(_told("LOG"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (json.dumps(fields) + "\n").encode())
    os.close(descriptor)


def key_of(step: str, *arguments: Any) -> str:
    """What names a body's result: its step, with the version, and all that its value depends on."""
    return json.dumps([step, *arguments])


def built_on(key: str) -> tuple[list[str], list[str]]:
    """What an invalidation may name that concerns the result of a body: itself and its step, and what it calls."""
    step, *arguments = json.loads(key)
    if step != "outer":
        return [step, key], []
    _, leaf, _, _, n = arguments
    return [step, key], ["leaf", "coarse", "join", key_of("leaf", leaf, n), key_of("leaf", leaf, n + 1)]


class _Body:
    """The log around a step's body; by a class that steps do not look into."""

    def __musubito_identity__(self) -> str:
        return "the log around a body"

    def __call__(self, name: str, *key: Any) -> Callable[[], None]:
        which = key_of(name, *key)
        number = f"{os.getpid()}-{time.monotonic_ns()}"
        log("begin", step=name, key=which, run=number)
        if (seconds := float(_told("BODY") or 0)) > 0:
            time.sleep(seconds * (os.urandom(1)[0] / 128))
        return lambda: log("end", step=name, key=which, run=number)


# -- the steps, of a version each, and what they give ---------------------------------------------------------------------
def leaf_value(version: int, n: int) -> dict[str, Any]:
    # Every seventh is too large for its execution's row.
    return {"leaf": n, "version": version, "text": f"{n}:{version} " * (400 if n % 7 == 0 else 3)}


def coarse_value(version: int, leaf: dict[str, Any]) -> int:
    return (leaf["leaf"] % 3) * 10 + version


def join_value(version: int, a: int, b: int) -> list[int]:
    return [version, a, b]


def outer_value(version: int, inner: tuple[int, int, int], n: int) -> list[Any]:
    a = coarse_value(inner[1], leaf_value(inner[0], n))
    b = coarse_value(inner[1], leaf_value(inner[0], n + 1))
    return [version, *join_value(inner[2], a, b)]


PAY = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)
RESEND = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT, on_unknown="rerun")
BODY = _Body()


# As somebody has deployed them: a version is a part of the code that was edited.
@cache
def leaf_step(version: int) -> Any:
    @musubito_step(name="leaf")
    def leaf(n: int) -> dict[str, Any]:
        end = BODY("leaf", version, n)
        value = leaf_value(version, n)
        end()
        return value

    return leaf


@cache
def aleaf_step(version: int) -> Any:
    @musubito_step(name="aleaf")
    async def aleaf(n: int) -> dict[str, Any]:
        end = BODY("aleaf", version, n)
        await asyncio.sleep(0)
        value = leaf_value(version, n)
        end()
        return value

    return aleaf


@cache
def coarse_step(version: int) -> Any:
    @musubito_step(name="coarse")
    def coarse(leaf: Any) -> int:
        end = BODY("coarse", version, leaf.value["leaf"], leaf.value["version"])
        value = coarse_value(version, leaf.value)
        end()
        return value

    return coarse


@cache
def join_step(version: int) -> Any:
    @musubito_step(name="join")
    def join(a: Any, b: Any) -> list[int]:
        end = BODY("join", version, a.value, b.value)
        value = join_value(version, a.value, b.value)
        end()
        return value

    return join


@cache
def outer_step(leaf_version: int, coarse_version: int, join_version: int, version: int) -> Any:
    leaf, coarse, join = leaf_step(leaf_version), coarse_step(coarse_version), join_step(join_version)

    @musubito_step(name="outer")
    def outer(n: int) -> list[Any]:
        end = BODY("outer", version, leaf_version, coarse_version, join_version, n)
        a, b = (coarse(leaf(k)) for k in (n, n + 1))
        value = [version, *join(a, b).value]
        end()
        return value

    return outer


@musubito_step(PAY, name="pay")
def pay(order: int) -> dict[str, Any]:
    end = BODY("pay", order)
    end()
    return {"paid": order}


@musubito_step(RESEND, name="resend")
def resend(order: int) -> dict[str, Any]:
    end = BODY("resend", order, current_idempotency_key())
    end()
    return {"sent": order}


# -- operations --------------------------------------------------------------------------------------------------------
class Operation(NamedTuple):
    """What is asked for: of which versions, with which number."""

    kind: str
    versions: tuple[int, int, int, int]
    n: int

    @property
    def is_asked_again(self) -> bool:
        """Whether all that it does may be done again at any time."""
        return self.kind not in ("invalidate", "sweep")

    @property
    def is_effect(self) -> bool:
        return self.kind in ("pay", "resend")

    @property
    def may_be_refused(self) -> bool:
        """Whether it is an error if the store fails."""
        return self.is_effect or not self.is_asked_again

    @property
    def key(self) -> str | None:
        """Of the one body that gives its value, if there is one."""
        leaf, coarse, join, outer = self.versions
        match self.kind:
            case "leaf":
                return key_of("leaf", leaf, self.n)
            case "outer":
                return key_of("outer", outer, leaf, coarse, join, self.n)
            case _:
                return None


WEIGHTS = {"leaf": 28, "chain": 26, "outer": 26, "fan": 4, "pay": 8, "resend": 7, "invalidate": 2, "sweep": 0.02}
COUNTS = {"leaf": 1, "chain": 3, "outer": 4, "fan": 1}
"""How many of the versions are of steps that it calls."""
WINDOW = 60
"""A round's operations are about so many numbers, the lower ones more often."""


def operations(seed: str, first: int, count: int) -> Iterator[Operation]:
    """So many of them, always the same ones for a seed; about numbers from `first` on."""
    chance = random.Random(seed)
    for _ in range(count):
        kind = chance.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
        count_of = COUNTS.get(kind, 4 if kind == "invalidate" else 0)
        leaf, coarse, join, outer = (int(k < count_of and chance.random() < 0.15) for k in range(4))
        n = first + int(chance.random() ** 2 * WINDOW)
        if kind in ("pay", "resend"):
            # An effect is done once: there are more of them.
            n = n * 3 + chance.randrange(3)
        yield Operation(kind, (leaf, coarse, join, outer), n)


def expected(operation: Operation) -> Any:
    """What it has to give."""
    kind, versions, n = operation
    leaf, coarse, join, outer = versions
    match kind:
        case "leaf":
            return leaf_value(leaf, n)
        case "chain":
            a, b = (coarse_value(coarse, leaf_value(leaf, k)) for k in (n, n + 1))
            return join_value(join, a, b)
        case "outer":
            return outer_value(outer, (leaf, coarse, join), n)
        case "fan":
            return [leaf_value(leaf, k) for k in range(n, n + 6)]
        case "pay":
            return {"paid": n}
        case "resend":
            return {"sent": n}
        case _:
            return None


def perform(operation: Operation, engine: Any) -> Any:
    """What it gives."""
    kind, versions, n = operation
    leaf, coarse, join, _ = versions
    match kind:
        case "leaf":
            return leaf_step(leaf)(n).value
        case "chain":
            a, b = (coarse_step(coarse)(leaf_step(leaf)(k)) for k in (n, n + 1))
            return join_step(join)(a, b).value
        case "outer":
            return outer_step(*versions)(n).value
        case "fan":

            async def fan() -> list[Any]:
                return [result.value for result in await asyncio.gather(*map(aleaf_step(leaf), range(n, n + 6)))]

            return asyncio.run(fan())
        case "pay":
            return pay(n).value
        case "resend":
            return resend(n).value
        case "invalidate" if n % 3 == 0:
            # One result.
            return _invalidate(engine, outer_step(*versions)(n).node_id, operation._replace(kind="outer").key)
        case "invalidate":
            return _invalidate(engine, leaf_step(leaf)(n).node_id, operation._replace(kind="leaf").key)
        case _:
            # All results of a step.
            step = ("leaf", "coarse", "join", "outer", "aleaf")[n % 5]
            return _invalidate(engine, step, step)


def _invalidate(engine: Any, what: str, of: str | None) -> None:
    number = f"{os.getpid()}-{time.monotonic_ns()}"
    log("invalidating", of=of, run=number)
    engine.invalidate(what)
    log("invalidated", of=of, run=number)
