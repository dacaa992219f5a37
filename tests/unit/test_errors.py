"""What errors and warnings say, and where."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context

import pytest

from musubito import MusubitoEngine, MusubitoWarning, SQLiteStorage, musubito_step, use_musubito_engine


def test_a_warning_names_the_line_of_the_users_that_led_to_it(tmp_path):
    @musubito_step(name="lock")
    def lock(_number):
        return threading.Lock()

    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as engine, use_musubito_engine(engine):
        with pytest.warns(MusubitoWarning) as caught:
            lock(1)
    assert [warning.filename for warning in caught] == [__file__]


def test_packages_in_between_are_skipped(tmp_path):
    @musubito_step(name="lock")
    def lock(_number):
        return threading.Lock()

    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as engine, use_musubito_engine(engine):
        with pytest.warns(MusubitoWarning) as caught, ThreadPoolExecutor(1) as pool, ExitStack() as stack:
            stack.callback(lock, 1)
            stack.close()
            pool.submit(copy_context().run, lock, 2).result()
    assert [warning.filename for warning in caught] == [__file__, __file__]
    assert caught[1].lineno == lock.__musubito_step__.function.__code__.co_firstlineno
