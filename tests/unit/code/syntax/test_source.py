"""What code was written in, for a process that is sent the code alone."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from time import sleep
from types import CodeType
from typing import Any

import pytest

from musubito.code.sent_code import sent as sent_code
from musubito.code.syntax import source
from musubito.code.syntax.same_code import same_code
from musubito.code.syntax.source import register_source_text, source_of
from musubito.code.tracker import CodeTracker
from musubito.parsing import nodes_in

TEXT = '''
from __future__ import annotations
import time, os.path as paths
try:
    import json as j
except ImportError:
    j = None
RATE = 3

def plain(x): return x + RATE

def imported(x):
    import math
    time.sleep(0); paths.join("a"); j.dumps(x)
    return math.sqrt(x)

def outer(n):
    def inner(x):
        return [x + n + time.time() for _ in range(3)]
    return inner

nested = outer(3)
one, two = (lambda x: x + 1), (lambda x: x + 2)

class Box:
    __hidden = 1
    def method(self):
        return super().__init__() or self.__hidden

method = Box.method

if RATE:
    def under(x: int = 3) -> int:
        """Says what it is."""
        return time.time() + x
else:
    time = None
'''
ELSEWHERE = "/elsewhere/a script.py"
"""The file of the script, where it is not."""
EMPTY = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
NAMES = ["plain", "imported", "nested", "one", "two", "method", "under"]


@pytest.fixture
def module() -> dict[str, Any]:
    name = "/nowhere/a script.py"
    linecache.cache[name] = (len(TEXT), None, TEXT.splitlines(keepends=True), name)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(TEXT, name, "exec", dont_inherit=True), names)
    yield names
    linecache.cache.pop(name)
    source._brought.clear()


def sent(code: CodeType) -> CodeType:
    """As cloudpickle sends it."""
    constants = tuple(sent(each) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.replace(co_filename="<dynamic-code>", co_consts=constants)


def statements_of(code: CodeType) -> str:
    found = source_of(code)
    assert found is not None
    return found.file.statements([found.node])


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_alone_is_the_same_code(module: dict[str, Any], name: str) -> None:
    code = module[name].__code__
    text = statements_of(code)
    arrived = sent(code)
    assert same_code(arrived, code)
    assert source_of(arrived, ELSEWHERE) is None
    register_source_text([text])
    found, here = source_of(arrived, ELSEWHERE), source_of(code)
    assert found is not None
    assert here is not None
    assert found.text == here.text
    assert found.file.statements([found.node]) == text


def test_what_is_not_the_code_is_not_believed(module: dict[str, Any]) -> None:
    register_source_text(["def plain(x): return x - RATE\n", "no Python", ""])
    assert source_of(sent(module["plain"].__code__), ELSEWHERE) is None


def test_of_two_that_are_the_same_code_the_latest_is_believed(module: dict[str, Any]) -> None:
    register_source_text(["def plain(x: int): return x + RATE\n", "def plain(x: float): return x + RATE\n"])
    found = source_of(sent(module["plain"].__code__), ELSEWHERE)
    assert found is not None
    assert found.text == "def plain(x: float): return x + RATE\n"


def test_code_that_came_back_is_found_where_it_was_written(module: dict[str, Any], tmp_path: Path) -> None:
    arrived = sent(module["plain"].__code__)
    found = source_of(arrived)
    assert found is not None, "a cell of a notebook"
    assert found.text == "def plain(x): return x + RATE\n"
    script = tmp_path / "script.py"
    script.write_text("def plain(x): return x + RATE  # of a file\n")
    found = source_of(arrived, str(script))
    assert found is not None
    assert found.text.endswith("# of a file\n")
    other = tmp_path / "other.py"
    other.write_text("def plain(x): return x - RATE\n")
    assert source_of(arrived, str(other)) is None


def test_a_statement_that_comes_again_is_found_meanwhile(
    module: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = module["plain"].__code__
    text = statements_of(code)
    is_gone = Event()

    class SlowToReturn(dict[str, Any]):
        def pop(self, *args: Any) -> Any:
            result = super().pop(*args)
            is_gone.set()
            sleep(0.1)
            return result

    comes_again = Thread(target=register_source_text, args=([text],))

    def then_comes_again(_: str) -> Iterator[Any]:
        comes_again.start()
        is_gone.wait()
        yield from ()

    register_source_text([text])
    monkeypatch.setattr(source, "_brought", SlowToReturn(source._brought))
    monkeypatch.setattr(source, "_written_in", then_comes_again)
    found = source_of(code, ELSEWHERE)
    comes_again.join()
    assert found is not None


def test_only_what_no_module_has_is_sent() -> None:
    def mine(x):
        return sent(x), mine

    [text] = sent_code(CodeTracker(mine)).texts
    assert "def test_only_what_no_module_has_is_sent" in text
    assert "def statements_of" + "(code" not in text


def test_the_oldest_are_forgotten(module: dict[str, Any]) -> None:
    first = statements_of(module["plain"].__code__)
    register_source_text([first])
    register_source_text(f"x = {number}" for number in range(source.FILES_KEPT - 1))
    assert source_of(sent(module["plain"].__code__), ELSEWHERE) is not None
    register_source_text([first])
    register_source_text(f"y = {number}" for number in range(source.FILES_KEPT - 1))
    assert first in source._brought
    register_source_text(["z = 1"])
    assert first not in source._brought


def test_all_nodes_of_a_tree_are_walked_outer_nodes_first() -> None:
    tree = ast.parse(Path(__file__).read_text("utf-8"))
    walked = [*nodes_in(tree)]
    kept = [each for each in ast.walk(tree) if not isinstance(each, EMPTY)]
    assert sorted(map(id, walked)) == sorted(map(id, kept))
    place = {id(node): number for number, node in enumerate(walked)}
    assert all(
        place[id(node)] <= place[id(inner)]
        for node in walked
        for inner in ast.iter_child_nodes(node)
        if not isinstance(inner, EMPTY)
    )


def test_nodes_that_are_not_entered_are_left_out() -> None:
    tree = ast.parse("def f():\n    return 1\nx = 2")
    numbers = (
        node.value
        for node in nodes_in(tree, lambda node: not isinstance(node, ast.FunctionDef))
        if isinstance(node, ast.Constant)
    )
    assert [*numbers] == [2]
