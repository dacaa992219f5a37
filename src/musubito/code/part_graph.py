"""Keep which part leads to which, the parts whose digests are known, and the names that are taken."""

from __future__ import annotations

from collections.abc import Collection

from musubito.code.parts import CodePart, PartKind


class PartGraph:
    """The names of the parts that a walk has reached, and what leads from one to another."""

    def __init__(self) -> None:
        self.at = ""
        """The name of the part that is being described; empty at the root."""
        self.edges: dict[str, set[str]] = {}
        """The names of the parts that each part leads to."""
        self.fixed: dict[str, CodePart] = {}
        """The parts whose digests are known, by name."""
        self._names: dict[str, int] = {}
        """Number of things that were met under each name."""

    def lead_to(self, name: str) -> str:
        """Note that the part that is being described leads to this one, and return its name."""
        self.edges.setdefault(self.at, set()).add(name)
        return name

    def fix(self, name: str, digest: bytes, text: str | None = None, kind: PartKind = PartKind.CODE) -> str:
        """Add a part whose digest is known, and return its name."""
        self.fixed.setdefault(name, CodePart(name, digest, text, kind))
        return self.lead_to(name)

    def unique(self, name: str) -> str:
        """Return the name, with a number if another thing has it."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    def without(self, left_out: Collection[str]) -> set[str]:
        """Return the names of the parts that are reached by other ways than through those left out."""
        found, pending = set(left_out), [""]
        while pending:
            more = self.edges.get(pending.pop(), set()) - found
            found |= more
            pending += more
        return found.difference(left_out)

    def below(self, names: Collection[str]) -> set[str]:
        """Return the names of the parts that are reached through these alone."""
        return self.without(()) - self.without(names)
