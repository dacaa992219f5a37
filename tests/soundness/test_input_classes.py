"""A step that is given an instance may call its methods: the code of an argument's class is code of the call."""

from __future__ import annotations

import enum
import types
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from typing import Any

import pytest

from musubito import musubito_step
from musubito.adapter import ambient
from tests.soundness.world import World


def helper(text: str) -> str:
    return text.upper()


@dataclass(frozen=True)
class Document:
    text: str

    def clean(self) -> str:
        return helper(self.text)


@dataclass
class Folder:
    documents: list[Document]


class Tone(enum.Enum):
    LOUD = "loud"

    def apply(self, text: str) -> str:
        return text + "!"


class Speaks:
    def __musubito_identity__(self) -> str:
        return "the same"

    def say(self) -> str:
        return "hello"


class Around:
    """An adapter that gives every step a document."""

    def inputs(self, code: object, given: object) -> dict[str, object]:
        return {"document": Document("around")}

    def observe(self, kind: str, key: str) -> None:
        return None


def steps(w: World) -> dict[str, Callable[[], Any]]:
    @musubito_step(name="direct")
    def direct(document: Any) -> str:
        w.count("direct")
        return document.clean()

    @musubito_step(name="nested")
    def nested(folder: Any) -> list[str]:
        w.count("nested")
        return [document.clean() for document in folder.documents]

    @musubito_step(name="make")
    def make(text: str) -> Document:
        return Document(text)

    @musubito_step(name="result")
    def result(made: Any) -> str:
        w.count("result")
        return made.value.clean()

    @musubito_step(name="member")
    def member(tone: Any) -> str:
        w.count("member")
        return tone.apply("x")

    @musubito_step(name="speaker")
    def speaker(who: Any) -> str:
        w.count("speaker")
        return who.say()

    @musubito_step(name="around")
    def around() -> str:
        w.count("around")
        return "clean"  # by this name others may call the method for it

    def within() -> Any:
        with ambient(Around()):
            return around()

    return {
        "direct": lambda: direct(Document("a")),
        "nested": lambda: nested(Folder([Document("a")])),
        "result": lambda: result(make("a")),
        "member": lambda: member(Tone.LOUD),
        "speaker": lambda: speaker(Speaks()),
        "around": within,
    }


@pytest.mark.parametrize(
    ("step", "cls", "method"),
    [
        ("direct", Document, "clean"),
        ("nested", Document, "clean"),
        ("result", Document, "clean"),
        ("around", Document, "clean"),
        ("member", Tone, "apply"),
        ("speaker", Speaks, "say"),
    ],
)
def test_an_edited_method_of_an_argument_runs_the_step_again(
    w: World, monkeypatch: pytest.MonkeyPatch, step: str, cls: type, method: str
) -> None:
    call = steps(w)[step]
    call()
    call()
    assert w.ran[step] == 1
    monkeypatch.setattr(cls, method, lambda self, *rest: "edited")
    call()
    assert w.ran[step] == 2


def test_an_edited_helper_of_an_argument_s_method_runs_the_step_again(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = steps(w)["direct"]
    before = call().value
    monkeypatch.setitem(globals(), "helper", lambda text: text + "?")
    assert call().value != before


def test_an_unrelated_class_counts_for_nothing(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    call = steps(w)["direct"]
    call()
    monkeypatch.setattr(Speaks, "say", lambda self: "edited")
    call()
    assert w.ran["direct"] == 1


def of_fields(clean: Callable[[Any], str]) -> Any:
    """Before Python 3.12 such a class says that it is of the module `types`."""
    cls = make_dataclass("Made", ["text"], namespace={"clean": clean})
    cls.__module__ = "types"
    return cls("a")


def of_nothing(clean: Callable[[Any], str]) -> Any:
    made: Any = types.new_class("Made", (Speaks,), {}, lambda namespace: namespace.update(clean=clean))
    return made()


@pytest.mark.parametrize("make", [of_fields, of_nothing])
@pytest.mark.parametrize("reached", [False, True])
def test_a_class_that_the_standard_library_made_counts_with_its_methods(
    w: World, make: Callable[[Any], Any], reached: bool
) -> None:
    def call(clean: Callable[[Any], str]) -> str:
        made = type(make(clean))

        @musubito_step(name="given")
        def given(document: Any) -> str:
            return str(document.clean())

        @musubito_step(name="reaching")
        def reaching() -> str:
            return str(made.clean(None))

        return reaching().value if reached else given(make(clean)).value

    assert call(lambda _self: "one") == "one"
    assert call(lambda _self: "two") == "two"
