"""What changes in a living process counts at the next call; what the step itself writes does not."""

from __future__ import annotations

import importlib.util
import itertools
import linecache
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from musubito.code.tracker import CodeTracker
from musubito.model import StepConfiguration, StepDefinition

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    made: list[str] = []

    def make(text: str) -> Any:
        name = f"living_{next(_numbers)}"
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        made.append(name)
        spec.loader.exec_module(module)
        return module

    yield make
    for name in made:
        del sys.modules[name]


PROGRAM = """
import functools, threading, types
PROMPT = "a"
TABLE = {"k": [1, 2], "n": 1}
ITEMS = ["a", "b"]
WORDS = {"x", "y"}
RAW = bytearray(b"abc")
def deepest(x, *, scale=2): return x * scale
def helper(x, times=2): return deepest(x) + times
class Inner:
    K = 1
    def go(self): return self.K
class Tool:
    LIMIT = 3
    inner = Inner()
    def __init__(self): self.n = 1; self.extra = [1]
    def run(self, x): return x + self.n + self.LIMIT + len(self.extra)
class Slotted:
    __slots__ = ("a", "b")
    def __init__(self): self.a = 1
SLOTTED = Slotted()
TOOL = Tool()
BY = functools.partial(helper, times=3)
MIXED = [helper, {"f": deepest}]
SPACE = types.SimpleNamespace(a=1)
def make(k):
    def closed(x): return x + k
    return closed
CLOSED = make(1)
def step(x):
    data = PROMPT, TABLE, ITEMS, WORDS, RAW, BY, MIXED, SPACE, SLOTTED
    return data, helper(x), TOOL.run(x), CLOSED(x), len(x), maybe(x)
"""


def other_code(x: Any, *, scale: int = 2) -> Any:
    return x - scale


def change(text: str) -> Callable[[Any], None]:
    return lambda m: exec(text, {"m": m, "types": types})


CHANGES = [
    "m.PROMPT = 'b'",
    "m.TABLE['k'].append(3)",
    "m.TABLE['n'] = True",
    "m.TABLE['n'] = 1.0",
    "m.TABLE['new'] = 1",
    "del m.TABLE['n']",
    "m.ITEMS[0] = 'z'",
    "m.ITEMS.reverse()",
    "m.WORDS.add('z')",
    "m.RAW[0] = 0",
    "m.deepest = lambda x: 0",
    "m.deepest.__code__ = (lambda x, *, scale: 1).__code__",
    "m.deepest.__kwdefaults__ = {'scale': 3}",
    "m.helper.__defaults__ = (5,)",
    "m.Tool.LIMIT = 4",
    "m.Tool.run = lambda self, x: 0",
    "m.Tool.run.__code__ = (lambda self, x: 1).__code__",
    "m.TOOL.n = 2",
    "m.TOOL.extra.append(2)",
    "m.TOOL.run = lambda x: 0",
    "m.TOOL.__dict__ = {'n': 7}",
    "m.Tool.__bases__ = (m.Inner,)",
    "m.SLOTTED.a = 2",
    "m.BY.keywords['times'] = 4",
    "m.MIXED[1]['f'] = m.helper",
    "m.MIXED.append(1)",
    "m.CLOSED.__closure__[0].cell_contents = 2",
    "m.SPACE.a = 2",
    "m.len = lambda x: 0",
    "m.maybe = lambda x: 0",
    "m.step.__code__ = (lambda x: 1).__code__",
]


@pytest.mark.parametrize("text", CHANGES)
def test_a_change_counts_at_the_next_call(module: Callable[[str], Any], text: str) -> None:
    m = module(
        PROGRAM if "__bases__" not in text else PROGRAM.replace("class Tool:", "class Root: pass\nclass Tool(Root):")
    )
    tracker = CodeTracker(m.step)
    before = tracker.current()
    assert tracker.current() is before
    change(text)(m)
    after = tracker.current()
    assert after.digest != before.digest
    assert tracker.current() is after
    assert CodeTracker(m.step).current().digest == after.digest


