"""Record the steps of marked tests in cassettes, and replay or verify them: the part of the plugin that works."""

from __future__ import annotations

import os
import shlex
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from _pytest.assertion.rewrite import rewrite_asserts

from musubito.code.portable_paths import count_paths_from
from musubito.code.syntax.source import rewrite_modules
from musubito.dependencies.paths import AT
from musubito.engine.engine_in_use import engine_in_mode
from musubito.engine.modes import OFF, make_off
from musubito.engine.shown_misses import shortened
from musubito.errors import NotReplayed
from musubito.lineage.readers.cost_format import worth
from musubito.lineage.readers.formatting import duration, times
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.readers.savings import savings
from musubito.lineage.reports import Cost, Tokens
from musubito.lineage.transfer.cassette import (
    Cassette,
    CassetteError,
    RecordedResult,
    changed_results,
    check_secrets,
    secret_at,
)
from musubito.lineage.transfer.cassette_files import FOLDER, cassette_path, read_cassette, unused_files, write_cassette
from musubito.lineage.transfer.cassette_store import load_cassette, recorded_results, unanswered_calls
from musubito.lineage.transfer.named_paths import NamedPaths
from musubito.reasons import NeverReplayed, ReplayReason
from musubito.store.rows import ExternalRead
from musubito.store.sqlite.storage import SQLiteStorage
from musubito.testing.cassette_engine import NO_EFFECTS, CassetteEngine, Deviation, Way
from musubito.testing.live_steps import LiveSteps
from musubito.testing.scrub import Scrub, scrubbed_input, scrubbed_result
from musubito.values.class_names import name_modules

MAX_FIELDS: Final = 10
"""Differing fields that are shown of an answer, and calls that are shown of a test that cannot be replayed."""
RETURN_IT: Final = "Let the step return what the test looks at, or call its function without the step."
MAX_LINES: Final = 4
"""Lines of differences that are shown of a call, so that the last twelve lines of the screen hold all."""
MAX_OTHERS: Final = 2
"""Calls that are named below the first one that was not replayed."""
MAX_NAMED: Final = 10
"""Lines under one title that are shown at the end of a session."""


