"""Define why calls are replayed, why they run, and why results are never replayed: one set of codes with sentences.

Python, the command and JSON use these codes. A history stores the name of the code. An execution that is never replayed
stores the sentence with the part that it names, such as a key, an object or a line of code. A reader finds the code and
the part in a stored sentence again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

__all__ = ["NeverReplayed", "ReplayReason", "never_replayed", "reason_of", "without_part"]

LONGEST: Final = 300
"""Characters of a part that are kept at most."""
_TTL: Final = "Raise ttl_seconds if older results are acceptable."


class ReplayReason(StrEnum):
    """The reason why a call was replayed or ran, or why its result is never replayed. Each is its own code as text.

    - `sentence`: the reason in words, without a subject of its own: "its code changed".
    - `naming`: the sentence with `{}` for the part that it names, such as a key, an object or a line of code.
    - `remedy`: what to do about it; empty if nothing can or need be done, or if that depends on the part.
    - `word`: the reason in a word or two, for tables.

    >>> from musubito import ReplayReason
    >>> reason = ReplayReason("ttl expired")
    >>> reason.name, reason.word
    ('TTL_EXPIRED', 'too old')
    """

    sentence: str
    naming: str
    remedy: str
    word: str

    # Of calls that were replayed.
    EXACT_HIT = ("exact hit", "the same call is stored", "", "same")
    EARLY_CUTOFF_HIT = ("early cutoff hit", "what it consumed came out equal", "", "same content")
    CROSS_PARENT_HIT = ("cross parent hit", "its code and its input are the same", "", "same input")
    EFFECT_HAPPENED = ("effect happened", "its last attempt was confirmed as done", "", "settled")
    AS_RECORDED = ("as recorded", "the run that is rerun had been given this", "", "as before")
    OLD_CODE = ("old code", "the run that is rerun had been given this, by code that was edited since", "", "not run")

    # Of calls that ran: no result is stored for them.
    NODE_NOT_FOUND = ("node not found", "no result of an earlier call is stored", "", "new")
    NOTHING_LIKE_IT = ("nothing like it", "nothing like it was asked before", "", "new")
    CODE_CHANGED = ("code changed", "its code changed: {}")
    INPUT_CHANGED = ("input changed", "its input changed: {}")
    UPSTREAM_CHANGED = ("upstream changed", "what it consumed changed: {}")
    ANOTHER_SAMPLE = (
        "another sample",
        "this run had been given all stored answers of this call",
        'Equal calls of one run are samples. If one serves them all, say step_type="deterministic".',
    )
    VERSION_CHANGED = ("version changed", "its operation_version changed")
    NODE_RUNNING = ("node running", "it is running elsewhere", "", "in progress")

    # Of calls that ran though a result is stored for them.
    LIVE = ("live", "it is live, so it runs each time")
    FORCE_REEXECUTION = ("force reexecution", "a re-run was forced", "", "forced")
    DIVERGED = (
        "diverged",
        "the run that is rerun did not ask this, or got no answer",
        "See what changed above it. --live-tools lets live tools run in a rerun; an effect never does.",
    )
    RELEASED_BY_ANSWER = (
        "released by answer",
        "a human's answer to an interrupt released it, and an answer holds for one time",
        "This is as it should be. What costs much belongs into a node before the interrupt.",
        "released",
    )
    INTERRUPT_RESUMED = ("interrupt resumed", "it was resumed with an answer to its interrupt: {}", "", "resumed")
    NODE_FAILED = ("node failed", "its last attempt had failed", "", "failed before")
    NODE_INVALID = ("node invalid", "its stored result had been invalidated", "", "invalidated")
    TTL_EXPIRED = ("ttl expired", "its stored result was too old", _TTL, "too old")
    CLOCK_BEHIND = (
        "clock behind",
        "a result with a time to live began over a minute ahead of this clock, so its age is not known",
        "Set this machine's clock, and that of the machine which made the result.",
    )
    DEPENDENCY_EXPIRED = ("dependency expired", "a result that it was built on was too old", _TTL)
    READ_CHANGED = ("read changed", "what it reads changed: {}")
    KIND_NOT_REGISTERED = (
        "kind not registered",
        "it depends on something whose kind is not registered in this process: {}",
        "Call register_dependency(kind, digest_of) where the program starts, before the step is called.",
    )
    ARTIFACT_MISSING = ("artifact missing", "its stored result was gone")
    ARTIFACT_CORRUPT = ("artifact corrupt", "its stored result was damaged")
    ARTIFACT_UNREADABLE = ("artifact unreadable", "its stored result could not be read")
    NOT_REPLAYABLE = ("not replayable", "its stored result may not be replayed: {}")
    OUTCOME_UNKNOWN = ("outcome unknown", "it is not known whether its last attempt took place: {}", "", "in doubt")
    EFFECT_NEVER_HAPPENED = (
        "effect never happened",
        "its last attempt was confirmed as not done",
        "",
        "settled",
    )

    # Of calls in a plan that are not certain.
    CALLED_PERHAPS = ("called perhaps", "the step around it may call it", "", "", "{} may call it")
    DEPENDS_ON_RESULT = (
        "depends on result",
        "it depends on results that are not known",
        "",
        "",
        "depends on what {} gives",
    )
    NOT_RECORDED = ("not recorded", "mode off records nothing")
    REPLAY_ONLY = ("replay only", "nothing stored may be replayed, and mode replay_only lets nothing run")
    RUNS_ELSEWHERE = ("runs elsewhere", "it runs elsewhere, and what it will be asked is not recorded")
    BODY_RUNS = ("body runs", "its body runs each time, and which tasks it calls is seen only then")

    # Why the result of an execution is never replayed: the sentence is stored with the part that it names.
    INPUT_NOT_IDENTIFIED = (
        "input not identified",
        "its input cannot be identified: {}",
        "Remove it from the state, name the keys that count in inputs=(...), or give it a __musubito_identity__().",
    )
    CALL_NOT_RECORDED = (
        "call not recorded",
        "it builds on a call that was not recorded: {}",
        "See what is said of that call. If nothing is, the database failed: see the log, and 'musubito doctor'.",
    )
    LIVE_INSIDE = (
        "live inside",
        "a live step ran inside it",
        'Leave it if it writes or reads what changes. Else opt in: replay_tools=("name",), or a step_type for a step.',
        "",
        "{} ran inside it, which is live",
    )
    CONTEXT_NOT_IDENTIFIED = (
        "context not identified",
        "its code names what has no identity",
        "Give it a __musubito_identity__(), or make it where it is used; leave out a key by ignore_config=(...).",
        "",
        "its code names {}, which has no identity",
    )
    NOT_STORABLE = (
        "not storable",
        "its output cannot be stored: {}",
        "Return, yield and emit data alone, and make what is no data where it is used.",
    )
    STORE_FAILED = (
        "store failed",
        "its output could not be stored: {}",
        "The database failed: see the log, and 'musubito doctor'.",
    )
    EFFECT_OF_RUN = (
        "effect of run",
        "an effect that each run does once was called inside it: {}",
        "What costs much belongs into a step of its own, before or after the effect.",
    )
    INTERRUPT_ANSWERED = (
        "interrupt answered",
        "it was given an answer to an interrupt: {}",
        "This is as it should be. What costs much belongs into a node of its own, before or after it.",
        "asks each time",
    )
    GRAPH_INSIDE = (
        "graph inside",
        "a graph ran inside it that a replay cannot stand for: {}",
        "Add the graph as a node, so that each of its nodes is a step, or compile it without a checkpointer.",
    )
    STORE_WRITTEN = (
        "store written",
        "it wrote to the store: {}",
        "What costs much belongs into a node of its own, before the one that writes.",
    )
    STATE_WRITTEN = (
        "state written",
        "it wrote to the state past what it returned: {}",
        "Return it, or write it in a node of its own.",
    )
    CHANGED_IN_PLACE = (
        "changed in place",
        "it changed in place what it was given or what is around it, which a replay does not repeat",
        "Return the new value, and leave the old one as it is.",
        "",
        "it changed in place what a replay does not change again: {}",
    )
    CHANGED_MEANWHILE = (
        "changed meanwhile",
        "what it uses was changed while it waited or ran: {}",
        (
            "Hand each call objects of its own. If no result depends on it, as on a display of progress, let its "
            "class, or one that you derive from it, return a constant from __musubito_identity__()."
        ),
    )
    FILE_CHANGED = (
        "file changed",
        "a file that it read was changed while it ran, or may have been: {}",
        "Let the file be written before the step runs. If it does not count, say ignore_files=(...).",
    )
    NOT_COMPARED = (
        "not compared",
        "what it read cannot be compared: {}",
        "See why digest_of, or the store, raised an error.",
    )
    READ_ONCE = (
        "read once",
        "it read what can be read only once: {}",
        "Read it before the step, and hand it in as an argument. In a graph, ask by interrupt(...).",
    )
    TOOL_FAILED = ("tool failed", "a tool failed in it: {}", "It is called again until it succeeds.")
    REMEMBERS = (
        "remembers",
        "what its code reaches remembers what was done with it: {}",
        (
            "Compile the graph with that store or checkpointer, where it is watched. Make a threading.local a "
            "ContextVar, and a mock a function. Open an MCP session anew after an edit of its server."
        ),
    )
    MESSAGE_ID = (
        "message id",
        "an id of a message or tool call cannot be given anew: {}",
        (
            "Leave ids, and what a server reports, out of texts. Let LangGraph give messages their ids. Let the node "
            "be given the messages that it answers, removes or hides."
        ),
    )
    FAILED = ("failed", "it failed: {}")
    FORGOTTEN = ("forgotten", "it was forgotten: {}")
    OTHER = ("other", "it did what a replay does not repeat", "", "", "{}")
    """The sentence of an adapter."""

    def __new__(cls, code: str, sentence: str, remedy: str = "", word: str = "", naming: str = "") -> Self:
        """Make a member that is its code. A part stands at the end of its sentence, or where `naming` has it."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence.removesuffix(": {}")
        member.naming = naming or sentence
        member.remedy = remedy
        member.word = word or code
        return member

    @property
    def forbids_replay(self) -> bool:
        """Tell whether a result with this reason is never replayed."""
        return self in _STORED

    def of(self, part: object = "") -> str:
        """Return the sentence that names a part, as it is stored. An empty part stands for one that is not known."""
        text = " ".join(str(part).split())
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        return self.naming.format(text) if text else self.sentence


