"""What is imported only by programs that need it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from musubito.deferred import is_cancellation, running_loop
from musubito.values.artifact_codec import encode_value

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
RARE = [
    *("asyncio", "difflib"),
    *("argparse", "base64", "decimal", "fractions", "getpass", "hmac", "random", "shutil", "tempfile", "zoneinfo"),
    *("musubito.engine.explain", "musubito.engine.nearest", "musubito.engine.override", "musubito.engine.pickling"),
    *("musubito.engine.replay_only", "musubito.lineage", "musubito.remedies", "musubito.values.editable"),
    *("musubito.store.relational.table_copy", "musubito.store.sqlite.condition", "musubito.store.sqlite.read_only"),
]
"""What costs a start, and is needed only for some values, some programs, or those who ask."""
READING = """
import sys
from musubito.lineage import Lineage, plan, savings
import musubito.lineage
assert all(map(callable, (Lineage, plan, savings, musubito.lineage.savings)))
assert set(musubito.lineage.__all__) <= set(dir(musubito.lineage))
"""
VERSION = """
import sys
from musubito.cli.root import root
root.main(["--version"], standalone_mode=False)
"""


@pytest.mark.parametrize(
    ("program", "unneeded"),
    [
        (STEPS, RARE),
        (ERRORS, ["musubito.api.step", "musubito.engine.engine", "musubito.store.sqlite.storage"]),
        (RUNTIME, ["musubito.lineage"]),
        (
            READING,
            ["musubito.lineage.readers.impact", "musubito.lineage.readers.verify", "musubito.lineage.readers.why"],
        ),
        (VERSION, ["asyncio", "difflib", "musubito.engine.engine", "musubito.lineage", "rich"]),
    ],
    ids=["steps", "errors alone", "the runtime as a whole", "a reader", "the version"],
)
def test_what_a_program_does_not_need_is_not_imported(tmp_path: Path, program: str, unneeded: list[str]) -> None:
    script = tmp_path / "program.py"
    script.write_text(f"{program}\nprint(*[name for name in {unneeded} if name in sys.modules])", "utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("value", [Decimal("1.50"), Fraction(1, 3), ZoneInfo("UTC")], ids=repr)
def test_a_value_is_read_where_its_module_is_not_imported(value: object) -> None:
    program = (
        "import sys\nfrom musubito.values.artifact_codec import decode_value\n"
        f"assert {type(value).__module__.partition('.')[0]!r} not in sys.modules\n"
        f"print(repr(decode_value(bytes.fromhex({encode_value(value).hex()!r}), {{}})))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == repr(value)


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