class RecordedTest:
    """A marked test: its engine, its cassette, and what became of it."""

    def __init__(self, item: Any, way: Way, folder: Path, scrub: Scrub | None) -> None:
        marker = item.get_closest_marker("musubito")
        self.item = item
        self.way = way
        self.scrub = scrub
        self.path = path_of(item)
        self._root: Path = item.config.rootpath
        # That of the session, since a test may change it.
        self._working_directory: Path = item.config.invocation_params.dir
        self.has_cassette = self.path.is_file()
        self.before = self._read()
        self.recorded_at = int(time.time()) if way is Way.REFRESH else self.before.recorded_at
        self.engine = CassetteEngine(
            SQLiteStorage(folder / "musubito.db"),
            namespace=self.before.namespace,
            # The clock stands still, so that what was valid when it was recorded stays valid.
            now_provider=lambda: float(self.recorded_at),
            redact=None if scrub is None else scrubbed_input(scrub),
            strict=True,
        )
        allow_effects = marker.kwargs.get("allow_effects", False)
        live = LiveSteps(marker.kwargs.get("live", ()) if way is Way.REPLAY else (), self.before.results)
        compare = marker.kwargs.get("compare")
        self.engine.begin(way, compare, scrub or str, allow_effects=allow_effects, runs=live.runs)
        if way is Way.REFRESH:
            for result in self.before.results:
                self.engine.before.setdefault((result.namespace, result.keys.reuse), []).append(result.payload)
        else:
            here = changed_results(live.others, self._here)
            load_cassette(self.engine, replace(self.before, results=tuple(here)))
        self.lineage = Lineage(self.engine)
        self.saved: int | None = None
        """The number of executions that were there when the cassette was written last; None if it was not."""

    def _read(self) -> Cassette:
        """Return the cassette of the test. One that cannot be read is refreshed as if there were none."""
        try:
            if self.has_cassette:
                return read_cassette(self.path)
        except CassetteError as error:
            if self.way is not Way.REFRESH:
                raise CassetteError(f"{error} Record its test anew: {self._command(Way.REFRESH)}") from error
        return Cassette(int(time.time()), "default", ())

    def _command(self, way: Way) -> str:
        return f"pytest {shlex.quote(self.item.nodeid)} --musubito={way.value}"

    # -- after the test has passed -------------------------------------------------------------------------------------
    def finish(self) -> None:
        """Fail the test if a call was missed or deviates, even if the code under test caught that; else record it."""
        if self.engine.misses:
            pytest.fail(self.report(), pytrace=False)
        varying = ("stochastic", "live")
        wrong = [found for found in self.engine.deviations if found.step_type not in varying or self.engine.compare]
        if wrong:
            pytest.fail("\n".join(map(_deviation_text, wrong)), pytrace=False)
        self.record()

    def record(self) -> None:
        """Write the results of all calls so far to the cassette, in the modes that record."""
        if self.way not in (Way.RECORD, Way.REFRESH):
            return
        calls = self.lineage.rows("executions_of_calls")
        executions = list(dict.fromkeys(row[0] for row in calls if row[0] is not None))
        if len(executions) == self.saved:
            return
        self.saved = len(executions)
        try:
            self._write(executions)
        except CassetteError as error:
            refusal = str(error)
        else:
            return
        pytest.fail(refusal, pytrace=False)

    def _write(self, executions: list[int]) -> None:
        if self.engine.secrets:
            first, error = min(self.engine.secrets, key=itemgetter(0))
            # An input may only hand on what an earlier step returned, which is then to be named.
            check_secrets(self._results([execution for execution in executions if execution < first]))
            raise error
        if secret_at(self.item.name) is not None:
            raise CassetteError(
                "the name of the test looks like a secret, and the cassette would be called so. No cassette is "
                "written: give the parameter another name, as in pytest.param(..., id='a key')"
            )
        results = self._results(executions)
        cassette = self._cassette(results)
        if cassette.results:
            write_cassette(self.path, cassette)
        else:
            self.path.unlink(missing_ok=True)
        unanswered = unanswered_calls(self.lineage)
        if unanswered:
            raise CassetteError("\n".join(_unanswered_text(unanswered)))

    def _results(self, executions: list[int]) -> list[RecordedResult]:
        """Return the results of these executions as they are written."""
        return changed_results(recorded_results(self.lineage, executions), self._portable)

    def _cassette(self, results: list[RecordedResult]) -> Cassette:
        before = {result.identity: result for result in self.before.results}
        if self.way is Way.RECORD:
            return self.before.with_more(results)
        # An equal result is no news, even if it took longer, and threads may have called in another order.
        kept = changed_results(results, lambda result: before.get(result.identity, result))
        recorded_at = self.recorded_at
        if before.keys() == {result.identity for result in results}:
            order = {identity: at for at, identity in enumerate(before)}
            kept.sort(key=lambda result: order[result.identity])
            recorded_at = self.before.recorded_at
        return Cassette(recorded_at, self.before.namespace, tuple(kept))

    def _portable(self, result: RecordedResult) -> RecordedResult:
        """Return a result as it is written: scrubbed, and with its files relative to the root of the tests."""
        result = replace(result, reads=_moved(result, self._working_directory, self._root, NamedPaths(result).hold))
        return result if self.scrub is None else scrubbed_result(result, self.scrub)

    def _here(self, result: RecordedResult) -> RecordedResult:
        """Return a written result as it holds in this checkout and working directory."""
        return replace(result, reads=_moved(result, self._root, self._working_directory))

    # -- what is told of it --------------------------------------------------------------------------------------------
    def report(self) -> str:
        """Return why calls were not replayed, and what to do."""
        misses = {str(miss): miss for miss in self.engine.misses}
        first, *others = misses.values()
        lines = [*_miss_text(first), *(_miss_line(miss) for miss in others[:MAX_OTHERS])]
        if len(others) > MAX_OTHERS:
            lines.append(f"and {len(others) - MAX_OTHERS} other calls")
        if not self.has_cassette:
            lines.append(f"The test has no cassette {FOLDER}/{self.path.parent.name}/{self.path.name}.")
        return "\n".join([*lines, *self._remedy(misses.values())])

    def _remedy(self, misses: Collection[NotReplayed]) -> list[str]:
        """Return the command that records what is missing, with what has to be done before."""
        is_refused = any(NO_EFFECTS in miss.why for miss in misses)
        # `record` would leave the results of the code or input of before in the cassette.
        has_changed = any(miss.explanation is not None and miss.explanation.nearest_node_id for miss in misses)
        way = Way.REFRESH if has_changed or self.way is Way.REFRESH else Way.RECORD
        first = (
            "To let its effects happen, mark the test with @pytest.mark.musubito(allow_effects=True). Then record it:"
        )
        return [
            first if is_refused else "Record it again:" if has_changed else "Record it:",
            f"  {self._command(way)}",
        ]

    def outcome(self) -> dict[str, Any]:
        """Return what the session is told, as values that a worker of xdist can send."""
        total = savings(self.lineage).total
        return {
            "replayed": total.replayed,
            # A call that is missing may be in the history as one that failed, or not at all.
            "ran": max(0, total.ran - len(self.engine.misses)),
            "missing": len(self.engine.misses),
            "saved_compute_ms": total.saved_compute_ms,
            "tokens": {model: [used.input, used.output] for model, used in total.saved.tokens.items()},
            "verified": self.engine.verified,
            "unrecorded": self.engine.unrecorded,
            "deviations": [f"{self.item.nodeid}: {_deviation_text(found)}" for found in self.engine.deviations],
        }


