"""The commit of a step that ran for the first time, as one statement. Most writes are such commits.

`relational.perform` needs a dozen statements for it, and looks at answers in between. Here a server does all of it in
one round trip. While one process commits, no other can write, so each saved round trip speeds up all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from musubito.store.changes import Change, Commit
from musubito.store.relational.sql_session import IdCache
from musubito.store.relational.writes import is_inline, size_of, tokens_of


def first_of(changes: Sequence[Change], numbers: IdCache) -> Mapping[str, Any] | None:
    """Return the parameters of the query `first_commit`; None if that query does not fit the changes.

    It fits a single commit of a step that called no other step and read nothing. The names and the fingerprint in that
    commit must have numbers already.
    """
    if len(changes) != 1 or not isinstance(changes[0], Commit):
        return None
    commit = changes[0]
    place = commit.place
    # Another thread may drop these numbers at any time, so each is read once.
    namespace = numbers.namespaces.get(place.namespace)
    operation = numbers.operations.get((place.namespace, place.operation))
    code = numbers.codes.get(place.code.fingerprint)
    if namespace is None or operation is None or code is None or commit.effect is not None or commit.lease is None:
        return None
    parents = {(parent.node, parent.kind) for parent in place.parents}
    if commit.uses or commit.reads or commit.attempts or commit.learned or len(parents) < len(place.parents):
        return None
    node, reuse, cross = place.keys
    small = is_inline(commit)
    return {
        "node": node,
        "reuse": reuse,
        "other_reuse": None if reuse == node else reuse,
        "other_cross": None if cross == reuse else cross,
        "namespace": namespace,
        "operation": operation,
        "code": code,
        "input_hash": place.input_hash,
        "step_type": place.step_type,
        "sample": place.sample,
        "arguments": json.dumps({name: digest.hex() for name, digest in place.arguments.items()}),
        "listed": None if node == reuse else 1,
        "parents": [parent.node for parent in place.parents],
        "kinds": [int(parent.kind) for parent in place.parents],
        "artifacts": [parent.artifact for parent in place.parents],
        "since": commit.began.invalidations,
        "artifact": commit.artifact,
        "codec": commit.codec,
        "small": commit.payload if small else None,
        "large": None if small else commit.payload,
        "size": size_of(commit),
        "started_at": commit.started_at,
        "duration_ms": commit.duration_ms,
        "pool": commit.pool,
        "valid_from": commit.valid_from,
        "valid_until": commit.valid_until,
        "not_replayable": commit.not_replayable,
        "holds": int(commit.holds),
        "tokens": tokens_of(commit.usage),
        "saved_ms": commit.saved_ms,
        "compute_ms": commit.compute_ms,
        "models": [used.model for used in commit.usage],
        "input_tokens": [used.input_tokens for used in commit.usage],
        "output_tokens": [used.output_tokens for used in commit.usage],
        "total_input_tokens": [used.total_input_tokens for used in commit.usage],
        "total_output_tokens": [used.total_output_tokens for used in commit.usage],
        "key": commit.lease[0],
        "owner": commit.lease[1],
    }
