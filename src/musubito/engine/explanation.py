"""Define what an explanation of a call says.

The class has a module of its own, since a stored value may hold an explanation: it is found again only where the class
is loaded. What makes an explanation is imported when one is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from musubito.model import ReplayDecision, ReplayReason
from musubito.reasons import OF_DEPENDENCIES, NeverReplayed

WHAT_COUNTS: Final = (
    (
        "A step's code is what it names in your own files, and what that names. Comments, formatting, docstrings and "
        "annotations that nobody is shown never count."
    ),
    (
        "Data counts by value: arguments, constants, closures, settings. An object that is no data (a client, an "
        "engine, a session, a graph) counts by the lines of your code that made it."
    ),
    (
        "What a step asks of the world while it runs is noted: files, environment variables, the graph's store, and "
        "code of yours that ran without being named. The clock, chance, the network and databases do not count: pass "
        "the value in, say a time to live, or give an `operation_version`."
    ),
    "What a step itself changes does not count for it.",
)
"""The promise about what counts, as the documentation says it, too."""
WIDTH: Final = 80
"""Columns in which these sentences are written."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision about a call, and the reasons for it.

    - `nearest_node_id`: the earlier node of the operation that differs least. It is None if there is none, or if the
      call would be replayed.
    - `arguments` and `code`: the names of the parts that differ from that node.
    - `fields`: the places in the arguments that differ (`$.messages[3].content: "..." → "..."`), if both inputs are
      stored.
    - `diffs`: unified diffs of the code, if both texts are stored.
    - `files`: the first file or folder that an earlier execution read and that has changed since.
    - `reads`: the first key of a store or of the configuration, or what the step declares by `depends_on`, that has
      changed in this way or that cannot be compared.
    - `never`: the reason why the newest result for this very call is never replayed.
    - `untracked`: objects that count by the lines that made them or by their type, and what cannot be followed, such as
      an environment variable under a computed name.
    - `state`: what the step changes itself. A change of it runs nothing again.
    - `varies`: one place of the input differs in each of several earlier calls, and all the rest is equal.
    - `unrepeatable`: sources of answers that differ each time. The code may ask for the clock, random numbers or ids,
      and earlier executions may have made connections or started processes. A replay returns the answer of that moment.

    >>> from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
    >>> @musubito_step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> with MusubitoEngine(SQLiteStorage(":memory:")) as engine, use_musubito_engine(engine):
    ...     result = double(6)
    ...     explanation = engine.explain(double, 7)
    >>> explanation.decision.replay, explanation.decision.reason.word, explanation.arguments
    (False, 'input changed', ('x',))
    """

    operation: str
    node_id: str
    decision: ReplayDecision
    nearest_node_id: str | None
    arguments: tuple[str, ...]
    code: tuple[str, ...]
    fields: tuple[str, ...]
    diffs: tuple[str, ...]
    untracked: tuple[str, ...]
    state: tuple[str, ...]
    files: tuple[str, ...] = ()
    unrepeatable: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    never: NeverReplayed | None = None
    varies: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts that differ: the code, or the paths in the input and the ambient inputs."""
        if self.decision.reason is ReplayReason.CODE_CHANGED:
            return self.code
        if self.decision.reason in OF_DEPENDENCIES:
            return self.files + self.reads
        if self.decision.reason is not ReplayReason.INPUT_CHANGED:
            return ()
        paths = tuple(field.partition(": ")[0] for field in self.fields)
        around = tuple(name for name in self.arguments if name.startswith("$"))
        return paths + around or self.arguments

    @property
    def remedy(self) -> str:
        """Return what to do so that such a call is replayed; "" where nothing can or need be done."""
        from musubito.remedies import remedy_of  # noqa: PLC0415 - for those alone who ask why

        if self.never is not None:
            return self.never.remedy
        reason = self.decision.reason
        parts = {ReplayReason.READ_CHANGED: self.files, ReplayReason.CODE_CHANGED: ()}.get(reason, self.parts)
        return "" if self.decision.replay else remedy_of(reason, parts, varies=self.varies)

    def __str__(self) -> str:
        import textwrap  # noqa: PLC0415 - for those alone who read it

        verb = "would be replayed" if self.decision.replay else "would run"
        lines = [f"{self.operation} {verb}: {self.decision.reason.sentence if self.never is None else self.never.says}"]
        if self.nearest_node_id is not None:
            lines.append(f"  nearest earlier call: {self.nearest_node_id[:12]}")
        for what, names in (
            ("arguments that differ", self.arguments),
            ("code that differs", self.code),
            ("where", self.fields),
            ("files that changed", self.files),
            ("read otherwise", self.reads),
            ("changed by the step itself, so it does not count", self.state),
            ("another each time", self.unrepeatable),
        ):
            if names:
                lines.append(f"  {what}: {'; '.join(names)}")
        if self.untracked:
            lines += ["  not by value:", *(f"    {text}" for text in self.untracked)]
        if self.remedy:
            lines.append(f"  what to do: {self.remedy}")
        lines.append("  what counts:")
        for number, sentence in enumerate(WHAT_COUNTS, 1):
            lines.append(textwrap.fill(sentence, WIDTH, initial_indent=f"    {number}. ", subsequent_indent=" " * 7))
        return "\n".join(lines)
