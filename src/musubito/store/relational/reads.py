"""The answers of a relational store to queries, by named SQL queries."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, assert_never

from musubito.errors import StoreError
from musubito.store.changes import Commit, Moment
from musubito.store.protocol import NamedQuery, Row
from musubito.store.queries import (
    AnswerOf,
    CodeOf,
    CommitOf,
    CurrentMoment,
    EffectQuery,
    KeyCheckOf,
    LeaseOwnerOf,
    OlderCandidates,
    PayloadOf,
    Query,
    ReadsOf,
    SampleNode,
    SampleTree,
    SimilarNode,
    SimilarNodes,
    SimpleQuery,
    StatePlaces,
    StoredAnswer,
    StoredCommit,
    TraceOf,
    UsageOf,
)
from musubito.store.relational.sql_session import IdCache, SqlSession
from musubito.store.rows import (
    CallDependency,
    CallKeys,
    Candidate,
    CodeRecord,
    Edit,
    EffectRow,
    ExternalRead,
    FoundOut,
    LeaseOwner,
    NodeSpec,
    SampleRef,
    Stored,
    TraceLine,
    Used,
)

LOOKED_AT: Final = 20_000
"""Number of the newest nodes among which the neighbours of a node are looked for."""
# The types that the columns of a `Candidate` may have. A payload may have any: its digest is checked later.
_BYTES: Final = (bytes, type(None))
_TIME: Final = (float, type(None))
_NUMBER: Final = (int, type(None))
_FOUND_TYPES: Final[tuple[type | tuple[type, ...], ...]] = (
    *(int, bytes, _BYTES, object, float, float, float, _TIME, _TIME),
    *((str, type(None)), int, int, int, _BYTES, int, (int, type(None)), int, str),
)


def answer(db: SqlSession, numbers: IdCache, query: Query) -> Any:
    """Return the answer that the class of the query names."""
    match query:
        case OlderCandidates(keys, _, across, oldest):
            params = {"reuse": keys.reuse, "cross": keys.cross, "oldest": oldest}
            rows = db.rows("others_across" if across else "others", params)
            return _with_settled(db, keys, [found_of(row) for row in rows])
        case SampleTree(execution):
            return _sample_tree(db, execution)
        case AnswerOf(node, namespace):
            return _answer_at(db, node, numbers.known_namespace(db, namespace))
        case CommitOf(execution, namespace):
            return _commit(db, execution, namespace, numbers.known_namespace(db, namespace))
        case EffectQuery(effect_key, keys, namespace):
            return _effect(db, effect_key, keys, numbers.known_namespace(db, namespace))
        case _:
            named, answer_of = statement_of(query)
            return answer_of(db.rows(*named))


def statement_of(query: SimpleQuery) -> tuple[NamedQuery, Callable[[list[Row]], Any]]:
    """Return the statement for a query, and the function that makes the answer of its rows."""
    match query:
        case PayloadOf(execution):
            return ("payload", {"execution": execution}), _payload
        case ReadsOf(execution):
            return ("reads", {"execution": execution}), _reads
        case UsageOf(execution):
            return ("usage", {"execution": execution}), _usage
        case TraceOf(execution):
            return ("trace", {"execution": execution}), _trace
        case CurrentMoment():
            return ("began", {}), _moment
        case SimilarNodes(namespace, operation, node, limit):
            return neighbours_of(namespace, operation, limit, node), _neighbours
        case LeaseOwnerOf(key):
            return ("holder", {"key": key}), _owner
        case CodeOf(fingerprint):
            return ("code_parts", {"fingerprint": fingerprint}), _parts
        case StatePlaces():
            return ("state_places", query._asdict()), _state_places
        case KeyCheckOf(namespace):
            return ("key_check", {"name": namespace}), _key_check
        case _:
            assert_never(query)


def _payload(rows: list[Row]) -> Stored | None:
    return _stored(rows[0]) if rows and rows[0][0] is not None else None


def _reads(rows: list[Row]) -> list[ExternalRead]:
    return [ExternalRead(kind, key, digest or None) for kind, key, digest in _check_types(rows, str, str, bytes)]


def _usage(rows: list[Row]) -> list[Used]:
    return [Used(*row) for row in _check_types(rows, str, int, int, int, int)]


def _trace(rows: list[Row]) -> TraceLine | None:
    return TraceLine(*_check_types(rows, int, bytes, bytes)[0]) if rows else None


def _moment(rows: list[Row]) -> Moment:
    (row,) = _check_types(rows, int, int)
    return Moment(*row)


def _neighbours(rows: list[Row]) -> list[SimilarNode]:
    return list(map(neighbour, rows))


def _owner(rows: list[Row]) -> LeaseOwner | None:
    return LeaseOwner(*_check_types(rows, bytes, str, int, str, float)[0]) if rows else None


def _parts(rows: list[Row]) -> dict[str, bytes]:
    return dict(_check_types(rows, str, bytes))


def _state_places(rows: list[Row]) -> tuple[str, ...]:
    return tuple(sorted(part for (part,) in _check_types(rows, str)))  # a database has an order of its own


def _key_check(rows: list[Row]) -> bytes | None:
    key_check: bytes | None = _check_types(rows, bytes)[0][0] if rows else None
    return key_check


def newest(db: SqlSession, keys: CallKeys, namespace: int | None) -> Candidate | None:
    """See `Store.newest`."""
    rows = db.rows("newest", {"node": keys.node, "reuse": keys.reuse, "namespace": namespace})
    return found_newest(db, keys, rows[0]) if rows else None


def found_newest(db: SqlSession, keys: CallKeys, row: Row) -> Candidate:
    """Return the `Candidate` of a row of the query `newest`."""
    candidate = found_of(row)
    if candidate.settled or candidate.producer == keys.node:
        return candidate
    return _with_settled(db, keys, [candidate])[0]


_KNOWN_TYPES: Final[set[tuple[type, ...]]] = set()
"""The types of rows that have passed the check: a replay looks its row up here."""


def found_of(row: Row) -> Candidate:
    """Return the `Candidate` of a row. Raise `StoreError` if the row holds a type that Musubito never writes there."""
    types = tuple(map(type, row))
    if types not in _KNOWN_TYPES:
        _check_types([row], *_FOUND_TYPES)
        _KNOWN_TYPES.add(types)
    return Candidate(*row)


def _check_types(rows: list[Row], *types: type | tuple[type, ...]) -> list[Row]:
    """Return the rows. Raise `StoreError` if one holds a type that Musubito never writes there."""
    for row in rows:
        for value, allowed in zip(row, types, strict=True):
            if not isinstance(value, allowed):
                raise StoreError(f"a row holds {value!r:.50} where {allowed} belongs")
    return rows


def _stored(row: Row) -> Stored:
    """Return the payload of a row. Raise `StoreError` for a codec that is no text."""
    if type(row[1]) is not str:
        raise StoreError(f"{row[1]!r:.50} is no codec")
    return Stored(*row)


def _with_settled(db: SqlSession, keys: CallKeys, candidates: list[Candidate]) -> list[Candidate]:
    """Return the executions, with `settled` set on the one that the asked node points at already."""
    if not candidates:
        return candidates
    rows = db.rows("node", {"node": keys.node})
    if not rows:
        return candidates
    _, pointed, asked_key, _, stale = rows[0]
    if asked_key != keys.reuse or stale:
        return candidates
    return [candidate._replace(settled=1) if candidate.execution == pointed else candidate for candidate in candidates]


def neighbours_of(namespace: str, operation: str, limit: int, node: bytes | None = None) -> NamedQuery:
    """Return the query for the rows of which `neighbour` makes nodes; see `SimilarNodes`."""
    of = {"namespace": namespace, "operation": operation, "node": node, "limit": limit, "looked_at": LOOKED_AT}
    return "neighbours", of


def neighbour(row: Row) -> SimilarNode:
    """Return the node of a row of the query `neighbours`."""
    *own, parents = row
    return similar_node(own, map(bytes.fromhex, parents.split(",") if parents else ()))


def similar_node(row: Sequence[Any], parents: Iterable[bytes]) -> SimilarNode:
    """Return a node as it is compared with others, from its row without its parents."""
    node, code, input_hash, arguments, sample, started_at = row
    digests = {name: bytes.fromhex(digest) for name, digest in json.loads(arguments or "{}").items()}
    return SimilarNode(node, code, input_hash, digests, frozenset(parents), sample, started_at)


def _sample_tree(db: SqlSession, root: int) -> dict[int, SampleNode]:
    samples: dict[int, tuple[bytes | None, int]] = {}
    called: defaultdict[int, list[int]] = defaultdict(list)
    rows = _check_types(db.rows("sample_tree", {"execution": root}), int, _BYTES, int, _NUMBER)
    for execution, pool, sample, inner in rows:
        samples[execution] = pool, sample
        if inner is not None:
            called[execution].append(inner)
    return {
        execution: SampleNode(
            execution,
            pool,
            sample,
            tuple(SampleRef(*row) for row in _check_types(db.rows("attempts", {"execution": execution}), bytes, int)),
            tuple(called[execution]),
        )
        for execution, (pool, sample) in samples.items()
    }


def _answer_at(db: SqlSession, node: bytes, namespace: int | None) -> StoredAnswer | None:
    for _, execution, asked, *_ in db.rows("node", {"node": node}):
        for row in db.rows("execution", {"execution": execution, "namespace": namespace}):
            return StoredAnswer(found_of(row), asked)
    return None


def _commit(db: SqlSession, execution: int, name: str, namespace: int | None) -> StoredCommit | None:
    rows = db.rows("commit_of", {"execution": execution, "namespace": namespace})
    if not rows:
        return None
    node, reuse, cross, operation, fingerprint, input_hash, step_type, sample, arguments, *facts = rows[0]
    started_at, duration_ms, artifact, payload, valid_from, valid_until, not_replayable, *more = facts
    pool, holds, saved_ms, compute_ms, codec, size, invalid = more
    of = {"execution": execution}
    digests = {argument: bytes.fromhex(digest) for argument, digest in json.loads(arguments or "{}").items()}
    code = CodeRecord(fingerprint, [], (), ())
    keys = CallKeys(node, reuse, cross)
    edits = [Edit(*row) for row in _check_types(db.rows("edit", of), int, str, float, str, _NUMBER)]
    commit = Commit(
        place=NodeSpec(keys, name, operation, code, input_hash, step_type, sample, digests, ()),
        began=Moment(0, 0),
        started_at=started_at,
        duration_ms=duration_ms,
        artifact=artifact,
        payload=payload,
        valid_from=valid_from,
        valid_until=valid_until,
        not_replayable=not_replayable,
        pool=pool,
        uses=[CallDependency(*row) for row in _check_types(db.rows("uses", of), bytes, bytes, int, float)],
        reads=_reads(db.rows("reads", of)),
        attempts=[SampleRef(*row) for row in _check_types(db.rows("attempts", of), bytes, int)],
        holds=holds,
        usage=_usage(db.rows("usage", of)),
        lease=None,
        saved_ms=saved_ms,
        compute_ms=compute_ms,
        codec=codec,
        size=size,
        edit=edits[0] if edits else None,
    )
    return StoredCommit(commit, bool(invalid))


def _effect(db: SqlSession, effect_key: bytes, keys: CallKeys, namespace: int | None) -> EffectRow | None:
    rows = db.rows("effect", {"effect_key": effect_key})
    if not rows:
        return None
    attempt, settled, outcome, execution, happened, payload, codec = rows[0]
    if not (type(attempt) is int and type(settled) is int and attempt >= 0 and settled >= (outcome == "done")):
        raise StoreError(f"an effect holds {attempt!r:.50} and {settled!r:.50} where numbers of attempts belong")
    if outcome not in (None, "done", "failed", "unknown", "withdrawn"):
        raise StoreError(f"an effect holds {outcome!r:.50} where its outcome belongs")
    executions = db.rows("execution", {"execution": execution, "namespace": namespace}) if outcome == "done" else []
    done = _with_settled(db, keys, [found_of(row) for row in executions])
    stored = None if payload is None else _stored((payload, codec))
    found_out = None if happened is None else FoundOut(bool(happened), stored)
    return EffectRow(attempt, settled, outcome, holder_of(db, effect_key), done[0] if done else None, found_out)


def holder_of(db: SqlSession, key: bytes) -> LeaseOwner | None:
    """Return the owner of a lease, even if the lease has run out; None if there is no lease."""
    return _owner(db.rows("holder", {"key": key}))