@dataclass(frozen=True, slots=True)
class NeverReplayed:
    """The reason why the result of an execution is never replayed, with its part and its remedy.

    - `reason`: the code.
    - `part`: the part that the reason names; "" if it is not known.
    - `says`: the sentence with that part.
    - `remedy`: what to do about it; "" if nothing can or need be done.

    >>> from musubito.reasons import never_replayed
    >>> never = never_replayed("its input cannot be identified: x")
    >>> never.reason.name, never.part
    ('INPUT_NOT_IDENTIFIED', 'x')
    """

    reason: ReplayReason
    part: str
    says: str
    remedy: str

    @property
    def group(self) -> str:
        """Return the key of equal reasons: the code, or the sentence of an adapter, which names no part."""
        return self.says if self.reason is ReplayReason.OTHER else self.reason


OF_DEPENDENCIES: Final = (
    ReplayReason.READ_CHANGED,
    ReplayReason.KIND_NOT_REGISTERED,
    ReplayReason.NOT_COMPARED,
)
"""Reasons of calls that ran because of what the stored execution depended on besides its input."""
_STORED: Final = tuple(ReplayReason)[tuple(ReplayReason).index(ReplayReason.INPUT_NOT_IDENTIFIED) :]
"""The codes whose sentences executions store."""
_BY_SENTENCE: Final = {reason.sentence: reason for reason in _STORED}
_AROUND_PART: Final = tuple((reason, reason.naming.partition("{}")) for reason in _STORED[:-1])
"""The texts before and after the part in each stored sentence, but for `OTHER`, which fits every sentence."""


def never_replayed(stored: str) -> NeverReplayed:
    """Return the reason and the part that a stored sentence names."""
    reason, part = _reason_and_part(stored)
    return NeverReplayed(reason, part, stored, reason.remedy)


def reason_of(stored: str) -> ReplayReason:
    """Return the code of a stored sentence."""
    return _reason_and_part(stored)[0]


def without_part(stored: str) -> str:
    """Return the sentence without the part that it names, as an encrypted namespace stores it."""
    return reason_of(stored).sentence


def _reason_and_part(stored: str) -> tuple[ReplayReason, str]:
    if stored in _BY_SENTENCE:
        return _BY_SENTENCE[stored], ""
    for reason, (before, _, after) in _AROUND_PART:
        if stored.startswith(before) and stored.endswith(after):
            return reason, stored[len(before) : len(stored) - len(after)]
    return ReplayReason.OTHER, ""
