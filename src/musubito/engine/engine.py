"""Run steps against one store and one namespace, with the parts that one process needs for that."""

from __future__ import annotations

import itertools
import json
import os
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib import import_module
from types import FunctionType
from typing import Any, Final, Literal, Self, TypeVar

from musubito.code.sent_code import sent
from musubito.code.tracker import CodeTracker
from musubito.deferred import asyncio, running_loop
from musubito.dependencies.stored_reads import Reads
from musubito.engine.call import CallProtocol
from musubito.engine.call_identity import Call
from musubito.engine.clock import as_seconds
from musubito.engine.code_version import CodeVersion
from musubito.engine.drivers import drive, drive_async
from musubito.engine.effects import CallKinds, EffectCall
from musubito.engine.explanation import Explanation
from musubito.engine.failure_log import FaultLog
from musubito.engine.frame import BodyHost, Frame, Run
from musubito.engine.history_buffer import HistoryBuffer
from musubito.engine.keep import keep_of
from musubito.engine.keyed_digests import Keyed
from musubito.engine.maintenance import LEASE_SECONDS, MaintenanceThread
from musubito.engine.mode_in_use import current_mode
from musubito.engine.modes import OFF, REFRESH, REPLAY, Mode
from musubito.engine.notices import say_unrecorded
from musubito.engine.observer import Observer
from musubito.engine.open_engines import ENGINES
from musubito.engine.process_identity import this_host, this_process
from musubito.engine.recorded_inputs import Redact
from musubito.engine.run_input import given_to_run
from musubito.engine.scope import SCOPE, OpenScopes, Scope
from musubito.engine.single_flight import SingleFlight
from musubito.engine.step_identities import StepIdentities
from musubito.engine.switches import is_on
from musubito.engine.unrecorded import run_unrecorded, run_unrecorded_async
from musubito.engine.watched_loop import loop_is_watched
from musubito.engine.write_batcher import Writer
from musubito.errors import StoreError
from musubito.model import MusubitoResult, StepConfiguration, StepDefinition, StepType, check_inputs, check_name
from musubito.payloads.blobs import BlobStore, FolderBlobs
from musubito.payloads.codec import Contents
from musubito.payloads.key_derivation import KeySource, key_for
from musubito.reasons import ReplayReason
from musubito.store.changes import Invalidate
from musubito.store.protocol import Store, SupportsFetchOrClaim
from musubito.store.queries import KeyCheckOf
from musubito.store.rows import ExternalRead, LeaseOwner
from musubito.store.urls import open_store
from musubito.values.class_names import script_name

RUNS: Final = (CallProtocol, EffectCall)
"""The classes that make a call which may run: of a step, and of an effect."""

MAX_NAMESPACE: Final = 500
"""Characters of the longest namespace name. A name is a key of an index, which has little room in some databases."""
MAX_READS: Final = 4096
"""Executions whose reads are kept in memory at most."""

T = TypeVar("T")


