"""The ledger's lines, from the buffer to what a store is told."""

from __future__ import annotations

from musubito.engine.frame import Run
from musubito.engine.history_buffer import HistoryBuffer
from musubito.payloads.codec import Contents
from musubito.store.rows import CallLine, Ledger, RunLine

OWNER = b"o" * 12


def line(run_id: bytes, call: int) -> CallLine:
    return CallLine(run_id, call, None, "f", b"n" * 32, 7, "ran", "INPUT_CHANGED", 5.0, 1.5, 0.0, 0, 9)


def test_nothing_is_nothing() -> None:
    journal = HistoryBuffer(OWNER, Contents("default"))
    assert len(journal) == 0
    assert journal.drain() == Ledger("default", [], [], [])


def test_lines_come_out_once_and_in_order() -> None:
    journal, run = HistoryBuffer(OWNER, Contents("default")), Run(3, 1.0)
    for call in (1, 2, 3):
        journal.append(line(journal.run_id(run), call))
    assert len(journal) == 3
    ledger = journal.drain()
    run_id = journal.run_id(run)
    assert [each.call for each in ledger.calls] == [1, 2, 3]
    assert ledger.calls[0] == line(run_id, 1)
    assert (len(journal), journal.drain()) == (0, Ledger("default", [], [], []))


def test_a_run_is_written_as_it_is_known_last() -> None:
    journal, run = HistoryBuffer(OWNER, Contents("default")), Run(1, 1.0, "name", '{"a": 1}')
    journal.append(run)
    run_id = journal.run_id(run)
    assert journal.drain().runs == [RunLine(run_id, "name", '{"a": 1}', 1.0, None, "running")]
    journal.append(run)
    run.status, run.finished_at = "finished", 2.0
    journal.append(run)
    assert journal.drain().runs == [RunLine(run_id, "name", '{"a": 1}', 1.0, 2.0, "finished")]


def test_ids_of_runs_are_unique_and_in_order() -> None:
    journal = HistoryBuffer(OWNER, Contents("default"))
    ids = [journal.run_id(Run(number, 0.0)) for number in (1, 2, 255, 256, 70_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 5
    assert all(each.startswith(OWNER) and len(each) == len(ids[0]) for each in ids)
    assert HistoryBuffer(b"p" * 12, Contents("default")).run_id(Run(1, 0.0)) not in ids


def test_what_is_appended_after_a_drain_waits_for_the_next() -> None:
    journal, run = HistoryBuffer(OWNER, Contents("default")), Run(1, 0.0)

    journal.append(line(journal.run_id(run), 1))
    journal.append(line(journal.run_id(run), 2))
    first = journal.drain()
    journal.append(line(journal.run_id(run), 3))
    assert [each.call for each in first.calls] == [1, 2]
    assert [each.call for each in journal.drain().calls] == [3]
