"""Take out of a statement the settings of packages' objects that do not count: `OpenAI(timeout=5)`."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from musubito.code.syntax.expressions import attribute_chain
from musubito.code.syntax.statements import names_used
from musubito.parsing import nodes_in

if TYPE_CHECKING:
    from musubito.code.client_settings import Look

N = TypeVar("N", bound=ast.AST)


def pruned(node: N, look: Look) -> N | None:
    """Return a statement without settings that do not count, as a copy if it has any.

    Return None if it does no more than set one: `client.max_retries = 3`.
    """
    match node:
        case ast.Assign(targets=[ast.Attribute(attr=name)]) if not look.counts(name):
            return None
    if not any(isinstance(inner, ast.keyword) and look.is_setting(inner.arg or "") for inner in nodes_in(node)):
        return node
    node = copy.deepcopy(node)
    for call in nodes_in(node):
        if isinstance(call, ast.Call):
            root, attributes = attribute_chain(call.func)
            if isinstance(root, ast.Name) and look.is_of_package(root.id, attributes):
                call.keywords = list(_that_count(call.keywords, look))
    return node


def _that_count(settings: list[ast.keyword], look: Look) -> Iterator[ast.keyword]:
    for setting in settings:
        name, value = setting.arg or "", setting.value
        if look.is_way(name):
            if any(look.may_be_the_users(*read) for read in names_used(value)):
                yield setting
        elif look.counts(name):
            match value:
                case ast.Dict(keys=keys, values=values):
                    pairs = list(zip(keys, values, strict=True))
                    kept = [pair for pair in pairs if look.counted(name, {getattr(pair[0], "value", None): True})]
                    if pairs and not kept:
                        continue
                    value.keys, value.values = [key for key, _ in kept], [inner for _, inner in kept]
                case ast.Constant(value=text):
                    setting.value = ast.Constant(look.counted(name, text))
                case ast.Name(id=variable) if (address := look.address_in(name, variable)) is not None:
                    setting.value = ast.Constant(address)
            yield setting
