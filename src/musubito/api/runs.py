"""Runs: which calls were replayed, which ran, and why."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from musubito.deferred import NOTEBOOK
from musubito.engine.commit import stops_call
from musubito.engine.engine import MusubitoEngine
from musubito.engine.engine_in_use import current_engine, engine_without_store, recording_engine
from musubito.engine.frame import Run
from musubito.engine.mode_in_use import Setting, current_mode, for_threads
from musubito.engine.modes import Mode, mode_named
from musubito.engine.scope import SCOPE, Scope, in_scope
from musubito.errors import MusubitoError
from musubito.model import ReplayReason
from musubito.store.rows import CallLine

NOT_FOUND: Final = ReplayReason.NODE_NOT_FOUND.name
MAX_TOKENS: Final = 10**12
"""Tokens that one call of `record_usage` may report. More are a mistake."""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call of a run.

    `outcome` is "replayed", "ran", "failed", "suspended" (a framework's control flow passed through) or "cancelled".
    `at` is the end of the call, in seconds since the epoch. `wall_ms` is the time that the call took now, for an async
    body with all that it awaited. `compute_ms` is the part of it that no call inside took; 0 for a replay.
    `saved_compute_ms` is the compute of the replayed execution with all calls inside it. `tokens` were used by the call
    itself. `saved_tokens` were used by the replayed execution, with all calls inside it.

    >>> from musubito import musubito_step, run
    >>> @musubito_step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> with run() as record:
    ...     results = [double(4), double(4)]
    >>> [(call.outcome, call.reason.word) for call in record.calls]
    [('ran', 'new'), ('replayed', 'same')]
    """

    operation: str
    outcome: str
    reason: ReplayReason
    node_id: str
    at: float
    wall_ms: float
    compute_ms: float
    saved_compute_ms: float
    saved_tokens: int
    tokens: int


class RunRecord:
    """The value of `with run() as r`: the id of the run, and its calls so far.

    >>> from musubito import musubito_step, run
    >>> @musubito_step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> with run("nightly") as record:
    ...     result = double(5)
    >>> record
    <RunRecord nightly: finished, 1 calls>
    """

    def __init__(self, engine: MusubitoEngine, run: Run) -> None:
        self._engine = engine
        self._run = run

    def __repr__(self) -> str:
        return f"<RunRecord {self.name or self.run_id}: {self._run.status}, {len(self._run.lines or ())} calls>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the outcomes, and the calls so far as a folded tree."""
        html: str = NOTEBOOK.html_of_run(self._engine, self.run_id)
        return html

    @property
    def run_id(self) -> str:
        """The id of the run in the history."""
        return self._engine.journal.run_id(self._run).hex()

    @property
    def name(self) -> str | None:
        """The name of the run; None without one."""
        return self._run.name

    @property
    def calls(self) -> list[CallRecord]:
        """The calls that have ended, in the order of their ends. A reason compares with executions before this run."""
        from musubito.engine.explain import why_missing  # noqa: PLC0415 - for those alone who ask

        lines = list(self._run.lines or ())
        missing: defaultdict[str, set[bytes]] = defaultdict(set)
        for line in lines:
            if line.reason == NOT_FOUND:
                missing[line.operation].add(line.node)
        reasons: dict[bytes, ReplayReason] = {}
        for operation, nodes in missing.items():
            reasons |= why_missing(self._engine, operation, nodes, self._run.started_at)
        return [_record(line, reasons.get(line.node) if line.reason == NOT_FOUND else None) for line in lines]


def _record(line: CallLine, missing: ReplayReason | None) -> CallRecord:
    was_replayed = line.outcome == "replayed"
    return CallRecord(
        line.operation,
        line.outcome,
        missing or ReplayReason[line.reason],
        line.node.hex(),
        line.at,
        line.duration_ms,
        0.0 if was_replayed else line.compute_ms,
        line.compute_ms if was_replayed else 0.0,
        line.saved_tokens,
        line.tokens,
    )


