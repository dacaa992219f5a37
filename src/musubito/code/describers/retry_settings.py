"""Tell which settings of a client say only how long it waits and how often it tries.

Such a setting decides whether there is an answer, and not which. Code that handles an error may answer in another way
if the client gives up. So these settings count where code of the user's handles errors, or names the setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from musubito.code.fixpoint_facts import ERRORS
from musubito.code.graph_record import fields_of
from musubito.code.walk import Walk

_ADDRESS: Final = re.compile(r"_?(?:\w+_)?(?:base_url|api_base|api_url)")
"""Matches the field in which a client keeps the address of its service."""
_RETRIES: Final = re.compile(r"_?(?:\w+_)?(?:timeout|max_retries)(?:_\w+)?")
"""Matches a field that says how long a client waits, or how often it tries."""


def retry_fields(walk: Walk, value: Any) -> frozenset[str]:
    """Return the names of the fields of a package's object that do not count, since they only say how often it tries.

    The object is a client if it has a field for the address of a service.
    """
    names = [name for name in fields_of(value) or () if type(name) is str]
    return retries_among(walk, names) if any(map(_is_address, names)) else frozenset()


def retries_among(walk: Walk, names: Iterable[str]) -> frozenset[str]:
    """Return those names of a client's fields that say only how often it tries, and that do not count for this code."""
    retries = frozenset(filter(_is_retries, names))
    return uncounted_retries(walk, retries) if retries else retries


def uncounted_retries(walk: Walk, names: frozenset[str]) -> frozenset[str]:
    """Return those of the settings for retries that do not count, since code neither names them nor handles errors."""
    facts = walk.facts
    if ERRORS in facts.looks:
        return frozenset()
    # A property may show a field whose name begins with an underscore.
    return frozenset(
        name for name in names if not any(at.meets((name, name.lstrip("_"))) for at in (facts.mentioned, facts.fields))
    )


@lru_cache(maxsize=4096)
def _is_address(name: str) -> bool:
    return _ADDRESS.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _is_retries(name: str) -> bool:
    return _RETRIES.fullmatch(name) is not None
