"""Let the classes of a step's arguments count: a step that is given an instance may call its methods unnamed."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence

from musubito.code.fingerprint import Fingerprint, digest_of_parts
from musubito.code.ownership import Owner, owners_seen_from
from musubito.code.state import without_state
from musubito.code.syntax.ast_digest import tokens
from musubito.code.tracker import tracker_of_class
from musubito.values.class_names import Ambiguous, qualified_name


def fingerprints_of_classes(
    classes: Iterable[type], seen_from: str, code: Fingerprint | None = None
) -> list[Fingerprint]:
    """Return the fingerprints of the user's classes among these, for a step of the module `seen_from`.

    A step that is given an instance may call its methods without ever naming its class. `code`: the step's fingerprint,
    which mentions the methods that it may call. None: any of them.
    """
    return _fingerprints_of(_user_classes(classes, seen_from), code)


def code_of_classes(classes: Iterable[type], seen_from: str, code: Fingerprint | None = None) -> bytes:
    """Return the fingerprints of these classes as one; empty without a class of the user's.

    `code`: the step's fingerprint, which may know other classes of the same names.
    """
    mine = _user_classes(classes, seen_from)
    fingerprints = _fingerprints_of(mine, code)
    state = frozenset() if code is None else frozenset(code.state)
    digests = b"".join(digest_without(fingerprint, state) for fingerprint in fingerprints)
    return digests + _told_apart(mine, fingerprints if code is None else [code, *fingerprints])


def digest_without(code: Fingerprint, state: frozenset[str]) -> bytes:
    """Return the digest of the code of a class, without what the step that is given an instance changes itself."""
    parts = without_state(code.walk, code.parts, state)
    return code.digest if len(parts) == len(code.parts) else digest_of_parts(parts)


def changed_in_classes(classes: Iterable[type], seen_from: str, code: Fingerprint) -> frozenset[str]:
    """Return the parts of the user's classes among these that their code has changed since they were last looked at."""
    names: set[str] = set()
    for cls in _user_classes(classes, seen_from):
        tracker = tracker_of_class(cls, code.packages, code.mentioned)
        held = tracker.held
        if held is not None and not held.holds():
            names.update(held.changes_until(tracker.current()).own)
    return frozenset(names)


def told_apart(classes: Iterable[type], seen_from: str, codes: Sequence[Fingerprint]) -> bytes:
    """Return bytes that tell these classes from others of the same names that these codes reach.

    The bytes are empty if the codes reach no such class. Two classes of one name may be the same in all else. So are
    local classes that were made twice, and classes that were nested in others in the process that they came from.
    """
    return _told_apart(_user_classes(classes, seen_from), codes)


def _told_apart(classes: Iterable[type], codes: Sequence[Fingerprint]) -> bytes:
    named: dict[tuple[str, str], type] = {}
    for cls in classes:
        if named.setdefault(qualified_name(cls), cls) is not cls:
            return uuid.uuid4().bytes  # it is not known of which of the two classes an instance is
    result: list[bytes] = []
    for name, cls in named.items():
        for code in codes:
            alike = code.reached.get(name)
            if alike is not None and (len(alike) > 1 or alike[0] is not cls):
                every = dict.fromkeys(id(alike_class) for code in codes for alike_class in code.reached.get(name, ()))
                result.append(tokens(*name, [*every, id(cls)].index(id(cls))))
                break
    return b"".join(sorted(result))


def _user_classes(classes: Iterable[type], seen_from: str) -> list[type]:
    whose = owners_seen_from(seen_from)
    return [cls for cls in classes if whose.of_class(cls) is Owner.USER]


def _fingerprints_of(classes: Iterable[type], code: Fingerprint | None = None) -> list[Fingerprint]:
    result: dict[bytes, Fingerprint] = {}
    how = () if code is None else (code.packages, code.mentioned)
    for cls in classes:
        fingerprint = tracker_of_class(cls, *how).current()
        result[fingerprint.digest] = fingerprint
    return [result[digest] for digest in sorted(result)]


def classes_at_hand(code: Fingerprint, arguments: Collection[type]) -> Mapping[tuple[str, str], type]:
    """Return the classes that may rebuild a result of this code, among them the classes of its arguments.

    A step may return its arguments, and what they hold.
    """
    at_hand = dict(code.classes)
    for cls in arguments:
        name = qualified_name(cls)
        at_hand[name] = cls if at_hand.get(name, cls) is cls else Ambiguous
    return at_hand if arguments else code.classes
