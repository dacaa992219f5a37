"""The example of the README: a second process prints the same and runs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import musubito

LIBRARY = str(Path(musubito.__file__).parents[1])
PROGRAM = """
import asyncio, sys
from musubito import MusubitoResult, musubito_merge, musubito_step

@musubito_step()
async def load_context(topic: str) -> str:
    print("load_context", file=sys.stderr)
    return f"all about {topic}"

@musubito_step()
async def load_policy(topic: str) -> str:
    print("load_policy", file=sys.stderr)
    return f"be kind about {topic}"

@musubito_step()
def summarize(context: MusubitoResult[str], policy: MusubitoResult[str]) -> str:
    print("summarize", file=sys.stderr)
    return f"{context.value}; {policy.value}"

async def main() -> None:
    context, policy = await asyncio.gather(load_context("bees"), load_policy("bees"))
    with musubito_merge(context, policy):
        summary = summarize(context, policy)
    assert isinstance(context, MusubitoResult) and isinstance(summary, MusubitoResult)
    print(summary.value, summary.node_id, summary.artifact_id)

asyncio.run(main())
"""


def test_a_second_process_prints_the_same_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(PROGRAM)

    def process(seed: str) -> tuple[str, list[str]]:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": LIBRARY}
        environment.pop("MUSUBITO_URL", None)
        done = subprocess.run(
            [sys.executable, "main.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, sorted(done.stderr.split())

    first, ran = process("1")
    assert first.startswith("all about bees; be kind about bees ")
    assert ran == ["load_context", "load_policy", "summarize"]
    database = tmp_path / ".musubito" / "musubito.db"
    assert database.stat().st_mode & 0o777 == 0o600
    assert process("2") == (first, [])
    (tmp_path / "main.py").write_text(PROGRAM.replace("be kind", "be fair"))
    second, ran = process("3")
    assert second.startswith("all about bees; be fair about bees ")
    assert ran == ["load_policy", "summarize"]
