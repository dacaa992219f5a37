"""The values that users are given and that they say things with."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import replace
from typing import Any

import pytest

from musubito import (
    MusubitoEngine,
    MusubitoResult,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.model import StepDefinition

RESULT = MusubitoResult("text", "a" * 64, "b" * 64, "c" * 64, "make")


USES: dict[str, Any] = {
    "f-string": lambda result: f"{result}",
    "f-string with a width": lambda result: f"{result:>10}",
    "format": "{}".format,
    "percent": lambda result: "%s" % result,  # noqa: UP031 - how it is put into a text is tested
    "str": str,
    "print": print,
    "bool": bool,
    "if": lambda result: "yes" if result else "no",
    "not": lambda result: not result,
    "filter": lambda result: list(filter(None, [result])),
    "len": len,
    "for": lambda result: [character for character in result],  # noqa: C416 - how it is iterated is tested
    "list": list,
    "unpacking": lambda result: [*result],
    "index": lambda result: result[0],
    "key": lambda result: result["key"],
    "in": lambda result: "t" in result,
    "plus": lambda result: result + "y",
    "plus at its right": lambda result: "y" + result,
}


@pytest.mark.parametrize("use", USES)
def test_a_result_is_not_taken_for_its_value(use: str) -> None:
    with pytest.raises(TypeError, match=r"use `\.value`, the output of the step 'make'"):
        USES[use](RESULT)


def test_an_attribute_of_the_value_is_looked_for_in_the_value() -> None:
    told = r"a MusubitoResult has no attribute 'upper'; use `\.value`, the output of the step 'make'"
    with pytest.raises(AttributeError, match=told):
        _ = RESULT.upper  # type: ignore[attr-defined]
    assert not hasattr(RESULT, "upper")
    assert getattr(RESULT, "upper", None) is None


def test_each_way_of_making_a_result_names_the_step() -> None:
    @musubito_step(name="twice")
    def twice(x: int) -> int:
        return 2 * x

    with MusubitoEngine(SQLiteStorage(":memory:")) as engine, use_musubito_engine(engine):
        assert [twice(1).step, twice(1).step] == ["twice"] * 2
        with run(mode="off"):
            assert twice(1).step == "twice"


def test_a_result_can_be_shown_compared_and_sent() -> None:
    shown = (
        f"MusubitoResult(value='text', artifact_id='{'a' * 64}', producer_node_id='{'b' * 64}', node_id='{'c' * 64}')"
    )
    assert repr(RESULT) == f"{RESULT!r}" == shown
    assert f"{[RESULT]}" == f"[{shown}]"
    for sent in pickle.loads(pickle.dumps(RESULT)), copy.copy(RESULT), copy.deepcopy(RESULT), replace(RESULT):
        assert sent == RESULT
        assert sent.step == "make"
    assert replace(RESULT, step="another") == RESULT
    assert isinstance(RESULT._repr_html_(), str)
    assert {RESULT: 1}[RESULT] == 1


@pytest.mark.parametrize("said", ["stochastic", "STOCHASTIC", "Stochastic", StepType.STOCHASTIC])
def test_a_step_type_may_be_a_text(said: Any) -> None:
    configuration = StepConfiguration(step_type=said)
    assert configuration.step_type is StepType.STOCHASTIC
    assert configuration == StepConfiguration(step_type=StepType.STOCHASTIC)


@pytest.mark.parametrize(
    ("said", "error", "told"),
    [
        (
            {"step_type": "random"},
            ValueError,
            '"deterministic", "stochastic", "live", "external_effect", not \'random\'',
        ),
        ({"ttl_seconds": -1}, ValueError, "ttl_seconds"),
        ({"ttl_seconds": math.nan}, ValueError, "ttl_seconds"),
        ({"on_unknown": "again"}, ValueError, "on_unknown"),
        ({"force_reexecution": 1}, TypeError, "force_reexecution"),
        ({"allow_cross_parent_reuse": 3}, TypeError, "allow_cross_parent_reuse"),
        ({"record_inputs": None}, TypeError, "record_inputs"),
        ({"step_type": 1}, TypeError, "step_type must be a StepType or one of"),
        ({"step_type": None}, TypeError, "step_type must be a StepType or one of"),
        ({"inputs": "question"}, TypeError, r'inputs must be None or a tuple of names, such as \("question",\)'),
        ({"inputs": ["question"]}, TypeError, "inputs must be None or a tuple of names"),
        ({"inputs": (1,)}, TypeError, "inputs must be None or a tuple of names"),
        ({"code": "bytes"}, ValueError, 'code must be "source" or "version", not \'bytes\''),
        ({"code": None}, ValueError, 'code must be "source" or "version", not None'),
        ({"once_per": "day"}, ValueError, 'once_per must be "arguments" or "run", not \'day\''),
        ({"once_per": "run"}, ValueError, 'once_per="run" is for effects alone: give the step step_type="external_eff'),
    ],
)
def test_what_cannot_be_said_of_a_step(said: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        StepConfiguration(**said)


USUAL = StepConfiguration()


def define(version: Any, semantics: StepConfiguration = USUAL) -> StepDefinition:
    return StepDefinition(print, "step", semantics, version)


def test_a_version_is_a_text_or_is_asked_for() -> None:
    assert [define(each).version() for each in (None, "1", lambda: "2", lambda: 3)] == [None, "1", "2", "3"]
    with pytest.raises(TypeError, match="operation_version is a text or a callable without arguments, not 1"):
        define(1)


@pytest.mark.parametrize("said", [None, True, 1.0, b"1", ["1"]])
def test_what_is_no_version(said: Any) -> None:
    with pytest.raises(TypeError, match="step: its operation_version must return a text or an int, not"):
        define(lambda: said).version()


def test_a_coroutine_is_no_version() -> None:
    async def version() -> str:
        return "1"

    with pytest.raises(TypeError, match="must return a text or an int, not <coroutine"):
        define(version).version()


def test_code_by_version_needs_a_version() -> None:
    with pytest.raises(ValueError, match='code="version" needs an operation_version'):
        define(None, StepConfiguration(code="version"))
    define("1", StepConfiguration(code="version"))
    define(lambda: "1", StepConfiguration(code="version"))