def test_a_helper_defined_again_in_a_cell_counts_by_its_own_code() -> None:
    cells: dict[str, Any] = {"__name__": "__main__"}

    def cell(number: int, text: str, *, known: bool = True) -> None:
        name = f"<cell {number}>"
        if known:
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), cells)

    cell(1, "def helper(x):\n    return x + 1\n")
    cell(2, "def step(x):\n    return helper(x)\n")
    tracker = CodeTracker(cells["step"])
    first = tracker.current()
    assert any(
        part.name == "__main__.helper" and part.source == "def helper(x):\n    return x + 1\n" for part in first.parts
    )
    cell(3, "def helper(x):\n    return x + 2\n")
    second = tracker.current()
    cell(4, "def helper(x):\n    return x + 1\n")
    assert second.digest != first.digest
    assert tracker.current().digest == first.digest
    linecache.cache["<cell 4>"] = linecache.cache["<cell 3>"]
    cell(4, "def helper(x):\n    return x + 3\n", known=False)  # the text that is kept is of another edit
    third = tracker.current()
    assert third.digest not in (first.digest, second.digest)
    assert next(part for part in third.parts if part.name == "__main__.helper").source is None


def test_a_file_edited_after_its_import_does_not_lend_its_new_text_to_the_old_code(
    module: Callable[[str], Any],
) -> None:
    text = "def helper(x):\n    return x + 1\ndef step(x):\n    return helper(x)\n"
    m = module(text)
    expected = CodeTracker(m.step).current().digest
    path = Path(m.__file__)
    path.write_text(text.replace("x + 1", "x + 2"))
    linecache.checkcache(str(path))
    edited = module(text.replace("x + 1", "x + 2"))
    fresh = CodeTracker(m.step).current()
    assert fresh.digest != CodeTracker(edited.step).current().digest
    assert all("x + 2" not in (part.source or "") for part in fresh.parts)
    assert fresh.digest == expected  # read once already, so the text that agrees is still known


def test_code_that_moved_in_an_edited_file_is_still_found(module: Callable[[str], Any]) -> None:
    text = "def step(x):\n    return x + 1\n"
    m = module(text)
    Path(m.__file__).write_text("# one\n# more\n" + text)
    linecache.clearcache()
    assert CodeTracker(m.step).current().parts[0].source == text


def test_code_with_an_expression_deeper_than_python_recurses_counts(module: Callable[[str], Any]) -> None:
    m = module("WORD = 1\ndef step(x):\n    return WORD or x" + ".field" * 990)
    tracker = CodeTracker(m.step)
    before = tracker.current()
    m.WORD = 2
    assert tracker.current().digest != before.digest


def test_a_binding_of_an_equal_value_is_the_same(module: Callable[[str], Any]) -> None:
    m = module(PROGRAM)
    tracker = CodeTracker(m.step)
    before = tracker.current()
    m.TABLE = {"k": [1, 2], "n": 1}
    m.PROMPT = "".join(["a"])
    m.TOOL = m.Tool()
    assert tracker.current().digest == before.digest


class Liar:
    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Raiser(Liar):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("cls", [Liar, Raiser])
def test_no_equality_of_the_users_is_believed(module: Callable[[str], Any], cls: type) -> None:
    m = module("THINGS = [None]\nBY = {}\ndef step(x): return THINGS, BY\n")
    m.THINGS[0], m.BY["k"] = cls(1), cls(1)
    tracker = CodeTracker(m.step)
    before = tracker.current()
    assert tracker.current() is before
    m.THINGS[0] = cls(2)
    between = tracker.current()
    m.BY["k"] = cls(2)
    assert len({before.digest, between.digest, tracker.current().digest}) == 3


def test_secrets_leave_no_trace(module: Callable[[str], Any]) -> None:
    pydantic = pytest.importorskip("pydantic")
    m = module("""
import pydantic
class Settings(pydantic.BaseModel):
    key: pydantic.SecretStr
SETTINGS = Settings(key="hush-hush")
API_KEY = "hush-plain"
def step(x): return SETTINGS, API_KEY
""")
    tracker = CodeTracker(m.step)
    before = tracker.current()
    assert all("hush" not in (part.source or "") for part in before.parts if part.name != "step")
    m.SETTINGS.key = pydantic.SecretStr("another")
    assert tracker.current().digest == before.digest