_RECORDED: Final = pytest.StashKey[RecordedTest]()
_OUTCOME: Final = pytest.StashKey[dict[str, Any]]()


class RecordedTests:
    """The plugin of a session in which marked tests are recorded, replayed or verified."""

    def __init__(self, config: pytest.Config, mode: str) -> None:
        self.config = config
        self.way = Way(mode)
        self.modules: set[Path] = set()
        self.packages: set[Path] = set()
        self.collected: set[Path] = set()
        """The modules of the collected tests. pytest also makes modules of files beside these, and drops them."""
        self.used: dict[Path, set[Path]] = {}
        self.counts: Counter[str] = Counter()
        self.cost = Cost()
        self.deviations: list[str] = []
        self.unrecorded: Counter[str] = Counter()
        name_modules(self._name_of)
        count_paths_from(str(config.rootpath))
        if config.known_args_namespace.assertmode == "rewrite":
            # The functions of a module are found in its text if their assertions are rewritten as pytest does it.
            rewrite_modules(lambda tree, text, file: rewrite_asserts(tree, text.encode(), file, config))

    # -- names of test modules -----------------------------------------------------------------------------------------
    def pytest_pycollect_makemodule(self, module_path: Path) -> None:
        """Note a test module before it is imported."""
        self.modules.add(module_path)
        if (module_path.parent / "__init__.py").is_file():
            self.packages.add(module_path.parent)

    def _name_of(self, module: ModuleType) -> str:
        """Return the name under which the things in a module count.

        For test modules it is the name from their outermost package on, whatever the import mode and the root are.
        """
        file = getattr(module, "__file__", None)
        if not isinstance(file, str):
            return module.__name__
        path = Path(file)
        if path.name != "conftest.py" and path not in self.modules and path.parent not in self.packages:
            return module.__name__
        parts = [] if path.name == "__init__.py" else [path.stem]
        folder = path.parent
        while (folder / "__init__.py").is_file():
            parts.insert(0, folder.name)
            folder = folder.parent
        return ".".join(parts) or module.__name__

    def pytest_unconfigure(self) -> None:
        """Let modules and paths count as they do elsewhere again."""
        name_modules(None)
        count_paths_from(None)
        rewrite_modules(None)

    # -- one test ------------------------------------------------------------------------------------------------------
    def engine_of(self, request: pytest.FixtureRequest, folder: Path) -> Iterator[CassetteEngine]:
        """Yield the engine of a marked test, which is in use until the test ends."""
        item = request.node
        test = item.stash[_RECORDED] = RecordedTest(item, self.way, folder, request.getfixturevalue("musubito_scrub"))
        with test.engine:
            make_off(self.way.mode)
            try:
                with engine_in_mode(test.engine, self.way.mode):
                    yield test.engine
            finally:
                make_off(OFF)
            if test.saved is not None:
                test.record()  # what other fixtures called at their end
            item.stash[_OUTCOME] = test.outcome()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Record a test that has passed. Of a call that was not replayed, show the user's code alone."""
        try:
            yield
        except NotReplayed as miss:
            raise shortened(miss)  # noqa: B904 - it is the same error
        test = item.stash.get(_RECORDED, None)
        if test is not None:
            test.finish()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """Add to the report of a test which calls were not replayed; hand on what became of its steps."""
        report = yield
        test = item.stash.get(_RECORDED, None)
        if (
            test is not None
            and report.failed
            and call.excinfo is not None
            and not isinstance(call.excinfo.value, pytest.fail.Exception)
        ):
            if test.engine.misses:
                report.sections.append(("musubito", test.report()))
            elif call.when == "call" and self.way in (Way.RECORD, Way.REFRESH):
                report.sections.append(("musubito", "Nothing was recorded, since the test failed."))
        if call.when == "teardown" and _OUTCOME in item.stash:
            report.musubito = item.stash[_OUTCOME]
        return report

    # -- the session ---------------------------------------------------------------------------------------------------
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note which cassettes the collected tests use, before any test is deselected."""
        if any("::" in argument for argument in self.config.args):
            return  # other tests of these modules were not collected
        for item in items:
            self.collected.add(item.path)
            used = self.used.setdefault(item.path.parent / FOLDER, set())
            if item.get_closest_marker("musubito") is not None:
                used.add(path_of(item))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send the used cassettes from a worker of xdist to its controller."""
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output["musubito"] = {str(folder): [*map(str, used)] for folder, used in self.used.items()}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the used cassettes from a worker."""
        for folder, used in getattr(node, "workeroutput", {}).get("musubito", {}).items():
            self.used.setdefault(Path(folder), set()).update(map(Path, used))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add what became of the steps of one test."""
        outcome = getattr(report, "musubito", None)
        if outcome is None:
            return
        for name in ("replayed", "ran", "missing", "verified"):
            self.counts[name] += outcome[name]
        tokens = {model: Tokens(*used) for model, used in outcome["tokens"].items()}
        self.cost += Cost(outcome["saved_compute_ms"], tokens)
        self.deviations += outcome["deviations"]
        self.unrecorded.update(outcome["unrecorded"])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was replayed and saved, and what deserves a look."""
        write = terminalreporter.write_line
        unrecorded = [f"{name}, {times(number, 'call')}" for name, number in self.unrecorded.items()]
        for title, lines in (
            ("Answers that differ from the recording", self.deviations),
            ("Steps without a recorded answer", unrecorded),
            ("Files of cassettes that no test uses", [*map(str, self._unused())]),
        ):
            if lines:
                write(f"musubito: {title}:")
                for line in "\n".join(lines[:MAX_NAMED]).splitlines():
                    write(f"  {line}")
                if len(lines) > MAX_NAMED:
                    write(f"  and {len(lines) - MAX_NAMED} more")
        write(f"musubito: {self._summary()}")

    def _summary(self) -> str:
        if self.way is Way.VERIFY:
            return f"{self.counts['verified']:,} verified"
        parts = [f"{self.counts['replayed']:,} replayed", f"{self.counts['ran']:,} ran"]
        if self.counts["missing"]:
            parts.append(f"{self.counts['missing']:,} missing")
        saved = []
        if self.cost.total_tokens:
            price = worth(self.cost)
            saved.append(f"{self.cost.total_tokens:,} tokens" + (f" ({price})" if price.startswith(("$", "<")) else ""))
        if self.cost.compute_ms >= 1:
            saved.append(duration(self.cost.compute_ms))
        return ", ".join(parts) + (f", {' and '.join(saved)} saved" if saved else "")

    def _unused(self) -> Iterator[Path]:
        for folder, used in sorted(self.used.items()):
            modules = {path.parent for path in used}
            modules |= {folder / path.stem for path in self.collected if path.parent == folder.parent}
            for path in unused_files(folder, used):
                # A module that was not collected may use its cassettes.
                if path.parent in modules or not (folder.parent / f"{path.parent.name}.py").is_file():
                    yield path


def path_of(item: pytest.Item) -> Path:
    """Return the path of a test's cassette."""
    name, bracket, parameters = item.nodeid.partition("[")
    return cassette_path(item.path, ".".join(name.split("::")[1:]) + bracket + parameters)


