"""Replace the random ids of messages and tool calls in a node's input and output.

The same conversation has other ids each time. So ids are renamed, in the order of their first appearance, before an
input is identified. Only ids at *typed positions* are renamed: `id` of messages and tool calls, `tool_call_id` and the
like. These are data, and keep their value:

- a string elsewhere that merely looks like an id
- an id that is mentioned elsewhere, even in part: in the input, in what surrounds the node, in its code, in what it
  reads

Code that takes an id apart is not told from code that compares ids: a replay gives what was made of the recorded id.

An output is stored with names in place of ids. On a replay, a name of the input becomes the id of the current input. An
id that was new in the output becomes another new id of the same form. So a replayed message is added to a history, and
does not replace the recorded message. This is right for nodes that use ids only as ids. If anything shows that a node
does more with ids, its output is `NotRepeatable`.

The `id` of a document, by which its store knows it, is treated alike: it differs each time that a store is filled. If
code names an `id`, the code may look the document up by it: then the id counts. A replay gives the documents that it
makes the ids that they had.

A name is an instance of a class of its own, so no string of the user's can be mistaken for a name.

Servers report more of an answer than the answer itself. In an input, only those reports count that the code names
(`musubito_langgraph.message_reading`). If an output holds such a report of an input's message, a name stands for the
report, too. A replay puts the report of the current message in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from musubito.adapter import ReplayReason
from musubito_langgraph.message_ids.naming import InputNaming, _OutputNaming, _Restoring, texts_in
from musubito_langgraph.message_ids.placeholders import New, NodeOutput, NotRepeatable, RenamedOutput
from musubito_langgraph.message_ids.random_ids import _MADE_ELSEWHERE, Haystack, IdForm, alphabet_of, form_of, new_core
from musubito_langgraph.message_ids.walk import ATOMS_AND_TEXTS, _nothing, _Walk
from musubito_langgraph.message_reading import Reading
from musubito_langgraph.recorder.event_kinds import OF_CALLS


def rename(
    value: object, around: Mapping[str, object] | None = None, reading: Reading | None = None
) -> tuple[object, InputNaming]:
    """Return `value` with names in place of random ids, as it is identified, and the names.

    `value` is all that the call is given; `around` is what surrounds the call. An id that is mentioned in either of
    them, or in the code, is data. `reading` tells what the code reads of messages. `value` itself is not changed, and
    its parts without ids are in the result as they are. The encoding of a message stands in place of the message. A
    value that is nested too deeply is returned unchanged.
    """
    naming = InputNaming(reading or Reading(), around)
    try:
        renamed = naming.part(value)
        data = naming.data(naming.found.values())
        if not data:
            return renamed, naming
        again = naming.again(data)
        return again.part(value), again
    except RecursionError:
        nameless = InputNaming()
        nameless.is_whole = False
        return value, nameless


def pack(outputs: object, naming: InputNaming, read: Sequence[object] = ()) -> object:
    """Return what is stored of `outputs`, with names in place of ids.

    Raise `NotRepeatable` if no replay could return the like. `read` is what the call has read besides its input.
    If only models and tools have told an id, a returned text may mention it.

    Parts without ids are in the result as they are, so encode the result before others may change them. If the outputs
    have no ids, and no other value has to stand for a part of them, the outputs themselves are returned.
    """
    if not naming.is_whole:
        raise NotRepeatable(ReplayReason.MESSAGE_ID.of("its input is nested too deeply to be searched for ids"))
    texts_read = Haystack(texts_in(list(read), _nothing)) if read else None
    for form in naming.forms.values():
        if texts_read is not None and texts_read.mentions(form):
            raise NotRepeatable(ReplayReason.MESSAGE_ID.of(f"what it read mentions {form.core} of its input"))

    def is_data(form: IdForm) -> bool:
        return form.core in naming.data([form]) or (texts_read is not None and texts_read.mentions(form))

    try:
        walk = _OutputNaming(naming, is_data)
        renamed = walk.part(outputs)
        if not walk.is_done:
            walk = _OutputNaming(naming, is_data, walk)
            renamed = walk.part(outputs)
        _check_ids(walk, naming)
        _check_texts(walk, naming, outputs)
    except RecursionError:
        raise NotRepeatable(
            ReplayReason.MESSAGE_ID.of("its output is nested too deeply to be searched for ids")
        ) from None
    if renamed is outputs:
        return outputs
    cores: dict[str, int] = {}
    new: list[New] = []
    for prefix, core, suffix, _ in walk.new.values():
        alphabet = alphabet_of(core)
        new.append((prefix, cores.setdefault(core, len(cores)), alphabet, len(core) if alphabet else 0, suffix))
    return RenamedOutput(renamed, len(naming.ids), new)


def _check_ids(walk: _OutputNaming, naming: InputNaming) -> None:
    """Raise `NotRepeatable` if an output has a new id that no replay may replace by another one."""
    roles = walk.roles
    for i, form in walk.new.items():
        if form.core in naming.forms:
            raise NotRepeatable(ReplayReason.MESSAGE_ID.of(f"{i} is made of the id of another message"))
        if i in roles["removal"]:
            raise NotRepeatable(ReplayReason.MESSAGE_ID.of(f"its output removes {i}, which its input does not have"))
        if i in roles["hidden"] and i not in roles["shown"]:
            raise NotRepeatable(
                ReplayReason.MESSAGE_ID.of(f"its output hides {i}, which neither it nor its input shows")
            )
        if i in roles["answer"] and i not in roles["call"]:
            raise NotRepeatable(
                ReplayReason.MESSAGE_ID.of(f"its output answers {i}, which neither it nor its input calls")
            )
        if naming.reading.makes_ids and form.beginning not in _MADE_ELSEWHERE:
            raise NotRepeatable(ReplayReason.MESSAGE_ID.of(f"{i} may be made of something else"))


def _check_texts(walk: _OutputNaming, naming: InputNaming, outputs: object) -> None:
    """Raise `NotRepeatable` if a text of an output mentions an id, or tells what a server reported."""
    if not walk.ids and not naming.reported:
        return
    texts = walk.haystack()
    may_be_mentioned: Callable[[IdForm], bool] | None = None
    for form in filter(texts.hints_at, (*naming.forms.values(), *walk.new.values())):
        if may_be_mentioned is None and isinstance(outputs, NodeOutput):
            may_be_mentioned = _told_alone(outputs, naming)
        if form.core in naming.forms or may_be_mentioned is None or not may_be_mentioned(form):
            raise NotRepeatable(ReplayReason.MESSAGE_ID.of(f"its output mentions {form.core} in a text"))
    for (_, field), reported in naming.reported.items():
        if texts.tells(field, reported):
            raise NotRepeatable(ReplayReason.MESSAGE_ID.of(f"its output tells the {field} of a message of its input"))


def _told_alone(stored: NodeOutput, naming: InputNaming) -> Callable[[IdForm], bool]:
    """Return a function that tells whether an id is one that models and tools alone have told, and only as an id.

    A replay tells such an id anew. A returned text may then keep the id that it had: nothing else that is returned is
    known by that id.
    """
    returned, told, others = (_OutputNaming(naming, lambda _: True, is_named=False) for _ in range(3))
    returned.part(stored.returned)
    others.part(stored.writes)
    for event in stored.events:
        (told if event[0] in OF_CALLS else others).part(event)
    ids = (form for walk in (returned, others) for form in (*walk.found.values(), *map(form_of, walk.texts)))
    cores = {form.core for form in ids if form is not None}
    texts = Haystack((), [told.texts_but(told.found), others.texts_but()])
    return lambda form: form.core not in cores and not texts.hints_at(form)


def encodable(value: object) -> object:
    """Return `value` with placeholders for the parts that have no encoding; ids are kept.

    `restored` is the inverse.
    """
    return _Walk(_nothing, ATOMS_AND_TEXTS).part(value)


def restored(value: object) -> object:
    """Return the value that `encodable` was given."""
    return _Restoring([], {}).part(value)


def unpack(packed: object, naming: InputNaming) -> object:
    """Return the outputs that were packed, with the ids of the current input and new ids.

    Each new id is the same throughout the outputs. `packed` is the result of decoding; its parts are in the result, so
    it must not be used again. Raise `NotRepeatable` if it was packed for an input with other names. The same holds if
    it is nested too deeply for what is left of the stack.
    """
    if type(packed) is not RenamedOutput:
        return packed
    if packed.known != len(naming.ids):
        raise NotRepeatable("it was recorded for an input with other ids")
    cores: dict[int, str] = {}
    ids = list(naming.ids)
    for prefix, core, alphabet, length, suffix in packed.new:
        if core not in cores:
            cores[core] = new_core(prefix, alphabet, length)
        ids.append(f"{prefix}{cores[core]}{suffix}")
    try:
        return _Restoring(ids, naming.reported).part(packed.outputs)
    except RecursionError:
        raise NotRepeatable("it is nested too deeply for what is left of the stack") from None