def test_a_member_that_appears_nearer_to_the_receiver_counts(module: Callable[[str], Any]) -> None:
    m = module("class Base:\n    K = 1\nclass Agent(Base):\n    def answer(self): return self.K, self.given\n")
    tracker = CodeTracker(m.Agent.answer, owner=m.Agent)
    digests = [tracker.current().digest]
    m.Agent.K = 2
    digests.append(tracker.current().digest)
    m.Base.given = 3
    digests.append(tracker.current().digest)
    assert len(set(digests)) == 3


class FakeStep:
    def __init__(self, definition: StepDefinition) -> None:
        self.__musubito_step__ = definition


def test_a_reached_step_counts_by_code_name_version_ttl_and_whether_it_runs_each_time(
    module: Callable[[str], Any],
) -> None:
    m = module("def inner(x): return x\ndef other(x): return -x\ndef step(x): return STEP(x)\n")

    def digest(**changes: Any) -> bytes:
        said = {
            "function": m.inner,
            "name": "n",
            "semantics": StepConfiguration(),
            "operation_version": None,
            **changes,
        }
        m.STEP = FakeStep(StepDefinition(**said))
        return tracker.current().digest

    tracker = CodeTracker(m.step)
    found = [
        digest(),
        digest(function=m.other),
        digest(name="o"),
        digest(operation_version="1"),
        digest(semantics=StepConfiguration(ttl_seconds=1)),
        digest(semantics=StepConfiguration(force_reexecution=True)),
    ]
    assert len(set(found)) == 6
    assert digest() == found[0] == digest(semantics=StepConfiguration(record_inputs=False))


def test_cycles_end(module: Callable[[str], Any]) -> None:
    text = "LOOP = [1]\nLOOP.append(LOOP)\nclass A:\n    def __init__(self): self.me = self\nME = A()\ndef even(n): return n == 0 or odd(n - 1)\ndef odd(n): return even(n - 1), LOOP, ME\n"
    m, other = module(text), module(text)
    assert len(CodeTracker(m.even).current().digest) == 32
    assert CodeTracker(m.even).current().digest != CodeTracker(other.odd).current().digest


def test_a_module_imported_in_the_body_is_patched(module: Callable[[str], Any]) -> None:
    lib = module("def f(): return 1\n")
    m = module(f"def step(x):\n    from {lib.__name__} import f\n    import json\n    return f(), json.dumps(x)\n")
    tracker = CodeTracker(m.step)
    before = tracker.current()
    lib.f = lambda: 2
    assert tracker.current().digest != before.digest


def test_a_patched_function_of_the_standard_library_counts(
    module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    m = module("import json\ndef step(x): return json.dumps(x)\n")
    tracker = CodeTracker(m.step)
    before = tracker.current()
    monkeypatch.setattr(json, "dumps", other_code)
    assert tracker.current().digest != before.digest
    monkeypatch.undo()
    assert tracker.current().digest == before.digest


def test_threads_see_one_fingerprint(module: Callable[[str], Any]) -> None:
    m = module(PROGRAM)
    tracker = CodeTracker(m.step)
    expected = CodeTracker(m.step).current().digest
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(tracker.current().digest)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [expected] * 8


def test_nothing_is_read_before_the_first_call(module: Callable[[str], Any]) -> None:
    m = module("def step(x): return later(x)\n")
    tracker = CodeTracker(m.step)
    m.later = other_code
    assert any(part.name.endswith("other_code") for part in tracker.current().parts)


def test_whoever_is_handed_an_object_gets_at_all_that_it_leads_to(module: Callable[[str], Any]) -> None:
    m = module(
        "import copy\nclass Sub:\n    def __init__(self): self.model = 'small'\n"
        "class Cfg:\n    def __init__(self): self.sub = Sub()\nC = Cfg()\ndef step(x): return copy.deepcopy(C)\n"
    )
    tracker = CodeTracker(m.step)
    before = tracker.current()
    m.C.sub.model = "large"
    assert tracker.current().digest != before.digest


def test_text_with_surrogates_can_be_stored(module: Callable[[str], Any]) -> None:
    m = module("BAD = chr(0xD800) + 'x'\nTABLE = {'k': chr(0xDC00)}\ndef step(x): return BAD, TABLE\n")
    parts = CodeTracker(m.step).current().parts
    assert [part.source.encode() for part in parts if part.source is not None and part.name.endswith("BAD")] == [
        b"\\ud800x"
    ]
    for part in parts:
        (part.source or "").encode()
