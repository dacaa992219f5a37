"""A field of the user's object counts only if reached code may read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soundness.changed_programs import Program, in_one_process, in_three_processes


def made(step: str, methods: str = "", before: str = "", after: str = "") -> Program:
    """A program with an object that has a field `start`, which is another in each process."""
    text = (
        f"import time\n{before}\nclass A:\n    def __init__(self):\n        self.start = time.time_ns()\n"
        f"        self.model = 'm'\n{methods}\nheld = A()\n{after}\ndef step(q): {step}"
    )
    return Program(text, "", "", "held.start += 1")


UNREAD = {
    "another field": made("return held.model"),
    "a method": made("return held.run()", "    def run(self): return self.model"),
    "a bound method that is called by others": made(
        "return list(map(held.run, [q]))", "    def run(self, q): return 1"
    ),
    "a field of a field": made("return outer.a.model", after="class B: pass\nouter = B()\nouter.a = held"),
    "a closure": made(
        "return ask(q)", after="def make(h):\n    def ask(q): return h.model\n    return ask\nask = make(held)"
    ),
}
READ = {
    "the field": made("return held.start"),
    "a method": made("return held.run()", "    def run(self): return self.start"),
    "a property": made("return held.age", "    @property\n    def age(self): return self.start"),
    "an operator": made("return held == q", "    def __eq__(self, other): return self.start == other"),
    "a default": made("return ask(q)", after="def ask(q, h=held): return h.start"),
    "its literal name": made("return getattr(held, 'start')"),
    "its name in a constant": made("return getattr(held, NAME)", before="NAME = 'start'"),
    "a format": made("return '{0.start}'.format(held)"),
    "a format that is kept elsewhere": made("return TEXT.format(held)", before="TEXT = '{0.start}'"),
    "a format that is given the receiver": made(
        "return held.run()", "    def run(self): return TEXT.format(self)", before="TEXT = '{0.start}'"
    ),
    "a format that is given a field": made(
        "return TEXT.format(outer.a)", before="TEXT = '{0.start}'", after="class B: pass\nouter = B()\nouter.a = held"
    ),
    "a format that is given an item": made("return TEXT.format(*L)", before="TEXT = '{0.start}'", after="L = [held]"),
    "a pattern": made("\n    match held:\n        case A(start=s): return s"),
    "a position in a pattern": made(
        "\n    match held:\n        case A(s): return s", "    __match_args__ = ('start',)"
    ),
    "all of them": made("return dict(vars(held))"),
    "all of them, from inside": made("return held.run()", "    def run(self): return dict(self.__dict__)"),
    "a helper": made("return show(held)", before="def show(x): return x.start"),
    "a helper that gets the receiver": made(
        "return held.run()", "    def run(self): return show(self)", before="def show(x): return x.start"
    ),
    "getattr by another name": made("return g(held, 'sta' + 'rt')", before="g = getattr"),
    "what lies in a list": made("return [each.start for each in L]", after="L = [held]"),
    "a bound method that is held": made(
        "return T[0]()", "    def run(self): return self.start", after="T = [held.run]"
    ),
    "code of a package": made("return G(held)", before="from operator import attrgetter\nG = attrgetter('start')"),
    "a context manager": made(
        "\n    with held as h: return h.start",
        "    def __enter__(self): return self\n    def __exit__(self, *a): pass",
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_field_that_nobody_reads_may_be_anything(name: str, tmp_path: Path) -> None:
    assert in_one_process(tmp_path, "unread", UNREAD[name]) == [1, 1, 1]


@pytest.mark.parametrize("name", READ)
def test_a_field_that_is_read_counts(name: str, tmp_path: Path) -> None:
    assert in_one_process(tmp_path, "read", READ[name]) == [1, 1, 2]


def test_a_field_that_is_new_counts_if_it_is_read(tmp_path: Path) -> None:
    new = made("return held.run(q)", "    def run(self, q): return self.new if q > 1 else self.model")
    assert in_one_process(tmp_path, "something", new._replace(change="held.new = 1")) == [1, 1, 2]
    assert in_one_process(tmp_path, "nothing", new._replace(change="held.other = 1")) == [1, 1, 1]


def test_fields_that_nobody_reads_are_others_in_each_process(tmp_path: Path) -> None:
    runs = in_three_processes(tmp_path, UNREAD)
    assert runs == (set(UNREAD), set(), set(), {})
