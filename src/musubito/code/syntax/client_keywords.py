"""Take out of a statement the settings of packages' objects that do not count: `OpenAI(timeout=5)`."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from musubito.code.syntax.expressions import attribute_chain
from musubito.code.syntax.statements import names_used
from musubito.parsing import nodes_in

N = TypeVar("N", bound=ast.AST)


class Look(Protocol):
    """Tells what settings are, and what the names in a statement lead to (see `musubito.code.client_settings`)."""

    def is_setting(self, name: str) -> bool:
        """Return whether a setting of this name may count less than others."""

    def counts(self, name: str) -> bool:
        """Return whether a setting of this name counts, whatever its value is."""

    def is_way(self, name: str) -> bool:
        """Return whether a setting does not count only if nothing in its value is the user's.

        What the user wrote may answer in place of the service, or change what is asked.
        """

    def counted(self, setting: str, value: Any) -> Any:
        """Return what counts of the value of a setting."""

    def address_in(self, setting: str, variable: str) -> str | None:
        """Return what counts of an address that is kept in a global; None for anything else."""

    def is_of_package(self, name: str, attributes: tuple[str, ...]) -> bool:
        """Return whether a name leads to a class of a package, or to a method of one."""

    def may_be_the_users(self, name: str, attributes: tuple[str, ...]) -> bool:
        """Return whether a name may lead to what the user wrote."""


def pruned(node: N, look: Look) -> N | None:
    """Return a statement without settings that do not count, as a copy if it has any.

    Return None if it does no more than set one: `client.max_retries = 3`.
    """
    match node:
        case ast.Assign(targets=[ast.Attribute(attr=name)]) if not look.counts(name):
            return None
    if not any(isinstance(each, ast.keyword) and look.is_setting(each.arg or "") for each in nodes_in(node)):
        return node
    node = copy.deepcopy(node)
    for call in nodes_in(node):
        if isinstance(call, ast.Call):
            root, attributes = attribute_chain(call.func)
            if isinstance(root, ast.Name) and look.is_of_package(root.id, attributes):
                call.keywords = list(_that_count(call.keywords, look))
    return node


def _that_count(settings: list[ast.keyword], look: Look) -> Iterator[ast.keyword]:
    for each in settings:
        name, value = each.arg or "", each.value
        if look.is_way(name):
            if any(look.may_be_the_users(*read) for read in names_used(value)):
                yield each
        elif look.counts(name):
            match value:
                case ast.Dict(keys=keys, values=values):
                    pairs = list(zip(keys, values, strict=True))
                    kept = [pair for pair in pairs if look.counted(name, {getattr(pair[0], "value", None): True})]
                    if pairs and not kept:
                        continue
                    value.keys, value.values = [key for key, _ in kept], [inner for _, inner in kept]
                case ast.Constant(value=text):
                    each.value = ast.Constant(look.counted(name, text))
                case ast.Name(id=variable) if (address := look.address_in(name, variable)) is not None:
                    each.value = ast.Constant(address)
            yield each
