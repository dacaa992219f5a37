"""What is imported only by programs that need it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from musubito.deferred import is_cancellation, running_loop

STEPS = """
import sys
from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StepType, musubito_step, use_musubito_engine

@musubito_step
def double(x):
    return 2 * x

@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT))
def send(x):
    raise ValueError(x)

with MusubitoEngine(SQLiteStorage("musubito.db")) as engine, use_musubito_engine(engine):
    assert [double(1).value, double(1).value] == [2, 2]
    try:
        send(1)
    except ValueError:
        pass
"""
ERRORS = """
import sys
import musubito
assert set(musubito.__all__) <= set(dir(musubito))
assert musubito.MusubitoError and musubito.current_node_id() is None
assert not hasattr(musubito, "nothing_like_it")
"""
RUNTIME = """
import sys
import musubito.engine.scope
from musubito import ObjectBlobs
import musubito
assert all(vars(musubito)[name].__module__ == "musubito" for name in musubito.__all__)
"""
VERSION = """
import sys
from musubito.cli.root import root
root.main(["--version"], standalone_mode=False)
"""


@pytest.mark.parametrize(
    ("program", "unneeded"),
    [
        (STEPS, ["asyncio", "difflib"]),
        (ERRORS, ["musubito.api.step", "musubito.engine.engine", "musubito.store.sqlite.storage"]),
        (RUNTIME, ["musubito.lineage"]),
        (VERSION, ["asyncio", "difflib", "musubito.engine.engine", "musubito.lineage", "rich"]),
    ],
    ids=["steps", "errors alone", "the runtime as a whole", "the version"],
)
def test_what_a_program_does_not_need_is_not_imported(tmp_path: Path, program: str, unneeded: list[str]) -> None:
    script = tmp_path / "program.py"
    script.write_text(f"{program}\nprint(*[name for name in {unneeded} if name in sys.modules])", "utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == ""


def test_a_loop_is_seen_where_it_runs() -> None:
    async def body() -> tuple[object, object, object]:
        return running_loop(), asyncio.get_running_loop(), await asyncio.to_thread(running_loop)

    seen, real, in_a_thread = asyncio.run(body())
    assert seen is real
    assert running_loop() is in_a_thread is None


def test_only_a_cancellation_is_one() -> None:
    assert is_cancellation(asyncio.CancelledError())
    assert not is_cancellation(KeyboardInterrupt())
    assert not is_cancellation(ValueError())
