"""An external effect is durable before it begins and after it ends; what that costs, counted in fsyncs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bench.goals import Ratio
from bench.measure import Sample, interleave
from bench.rows import Row, engine_in
from musubito import StepConfiguration, StepType, musubito_step


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
def effect(number: int) -> int:
    """Do nothing, as an effect that takes no time."""
    return number


def durable_effect(folder: Path) -> dict[str, Sample]:
    """Perform effects, each with an argument of its own, and fsync small writes on the same file system."""
    descriptor = os.open(folder / "small", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def fsync(_: int) -> None:
        os.write(descriptor, b"x" * 100)
        os.fsync(descriptor)

    try:
        with engine_in(folder):
            return interleave({"musubito": effect, "one fsync": fsync}, rounds=10, calls=40)
    finally:
        os.close(descriptor)


ROWS: Final = {
    "effect": Row("an external effect, both commits durable", (Ratio(3.0, "one fsync"),), durable_effect),
}
