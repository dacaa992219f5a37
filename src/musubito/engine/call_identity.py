"""Identify a call: its input, its code and its parents, and the reason why it cannot be replayed, if any."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from musubito.code.argument_classes import code_of_classes, fingerprints_of_classes, told_apart
from musubito.code.fingerprint import Fingerprint, shown_names
from musubito.code.ownership import home_of
from musubito.code.policies import remembers
from musubito.code.tracker import CodeTracker
from musubito.engine.samples import SiblingOrder
from musubito.engine.scope import Scope
from musubito.errors import InputError
from musubito.model import UNSTORABLE, StepDefinition, StepType
from musubito.reasons import ReplayReason
from musubito.store.rows import CodeRecord
from musubito.values.call_keys import Identity, parents_of
from musubito.values.class_names import qualified_name
from musubito.values.digest import InputDigest, digest_input


class Call(NamedTuple):
    """One call of a step, with its arguments bound and its code identified by `tracker`.

    `current` identifies the code again. `live` holds the objects that the call is given, including those that do not
    count for its identity. `again` makes `arguments` anew, if they were made from what the call is given. It returns
    None if they would be the same.
    """

    definition: StepDefinition
    fingerprint: Fingerprint
    current: Callable[[], Fingerprint]
    tracker: CodeTracker
    head: Callable[[], Any]
    code: CodeRecord
    arguments: Mapping[str, object]
    function: Callable[[], Any]
    live: object
    turn: SiblingOrder | None = None
    again: Callable[[], Mapping[str, object] | None] | None = None
    why_not: str | None = None
    """The reason why the result is never replayed, if known before the call runs.

    The call then gets an input digest that no other call has.
    """
    output_at: tuple[str, ...] = ()
    """Paths of the step's own output in the stored value, if the adapter stores more (see `EncodingError.path`)."""
    forced_by: ReplayReason | None = None
    """The reason why this very call runs whatever is stored and whatever its policy says; None if nothing forces it."""
    place: bytes = b""
    """See `Identity`."""
    stated: Callable[[Any], Any] | None = None
    """Makes the stored value of an output that a person states, if the adapter stores more than the output."""


GivenNow: TypeAlias = tuple[bytes, InputDigest, Mapping[str, object]]
"""The digest of a call's input with its ambient inputs, the arguments alone, and the ambient inputs."""
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


_NOTHING_AROUND: Final = digest_input("", {"what holds around the step": {}})


def input_of(call: Call, scope: Scope, argument_digest: InputDigest | None = None) -> GivenNow:
    """Return the input of a call in its scope, as it is now.

    `argument_digest` is the digest of the arguments, if it is known.
    """
    operation = call.definition.name
    if argument_digest is None:
        argument_digest = digest_input(operation, call.arguments)
    digest, classes, inputs = argument_digest.digest, argument_digest.classes, _NOTHING
    home = home_of(call.definition.function) if classes or scope.ambient is not None else ""
    if scope.ambient is not None:
        reached = fingerprints_of_classes(classes, home, call.fingerprint) if classes else ()
        inputs = scope.ambient.inputs(call.fingerprint, reached)
        around = digest_input(operation, {"what holds around the step": dict(inputs)}) if inputs else _NOTHING_AROUND
        digest = sha256(b"ambient" + digest + around.digest).digest()
        classes = {*classes, *around.classes}
    if classes:
        if call.definition.semantics.code == "version":
            code = told_apart(classes, home, [call.fingerprint])
        else:
            code = code_of_classes(classes, home, call.fingerprint)
        if code:
            digest = sha256(b"classes" + digest + code).digest()
    return digest, argument_digest, inputs


def ambient_paths(around: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the ambient inputs of a call with the paths that readers see. No argument has such a path."""
    for name, value in around.items():
        if isinstance(value, Mapping):
            yield from ((f"$.{name}.{key}", item) for key, item in value.items())
        elif value is not True:
            yield f"$.{name}", value


def identify(call: Call, scope: Scope) -> tuple[Identity, GivenNow, str | None]:
    """Return the identity of a call in its scope, its input, and the reason why it cannot be replayed, if any.

    The reason is None if nothing is known yet that prevents a replay.
    """
    operation = call.definition.name
    seen = input_of(call, scope)
    digest, arguments, _ = seen
    why_not = call.why_not
    doubts = getattr(scope.ambient, "doubts", None)
    if why_not is None and doubts is not None:
        why_not = doubts(call.fingerprint)
    if why_not is None and any(map(remembers, call.fingerprint.met)):
        kinds = {".".join(qualified_name(type(thing))) for thing in call.fingerprint.met if remembers(thing)}
        why_not = ReplayReason.REMEMBERS.of(shown_names(sorted(kinds)))
    if why_not is None and call.fingerprint.never is not None:
        why_not = ReplayReason.REMEMBERS.of(call.fingerprint.never)
    if why_not is not None and call.definition.semantics.step_type is not StepType.EXTERNAL_EFFECT:
        # An equal call may be answered otherwise now, and so may everything that follows from it: no later call may get
        # the same input digest. An effect keeps its digest, because what was done stays done.
        digest = sha256(b"doubts" + digest + uuid.uuid4().bytes).digest()
    results = arguments.results if scope.parents is None else scope.parents
    across = call.definition.semantics.allow_cross_parent_reuse is True
    if not results and not arguments.results:
        return Identity(call.head, digest, (), across, call.place), seen, why_not
    try:
        parents = parents_of(results)
    except ValueError:
        problem = "a MusubitoResult whose ids no step has given out"
        raise InputError(operation, "a MusubitoResult", "$", problem) from None
    if any(result.artifact_id.startswith(UNSTORABLE) for result in (*results, *arguments.results)):
        why_not = ReplayReason.CALL_NOT_RECORDED.of("a parent")
    return Identity(call.head, digest, parents, across, call.place), seen, why_not
