"""Correct a stored result by hand, or undo that.

The corrected result is an execution by a person under the keys of the earlier one. It takes the place of the earlier
one as any newer execution does: what was built on that is INVALID, and what is below is STALE. It answers until the
input or the code of its node changes (then the keys are others), or a dependency does. For it has all dependencies of
the execution in whose place it comes: what that has read, when what is inside of it expires, and its inner calls. The
outer step may have used an inner result in what the person left as it was, so a newer inner result makes it run again.

To undo is to add one more execution, which has the output of the earlier one and its age.
"""

from __future__ import annotations

import getpass
import os
from typing import Any, NamedTuple

from musubito.dependencies.stored_reads import Reads, changed
from musubito.engine.host import EngineHost
from musubito.errors import LOGGER, ArtifactUnreadable, EncodingError, NotEdited
from musubito.model import MusubitoResult, StepConfiguration
from musubito.payloads.codec import EDIT
from musubito.policy import decide
from musubito.reasons import ReplayReason
from musubito.store.changes import Commit, Committed, RecordReplay
from musubito.store.queries import AnswerOf, CommitOf, CurrentMoment, KeyCheckOf, StoredAnswer, StoredCommit
from musubito.store.rows import ANSWER, Edit, ExecutionFlags, Used
from musubito.values.editable import with_output


class ResultToEdit(NamedTuple):
    """A stored result that may be corrected: the execution that answers, its commit, and its payload."""

    node: bytes
    answer: StoredAnswer
    commit: Commit
    payload: bytes | bytearray

    def changed_file(self, engine: EngineHost) -> str | None:
        """Return the path of a file that the result depends on and that has changed; None if there is none.

        While that is so, the result does not answer, and neither does one in its place.
        """
        reads = Reads(engine.contents.opened_reads(self.commit.reads))
        differs = changed(reads, engine._digest_of_read) if reads.has_files else None
        return None if differs is None else differs.key


class ByHand(NamedTuple):
    """The person who corrects a result, and why."""

    person: str
    reason: str


