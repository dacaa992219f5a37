"""Check, or write with `--write`, the fingerprints of steps that reach the public names of Musubito.

Each public name and a few objects made of them are reached by one step. The fingerprints are in everybody's databases.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import musubito
from musubito.code.tracker import CodeTracker

VECTORS = Path(__file__).with_name("export_fingerprints.tsv")
NAMES = [
    *("ArtifactUnreadable", "CallRecord", "EffectHappened", "EffectNeverHappened", "EffectOutcomeUnknown"),
    *("EncodingError", "Explanation", "FolderBlobs", "InputError", "MusubitoEngine", "MusubitoError"),
    *("MusubitoResult", "MusubitoStream", "MusubitoWarning", "NodeStatus", "NotReplayed", "ObjectBlobs"),
    *("ReplayDecision", "ReplayReason", "RunRecord", "SQLiteStorage", "SchemaError", "StepConfiguration", "StepType"),
    *("StoreError", "WrongKey", "current_idempotency_key", "current_node_id", "musubito_merge", "musubito_step"),
    *("record_usage", "run", "use_musubito_engine"),
]
OBJECTS = {
    "ENGINE": "MusubitoEngine(SQLiteStorage(':memory:'))",
    "METHOD": "ENGINE.invalidate",
    "CONFIGURATION": "StepConfiguration(step_type='stochastic')",
    "RESULT": "MusubitoResult('a', 'b' * 64, 'c' * 64, 'd' * 64)",
    "KIND": "StepType.STOCHASTIC",
    "FAILED": "NodeStatus.FAILED",
}


def program() -> str:
    lines = [f"from musubito import {', '.join(NAMES)}"]
    lines += [f"{name} = {text}" for name, text in OBJECTS.items()]
    for name in [*NAMES, *OBJECTS]:
        lines.append(f"def reaches_{name}():\n    return {name}")
    lines.append(
        "def calls_methods():\n    return MusubitoEngine.from_url, MusubitoResult.__str__, SQLiteStorage.close"
    )
    return "\n".join(lines) + "\n"


def fingerprints() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "exports_program.py")
        path.write_text(program(), "utf-8")
        spec = importlib.util.spec_from_file_location("exports_program", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["exports_program"] = module
        spec.loader.exec_module(module)
        steps = {name: each for name, each in vars(module).items() if name.startswith(("reaches_", "calls_"))}
        try:
            return [f"{name}\t{CodeTracker(each).current().digest.hex()}" for name, each in steps.items()]
        finally:
            module.ENGINE.close()
            del sys.modules["exports_program"]


if __name__ == "__main__":
    text = "\n".join(fingerprints()) + "\n"
    if "--write" in sys.argv:
        VECTORS.write_text(text, "utf-8")
    elif text != VECTORS.read_text("utf-8"):
        was, now = VECTORS.read_text("utf-8").splitlines(), text.splitlines()
        sys.exit("\n".join(line for line in {*was} ^ {*now}))
    assert len(NAMES) <= len(musubito.__all__)