@contextmanager
def run(
    name: str | None = None, *, tags: Mapping[str, Any] | None = None, mode: str | None = None
) -> Iterator[RunRecord]:
    """Group the calls inside into one run.

    Within a run each sample of a STOCHASTIC step is given at most once. A run inside another run is a part of it, and
    shares its samples. `tags` is a mapping of plain JSON data.

    `mode` says how the calls inside are made, the calls of steps inside of steps included:

    - "replay", which holds without any mode: replay results where that is safe, run and record the rest.
    - "refresh": run every step and record it anew. An effect that was done is not repeated.
    - "replay_only": replay, or raise `NotReplayed`, which says what differs from the nearest earlier call. Nothing
      runs.
    - "off": run every function without Musubito, effects too. Nothing is looked up or stored. A step still
      returns a `MusubitoResult`, and no calls are listed.

    A mode can be set by a graph's config (`{"configurable": {"musubito": {"mode": ...}}}`), by `run(mode=...)` and by
    `use_musubito_engine(None)` (off). The innermost of these counts. Without any, the environment variable
    `MUSUBITO_MODE` counts. Threads that inherit no context take the mode that was set last.

    Raise TypeError for a name that is no text and for tags that are no mapping. Raise `MusubitoError` for tags that are
    no JSON, and ValueError for any other mode.

    >>> from musubito import musubito_step, run
    >>> @musubito_step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> with run("nightly", tags={"team": "search"}) as record:
    ...     results = [double(x) for x in range(3)]
    >>> len(record.calls)
    3
    """
    own_mode = None if mode is None else mode_named(mode, "the mode of a run")
    if name is not None and not isinstance(name, str):
        raise TypeError(f'the name of a run is a text, such as run("nightly"), not {name!r}')
    if tags is not None and not isinstance(tags, Mapping):
        raise TypeError(f"the tags of a run are a mapping, such as {{'team': 'a'}}, not {tags!r}")
    try:
        tagged = json.dumps(dict(tags)) if tags is not None else None
    except (TypeError, ValueError) as error:
        raise MusubitoError(f"the tags of a run must be plain JSON data: {error}") from error
    scope, in_mode = SCOPE.get(), own_mode or current_mode()
    if in_mode is Mode.OFF:
        with _unrecorded(name, tagged, own_mode) as record:
            yield record
        return
    engine = current_engine() if own_mode is None else recording_engine()
    outer = scope.run if scope.engine is engine else None
    frame = scope.frame
    within: tuple[bytes, int | None] | None = None
    if outer is None:
        within = engine._part_of(frame)
    elif outer.owner == engine.owner:
        within = outer.run_id, frame.call if frame is not None and frame.run is outer else None
    this = engine._new_run(name, tagged, within)
    this.lines = []
    if outer is not None:
        this.samples = outer.samples
    # Nothing runs in a run that is replay-only, so it begins no namespace.
    this.only_asks = in_mode is Mode.REPLAY_ONLY
    if not this.only_asks:
        engine.journal.append(this)
        engine.keeper.wake()
    token = SCOPE.set(Scope(engine, this, scope.frame, scope.parents, scope.ambient, own_mode or scope.mode))
    engine.open.enter(this)
    try:
        with nullcontext() if own_mode is None else for_threads(Setting(None, own_mode)):
            yield RunRecord(engine, this)
    except BaseException as error:
        # A run that is left by `sys.exit` did not come to its end: it failed.
        stopped = stops_call(error) and not isinstance(error, SystemExit)
        this.status = "cancelled" if stopped else "failed"
        raise
    else:
        this.status = "finished"
    finally:
        SCOPE.reset(token)
        engine.open.leave(this)
        engine._end_run(this)


@contextmanager
def _unrecorded(name: str | None, tags: str | None, own_mode: Mode | None) -> Iterator[RunRecord]:
    """Make a run of which nothing is written. Whether there is a store does not matter."""
    engine, scope = engine_without_store(), SCOPE.get()
    this = engine._new_run(name, tags)
    for_others = nullcontext() if own_mode is None else for_threads(Setting(None, own_mode))
    with in_scope(scope if own_mode is None else scope._replace(mode=own_mode)), for_others:
        yield RunRecord(engine, this)


def record_usage(
    *,
    input_tokens: int,
    output_tokens: int,
    model: str = "",
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
) -> None:
    """Record the tokens that a model used, inside the step that called the model. Several calls add up.

    `input_tokens` are all tokens that went in. `cache_read_tokens` are those of them that the server read from its
    cache, and `cache_write_tokens` those that it wrote to it. Both have prices of their own. OpenAI counts the former
    as `cached_tokens`. Anthropic's own `input_tokens` leave both out, so add them.

    Raise `MusubitoError` outside a step, TypeError or ValueError for values that are no numbers of tokens.

    >>> from musubito import musubito_step, record_usage, run
    >>> @musubito_step
    ... def ask(question: str) -> str:
    ...     record_usage(input_tokens=120, output_tokens=30)
    ...     return "an answer"
    >>> with run() as record:
    ...     answer = ask("What is a knot?")
    >>> record.calls[0].tokens
    150
    """
    for tokens in (input_tokens, output_tokens, cache_read_tokens, cache_write_tokens):
        if type(tokens) is not int:
            raise TypeError(f"numbers of tokens are integers, not {tokens!r}")
        if not 0 <= tokens <= MAX_TOKENS:
            raise ValueError(f"numbers of tokens are not negative, nor above {MAX_TOKENS:,}: {tokens!r}")
    if cache_read_tokens + cache_write_tokens > input_tokens:
        raise ValueError(
            f"cached tokens are a part of input_tokens, and {cache_read_tokens} + {cache_write_tokens} are more than "
            f"{input_tokens}: add them to input_tokens if the server counts them apart"
        )
    if not isinstance(model, str):
        raise TypeError(f"the name of a model is a text, not {model!r}")
    frame = SCOPE.get().frame
    if frame is None:
        if current_mode() is Mode.OFF:
            return  # the caller may be inside a step, which runs as if it were none
        raise MusubitoError("record_usage is called inside a step")
    frame.uses_tokens(model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens)