def by_hand(reason: str, by: str | None) -> ByHand:
    """Return who corrects a result and why; by default, the person is the user of this process."""
    if not isinstance(reason, str):
        raise TypeError(f"reason takes a text, not a {type(reason).__name__}")
    return ByHand(_as_stored(by or _user()), _as_stored(reason))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # the user has no name, as in some containers
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _as_stored(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def node_of(result: object) -> bytes:
    """Return the node that a result or the text of a node's id names. Raise TypeError or ValueError for another one."""
    node = result.node_id if isinstance(result, MusubitoResult) else result
    if not isinstance(node, str):
        raise TypeError(f"a MusubitoResult or the id of a step result is needed, not a {type(result).__name__}")
    if len(node) != 64:
        raise ValueError(f"{node!r:.80} is no id of a step result: that has 64 hexadecimal digits")
    return bytes.fromhex(node)


def result_to_edit(engine: EngineHost, node: bytes) -> ResultToEdit:
    """Return the result that answers at a node. Raise `NotEdited` if a corrected one would never be replayed."""
    answer, commit = _stored(engine, node)
    name = f"{commit.place.operation} {node.hex()[:10]}"
    try:
        payload = engine.contents.open(commit.codec, commit.payload or b"", commit.artifact)
    except ArtifactUnreadable as error:
        raise NotEdited(f"{name}: its output cannot be read: {error}") from error
    return ResultToEdit(node, answer, commit, payload)


def _stored(engine: EngineHost, node: bytes) -> tuple[StoredAnswer, Commit]:
    name = node.hex()[:10]
    engine.contents.verify_key(engine.storage.find(KeyCheckOf(engine.namespace)))
    answer: StoredAnswer | None = engine.storage.find(AnswerOf(node, engine.namespace))
    if answer is None:
        raise NotEdited(f"{name} has no stored result: run its step first")
    stored: StoredCommit | None = engine.storage.find(CommitOf(answer.candidate.execution, engine.namespace))
    if stored is None:
        raise NotEdited(f"{name} has no stored result in the namespace {engine.namespace!r}")
    _check_replayable(engine, answer, stored.commit, name)
    return answer, stored.commit


def _check_replayable(engine: EngineHost, answer: StoredAnswer, commit: Commit, name: str) -> None:
    name = f"{commit.place.operation} {name}"
    if commit.holds & ExecutionFlags.EFFECT:
        if any(read.kind == ANSWER for read in commit.reads):
            raise NotEdited(f"{name}: {ReplayReason.RELEASED_BY_ANSWER.sentence}, so an edit would not answer")
        return
    decision = decide(answer.candidate, StepConfiguration(), engine.now())
    if decision.replay:
        return
    why = decision.reason.sentence
    if decision.reason is ReplayReason.NOT_REPLAYABLE:
        raise NotEdited(f"{name} is never replayed ({answer.candidate.not_replayable}), so an edit would not answer")
    raise NotEdited(f"{name} is not replayed any more ({why}), so an edit would not answer: run its step first")


def override(engine: EngineHost, node: bytes, value: object, made: ByHand) -> MusubitoResult[Any]:
    """Put a value in the place of a result."""
    result = result_to_edit(engine, node)
    differs = result.changed_file(engine)
    if differs is not None:
        LOGGER.warning(
            "%s %s is corrected, but does not answer: %s, which it read, has changed since its step ran",
            result.commit.place.operation,
            node.hex()[:10],
            differs,
        )
    try:
        payload = with_output(result.payload, value)
    except EncodingError as error:
        raise NotEdited(f"{result.commit.place.operation}: the value cannot be stored: {error}") from error
    artifact = replace_payload(engine, result, payload, made)
    return MusubitoResult(value, artifact.hex(), node.hex(), node.hex(), result.commit.place.operation)


def replace_payload(engine: EngineHost, result: ResultToEdit, payload: bytes, made: ByHand) -> bytes:
    """Put a payload in the place of that of a result, and return its artifact; an equal one changes nothing.

    Raise `NotEdited` if another result has come in the place of this one meanwhile.
    """
    artifact = engine.contents.digest(payload)
    if artifact == result.commit.artifact:
        return artifact
    sealed = engine.contents.seal(artifact, payload)
    now = engine.now()
    change = result.commit._replace(
        started_at=now,
        artifact=artifact,
        payload=sealed.body,
        codec=sealed.codec,
        size=len(payload),
        edit=_edit(engine, result.answer, made, now),
    )
    _commit(engine, result.node, result.answer, change)
    return artifact


def undo(engine: EngineHost, node: bytes, made: ByHand) -> str:
    """Put the result from before an edit in its place again, and return the id of its artifact.

    Raise `NotEdited` if the result is not edited, or if the earlier one may not be replayed any more.
    """
    answer, commit = _stored(engine, node)
    name = f"{commit.place.operation} {node.hex()[:10]}"
    edited = commit
    while edited.edit is not None and edited.edit.restored is not None:
        edited = _before(engine, edited.edit.restored, name)
    if edited.edit is None:
        raise NotEdited(f"{name} is not edited: there is nothing to undo")
    restored = edited.edit.before
    before = _before(engine, restored, name)
    try:
        payload = engine.contents.open(before.codec, before.payload or b"", before.artifact)
    except ArtifactUnreadable as error:
        raise NotEdited(f"{name}: its output from before cannot be read: {error}") from error
    change = before._replace(
        payload=engine.contents.seal(before.artifact or b"", bytes(payload)).body,
        edit=_edit(engine, answer, made, engine.now())._replace(restored=restored),
    )
    _commit(engine, node, answer, change)
    return (before.artifact or b"").hex()


def _before(engine: EngineHost, execution: int, name: str) -> Commit:
    stored: StoredCommit | None = engine.storage.find(CommitOf(execution, engine.namespace))
    if stored is None or stored.invalid or stored.commit.not_replayable is not None:
        raise NotEdited(
            f"{name}: its result from before the edit is gone. 'musubito invalidate {name.rpartition(' ')[2]}' makes "
            "its step run again"
        )
    return stored.commit


def _edit(engine: EngineHost, answer: StoredAnswer, made: ByHand, at: float) -> Edit:
    person, reason = (engine.contents.sealed_text(EDIT, text) for text in made)
    return Edit(answer.candidate.execution, person, at, reason)


def _commit(engine: EngineHost, node: bytes, answer: StoredAnswer, like: Commit) -> None:
    """Commit an execution by a person at a node, and make the node point at it."""
    began = engine.storage.find(CurrentMoment())
    now: StoredAnswer | None = engine.storage.find(AnswerOf(node, engine.namespace))
    place = like.place._replace(keys=like.place.keys._replace(node=node))
    change = like._replace(
        place=place,
        began=began,
        duration_ms=0.0,
        # A replay of it saves what a run of the function would have cost.
        saved_ms=like.duration_ms + like.saved_ms,
        compute_ms=like.duration_ms if like.compute_ms is None else like.compute_ms,
        usage=[Used(used.model, 0, 0, used.total_input_tokens, used.total_output_tokens) for used in like.usage],
    )
    committed: Committed | None = None
    if now is not None and now.candidate.execution == answer.candidate.execution:
        (committed,) = engine.storage.write([change])
    if committed is None or committed.invalid:
        raise NotEdited(f"{place.operation} {node.hex()[:10]} has another result by now: look at it, and edit it again")
    if answer.asked != place.keys.reuse:
        # The node was answered across parents: it still is, and was asked under its own key.
        asked = place._replace(keys=place.keys._replace(reuse=answer.asked))
        engine.storage.write([RecordReplay(asked, committed.execution, change.started_at)])
