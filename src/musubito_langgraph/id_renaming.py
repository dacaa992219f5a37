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
(`musubito_langgraph.message_reports`). If an output holds such a report of an input's message, a name stands for the
report, too. A replay puts the report of the current message in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from musubito.adapter import ReplayReason
from musubito_langgraph.message_ids.id_map import _FREE, IdMap, IdSensitivity
from musubito_langgraph.message_ids.placeholders import KEPT_ROLES, IdPlaceholder, New, NotRepeatable, RenamedOutput
from musubito_langgraph.message_ids.random_ids import _MADE_ELSEWHERE, Haystack, IdForm, alphabet_of, form_of, new_core
from musubito_langgraph.message_ids.rewrite import _Identify, _Restore, _Rewrite, _Store
from musubito_langgraph.message_ids.search import _Search, _SearchInput, _SearchOutput, texts_in
from musubito_langgraph.message_ids.walk import _nothing
from musubito_langgraph.message_reports import ALL, Reports


class OutputParts(NamedTuple):
    """The parts of the outputs of a call."""

    returned: object
    told: object
    """Records of models and tools, which a replay tells to callbacks and streams alone."""
    others: object
    """All other records: some of them are written to the state."""


def rename(
    value: object,
    around: Mapping[str, object] | None = None,
    code: IdSensitivity = _FREE,
    reports: Reports = ALL,
) -> tuple[object, IdMap]:
    """Return `value` with names in place of random ids, as it is identified, and the names.

    `value` is all that the call is given; `around` is what surrounds the call. An id that is mentioned in either of
    them, or in the code, is data. Only the `reports` count. `value` itself is not changed, and its parts without ids
    are in the result as they are. The encoding of a message stands in place of the message. A value that is nested too
    deeply is returned unchanged.
    """
    search = _SearchInput(around, reports)
    try:
        search.part(value)
        naming = IdMap(search, code)
        if not naming.ids and not search.stands and not search.known:
            return value, naming
        return _Identify(naming.ids, reports, search).part(value), naming
    except RecursionError:
        return value, IdMap(None)


def pack(
    outputs: object,
    naming: IdMap,
    read: Sequence[object] = (),
    note_told: Callable[[Callable[[str], bool]], None] | None = None,
    apart: Callable[[], OutputParts] | None = None,
) -> object:
    """Return what is stored of `outputs`, with names in place of ids.

    Raise `NotRepeatable` if no replay could return the like. `read` is what the call has read besides its input.
    `note_told` is called with a function that tells whether a text occurs in the outputs, if they hold any texts.
    `apart` returns the parts of the outputs. If only models and tools have told an id, a returned text may mention it.

    Parts without ids are in the result as they are, so encode the result before others may change them. If the outputs
    have no ids, and no other value has to stand for a part of them, the outputs themselves are returned.
    """
    search = _SearchOutput(naming.reported_as)
    try:
        search.part(outputs)
        if note_told is not None and search.may_say:
            note_told(search.says)
        if naming.search is None:
            raise NotRepeatable(ReplayReason.NESTED_TOO_DEEPLY.of("input"))
        names, new = _names(search, naming, read, apart)
        if not names and not search.stands and not naming.reported:
            return outputs
        renamed = _Store(naming, names).part(outputs)
    except RecursionError:
        raise NotRepeatable(ReplayReason.NESTED_TOO_DEEPLY.of("output")) from None
    return outputs if renamed is outputs else RenamedOutput(renamed, len(naming.ids), new)


def _told_alone(parts: OutputParts, naming: IdMap) -> Callable[[IdForm], bool]:
    """Return a function that tells whether an id is one that models and tools alone have told, and only as an id.

    A replay tells such an id anew. A returned text may then keep the id that it had: nothing else that is returned is
    known by that id.
    """
    returned, told, others = (_SearchOutput(naming.reported_as) for _ in parts)
    for search, part in zip((returned, told, others), parts, strict=True):
        search.part(part)
    ids = (form for search in (returned, others) for form in (*search.forms.values(), *map(form_of, search.texts)))
    cores = {form.core for form in ids if form is not None}
    texts = Haystack((), (told.haystack(told.forms), others.whole_haystack()))
    return lambda form: form.core not in cores and not texts.hints_at(form)


def _names(
    search: _Search, naming: IdMap, read: Sequence[object], apart: Callable[[], OutputParts] | None
) -> tuple[dict[str, IdPlaceholder], list[New]]:
    """Return the names of all ids that an output may have, and the forms of the ids that are new in it."""
    if not naming.forms and not search.forms and not naming.reported:
        return {}, []
    texts_read = Haystack(texts_in(list(read), _nothing)) if read else None
    for form in naming.forms.values():
        if texts_read is not None and texts_read.mentions(form):
            raise NotRepeatable(ReplayReason.READ_ID_OF_INPUT.of(form.core))
    # Ids by which only the server knows parts of the answer are kept, because the server knows no other ids.
    new = {i: form for i, form in search.forms.items() if i not in naming.ids and search.is_minted(i)}
    data = naming.data(new.values())
    new = {
        i: form for i, form in new.items() if form.core not in data and not (texts_read and texts_read.mentions(form))
    }
    for i, form in new.items():
        if form.core in naming.forms:
            raise NotRepeatable(ReplayReason.ID_OF_ANOTHER.of(i))
        if i in search.roles["removal"]:
            raise NotRepeatable(ReplayReason.REMOVES_UNKNOWN.of(i))
        if i in search.roles["hidden"] and i not in search.roles["shown"]:
            raise NotRepeatable(ReplayReason.HIDES_UNKNOWN.of(i))
        if i in search.roles["answer"] and i not in search.roles["call"]:
            raise NotRepeatable(ReplayReason.ANSWERS_UNKNOWN.of(i))
        if naming.code.makes and form.beginning not in _MADE_ELSEWHERE:
            raise NotRepeatable(ReplayReason.ID_MADE.of(i))
    names = dict(naming.ids)
    cores: dict[str, int] = {}
    forms: list[New] = []
    for i, (prefix, core, suffix, _) in new.items():
        names[i] = IdPlaceholder(len(names))
        alphabet = alphabet_of(core)
        length = len(core) if alphabet else 0
        forms.append((prefix, cores.setdefault(core, len(cores)), alphabet, length, suffix))
    kept = set().union(*(search.roles[role] for role in KEPT_ROLES)) - naming.ids.keys()
    haystack = search.haystack(names, kept) if names or naming.reported else None
    mentioned = [] if haystack is None else [*filter(haystack.hints_at, (*naming.forms.values(), *new.values()))]
    may_be_mentioned = _told_alone(apart(), naming) if mentioned and apart is not None else None
    for form in mentioned:
        if form.core in naming.forms or may_be_mentioned is None or not may_be_mentioned(form):
            raise NotRepeatable(ReplayReason.ID_IN_TEXT.of(form.core))
    for (_, field), reported in naming.reported.items():
        if haystack is not None and haystack.tells(field, reported):
            raise NotRepeatable(ReplayReason.REPORT_TOLD.of(field))
    return names, forms


def encodable(value: object) -> object:
    """Return `value` with placeholders for the parts that have no encoding; ids are kept.

    `restored` is the inverse.
    """
    return _Rewrite(_nothing, {}, {}).part(value)


def restored(value: object) -> object:
    """Return the value that `encodable` was given."""
    return _Restore([], {}).part(value)


def unpack(packed: object, naming: IdMap) -> object:
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
        return _Restore(ids, naming.reported).part(packed.outputs)
    except RecursionError:
        raise NotRepeatable("it is nested too deeply for what is left of the stack") from None
