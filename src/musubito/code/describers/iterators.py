"""Take apart iterators that the user's code names: they count by what they have not given yet."""

from __future__ import annotations

import gc
import itertools
from types import GeneratorType
from typing import Any, Final

from musubito.code.describers.object_parts import Parts
from musubito.code.ownership import Owner, Owners
from musubito.code.syntax.ast_digest import normalised_bytecode, tokens

SHOWN_BY_PICKLING: Final[tuple[type, ...]] = (
    *(type(iter([])), type(iter(())), type(iter(range(0))), type(iter("")), type(iter(b"")), type(reversed([]))),
    *(enumerate, zip, map, filter, reversed),
)
"""Builtin iterators that say what they hold and how far they are."""
OVER_OTHERS: Final[tuple[type, ...]] = (
    *(itertools.chain, itertools.islice, itertools.takewhile, itertools.dropwhile, itertools.starmap),
    *(itertools.accumulate, itertools.filterfalse, itertools.compress, itertools.pairwise),
)
"""Iterators that hold other iterators.

`zip_longest` and others hold a tuple that may have gaps, which crashes Python.
"""


def iterator_parts(origins: Owners, value: Any) -> Parts | None:
    """Return the parts of an iterator; None if it does not say what it holds, and for anything else.

    The parts of a generator are its code, how far it is, and its variables. A package's generator has none.
    """
    cls = type(value)
    if cls in SHOWN_BY_PICKLING:
        made, *held = value.__reduce__()
        return Parts(
            tokens("iterator", cls.__name__, made.__name__), [(str(number), each) for number, each in enumerate(held)]
        )
    if cls is itertools.count:
        return Parts(tokens("iterator", repr(value)), [])
    if cls in OVER_OTHERS:
        held = [each for each in gc.get_referents(value) if each is not cls]
        return Parts(tokens("iterator", cls.__name__), [(str(number), each) for number, each in enumerate(held)])
    if cls is GeneratorType:
        frame = value.gi_frame
        if frame is None or value.gi_running:
            return Parts(tokens("generator", frame is None), [])
        if origins.of_name(str(frame.f_globals.get("__name__")), frame.f_code.co_filename) is Owner.USER:
            code = normalised_bytecode(frame.f_code)
            return Parts(tokens("generator", code, frame.f_lasti), sorted(frame.f_locals.items()))
    return None
