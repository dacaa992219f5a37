"""Models that are made where nothing leads to them: what is read again, and what is said of what never will be."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pydantic import BaseModel, RootModel

from musubito import MusubitoEngine, MusubitoWarning, musubito_step
from musubito.engine import lost_classes


class Numbers(RootModel[list[int]]):
    """A model of one list."""


class Tagged(Numbers):
    """A model derived from a root model, with a private field."""

    _tag: str = "a"


Parametrised = RootModel[dict[str, int]]


@pytest.mark.parametrize(("cls", "root"), [(Numbers, [1]), (Tagged, [2]), (Parametrised, {"a": 1})])
def test_root_models_are_replayed(cls: Any, root: Any, engine: MusubitoEngine) -> None:
    ran: list[int] = []

    @musubito_step
    def draft(number: int) -> Any:
        ran.append(number)
        return [cls(root)]

    first, again = draft(1).value, draft(1).value
    assert ran == [1]
    assert first == again
    assert type(again[0]) is type(first[0])


def test_a_private_field_of_a_root_model_comes_back(engine: MusubitoEngine) -> None:
    ran: list[int] = []

    @musubito_step
    def draft(number: int) -> Tagged:
        ran.append(number)
        tagged = Tagged([number])
        tagged._tag = "b"
        return tagged

    draft(1)
    assert draft(1).value._tag == "b"
    assert ran == [1]


def test_a_class_that_only_the_step_makes_is_named_once(
    engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_classes, "_warned", set())
    ran: list[str] = []

    @musubito_step
    def model(number: int) -> Any:
        class Answer(BaseModel):
            text: int

        ran.append("model")
        return {"answer": Answer(text=number)}

    @musubito_step
    def record(number: int) -> Any:
        ran.append("record")
        return dataclasses.make_dataclass("Made", ["text"])(number)

    with pytest.warns(MusubitoWarning) as warned:
        for number in (1, 1, 2):
            assert model(number).value["answer"].text == number
            assert record(number).value.text == number
    said = [str(each.message) for each in warned]
    assert len(said) == 2
    assert "model.<locals>.Answer, a class that neither its module nor the step's code leads to" in said[0]
    assert "Made" in said[1] and "return annotation" in said[1]
    assert ran == ["model", "record"] * 3
