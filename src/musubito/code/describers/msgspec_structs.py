"""Describe msgspec's structs, which keep parts of a class where Python shows no member of it."""

from __future__ import annotations

import sys
from typing import Any, Final

from musubito.code.syntax.ast_digest import tokens
from musubito.code.walk import Walk

KEPT: Final = ("__struct_fields__", "__struct_encode_fields__", "__struct_defaults__")
"""Attributes in which a struct keeps its fields."""


def is_struct(cls: type) -> bool:
    """Return whether a class is a struct of msgspec."""
    library = sys.modules.get("msgspec")
    return library is not None and isinstance(cls, type(library.Struct))


def struct_links(walk: Walk, cls: Any, name: str) -> list[tuple[str, bytes]]:
    """Return links to a struct's fields, their encoded names, their defaults and the options of the class."""
    config = cls.__struct_config__
    options = {option: getattr(config, option) for option in dir(config) if not option.startswith("_")}
    links = walk.links(
        [*((attribute, getattr(cls, attribute)) for attribute in KEPT[:2]), *sorted(options.items())], name
    )
    for number, default in enumerate(cls.__struct_defaults__):
        if type(default).__name__ == "Factory":
            links.append((f"factory {number}", walk.link(default.factory, walk.part_name(default.factory, name))))
        elif repr(default) == "NODEFAULT":
            links.append((f"default {number}", tokens(None)))
        else:
            links.append((f"default {number}", walk.link(default, walk.part_name(default, name))))
    return links