class MusubitoEngine:
    """Run steps against a store, in one namespace. Results are shared within a namespace and never beyond.

    - `storage`: the store, such as `SQLiteStorage(path)`. `from_url` opens a store by its URL.
    - `namespace`: the name of the namespace, of at most 500 characters.
    - `now_provider`: a function that returns the time for ages and times to live, as seconds since the epoch or as an
      aware datetime. By default it is this machine's clock, or the server's on PostgreSQL. Leases use the real clock.
    - `strict`: raise a fault of the store, as MUSUBITO_STRICT=1 tells every engine. Otherwise the step runs unrecorded.
      The fault is then counted in `faults`, and logged once to the logger `musubito`.
    - `redact`: a function that changes what is stored of inputs, as described below.
    - `blobs`: the store of large outputs. By default it is a folder beside a SQLite database.
    - `key`: 32 bytes, or several such parts after the key was changed (`musubito rekey`). All stored data is then
      encrypted, and every digest is keyed. Once the key is thrown away, nothing can be read or guessed. `key` may also
      be a mapping of namespaces, or a callable that takes a namespace. Both give the namespace's key, or None. The key
      is kept in memory alone.
    - `telemetry`: report spans and metrics to OpenTelemetry, as MUSUBITO_OTEL=1 tells every engine.
    - `track_files`: make files and folders that a step reads dependencies of its result, so that the step runs again
      if one changes. Without it, or with MUSUBITO_TRACK_FILES=0 (false, no, off) in the environment, no file counts.

    - `keep`: the age, the size, or both, beyond which the engine prunes the store in the background, in all namespaces:
      "30d", "2GB" or "30d,2GB". By default it is MUSUBITO_KEEP, or everything is kept.

    `redact(operation, arguments)` is called with the arguments of a call that ran, as plain data. Plain data are dicts,
    lists, texts and numbers. A value of another type is a dict with its type's name under "$type". `redact` returns, as
    plain data, the arguments that are stored for readers. It is never applied to the data that identifies a call. If it
    raises, nothing is stored, and the error is logged. Outputs and the texts of errors are stored without it. The texts
    of small files that a step reads are kept for `why`. Each passes through `redact` as a dict with the keys
    "file", for the path, and "text".

    Close the engine by `close`, or use it in a `with` statement. Raise TypeError or ValueError for an argument that an
    engine cannot have. If the namespace has another key, the first call raises `WrongKey`. If a mapping of keys does
    not name the namespace, `WrongKey` is raised at once.

    >>> from musubito import MusubitoEngine, musubito_step, use_musubito_engine
    >>> @musubito_step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> with MusubitoEngine.from_url("sqlite:///results.db", namespace="tests", keep="30d") as engine:
    ...     with use_musubito_engine(engine):
    ...         double(8).value
    16
    """

    _answers_in_order = False
    _stands_for_others = False
    """Whether this engine, while it is in use, records what graphs record by an engine of their own."""

    def __init__(
        self,
        storage: Store,
        *,
        namespace: str = "default",
        now_provider: Callable[[], float | datetime] | None = None,
        strict: bool = False,
        redact: Redact | None = None,
        blobs: BlobStore | None = None,
        key: KeySource | None = None,
        track_files: bool = True,
        keep: str | None = None,
        telemetry: bool = False,
    ) -> None:
        if not callable(getattr(storage, "newest", None)):
            raise TypeError(f"MusubitoEngine takes a store, such as SQLiteStorage(path), not {storage!r}")
        if blobs is not None and not isinstance(blobs, BlobStore):
            raise TypeError(
                "blobs takes FolderBlobs(path), ObjectBlobs(a store of obstore) or a store of blobs of your own, not a "
                f"{type(blobs).__name__}"
            )
        check_name("namespace", namespace)
        if len(namespace) > MAX_NAMESPACE:
            raise ValueError(f"namespace has {len(namespace)} characters, and {MAX_NAMESPACE} at most are kept")
        self.storage = storage
        self.namespace = namespace
        self.strict = strict or is_on("MUSUBITO_STRICT", default=False)
        self.redact = redact
        if not isinstance(track_files, bool):
            raise TypeError(f"track_files must be True or False, not {track_files!r}")
        if not isinstance(telemetry, bool):
            raise TypeError(f"telemetry must be True or False, not {telemetry!r}")
        self._telemetry = telemetry
        self.observer: Observer | None = None
        if telemetry or is_on("MUSUBITO_OTEL", default=False):
            self.observer = import_module("musubito.engine.telemetry").Telemetry()
        self._track_files = track_files
        self._keep_option = keep
        self.keep = keep_of(keep)
        self.track_files = track_files and is_on("MUSUBITO_TRACK_FILES", default=True)
        self.reads_of: dict[tuple[int, float], Reads] = {}
        """The reads of an execution, by its number and the time when it began (see `_keep_reads`)."""
        self.texts_kept: set[tuple[str, bytes]] = set()
        """The files whose texts are stored, by operation and digest."""
        self._has_own_clock = now_provider not in (None, time.time)
        self.now: Callable[[], float] = (
            getattr(storage, "now", time.time) if now_provider in (None, time.time) else as_seconds(now_provider)
        )
        self._blobs = blobs
        folder = getattr(storage, "blob_folder", None)
        # The key is inside a function and no attribute, so that nothing which shows an engine's attributes shows the
        # key.
        self._key_for: Callable[[str], bytes | None] = lambda other: key_for(key, other)
        self._named_key: KeySource | Literal[False] | None = key if key is None or _is_named(key) else False
        blob_store = FolderBlobs(folder) if blobs is None and folder is not None else blobs
        self._hold(Contents(namespace, blob_store, self._key_for(namespace)))
        self.url: str | None = None
        self._is_shared = False
        self.reads_in_place: bool = getattr(storage, "reads_in_place", False)
        self.claims_in_place: bool = getattr(storage, "claims_in_place", False)
        self.distant: SupportsFetchOrClaim | None = storage if isinstance(storage, SupportsFetchOrClaim) else None
        self.faults = 0
        self.states_known: dict[tuple[str, bytes], frozenset[str]] = {}
        """What each operation changes itself, by its name and the digest of its functions."""
        self.warned: set[str] = set()
        """The names of steps whose replays were warned of (see `engine.connections`)."""
        self.fault_log = FaultLog()
        self._trackers: weakref.WeakKeyDictionary[Callable[..., Any], CodeTracker] = weakref.WeakKeyDictionary()
        self._namesakes: dict[str, MusubitoEngine] = {}
        self._closed = False
        # A process that is forked inside a run counts on from here: the number of that run is taken there too.
        self._run_numbers = itertools.count(1)
        self._begin_process()
        ENGINES.add(self)

    def _hold(self, contents: Contents) -> None:
        """Use this payload codec for the namespace."""
        self.contents = contents
        self.keyed = None if contents.keys is None else Keyed(contents.keys)
        self.steps = StepIdentities(self.namespace, self.keyed)

    def _digest_of_read(self, digest: Any) -> Any:
        """Return the digest of a read as it is stored."""
        return digest if self.keyed is None or type(digest) is not bytes else self.keyed.read(digest)

    def _keep_reads(self, execution: int, started_at: float, reads: Sequence[ExternalRead]) -> Sequence[ExternalRead]:
        """Keep the reads of an execution for the next replay. Executions never change."""
        if len(self.reads_of) >= MAX_READS:
            self.reads_of.clear()
        kept = self.reads_of[execution, started_at] = Reads(reads)
        return kept

    def _keep_text(self, operation: str, read: ExternalRead) -> Any:
        """Note that the text of this file is stored, and return the digest under which it is stored."""
        if len(self.texts_kept) >= MAX_READS:
            self.texts_kept.clear()
        assert read.digest is not None  # noqa: S101 - an absent file has no text
        self.texts_kept.add((operation, read.digest))
        return self._digest_of_read(read.digest)

    def _begin_process(self) -> None:
        """Create the state that belongs to this process alone. After a fork, the child creates its own."""
        self.owner = int(time.time() * 1000).to_bytes(6, "big") + os.urandom(6)
        self.flights = SingleFlight()
        self.open = OpenScopes()
        self._process = this_process()
        process = this_host(), os.getpid(), self._process
        self.journal = HistoryBuffer(self.owner, self.contents, self.redact, process)
        self.keeper = MaintenanceThread(self)
        self.writer = Writer(self.storage)
        if self.observer is not None:
            self.observer.begin_process()
        # Created now, and not at the first claim: reading the host's files would trip a check for blocking calls in an
        # event loop.
        self._holder = LeaseOwner(self.owner, this_host(), 0, "", 0.0)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> MusubitoEngine:
        """Return an engine on the store that the URL names.

        Examples are `sqlite:///relative/path`, `sqlite:////absolute/path` and
        `postgresql://user:password@host/database`. `options` are the other arguments of `MusubitoEngine`.

        The engine can be pickled, URL included, and reconnects where it is unpickled. All engines that are unpickled
        from it in one process are one engine, which ends with the process. Raises `StoreError` for any other URL.
        """
        engine = cls(open_store(url), **options)
        # The URL holds the absolute path, so that it names the same file wherever the engine is unpickled.
        path = getattr(engine.storage, "db_path", None)
        engine.url = url if path is None else f"sqlite:///{path}"
        return engine

    def in_namespace(self, namespace: str) -> MusubitoEngine:
        """Return the engine of another namespace on the same store.

        It is always the same engine, and it ends with this one.
        """
        if namespace == self.namespace:
            return self
        engine = self._namesakes.get(namespace)
        if engine is None:
            new = type(self)(
                self.storage,
                namespace=namespace,
                now_provider=self.now if self._has_own_clock else None,
                strict=self.strict,
                redact=self.redact,
                blobs=self._blobs,
                key=self._key_for if self._named_key is False else self._named_key,
                track_files=self._track_files,
            )
            new.keep = None  # this engine prunes all namespaces
            new._telemetry, new.observer = self._telemetry, self.observer
            new.url, new._is_shared, new.fault_log = self.url, self._is_shared, self.fault_log
            # All share one dict, so that each of them finds the others.
            self._namesakes.setdefault(self.namespace, self)
            new._namesakes = self._namesakes
            engine = self._namesakes.setdefault(namespace, new)
        return engine

    def __reduce__(self) -> tuple[Any, ...]:
        from musubito.engine.pickling import EngineSpec, reopened  # noqa: PLC0415 - few engines are pickled

        if self.url is None:
            raise TypeError("only an engine made by MusubitoEngine.from_url can be pickled")
        if self._has_own_clock:
            raise TypeError("an engine with a now_provider of its own cannot be pickled")
        if self._named_key is False:
            raise TypeError("an engine with a key can be pickled only if the key is given by a function of a module")
        options = EngineSpec(
            self.strict,
            self.redact,
            self._blobs,
            self._named_key,
            self._track_files,
            self._keep_option,
            self._telemetry,
            self.owner,
        )
        return reopened, (type(self), self.url, self.namespace, options, script_name(), sent())

    def __repr__(self) -> str:
        return f"MusubitoEngine({self.storage!r}, namespace={self.namespace!r})"

    # -- running -------------------------------------------------------------------------------------------------------
    def execute(
        self,
        operation_name: str,
        inputs: Mapping[str, object],
        func: Callable[..., T],
        semantics: StepConfiguration | None = None,
        *,
        operation_version: str | Callable[[], str | int] | None = None,
    ) -> MusubitoResult[T]:
        """Call `func(**inputs)`, or replay an earlier result, as `musubito_step` does for a decorated function.

        `operation_name` is the name under which results are stored, and `semantics` the policy of the step. Raise
        `InputError` if an argument cannot be identified, and the errors of `func`.
        """
        mode = current_mode()
        if mode is OFF:
            return run_unrecorded(operation_name, partial(func, **inputs))
        call = self._call(operation_name, inputs, func, semantics, operation_version)
        return self._perform(call, mode)

    async def execute_async(
        self,
        operation_name: str,
        inputs: Mapping[str, object],
        func: Callable[..., Awaitable[T]],
        semantics: StepConfiguration | None = None,
        *,
        operation_version: str | Callable[[], str | int] | None = None,
    ) -> MusubitoResult[T]:
        """Await `func(**inputs)`, or replay an earlier result. See `execute`."""
        mode = current_mode()
        if mode is OFF:
            return await run_unrecorded_async(operation_name, partial(func, **inputs))
        call = self._call(operation_name, inputs, func, semantics, operation_version)
        return await self._perform_async(call, mode)

    def _perform(self, call: Call, mode: Mode) -> MusubitoResult[Any]:
        """Make one call of a sync step."""
        return drive(self._protocol(call, mode).run(), self)

    async def _perform_async(self, call: Call, mode: Mode) -> MusubitoResult[Any]:
        """Make one call of an async step.

        Writes and waits are those of asyncio's loop. In another loop, such as trio's, the step runs unrecorded, and an
        effect fails before it runs.
        """
        semantics = call.definition.semantics
        if running_loop() is None and mode in (REPLAY, REFRESH) and semantics.step_type is not StepType.EXTERNAL_EFFECT:
            say_unrecorded(call.definition.name, "it is awaited in another event loop than asyncio's", {})
            return await run_unrecorded_async(call.definition.name, call.function)
        protocol = (
            await asyncio.to_thread(self._protocol, call, mode) if loop_is_watched() else self._protocol(call, mode)
        )
        return await drive_async(protocol.run(), self)

    def _protocol(
        self, call: Call, mode: Mode = REPLAY, scope: Scope | None = None, kinds: CallKinds | None = None
    ) -> CallProtocol:
        """Return the protocol of a call, in the given scope or in the current one.

        `kinds` holds the classes for a step and for an effect; by default, the mode decides.
        """
        scope = scope or SCOPE.get()
        if scope.engine is not self:
            scope = Scope(self, None, scope.frame, scope.parents, scope.ambient, scope.mode)
        effect = call.definition.semantics.step_type is StepType.EXTERNAL_EFFECT
        if mode is REFRESH and not effect:
            call = call._replace(forced_by=ReplayReason.FORCE_REEXECUTION)
        if kinds is None:
            kinds = RUNS if mode is REPLAY or mode is REFRESH else replays()
        return kinds[effect](self, call, scope)

    def _call(
        self,
        name: str,
        inputs: Mapping[str, object],
        func: Callable[..., Any],
        semantics: StepConfiguration | None,
        operation_version: str | Callable[[], str | int] | None,
    ) -> Call:
        tracker = self._trackers.get(func)
        is_configured, semantics = semantics is not None, semantics or StepConfiguration()
        packages, ignored = semantics.packages, frozenset(semantics.ignore_settings)
        # Callables that are equal need not be the same.
        is_same = tracker is not None and (tracker.packages, tracker.ignored) == (packages, ignored)
        if tracker is None or tracker.function is not func or not is_same:
            tracker = self._trackers[func] = CodeTracker(func, packages=packages, ignore_settings=ignored)
        definition = StepDefinition(func, name, semantics, operation_version, is_configured)
        definition, fingerprint, current = CodeVersion(definition).now(tracker)
        arguments = dict(inputs)
        counting = definition.semantics.inputs
        if counting is not None:
            check_inputs(name, counting, arguments)
        counted = arguments if counting is None else {key: arguments[key] for key in counting}
        begin, code = self.steps.identify(definition, fingerprint)
        function = partial(func, **arguments)
        return Call(definition, fingerprint, current, tracker, begin, code, counted, function, arguments)

    def explain(self, step: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Explanation:
        """Tell whether `step(*args, **kwargs)` would be replayed, and why or why not; nothing is run.

        Raises TypeError if `step` is no step, `InputError` as the call would, and `StoreError`.
        """
        from musubito.engine.explain import call_of, explain  # noqa: PLC0415 - few programs ask

        return explain(self, call_of(self, step, args, kwargs))

    def _before_unrecorded(self, definition: StepDefinition) -> None:
        """Do nothing: a step that cannot be identified runs unrecorded. Other engines may refuse it."""

    # -- lineage -------------------------------------------------------------------------------------------------------
    def invalidate(self, what: object) -> int:
        """Mark the stored results of a step as never replayed, with the results of steps that called it.

        `what` is a step, an operation's name or a node id. The children of these results in the lineage become stale.
        At its next call, a stale step is replayed if its input then equals its earlier input, and runs if not.

        Returns the number of its executions that there were. Raises `StoreError`.
        """
        step = getattr(what, "__musubito_step__", None)
        if isinstance(step, StepDefinition):
            change = Invalidate(self.namespace, step.name, None)
        elif isinstance(what, str) and len(what) == 64 and set(what) <= set("0123456789abcdef"):
            change = Invalidate(self.namespace, None, bytes.fromhex(what))
        elif isinstance(what, str):
            change = Invalidate(self.namespace, what, None)
        else:
            raise TypeError(f"invalidate takes a step, an operation's name or a node id, not a {type(what).__name__}")
        check = self.storage.find(KeyCheckOf(self.namespace))
        self.contents.verify_key(check)
        if check is None and change.operation is not None:
            return 0  # nothing was begun there, and only an engine with its key may begin it
        count: int = self.storage.write([change])[0]
        return count

    def override(
        self, result: MusubitoResult[Any] | str, value: T, *, reason: str, by: str | None = None
    ) -> MusubitoResult[T]:
        """Correct a stored result: `value` answers in its place, without the function being called.

        `result` is a result of this namespace, or the id of one (`node_id`). `reason` is kept, and `by` is the name of
        the person, by default that of the user of this process. For a node of a LangGraph graph, `value` is what the
        node returns.

        What is upstream stays. What was built on the earlier result runs again. The corrected one answers until the
        input, the code or a dependency of its step changes; `undo_override` takes it back. An external effect does not
        take place again. If `value` equals the earlier one, nothing is stored.

        Raises `NotEdited` if the result cannot be corrected, and `StoreError`.
        """
        from musubito.engine.override import by_hand, node_of, override  # noqa: PLC0415 - few programs correct a result

        return override(self, node_of(result), value, by_hand(reason, by))

    def undo_override(self, result: MusubitoResult[Any] | str, *, reason: str = "", by: str | None = None) -> str:
        """Take back the last correction of a result, and return the artifact id of the earlier output, which answers.

        What was built on the corrected result runs again, or finds what was built on the earlier one. Raises
        `NotEdited` if there is nothing to take back, and `StoreError`.
        """
        from musubito.engine.override import by_hand, node_of, undo  # noqa: PLC0415 - as above

        return undo(self, node_of(result), by_hand(reason, by))

    # -- what a call asks of its engine --------------------------------------------------------------------------------
    def _new_run(
        self, name: str | None = None, tags: str | None = None, within: tuple[bytes, int | None] | None = None
    ) -> Run:
        """Return a run that begins now. `within`: see `Run`."""
        if name is not None:
            # No store holds lone surrogates, and one such name would cost the history of all runs.
            name = name.encode("utf-8", "backslashreplace").decode()
        return Run(next(self._run_numbers), self.now(), name, tags, within, self.owner)

    def _part_of(self, body: Frame | None) -> tuple[bytes, int] | None:
        """Return the enclosing run and call of a run that begins in this body; None if there is none.

        The body may be another engine's, so that the time of its call covers all that happens inside. The innermost
        body whose run is in this engine's history counts.
        """
        while body is not None:
            if body.run.owner == body.engine.owner and _ledger(body.engine) == _ledger(self):
                return body.run.run_id, body.call
            body = body.around[0] if len(body.around) == 1 else None
        return None

    def _open_run(
        self,
        name: str,
        body: Frame | None,
        operation: str,
        *,
        tags: Mapping[str, str] | None = None,
        only_asks: bool = False,
        given: Mapping[str, object] | None = None,
        shape: str | None = None,
    ) -> Run:
        """Begin a run of a framework, perhaps in a step's body. The run is in the history until `_end_run`.

        The run's last call tells how the run ended. `operation` is the run's first operation; it is used to find the
        enclosing body where that is not known. With `only_asks`, nothing is run in it, so it begins no namespace.
        `given` are the pieces of the run's input (see `engine.run_input`).
        `shape` is that of the graph that runs (see `RunLine`).
        """
        run = self._new_run(name, json.dumps(tags) if tags else None, self._part_of(body))
        if body is None:
            self.open.stray(run, operation, of_bodies=True)
        run.status, run.side_by_side, run.only_asks, run.shape = "open", True, only_asks, shape
        run.given = given_to_run(name, given) if given else None
        if not only_asks:
            self.journal.append(run)
            self.keeper.wake()
        return run

    def _end_run(self, run: Run, status: str | None = None) -> None:
        """End a run of a framework. `status` says how it ended, where its last call does not tell."""
        run.finished_at = self.now()
        run.status = status or run.status
        if not self._closed and (self.contents.settled or not run.only_asks):
            self.journal.append(run)
            self.keeper.wake()

    @property
    def _is_idle(self) -> bool:
        """Tell whether nothing runs in this engine, nor in another namespace of its store."""
        family = dict.fromkeys((*self._namesakes.values(), self))
        return all(engine.open.is_empty and engine.flights.is_empty for engine in family)

    def _lease_owner(self) -> LeaseOwner:
        """Return this engine as the owner of a lease that is taken now."""
        until = time.time() + LEASE_SECONDS
        # The difference counts in both directions, because the clock may have been put back.
        if abs(until - self._holder.expires_at) > LEASE_SECONDS / 30:
            self._holder = LeaseOwner(self.owner, this_host(), os.getpid(), self._process, until)
        return self._holder

    def _disown(self, lease: tuple[bytes, bytes]) -> None:
        """Hand over a lease that could not be released, so that the keeper tries again."""
        self.keeper.disown(lease)

    def _report(self, fault: StoreError, ids: Mapping[str, str]) -> None:
        """Report that the store failed and the step goes on unrecorded; raise the fault if the engine is strict.

        `ids` are those of the call (see `ids_in_log`).
        """
        if self.strict:
            raise fault
        self.faults += 1
        self.fault_log.say("steps run unrecorded", fault, ids)

    def flush(self) -> None:
        """Write the buffered history, so that readers see it."""
        for engine in dict.fromkeys((*self._namesakes.values(), self)):
            engine.keeper.flush()

    def close(self) -> None:
        """Write the buffered history and close the store. A second call does nothing.

        An engine that was unpickled is shared by all that is unpickled in this process. Its history is written, and it
        stays open until the process ends.
        """
        if self._is_shared:
            self.flush()
        else:
            self._end()

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            for engine in dict.fromkeys((*self._namesakes.values(), self)):
                engine.writer.close()
                engine.keeper.stop()
            self.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def replays() -> CallKinds:
    """Return the classes that make a call which must not run: of a step, and of an effect."""
    from musubito.engine.replay_only import REPLAYS  # noqa: PLC0415 - its errors explain the call, which is rare

    return REPLAYS


def _ledger(engine: BodyHost) -> object:
    """Return a value that is equal for engines whose lines are in one history, as far as can be told."""
    storage = engine.storage
    in_memory = getattr(storage, "in_memory", False)
    return storage if in_memory else getattr(storage, "db_path", None) or engine.url or storage


def _is_named(key: KeySource) -> bool:
    """Tell whether a pickle would hold no more of the key than the name of a function."""
    from musubito.engine.pickling import is_of_a_module  # noqa: PLC0415 - as above

    return isinstance(key, FunctionType) and is_of_a_module(key)
