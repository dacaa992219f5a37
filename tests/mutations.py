"""Break the rules of the semantics one at a time in a copy of `src`, and count the tests that notice.

`python -m tests.mutations` breaks all of them, `python -m tests.mutations ttl lease` those whose names hold such a word.
With `--tests tests/story`, other tests are run than the table names. `make soak` runs it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
MOST: Final = 100
"""Number of tests that may notice a broken rule: with more of them, a rule is stated too often."""
LONGEST: Final = 300.0
"""Seconds to wait for the tests of one mutation."""
QUICK: Final = ("-m", "quick and not soak and not harness")


def _tests(folder: str, *names: str) -> tuple[str, ...]:
    return (*QUICK, *(f"tests/{folder}/test_{name}.py" for name in names))


CALLS: Final = (
    *_tests(
        "soundness", "lookup", "ttl", "failures", "samples", "invalidation", "parents", "inputs", "strays", "reads"
    ),
    *_tests("soundness", "effects", "edits", "streams", "single_flight", "found_by_chance", "adapter")[2:],
    *("tests/unit/test_policy.py", "tests/unit/engine", "tests/unit/values/test_call_keys.py"),
)
STORES: Final = (*CALLS, "tests/conformance")
CODE: Final = _tests(
    "soundness", "code_identity", "own_state", "environment", "what_counts", "executed_code", "settings"
)
FILES: Final = _tests("soundness", "files", "path_looks", "named_files", "file_caches", "executed_code")
RAN: Final = ("tests/soundness/test_executed_code.py", "tests/soundness/test_unpickled.py")
SECRETS: Final = (*_tests("soundness", "encryption", "secrets", "environment"), "tests/cli", "tests/unit")
GRAPHS: Final = _tests("langgraph", "message_ids", "messages", "never", "replays", "store", "policy", "resumed")
LEASES: Final = (
    *("tests/soundness/test_single_flight.py", "tests/unit/engine/test_process_identity.py"),
    *("tests/faults/test_leases.py", "tests/faults/test_kill.py", "tests/faults/test_effects.py"),
)


class Mutation(NamedTuple):
    """A rule, and how to break it: one text of a file becomes another."""

    rule: str
    file: str
    old: str
    new: str
    tests: Sequence[str] = CALLS


P: Final = "musubito/policy.py"
K: Final = "musubito/values/call_keys.py"
S: Final = "musubito/engine/samples.py"
V: Final = "musubito/store/sql/steps/invalidation.sql"
W: Final = "musubito/store/relational/writes.py"
L: Final = "musubito/engine/process_identity.py"
D: Final = "musubito/dependencies/check.py"
X: Final = "musubito/dependencies/executed.py"
F: Final = "musubito/code/reach_functions.py"
C: Final = "musubito/payloads/codec.py"
R: Final = "musubito/values/redaction.py"
UP: Final = "sorted({p.artifact for p in self.parents})"
AT_ENV: Final = '    if name.startswith("environment "):\n'
STATED: Final = """not_replayable(ReplayReason.INTERRUPT_ANSWERED.of(at_line_of_user("interrupt")))
            _note_answer(self._around)"""
FOLLOWED: Final = "label + self.walk.names.follow_cell(reached, cells, read, is_handed, shown)"
# fmt: off
MUTATIONS: Final = [Mutation(*row) for row in (
    # rule, file, what stands there, what breaks it, and which tests are asked if not those of the core
    ("a failed execution is not replayed", P, "if not execution.outcome:", "if execution.outcome is None:"),
    ("an INVALID execution is not replayed", P, "if execution.invalid:", "if execution.invalid is None:"),
    ("what is not replayable is not replayed", P, "execution.not_replayable is not None", "False"),
    ("force runs the step", P, "policy.runs_each_time:", "policy.step_type.value == 'live':"),
    ("a ttl ends", P, "if not age < policy.ttl_seconds", "if age != age"),
    ("a start in the future is not young", P, "if not age >= -SKEW", "if age != age"),
    ("the ttl of what is nested counts", P, "not now < execution.valid_until", "now != now"),
    ("what is upstream counts", K, UP, "()"),
    ("an equal output upstream changes nothing", K, UP, UP.replace("artifact", "node")),
    ("the order of what is upstream does not count", K, UP, "[p.artifact for p in self.parents]"),
    ("a node is told by its parents", K, "sorted({p.node for p in self.parents})", "()"),
    ("the namespace counts", K, "[VERSION, namespace,", '[VERSION, "",'),
    ("the operation_version counts", K, "fingerprint, operation_version]", "fingerprint, None]"),
    ("a merge names the parents", "musubito/api/merge.py", "(parents=results)", "(parents=None)"),
    ("a sample is given once", S, "number = _lowest(taken)", "number = 0"),
    ("samples inside a replayed step are given", S, "if not again and any(", "if False and any("),
    ("callers of what is INVALID become INVALID", V, "WHERE e.holds & 8 = 0\n)\nUPDATE", "WHERE false\n)\nUPDATE", STORES),
    ("what is downstream becomes STALE", V, "SELECT id FROM below WHERE true", "SELECT id FROM below WHERE false", STORES),
    ("a newer answer outdates what ran meanwhile", W, 'if db.rows("newer_with', 'if False and db.rows("newer_with', STORES),
    ("a living owner keeps its lease", L, "return _started(line) != holder.process if line", "return True if line", LEASES),
    ("a dead owner's lease is taken over", L, "if line else not _exists(holder.pid)", "if line else False", LEASES),
    ("equal calls at once run once", "musubito/engine/single_flight.py", "if flight is None or _was_left(", "if True or _was_left("),
    ("what a step changes itself does not count", "musubito/code/state.py", AT_ENV, f"    if name:\n        return False\n{AT_ENV}", CODE),
    ("files that were read are checked", D, "if kept.has_files:", "if False:", FILES),
    ("code that ran is checked", X, "for code, module, cls in list(ran):", "for code, module, cls in list(ran)[:0]:", RAN),
    ("environment variables count", "musubito/code/reach_lines.py", "if not is_secret(variable):", "if not variable:", CODE),
    ("functions that are called count", F, "references.append(label + found)", "references.append(label)", CODE),
    ("closures count", F, FOLLOWED, "label", CODE),
    ("defaults count", F, "[*positional, *sorted((function.__kwdefaults__ or {}).items())]", "[]", CODE),
    ("the artifact's digest is checked", C, "if self.digest(payload) != digest:", "if False:"),
    ("a wrong key is refused", C, "if key_check is not None:", "if False:", SECRETS),
    ("names of secrets are known", R, "return SECRETS.search(words) is not None", "return False", SECRETS),
    ("secrets in texts are hidden", R, "if len(text) < 8:", "if text:", SECRETS),
    ("a done effect is not repeated", "musubito/engine/effects.py", 'if row.outcome == "done":', "if False:"),
    ("control flow is no failure", "musubito/engine/scope.py", "    return _CONTROL_FLOW\n", "    return ()\n"),
    ("reads of a store are compared", D, "if stored(seen.value) != read.digest:", "if False:", GRAPHS),
    ("random ids of messages are renamed", "musubito_langgraph/message_ids/random_ids.py", "in _FORMS:", "in ():", GRAPHS),
    ("a tool runs each time", "musubito_langgraph/settings.py", "StepType.LIVE", "StepType.STOCHASTIC", GRAPHS),
    ("an answered interrupt is not replayed", "musubito_langgraph/recorder/watching.py", STATED, "pass", GRAPHS),
)]
# fmt: on


def break_rule(source: Path, mutation: Mutation | None) -> None:
    """Copy `src` to a folder, with this rule broken. Raises ValueError if the table is out of date."""
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    if mutation is not None:
        file = source / mutation.file
        text = file.read_text(encoding="utf-8")
        if text.count(mutation.old) != 1:
            raise ValueError(f"{mutation.file} holds {text.count(mutation.old)} times: {mutation.old}")
        file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")


def failing(mutation: Mutation | None, tests: Sequence[str]) -> tuple[set[str], bool]:
    """Return the tests that fail with a broken rule, with None those that fail anyway; and whether a test hangs."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        source = Path(folder) / "src"
        break_rule(source, mutation)
        command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "--tb=no", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": str(source), "COLUMNS": "1000"}
        ran = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            ran.wait(LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(ran.pid, signal.SIGKILL)
            ran.wait()
            hangs = True
        else:
            hangs = False
        said.seek(0)
        text = said.read()
    if "PASSED" not in text:
        raise RuntimeError(text[-3000:])
    return set(re.findall(r"^\[gw\d+\] \[ *\d+%\] (?:FAILED|ERROR) (.*?) *$", text, re.MULTILINE)), hangs


def main() -> int:
    """Break the chosen rules, and print how many tests notice each; 1 if one is stated too seldom or too often."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="break the rules whose names hold one of these")
    parser.add_argument("--tests", nargs="+", default=[], help="run these tests instead of those that the table names")
    parser.add_argument("--list", action="store_true", help="show which tests notice")
    given = parser.parse_args()
    # Before 3.12, Python does not tell which code runs.
    rules = [each for each in MUTATIONS if each.file != X or sys.version_info >= (3, 12)]
    chosen = [each for each in rules if not given.words or any(word in each.rule for word in given.words)]
    fail_anyway = dict[tuple[str, ...], set[str]]()
    wrong = 0
    for mutation in chosen:
        tests = tuple(given.tests or mutation.tests)
        if tests not in fail_anyway:
            fail_anyway[tests], _ = failing(None, tests)
        began = time.monotonic()
        cases, hangs = failing(mutation, tests)
        cases -= fail_anyway[tests]
        functions = {case.partition("[")[0] for case in cases}
        wrong += len(functions) > MOST or not (functions or hangs)
        print(
            f"{mutation.rule:<48} {len(functions):>4} tests {len(cases):>4} cases {time.monotonic() - began:>5.0f} s"
            + ", and one hangs" * hangs,
            flush=True,
        )
        if given.list:
            print(*(f"    {case}" for case in sorted(cases)), sep="\n")
    return min(wrong, 1)


if __name__ == "__main__":
    raise SystemExit(main())
