"""What errors and warnings say, and where."""

from __future__ import annotations

import threading

import pytest

from musubito import MusubitoEngine, MusubitoWarning, SQLiteStorage, musubito_step, use_musubito_engine


def test_a_warning_names_the_line_of_the_users_that_led_to_it(tmp_path):
    @musubito_step(name="lock")
    def lock(_number):
        return threading.Lock()

    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as engine, use_musubito_engine(engine):
        with pytest.warns(MusubitoWarning) as caught:
            lock(1)
    assert [each.filename for each in caught] == [__file__]
