"""Make lists from the code, so that no page can contradict it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from musubito import ReplayReason

__all__ = ["LISTS", "list_of", "never_replayed", "reasons"]


CODE: Final = re.compile(r"""\b(?:__)?\w+=?\([^()]*\)|'musubito \w+'""")
"""Matches what a sentence quotes of code: a call, an option in brackets, a command."""


def _table(header: list[str], rows: Iterator[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(row)} |" for row in lines]


def _text(sentence: str) -> str:
    return CODE.sub(lambda quoted: f"`{quoted[0].strip(chr(39))}`", sentence)


def reasons() -> list[str]:
    """Return the table of the reasons of calls, with the sentence and the word of the command."""
    rows = (
        [f"`{reason.value}`", reason.word, _text(reason.sentence)]
        for reason in ReplayReason
        if not reason.forbids_replay
    )
    return _table(["code", "in tables", "sentence"], rows)


def never_replayed() -> list[str]:
    """Return the table of the reasons why a result is never replayed, with their remedies."""
    rows = (
        [f"`{reason.value}`", _text(reason.sentence), _text(reason.remedy)]
        for reason in ReplayReason
        if reason.forbids_replay
    )
    return _table(["code", "it ran, and", "what to do"], rows)


LISTS: Final[dict[str, Callable[[], list[str]]]] = {
    "reasons": reasons,
    "never-replayed": never_replayed,
}


def list_of(name: str) -> type[SphinxDirective]:
    """Return the directive that shows a list."""

    class List(SphinxDirective):
        """Show one list."""

        def run(self) -> list[nodes.Node]:
            """Parse the list as the Markdown of this page."""
            container = nodes.Element()
            self.state.nested_parse(StringList(LISTS[name](), __file__), 0, container)
            return container.children

    return List
