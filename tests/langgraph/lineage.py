"""Who led to whom, as a store has it and as a test writes it down.

    assert lineage(path) == drawn("a; b < a; c < a; d < b c")

Both sides are lines that name each node and its parents. A node is what its name and all of its ancestors make it: two
nodes of one name get numbers if their ancestors differ, and equal lines if they do not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from hashlib import sha256
from pathlib import Path

__all__ = ["EXTERNAL", "drawn", "edges", "lineage", "lineage_with_routers", "lines", "nodes"]

EXTERNAL = "EXTERNAL"
"""What no step has made. A step that failed has a `!` after its name."""


def lines(names: Mapping[str, str], parents: Mapping[str, Iterable[str]]) -> list[str]:
    """The nodes with these names and parents, so that equal lines mean equal lineages."""
    digests: dict[str, str] = {}
    depths: dict[str, int] = {}

    def digest(node: str) -> str:
        if node not in digests:
            above = sorted(parents.get(node, ()))
            of = sorted(digest(parent) for parent in above)
            digests[node] = sha256(repr((names[node], of)).encode()).hexdigest()
            depths[node] = 1 + max((depths[parent] for parent in above), default=0)
        return digests[node]

    distinct: dict[str, dict[str, int]] = {}
    for node in sorted(names, key=lambda node: (digest(node), node)):
        distinct.setdefault(names[node], {}).setdefault(digests[node], depths[node])

    def label(node: str) -> str:
        found = distinct[names[node]]
        if len(found) == 1:
            return names[node]
        order = sorted(found, key=lambda each: (found[each], each))
        return f"{names[node]}#{order.index(digests[node]) + 1}"

    def line(node: str) -> str:
        return " < ".join(filter(None, (label(node), " ".join(sorted(map(label, parents.get(node, ())))))))

    return sorted(map(line, names))


def drawn(text: str) -> list[str]:
    """The lines of what a test says: nodes with their parents, apart by semicolons. What stands behind a `#` tells
    nodes of one name apart."""
    names: dict[str, str] = {}
    parents: dict[str, list[str]] = {}
    for each in filter(None, map(str.strip, text.split(";"))):
        node, _, above = (part.strip() for part in each.partition("<"))
        assert node not in names, f"{node} is there twice"
        names[node], parents[node] = node.partition("#")[0], above.split()
    for parent in [parent for above in parents.values() for parent in above]:
        if parent not in names:
            assert parent.startswith(EXTERNAL), f"{parent} is not there"
            names[parent] = EXTERNAL
    return lines(names, parents)


def lineage(path: Path) -> list[str]:
    """The lines of what a store holds: all nodes but the routers' (`node:router`), with their data parents."""
    return _read(path, routers=False)


def lineage_with_routers(path: Path) -> list[str]:
    """As `lineage`, and the routers, too."""
    return _read(path, routers=True)


def _read(path: Path, *, routers: bool) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT node_id, operation_name, status FROM nodes").fetchall()
    names = {node: _name(operation, status) for node, operation, status in found}
    if not routers:
        names = {node: name for node, name in names.items() if ":" not in name or name.partition(":")[2].isdigit()}
    parents: dict[str, list[str]] = {node: [] for node in names}
    for parent, child in edges(path):
        if child in names:
            parents[child].append(parent)
    return lines(names, parents)


def _name(operation: str | None, status: str) -> str:
    if operation is None:
        return EXTERNAL
    return operation.partition("/")[2] + ("!" if status == "FAILED" else "")


def edges(path: Path) -> set[tuple[str, str]]:
    """Parents and children, by their ids."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT parent_node_id, child_node_id FROM edges WHERE kind = 'data'")
        return set(found.fetchall())


def nodes(path: Path) -> set[str]:
    """The ids of all nodes."""
    with closing(sqlite3.connect(path)) as connection:
        return {node for (node,) in connection.execute("SELECT node_id FROM nodes")}
