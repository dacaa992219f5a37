"""Let a step declare what it depends on: a row, a flag, an object in a bucket."""

from __future__ import annotations

from musubito.dependencies.registry import DEPENDENCY_KINDS, declared_digest
from musubito.engine.frame import Dependencies
from musubito.engine.open_engines import ENGINES
from musubito.engine.scope import SCOPE
from musubito.errors import MusubitoError
from musubito.reasons import ReplayReason
from musubito.store.rows import ExternalRead


def depends_on(kind: str, key: str) -> None:
    """Make the step that runs depend on what is stored under a key outside, such as a row, a flag or an object.

    Call it before the step reads the content. The step then runs again once `digest_of` of this kind returns another
    value (see `register_dependency`). Steps around this one depend on it, too. Outside a step nothing happens.

    >>> import sqlite3
    >>> from musubito import depends_on, musubito_step, register_dependency
    >>> settings = sqlite3.connect("settings.db", isolation_level=None)
    >>> table = settings.execute("CREATE TABLE flags AS SELECT 'polite' AS name, 0 AS is_on")
    >>> def flag(name: str) -> bool:
    ...     return bool(settings.execute("SELECT is_on FROM flags WHERE name = ?", [name]).fetchone()[0])
    >>> register_dependency("flag", flag)
    >>> @musubito_step
    ... def greet(name: str) -> str:
    ...     depends_on("flag", "polite")
    ...     return f"Good morning, {name}." if flag("polite") else f"Hi {name}."
    >>> greet("Ann").value
    'Hi Ann.'
    >>> changed = settings.execute("UPDATE flags SET is_on = 1")
    >>> greet("Ann").value
    'Good morning, Ann.'
    >>> settings.close()

    If `digest_of` raises, the step goes on, and its result is never replayed. Raise TypeError for a key that is no
    text, `MusubitoError` for a kind that is not registered.
    """
    if not isinstance(key, str):
        raise TypeError(f"the key of a dependency is a text, not {key!r}: take str(key)")
    if type(kind) is not str or kind not in DEPENDENCY_KINDS or not DEPENDENCY_KINDS[kind].is_declared:
        raise MusubitoError(
            f"the kind of dependency {kind!r} is not registered: call register_dependency({kind!r}, digest_of) where "
            "the program starts"
        )
    frame = SCOPE.get().frame
    # A thread that inherited no context may be at work for every open step.
    bodies = [frame] if frame is not None else [body for engine in list(ENGINES) for body in engine.open.bodies()]
    if not bodies:
        return
    reads: tuple[ExternalRead, ...] = ()
    why: str | None = None
    try:
        key.encode()  # no store holds lone surrogates
        reads = (ExternalRead(kind, key, declared_digest(kind, key)),)
    except Exception as error:
        why = ReplayReason.NOT_COMPARED.of(f"{kind} {key}, {type(error).__qualname__}: {error}")
    for body in bodies:
        digest = body.engine._digest_of_read
        stored = tuple(read._replace(digest=digest(read.digest)) for read in reads)
        body.absorb(Dependencies((), stored, None, None, why, samples=False))
