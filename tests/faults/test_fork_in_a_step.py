"""A step whose body forks: the process that began it records it, the other's outcome counts for nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StepType, musubito_step, use_musubito_engine

EFFECT = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("policy", [StepConfiguration(), EFFECT])
def test_the_child_s_return_is_not_recorded(tmp_path: Path, policy: StepConfiguration) -> None:
    path = tmp_path / "musubito.db"
    children: list[int] = []

    @musubito_step(policy, name="forks")
    def forks(x: int) -> str:
        children.append(os.fork())
        return "parent" if children[-1] else "child"

    with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine):
        try:
            value = forks(1).value
        except BaseException:
            if children[-1] == 0:
                os._exit(2)
            raise
        if children[-1] == 0:
            os._exit(0 if value == "child" else 1)
        assert os.waitpid(children[-1], 0)[1] == 0
        assert value == "parent"
        assert forks(1).value == "parent"
        assert len(children) == 1
        rows = engine.storage._reader.execute("SELECT count(*) FROM _executions").fetchall()  # type: ignore[attr-defined]
    assert rows == [(1,)]
