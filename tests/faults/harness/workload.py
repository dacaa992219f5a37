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

__all__ = ["INSIDE", "Operation", "expected", "log", "operations", "perform", "steps"]

INSIDE = {"outer": ("outer", "leaf", "coarse", "join"), "leaf": ("leaf",), "coarse": ("coarse",), "join": ("join",)}
"""Which invalidations concern a step: of itself, and of what it calls."""


def log(kind: str, **fields: Any) -> None:
    """One line, in one write: nothing of it is lost when the process is killed a moment later."""
    fields |= {"kind": kind, "pid": os.getpid(), "thread": threading.get_ident(), "at": time.monotonic()}
    descriptor = os.open(os.environ["HARNESS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (json.dumps(fields) + "\n").encode())
    os.close(descriptor)


class _Body:
    """The log around a step's body; by a class that steps do not look into."""

    def __musubito_identity__(self) -> str:
        return "the log around a body"

    def __call__(self, name: str, *key: Any) -> Callable[[], None]:
        which = json.dumps([name, *key])
        number = f"{os.getpid()}-{time.monotonic_ns()}"
        log("begin", step=name, key=which, run=number)
        if (seconds := float(os.environ.get("HARNESS_BODY", "0"))) > 0:
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


@cache
def steps(leaf_version: int, coarse_version: int, join_version: int, outer_version: int) -> dict[str, Any]:
    """The steps as somebody has deployed them: a version is a part of the code that was edited."""
    body = BODY

    def leaf(n: int) -> dict[str, Any]:
        end = body("leaf", leaf_version, n)
        value = leaf_value(leaf_version, n)
        end()
        return value

    def coarse(leaf: Any) -> int:
        end = body("coarse", coarse_version, leaf.value["leaf"], leaf.value["version"])
        value = coarse_value(coarse_version, leaf.value)
        end()
        return value

    def join(a: Any, b: Any) -> list[int]:
        end = body("join", join_version, a.value, b.value)
        value = join_value(join_version, a.value, b.value)
        end()
        return value

    async def aleaf(n: int) -> dict[str, Any]:
        end = body("aleaf", leaf_version, n)
        await asyncio.sleep(0)
        value = leaf_value(leaf_version, n)
        end()
        return value

    made = {f.__name__: musubito_step(name=f.__name__)(f) for f in (leaf, coarse, join, aleaf)}

    def outer(n: int) -> list[Any]:
        end = body("outer", outer_version, leaf_version, coarse_version, join_version, n)
        a = made["coarse"](made["leaf"](n))
        b = made["coarse"](made["leaf"](n + 1))
        value = [outer_version, *made["join"](a, b).value]
        end()
        return value

    made["outer"] = musubito_step(name="outer")(outer)
    return made


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


KINDS = ("leaf", "chain", "outer", "fan", "pay", "resend", "invalidate")
WEIGHTS = (28, 26, 26, 4, 8, 7, 0.15)


def operations(seed: str, first: int, count: int) -> Iterator[Operation]:
    """So many of them, always the same ones for a seed; about numbers from `first` on."""
    chance = random.Random(seed)
    for _ in range(count):
        kind = chance.choices(KINDS, WEIGHTS)[0]
        versions = tuple(int(chance.random() < 0.15) for _ in range(4))
        yield Operation(kind, versions, first + int(chance.random() ** 2 * 120))


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
    made = steps(*versions)
    match kind:
        case "leaf":
            return made["leaf"](n).value
        case "chain":
            a, b = (made["coarse"](made["leaf"](k)) for k in (n, n + 1))
            return made["join"](a, b).value
        case "outer":
            return made["outer"](n).value
        case "fan":

            async def fan() -> list[Any]:
                return [result.value for result in await asyncio.gather(*map(made["aleaf"], range(n, n + 6)))]

            return asyncio.run(fan())
        case "pay":
            return pay(n).value
        case "resend":
            return resend(n).value
        case _:
            step = ("leaf", "coarse", "join", "outer", "aleaf")[n % 5]
            number = f"{os.getpid()}-{time.monotonic_ns()}"
            log("invalidating", step=step, run=number)
            engine.invalidate(step)
            log("invalidated", step=step, run=number)
            return None
