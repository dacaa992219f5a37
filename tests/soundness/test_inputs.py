"""What is stored under an input was computed from that input."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from musubito import StepConfiguration, StepType, musubito_step
from tests.soundness.world import World

EFFECT = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("other", ["bye ", 1, True, ("a", 1)])
def test_a_result_with_another_value_does_not_count_by_its_id(w: World, size: int, other: Any) -> None:
    @musubito_step(name="p")
    def p(x: str) -> str:
        return x * size

    @musubito_step(name="c")
    def c(r: Any) -> str:
        return f"c:{r.value}"

    result = p("hello ")
    assert c(result).value == f"c:{'hello ' * size}"
    assert c(result).value == f"c:{'hello ' * size}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is said once for each artifact
        assert c(replace(result, value=other)).value == f"c:{other}"


def test_arguments_that_change_while_the_call_waits_are_not_stored(w: World) -> None:
    @musubito_step(name="echo")
    async def echo(messages: list[str]) -> list[str]:
        return list(messages)

    async def main() -> None:
        messages = ["hi"]
        task = asyncio.create_task(echo(messages))
        await asyncio.sleep(0)
        messages.append("more")
        await task
        assert (await echo(["hi"])).value == ["hi"]

    asyncio.run(main())


def test_arguments_that_the_step_changes_itself_are_no_obstacle(w: World) -> None:
    @musubito_step(name="grows")
    async def grows(messages: list[str]) -> int:
        w.count("grows")
        messages.append("more")
        return len(messages)

    async def main() -> None:
        assert [(await grows(["hi"])).value for _ in range(2)] == [2, 2]

    asyncio.run(main())
    assert w.ran["grows"] == 1


@dataclass(frozen=True)
class Prompted:
    prompt: str = field(compare=False)

    def __call__(self, x: int) -> str:
        return self.prompt


def test_callables_that_are_equal_are_told_apart(w: World) -> None:
    answers = [w.engine.execute("op", {"x": 1}, Prompted(prompt)).value for prompt in ("one", "two")]
    assert answers == ["one", "two"]


def test_an_effect_made_in_a_function_needs_a_name(w: World) -> None:
    with pytest.raises(TypeError, match="needs a name"):

        @musubito_step(EFFECT)
        def send(message: str) -> None:
            """Two of these would share one identity."""


def test_effects_of_two_scripts_are_two_effects(tmp_path: Path) -> None:
    program = """
        from musubito import StepConfiguration, StepType, musubito_step

        @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
        def notify(user):
            print("{what} sent")
            return "{what}"

        print(notify("ada").value)
    """
    said = []
    for what in ("welcome", "invoice", "welcome"):
        script = tmp_path / f"{what}.py"
        script.write_text(textwrap.dedent(program.replace("{what}", what)))
        done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
        said.append(done.stdout.split("\n")[:-1])
    assert said == [["welcome sent", "welcome"], ["invoice sent", "invoice"], ["welcome"]]


PROMPT = "old"


def test_code_that_changes_while_an_async_step_is_suspended_is_not_stored(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    @musubito_step(name="late")
    async def late(x: int) -> str:
        w.count("late")
        await asyncio.sleep(0.01)
        return PROMPT

    async def main() -> None:
        task = asyncio.create_task(late(1))
        while not w.ran["late"]:
            await asyncio.sleep(0)
        monkeypatch.setitem(globals(), "PROMPT", "new")
        assert (await task).value == "new"
        monkeypatch.setitem(globals(), "PROMPT", "old")
        assert (await late(1)).value == "old"

    asyncio.run(main())
    assert w.ran["late"] == 2
    asyncio.run(main_again(late))
    assert w.ran["late"] == 2


async def main_again(step: Any) -> None:
    assert (await step(1)).value == "old"
