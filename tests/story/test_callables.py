"""Every kind of callable and every way to pass an argument."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest

from musubito import InputError, MusubitoEngine, MusubitoResult, musubito_step

RAN: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


@musubito_step()
def plain(a: int, b: int = 2, /, c: int = 3, *rest: int, d: int = 4, **named: int) -> tuple[int, ...]:
    RAN.append("plain")
    return (a, b, c, *rest, d, *named.values())


def test_positional_keyword_and_default_arguments_are_one_identity(engine: MusubitoEngine) -> None:
    nodes = {plain(1).node_id, plain(1, 2).node_id, plain(1, 2, c=3).node_id, plain(1, 2, 3, d=4).node_id}
    assert len(nodes) == 1
    assert plain(1).value == (1, 2, 3, 4)
    assert RAN == ["plain"]


def test_variadic_arguments_count_by_their_place_and_name(engine: MusubitoEngine) -> None:
    calls = [((1, 2, 3, 9), {}), ((1, 2, 3), {"d": 9}), ((1, 2, 3), {"e": 9}), ((1, 2, 3), {"f": 9}), ((1, 2, 9), {})]
    nodes = {plain(*args, **kwargs).node_id for args, kwargs in calls}
    assert len(nodes) == len(RAN) == 5
    assert plain(1, 2, 3, e=1, f=2).node_id == plain(1, 2, 3, f=2, e=1).node_id


def test_wrong_arguments_are_the_usual_error_and_nothing_runs(engine: MusubitoEngine) -> None:
    for args, kwargs in (((), {}), ((1,), {"b": 2})):
        try:
            result: Any = plain(*args, **kwargs)  # type: ignore[arg-type]
        except TypeError as error:
            assert "plain()" in str(error)
        else:
            assert kwargs == {"b": 2} and result.value[-1] == 2  # `b` is positional only, so it is one of `named`
    with pytest.raises(TypeError, match=r"one\(\) got an unexpected keyword argument 'y'"):
        one(1, y=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"one\(\) missing 1 required positional argument: 'x'"):
        one()  # type: ignore[call-arg]


@musubito_step
def one(x: Any) -> Any:
    RAN.append("one")
    return x


def test_the_bare_decorator(engine: MusubitoEngine) -> None:
    assert isinstance(one(1), MusubitoResult)
    assert one(x=1).value == 1
    assert RAN == ["one"]
    assert one.__name__ == "one"
    assert one.__wrapped__(2) == 2  # type: ignore[attr-defined]


def test_a_default_changed_in_place_counts(engine: MusubitoEngine) -> None:
    @musubito_step()
    def f(x: int, seen: list[int] = []) -> int:  # noqa: B006
        RAN.append("f")
        return len(seen)

    assert f(0).value == 0
    f.__wrapped__.__defaults__[0].append(1)  # type: ignore[attr-defined]
    assert f(0).value == 1


@pytest.mark.parametrize("bad", [object(), open, (i for i in ()), lambda: 0])
def test_arguments_that_cannot_be_identified(engine: MusubitoEngine, bad: object) -> None:
    with pytest.raises(InputError, match=r"argument x\.a\[1\] cannot") as caught:
        one({"a": [0, bad]})
    assert (caught.value.argument, caught.value.path) == ("x", "$.a[1]")
    assert RAN == []


# -- methods -----------------------------------------------------------------------------------------------------------
@dataclass
class Scorer:
    weight: int
    hidden: list[str] = field(default_factory=list)

    def scale(self) -> int:
        return 10

    @musubito_step()
    def score(self, x: int) -> int:
        RAN.append("score")
        return x * self.weight * self.scale()

    @musubito_step()
    async def later(self, x: int) -> int:
        RAN.append("later")
        return x * self.weight

    @classmethod
    @musubito_step()
    def of_class(cls, x: int) -> str:
        RAN.append("of_class")
        return cls.__name__

    @staticmethod
    @musubito_step()
    def of_nothing(x: int) -> int:
        RAN.append("of_nothing")
        return x

    @musubito_step()
    def chunks(self, n: int) -> Any:
        RAN.append("chunks")
        for i in range(n):
            yield i * self.weight


class Overriding(Scorer):
    def scale(self) -> int:
        return 20


class Inheriting(Scorer):
    pass


class Model(pydantic.BaseModel):
    weight: int

    @musubito_step()
    def score(self, x: int) -> int:
        RAN.append("model")
        return x * self.weight


class Client:
    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = object()

    def __musubito_identity__(self) -> str:
        return self.url

    @musubito_step()
    def get(self, path: str) -> str:
        RAN.append("get")
        return self.url + path


class Opaque:
    def __init__(self) -> None:
        self.connection = object()

    @musubito_step()
    def get(self) -> int:
        RAN.append("opaque")
        return 1


def test_receivers_count_by_their_content(engine: MusubitoEngine) -> None:
    assert [Scorer(1).score(2).value, Scorer(1).score(2).value, Scorer(3).score(2).value] == [20, 20, 60]
    assert RAN == ["score", "score"]
    assert Scorer.score(Scorer(1), 2).value == 20
    assert [Model(weight=1).score(2).value, Model(weight=1).score(2).value, Model(weight=2).score(2).value] == [2, 2, 4]
    assert RAN == ["score", "score", "model", "model"]


def test_a_receiver_changed_in_place_counts(engine: MusubitoEngine) -> None:
    scorer = Scorer(1)
    scorer.score(2)
    scorer.weight = 2
    assert scorer.score(2).value == 40
    scorer.hidden.append("more")
    scorer.score(2)
    assert RAN == ["score"] * 3


def test_receivers_that_say_what_they_are(engine: MusubitoEngine) -> None:
    values = [Client(url).get("/x").value for url in ("a", "a", "b")]
    assert values == ["a/x", "a/x", "b/x"]
    assert RAN == ["get", "get"]


def test_a_receiver_that_cannot_be_identified(engine: MusubitoEngine) -> None:
    with pytest.raises(InputError, match="self"):
        Opaque().get()
    assert RAN == []


def test_a_subclass_that_overrides_a_helper_is_other_code(engine: MusubitoEngine) -> None:
    assert [Scorer(1).score(2).value, Overriding(1).score(2).value, Inheriting(1).score(2).value] == [20, 40, 20]
    assert [Scorer(1).score(2).value, Overriding(1).score(2).value] == [20, 40]
    assert RAN == ["score"] * 3


def test_a_method_of_an_instance_patched(engine: MusubitoEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Scorer(1).score(2).value == 20
    monkeypatch.setattr(Scorer, "scale", lambda self: 7)
    assert Scorer(1).score(2).value == 14


def test_class_methods_and_static_methods(engine: MusubitoEngine) -> None:
    assert [Scorer.of_class(1).value, Overriding.of_class(1).value, Scorer(5).of_class(1).value] == [
        "Scorer",
        "Overriding",
        "Scorer",
    ]
    assert [Scorer.of_nothing(1).value, Overriding.of_nothing(1).value, Scorer(5).of_nothing(1).value] == [1, 1, 1]
    assert RAN == ["of_class", "of_class", "of_nothing"]


def test_async_methods_and_generator_methods(engine: MusubitoEngine) -> None:
    assert [asyncio.run(Scorer(w).later(2)).value for w in (1, 1, 2)] == [2, 2, 4]
    assert [list(Scorer(w).chunks(3)) for w in (1, 1, 2)] == [[0, 1, 2], [0, 1, 2], [0, 2, 4]]
    assert RAN == ["later", "later", "chunks", "chunks"]


def test_a_parameter_called_like_the_wrappers_own_hides_no_argument(engine: MusubitoEngine) -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            RAN.append("logged")
            return function(*args, **kwargs), sorted(kwargs)

        return inner

    @logged
    def below(kwargs: int, b: int = 0, **named: int) -> Any:
        return kwargs, b, named

    step = musubito_step(name="below")(functools.partial(below, 4))
    assert [step().value, step(z=1).value, step(z=2).value, step(z=2).value] == [
        ((4, 0, {}), []),
        ((4, 0, {"z": 1}), ["z"]),
        ((4, 0, {"z": 2}), ["z"]),
        ((4, 0, {"z": 2}), ["z"]),
    ]
    assert RAN == ["logged"] * 3


@pytest.mark.parametrize("wrap", [staticmethod, classmethod])
def test_the_decorator_goes_below_staticmethod_and_classmethod(wrap: Any) -> None:
    with pytest.raises(TypeError, match=f"put @{wrap.__name__} above"):
        musubito_step()(wrap(lambda x: x))


@pytest.mark.parametrize("wrong", [3, "f", functools.partial(print), Scorer])
def test_the_decorator_takes_functions(wrong: Any) -> None:
    with pytest.raises(TypeError):
        musubito_step(wrong)


def test_closures_of_one_function_are_told_apart(engine: MusubitoEngine) -> None:
    def make(factor: int) -> Any:
        @musubito_step(name="times")
        def times(x: int) -> int:
            RAN.append("times")
            return x * factor

        return times

    assert [make(2)(3).value, make(2)(3).value, make(5)(3).value] == [6, 6, 15]
    assert RAN == ["times", "times"]
