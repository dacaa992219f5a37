"""Two classes of one name, equal in all else, are two all the same for code that knows both."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import musubito
from musubito import StepConfiguration, StepType, musubito_step
from musubito.adapter import ambient
from musubito.errors import ChangedInput
from tests import launcher
from tests.soundness.world import World

LIBRARY = str(Path(musubito.__file__).parents[1])


def made_anew() -> Any:
    @dataclass(frozen=True)
    class Query:
        text: str

    return Query


Search, Delete = made_anew(), made_anew()


def knows_both(query: Any) -> str:
    return "search" if isinstance(query, Search) else "delete" if isinstance(query, Delete) else "neither"


def knows_one(query: Any) -> str:
    return "search" if isinstance(query, Search) else "something else"


@dataclass
class Judge:
    strict: bool

    def says(self, query: Any) -> str:
        return knows_one(query)


class Around:
    def __init__(self, held: Any) -> None:
        self._held = held

    def inputs(self, code: object, given: object) -> dict[str, object]:
        return {"held": self._held}

    def observe(self, kind: str, key: str) -> None:
        return None


def around(held: Any, step: Callable[[], Any]) -> Any:
    with ambient(Around(held)):
        return step()


def test_instances_of_either_are_different_arguments(w: World) -> None:
    both, one = musubito_step(knows_both), musubito_step(knows_one)
    for _ in range(2):
        assert [both(cls("a")).value for cls in (Search, Delete)] == ["search", "delete"]
        assert [one(cls("a")).value for cls in (Search, Delete)] == ["search", "something else"]


def test_also_deep_inside_and_together(w: World) -> None:
    @musubito_step
    def all_of(queries: list[Any]) -> list[str]:
        return [knows_both(query) for query in queries]

    for _ in range(2):
        for first, second in ((Search, Search), (Search, Delete), (Delete, Search), (Delete, Delete)):
            queries = [first("a"), second("a")]
            assert all_of(queries).value == [knows_both(query) for query in queries]


def test_an_effect_is_refused_that_is_given_both_together(w: World) -> None:
    """Nobody could tell the next time that it is the same one."""
    sent: list[int] = []

    def send(queries: Any) -> int:
        sent.append(len(queries))
        return len(queries)

    effect: Any = musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")(send)
    with pytest.raises(ChangedInput, match="It was not done; .* two classes with one name"):
        effect([Search("a"), Delete("a")])
    assert sent == []
    assert effect([Search("a"), Search("b")]).value == 2


def test_where_only_another_argument_knows(w: World) -> None:
    @musubito_step
    def judged(judge: Any, query: Any) -> Any:
        return judge.says(query)

    for _ in range(2):
        assert [judged(Judge(True), cls("a")).value for cls in (Search, Delete)] == ["search", "something else"]


def test_where_it_is_what_holds_around_the_step(w: World) -> None:
    @musubito_step
    def told() -> str:
        return knows_one(w.data["query"])

    for _ in range(2):
        for cls, answer in ((Search, "search"), (Delete, "something else")):
            w.data["query"] = cls("a")
            assert around(cls("a"), told).value == answer


def test_a_result_is_of_the_class_that_it_was_of(w: World) -> None:
    @musubito_step
    def chosen(which: str) -> Any:
        return Search("a") if which == "search" else Delete("a")

    @musubito_step
    def same(query: Any) -> Any:
        return [query]

    for _ in range(2):
        assert type(chosen("search").value) is Search
        assert type(chosen("delete").value) is Delete
        assert type(same(Search("a")).value[0]) is Search
        assert type(same(Delete("a")).value[0]) is Delete


def test_what_is_given_back_is_replayed_though_no_code_reaches_its_class(w: World) -> None:
    query = made_anew()("a")

    @musubito_step
    def same(query: Any) -> Any:
        w.count("same")
        return [query]

    assert [same(query).value, same(query).value] == [[query], [query]]
    assert w.ran["same"] == 1


SCRIPT = """
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
from pydantic import BaseModel

from musubito import StepConfiguration, StepType, musubito_step


class Search:
    @dataclass
    class Query:
        text: str

    class Model(BaseModel):
        text: str


class Delete:
    @dataclass
    class Query:
        text: str

    class Model(BaseModel):
        text: str


class Steps:
    class Loud:
        @musubito_step
        def says(self, text):
            return self.made(text)

        def made(self, text):
            return text + "!"

        def __musubito_identity__(self):
            return "loud"


@musubito_step
def done(query):
    return "search" if isinstance(query, (Search.Query, Search.Model)) else "delete"


@musubito_step
def chosen(which, kind):
    return getattr(Search if which == "search" else Delete, kind)(text="a")


def work():
    found = []
    for _ in range(2):
        for kind in ("Query", "Model"):
            for cls, which in ((Search, "search"), (Delete, "delete")):
                found.append(done(getattr(cls, kind)(text="a")).value == which)
                found.append(type(chosen(which, kind).value) is getattr(cls, kind))
    return all(found), Steps.Loud().says("a").value


if __name__ == "__main__":
    Path("sent").write_bytes(cloudpickle.dumps(work))
    print(json.dumps(work() if sys.argv[1:] else None))
"""
WORKER = """
import json
import pickle
from pathlib import Path

print(json.dumps(pickle.loads(Path("sent").read_bytes())()))
"""


def told(folder: Path, program: str, *args: str) -> Any:
    (folder / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": LIBRARY, "MUSUBITO_URL": f"sqlite:///{folder}/m.db"}
    done = launcher.run(folder / "program.py", *args, folder=folder, environment=environment, imports="pydantic")
    assert done.returncode == 0, done.stderr
    (folder / "program.py").unlink()
    return json.loads(done.stdout)


@pytest.mark.parametrize("first", ["", "here"])
def test_classes_that_were_nested_in_others_before_they_were_sent(tmp_path: Path, first: str) -> None:
    told(tmp_path, SCRIPT, *first.split())
    for _ in range(2):
        assert told(tmp_path, WORKER) == [True, "a!"]
    assert told(tmp_path, SCRIPT, "here") == [True, "a!"]


def test_a_method_that_was_edited_of_a_class_that_was_nested_in_another(tmp_path: Path) -> None:
    told(tmp_path, SCRIPT)
    assert told(tmp_path, WORKER) == [True, "a!"]
    told(tmp_path, SCRIPT.replace('text + "!"', 'text + "?"'))
    assert told(tmp_path, WORKER) == [True, "a?"]
