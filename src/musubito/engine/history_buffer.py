"""Buffer the lines of the history: a replay appends one tuple, and a background thread writes the lines twice a second.

A crash may lose the last lines, never a node.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TypeAlias

from musubito.engine.frame import Run
from musubito.engine.recorded_inputs import CallInputs, FileText, Redact
from musubito.engine.run_input import GivenToRun
from musubito.errors import LOGGER
from musubito.payloads.codec import Contents
from musubito.payloads.encrypted_tags import sealed_tags
from musubito.store.rows import CallLine, InputLine, Ledger, RunLine, TraceLine
from musubito.values.display import without_secrets
from musubito.values.redaction import scrubbed

Entry: TypeAlias = "CallLine | CallInputs | FileText | TraceLine | Run"


class HistoryBuffer:
    """The lines of one engine's history that are not written yet."""

    def __init__(
        self,
        owner: bytes,
        contents: Contents,
        redact: Redact | None = None,
        process: tuple[str, int, str] = ("", 0, ""),
    ) -> None:
        """Buffer lines for `owner`.

        `redact`: see `MusubitoEngine`; `process`: host, pid and process as in `LeaseOwner`.
        """
        self._owner = owner
        self._process = process
        self._contents = contents
        self._redact = redact
        self._entries: deque[Entry] = deque()
        self.append = self._entries.append

    def run_id(self, run: Run) -> bytes:
        """Return the id under which a run's lines are written here.

        In a process that was forked inside the run, the id differs from the run's own.
        """
        return self._owner + run.number.to_bytes(5, "big")

    def __len__(self) -> int:
        return len(self._entries)

    def drain(self) -> Ledger:
        """Take all buffered lines out and return them. The caller writes them."""
        runs: dict[bytes, RunLine] = {}
        calls: list[CallLine] = []
        inputs: list[InputLine] = []
        traces: list[TraceLine] = []
        for _ in range(len(self._entries)):
            entry = self._entries.popleft()
            if isinstance(entry, CallLine):
                # Not converted: there is one for each replay, and this thread competes with the next one.
                calls.append(entry)
            elif isinstance(entry, CallInputs | FileText):
                line = self.input_line(entry)
                inputs += () if line is None else (line,)
            elif isinstance(entry, TraceLine):
                traces.append(entry)
            else:
                run_id = self.run_id(entry)
                given, entry.given = entry.given, None
                line = given and self.input_line(given)
                inputs += () if line is None else (line._replace(run=run_id),)
                before = runs.get(run_id)
                digest = line.input_hash if line is not None else before and before.input
                runs[run_id] = self._line(run_id, entry)._replace(input=digest)
        return Ledger(self._contents.namespace, list(runs.values()), calls, inputs, tuple(traces))

    def _line(self, run_id: bytes, run: Run) -> RunLine:
        parent, call = run.within or (None, None)
        name = run.name and scrubbed(run.name)
        tags = run.tags and sealed_tags(self._contents, json.dumps(without_secrets(json.loads(run.tags))))
        state = run_id, name, tags, run.started_at, run.finished_at, run.status
        return RunLine(*state, parent, call, *self._process, shape=run.shape)

    def input_line(self, inputs: CallInputs | FileText | GivenToRun) -> InputLine | None:
        """Return an input as it is stored; None if the redaction or the encoding fails."""
        try:
            return inputs.line(self._redact, self._contents)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a redaction raises, the thread that writes goes on
            LOGGER.warning("the input of %s is not stored: %s: %s", inputs.operation, type(error).__qualname__, error)
            return None
