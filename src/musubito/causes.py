"""Define why the result of an execution is never replayed: a set of causes, each with a sentence and a remedy.

The sentence is stored with the part that it names, such as a key, an object or a line of code. A reader finds the cause
and the part in a stored sentence again, even in sentences of earlier versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["Cause", "NeverReplayed", "never_replayed", "without_part"]

LONGEST: Final = 300
"""Characters of a part that are kept at most."""


class Cause(Enum):
    """A cause why the result of an execution is never replayed.

    `sentence` is its text if the part is not known. `naming` is its text if the part is known, with `{}` for the part.
    `remedy` says what to do about it; it is empty if nothing can or need be done.
    """

    INPUT_NOT_IDENTIFIED = (
        "its input cannot be identified",
        ": {}",
        "Remove it from the state, name the keys that count in inputs=(...), or give it a __musubito_identity__().",
    )
    NOT_IDENTIFIED_INSIDE = (
        "a call inside it cannot be identified",
        "{} ran inside it and cannot be identified",
        "See what is said of that call.",
    )
    CONTEXT_NOT_IDENTIFIED = (
        "its code names what has no identity",
        "its code names {}, which has no identity",
        "Give it a __musubito_identity__(), or make it where it is used; leave out a key by ignore_config=(...).",
    )
    OUTPUT_NOT_STORABLE = (
        "its output cannot be stored",
        ": {}",
        "Return data alone, and make what is no data where it is used.",
    )
    CHUNK_NOT_STORABLE = (
        "a chunk of it could not be kept as it was given",
        ": {}",
        "Yield data alone.",
    )
    EVENT_NOT_STORABLE = (
        "what it emitted could not be kept as it was",
        ": {}",
        "Emit data alone.",
    )
    STORE_FAILED = (
        "its output could not be stored",
        ": {}",
        "The database failed: see the log, and 'musubito doctor'.",
    )
    UNRECORDED_PARENT = ("a parent's output could not be stored", ": {}", "See what is said of that parent.")
    UNRECORDED_INSIDE = (
        "a call inside it ran unrecorded",
        ": {}",
        "The database failed, or recording was switched off inside it.",
    )
    INTERRUPT_ANSWERED = (
        "it was given an answer to an interrupt",
        ": {}",
        "This is as it should be. What costs much belongs into a node of its own, before or after it.",
    )
    INTERRUPT_ANSWERED_INSIDE = (
        "a graph was invoked inside it that may have been given an answer to an interrupt",
        ": {}",
        "Add the graph as a node, so that each of its nodes is a step.",
    )
    STORE_WRITTEN = (
        "it wrote to the store",
        ": {}",
        "What costs much belongs into a node of its own, before the one that writes.",
    )
    STORE_READ_FAILED = ("a read from the store failed", ": {}", "")
    STATE_WRITTEN = (
        "it wrote to the state past what it returned",
        ": {}",
        "Return it, or write it in a node of its own.",
    )
    CHANGED_IN_PLACE = (
        "it changed in place what it was given or what is around it, which a replay does not repeat",
        "it changed in place what a replay does not change again: {}",
        "Return the new value, and leave the old one as it is.",
    )
    INPUT_CHANGED_BEFORE = (
        "what it is given, or what is around it, was changed before it ran",
        ": {}",
        "Something else changed it while the call waited: hand each call objects of its own.",
    )
    CODE_CHANGED_BEFORE = (
        "its code, or what that holds, was changed before it ran",
        ": {}",
        "Something else changed it while the call waited: change it between calls, or hand it in as an argument.",
    )
    CODE_CHANGED = (
        "its code, or what that holds, was changed while it ran",
        "its code, or what that holds, was changed while it ran by something else: {}",
        "Change it between calls, or hand it in as an argument.",
    )
    CODE_LOST = (
        "its code, or what that holds, was changed while it ran, and cannot be identified any more",
        ": {}",
        "Change it between calls, or hand it in as an argument.",
    )
    FILE_CHANGED = (
        "a file that it read was changed while it ran",
        "{}, which it read, was changed while it ran",
        "Let it be written before the step runs. If it does not count, say ignore_files=(...).",
    )
    FILE_IN_DOUBT = (
        "a file that it read may have been changed while it ran",
        "{}, which it read, may have been changed while it ran",
        "Open it to read, or to write. If it does not count, say ignore_files=(...).",
    )
    PIPE_READ = (
        "it read from a pipe, a socket or a device",
        "it read from {}, which is a pipe, a socket or a device",
        "Read it before the step, and hand it in as an argument.",
    )
    TOOL_FAILED = ("a tool failed in it", ": {}", "It is called again until it succeeds.")
    REMEMBERS = (
        "what its code reaches remembers what was done with it",
        ": {}",
        "Compile the graph with that store or checkpointer, where it is watched, instead of reaching it by the code.",
    )
    GRAPH_REMEMBERS = (
        "a graph ran inside it that has a memory of its own",
        ": {}",
        "Add the graph as a node, or compile it without a checkpointer and a store.",
    )
    GIVES_HELD_MESSAGE = (
        "it gave back a message that its code holds, which LangGraph then gives an id",
        ": {}",
        "Make the message anew at each call.",
    )
    ID_IN_TEXT = (
        "its output mentions the id of a message or tool call in a text",
        ": {}",
        "Leave random ids out of texts, or give the messages ids of your own.",
    )
    READ_ID_OF_INPUT = (
        "what it read mentions the id of a message or tool call of its input",
        ": {}",
        "Leave random ids out of what is stored or read, or give the messages ids of your own.",
    )
    ID_OF_ANOTHER = (
        "its output makes an id of another one of its input",
        ": {}",
        "Give the message an id of its own, or none: LangGraph then makes one.",
    )
    REMOVES_UNKNOWN = (
        "its output removes a message that its input does not have",
        ": {}",
        "Let the node be given the messages that it removes.",
    )
    HIDES_UNKNOWN = (
        "its output hides a message that neither it nor its input shows",
        ": {}",
        "Let the node be given the messages that it hides.",
    )
    ANSWERS_UNKNOWN = (
        "its output answers a tool call that neither it nor its input has",
        ": {}",
        "Let the node be given the message with the tool call that it answers.",
    )
    ID_MADE = (
        "its output has an id that may be made of something else",
        ": {}",
        "Leave it to LangGraph to give messages their ids, or give them fixed ids of your own.",
    )
    REPORT_TOLD = (
        "its output tells what a message of its input reports",
        "its output tells the {} of a message of its input",
        "Leave what a server reports of its answer out of texts.",
    )
    NESTED_TOO_DEEPLY = (
        "its input or output is nested too deeply to be searched for ids",
        "its {} is nested too deeply to be searched for ids",
        "Nest it less deeply.",
    )
    TOOL_GIVEN_ANOTHER = (
        "a wrapper of tool calls gave the tool another runtime",
        "a wrapper of tool calls gave the tool another {}",
        "Hand on the runtime that the wrapper was given.",
    )
    RUN_ENDED = ("it asked its run to come to an end", ": {}", "Let another node ask for that.")
    RUN_END_SEEN = (
        "its run was asked to come to an end, and it asked whether it was",
        ": {}",
        "It may have done less than it does otherwise, so it runs again.",
    )
    STATE_READ_BACK = (
        "it read from the state what was written there just before",
        ": {}",
        "Let a node return it, and the next node read it.",
    )
    RUNNABLE_CHANGED_INPUT = (
        "a Runnable that it gave back changed what it was given, or that has no identity",
        ": {}",
        "Return the value itself, or let the Runnable leave its input as it is.",
    )
    STREAM_LEFT_OPEN = ("a stream inside it is still open", ": {}", "Iterate it to its end before the step returns.")
    OTHER_ENGINE = ("it called a step of another engine", ": {}", "Use one engine, or one namespace.")
    FAILED = ("it failed", ": {}", "")
    FORGOTTEN = ("it was forgotten", ": {}", "")
    OTHER = ("it did what a replay does not repeat", "{}", "")
    """The sentence of an adapter, or of an earlier version."""

    def __init__(self, sentence: str, naming: str, remedy: str) -> None:
        self.sentence = sentence
        self.naming = sentence + naming if naming.startswith(":") else naming
        self.remedy = remedy

    @property
    def code(self) -> str:
        """Return the name of the cause, as commands and JSON show it."""
        return self.name.lower().replace("_", " ")

    def of(self, part: object = "") -> str:
        """Return the sentence that names a part, as it is stored. An empty part stands for one that is not known."""
        text = " ".join(str(part).split())
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        return self.naming.format(text) if text else self.sentence


@dataclass(frozen=True, slots=True)
class NeverReplayed:
    """The cause why the result of an execution is never replayed, with its part and its remedy.

    - `cause`: the code of a `Cause`.
    - `part`: the part that the cause names; "" if it is not known.
    - `says`: the sentence with that part.
    - `remedy`: what to do about it; "" if nothing can or need be done.
    """

    cause: str
    part: str
    says: str
    remedy: str

    @property
    def group(self) -> str:
        """Return what counts as the same cause: the code, or the sentence of an adapter, which names no part."""
        return self.says if self.cause == Cause.OTHER.code else self.cause


def _known() -> Iterator[tuple[Cause, str, str]]:
    for cause in Cause:
        before, _, after = cause.naming.partition("{}")
        yield cause, before, after


_KNOWN: Final = tuple(_known())
_BY_SENTENCE: Final = {cause.sentence: cause for cause in Cause}


def never_replayed(stored: str) -> NeverReplayed:
    """Return the cause and the part that a stored sentence names."""
    cause, part = _cause_and_part(stored)
    return NeverReplayed(cause.code, part, stored, cause.remedy)


def without_part(stored: str) -> str:
    """Return the sentence without the part that it names, as an encrypted namespace stores it."""
    return _cause_and_part(stored)[0].sentence


def _cause_and_part(stored: str) -> tuple[Cause, str]:
    if stored in _BY_SENTENCE:
        return _BY_SENTENCE[stored], ""
    # The last cause, `OTHER`, fits every sentence.
    cause, before, after = next(each for each in _KNOWN if stored.startswith(each[1]) and stored.endswith(each[2]))
    return cause, "" if cause is Cause.OTHER else stored[len(before) : len(stored) - len(after)]