def _moved(
    result: RecordedResult, start: Path, end: Path, stays: Callable[[str], bool] = os.path.isabs
) -> tuple[ExternalRead, ...]:
    """Return reads of files that are relative to one folder as they are relative to another one, if they lie below.

    An absolute path for which `stays` is true is left as it is.
    """
    reads = []
    for read in result.reads:
        path = start / read.key
        if read.kind in AT and not (Path(read.key).is_absolute() and stays(read.key)):
            key = os.path.relpath(path, end) if path.is_relative_to(end) else os.fspath(path)
            reads.append(read._replace(key=key))
        else:
            reads.append(read)
    return tuple(reads)


def _miss_line(miss: NotReplayed) -> str:
    return f"{miss.operation} was not replayed: {miss.why}"


def _miss_text(miss: NotReplayed) -> Iterator[str]:
    """Yield the lines that say what kept a call from being replayed: few, so that one sees them all."""
    yield _miss_line(miss)
    explanation = miss.explanation
    if explanation is None:
        return
    lines = [line for diff in explanation.diffs for line in diff.splitlines()]
    before = [line for line in lines if line.startswith("-") and not line.startswith("--- ")]
    after = [line for line in lines if line.startswith("+") and not line.startswith("+++ ")]
    few = MAX_LINES // 2
    shown = [*explanation.fields, *before[:few], *after[:few]][:MAX_LINES]
    yield from (f"  {line}" for line in shown)
    more = len(explanation.fields) + len(before) + len(after) - len(shown)
    if more:
        yield f"  … {more:,} lines more"
    if explanation.remedy:
        yield f"  {explanation.remedy}"


def _unanswered_text(calls: Mapping[str, NeverReplayed]) -> Iterator[str]:
    """Yield the lines that say which calls keep a test from being replayed, and what to do."""
    yield "The test cannot be replayed, since nothing is recorded of what it calls:"
    for operation, never in list(calls.items())[:MAX_FIELDS]:
        yield f"  {operation}: {never.says}"
        yield f"    {RETURN_IT if never.reason is ReplayReason.FAILED else never.remedy}"


def _deviation_text(deviation: Deviation) -> str:
    fields = "\n".join(f"  {field}" for field in deviation.fields[:MAX_FIELDS])
    return f"{deviation.operation} ({deviation.step_type}): answer differs from the recording:\n{fields}"
