"""Find out whether a transaction was committed whose connection was lost before the answer came."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from musubito.store.changes import BeginEffect, Change, Commit, CommitFailure, Moment
from musubito.store.postgres.sessions import ConnectionLost, Session


class UnclearCommit(ConnectionLost):
    """The connection was lost while a transaction was being committed."""

    def __init__(self, transaction: str, answers: list[Any]) -> None:
        super().__init__()
        self.transaction = transaction
        self.answers = answers


class EarlierAttempts:
    """The earlier attempts at one write, whose connections were lost."""

    unclear: UnclearCommit | None = None
    first: Mapping[str, Any] | None = None


def was_committed(session: Session, before: UnclearCommit, changes: Sequence[Change]) -> bool:
    """Return whether the rows of an unclear transaction are there. Wait until the server has done with it.

    The number of the transaction does not tell. After a crash, the server gives numbers again whose transactions had
    not come to its disk. For changes that may be written twice, the answer is False.
    """
    while _is_in_progress(session, before.transaction):
        time.sleep(0.02)
    for change, answer in zip(changes, before.answers, strict=True):
        match change:
            case Commit() | CommitFailure():
                params = {"reuse": change.place.keys.reuse, "started_at": change.started_at}
                return bool(session.rows("was_recorded", {"execution": answer.execution, **params}))
            case BeginEffect() if isinstance(answer, Moment):
                params = {"attempt": change.attempt, "owner": change.holder.owner}
                return bool(session.rows("was_intended", {"effect_key": change.effect_key, **params}))
    return False


def _is_in_progress(session: Session, transaction: str) -> bool:
    try:
        ((status,),) = session.rows("became_of", {"transaction": transaction})
    except psycopg.errors.InvalidParameterValue:  # a crash of the server has lost this number
        return False
    return bool(status == "in progress")
