"""The engine: a store, a namespace, and what one process needs to run steps against them."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import FunctionType
from typing import Any, Final, Literal, Self, TypeVar

from musubito.contents.blobs import BlobStore, FolderBlobs
from musubito.contents.contents import Contents
from musubito.contents.keys import KeySource, key_for
from musubito.engine.code_version import CodeVersion
from musubito.engine.context import SCOPE, Frame, Open, Run, Scope
from musubito.engine.drivers import arun, loop_is_watched, run
from musubito.engine.ending import at_end
from musubito.engine.explain import Explanation, explain
from musubito.engine.external import EffectStory
from musubito.engine.faults import FaultLog
from musubito.engine.file_digests import Reads
from musubito.engine.file_events import tracks_files
from musubito.engine.flights import Flights
from musubito.engine.inputs import Redact
from musubito.engine.journal import Journal
from musubito.engine.keeper import LEASE_SECONDS, Keeper
from musubito.engine.keyed import Keyed
from musubito.engine.modes import OFF, REFRESH, REPLAY, Mode, current_mode
from musubito.engine.process import this_host, this_process
from musubito.engine.protocol import Call, Story, forced
from musubito.engine.reopened import Options, is_of_a_module, reopened
from musubito.engine.replay_only import ReplayOnlyEffectStory, ReplayOnlyStory
from musubito.engine.unrecorded import run_unrecorded, run_unrecorded_async
from musubito.engine.writer import Writer
from musubito.errors import StoreError
from musubito.identity.fingerprint import CodeTracker, Fingerprint, shown_source
from musubito.identity.keys import head
from musubito.model import MusubitoResult, StepConfiguration, StepDefinition, StepType, check_inputs, check_name
from musubito.store.base import Begin, CodeRecord, Distant, Holder, Invalidate, KeyCheckOf, Read, Store
from musubito.store.urls import open_store

__all__ = ["MusubitoEngine"]

RUNS: Final = (Story, EffectStory)
"""How a call of a step, or of an effect, is told that may run."""
REPLAYS: Final = (ReplayOnlyStory, ReplayOnlyEffectStory)
"""How one is told that must not."""

LONGEST_NAMESPACE: Final = 500
"""In characters: a name is a key of an index, which has little room in some databases."""
MOST_READS: Final = 4096
"""Of how many executions it is kept what they read."""
MOST_IDENTIFIED: Final = 256
"""How many fingerprints are kept as the store is told of them."""

T = TypeVar("T")


class MusubitoEngine:
    """Runs steps against a store, in one namespace; results are shared within a namespace and never beyond.

    `now_provider` gives the time for ages and times to live, in seconds since the epoch or as a datetime with a time
    zone (leases use the real clock).
    With `strict`, a fault of the store is raised; else the step runs unrecorded, and the fault is counted in `faults`
    and said once to the logger `musubito`.

    `redact(operation, arguments)` is given the arguments of a call that ran, as plain data (dicts, lists, texts,
    numbers; what is of another type is a dict with its name under "$type"), and gives back, as plain data, what is
    stored of them for readers. It is never applied to what identifies a call. If it raises, nothing is stored, and that
    is logged. Outputs and the texts of errors are stored without it. The texts of small files that a step reads, which
    are kept for `why`, pass through it as `{"file": path, "text": text}`.

    With a `key` of 32 bytes (or a mapping that names a key or None for each namespace, or a callable that is given a
    namespace and gives its key or None) all contents are encrypted, and every digest is keyed: with the key thrown away
    nothing can be read or guessed. The key is kept in memory alone. `WrongKey` at the first call if the namespace has
    another, and at once if a mapping does not name it.

    `blobs` is where large outputs lie; by default, a folder beside a SQLite database.

    With `track_files`, files and folders that a step reads are dependencies of its result: if one changes, the step
    runs again. Without it, or with MUSUBITO_TRACK_FILES=0 (false, no, off) in the environment, none counts.
    """

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
    ) -> None:
        if not callable(getattr(storage, "newest", None)):
            raise TypeError(f"MusubitoEngine takes a store, such as SQLiteStorage(path), not {storage!r}")
        if blobs is not None and not isinstance(blobs, BlobStore):
            raise TypeError(
                "blobs takes FolderBlobs(path), ObjectBlobs(a store of obstore) or a store of blobs of your own, not a "
                f"{type(blobs).__name__}"
            )
        check_name("namespace", namespace)
        if len(namespace) > LONGEST_NAMESPACE:
            raise ValueError(f"namespace has {len(namespace)} characters, and {LONGEST_NAMESPACE} at most are kept")
        self.storage = storage
        self.namespace = namespace
        self.strict = strict
        self.redact = redact
        if not isinstance(track_files, bool):
            raise TypeError(f"track_files must be True or False, not {track_files!r}")
        self._track_files = track_files
        self.track_files = track_files and tracks_files()
        self.reads_of: dict[tuple[int, float], Reads] = {}
        """By execution and when it began, what it read: see `keep_reads`."""
        self.texts_kept: set[tuple[str, bytes]] = set()
        """By operation and digest, the files whose texts are stored."""
        self.now: Callable[[], float] = time.time if now_provider in (None, time.time) else _seconds(now_provider)
        self._blobs = blobs
        folder = getattr(storage, "blob_folder", None)
        # Nothing that shows what an engine is made of shows a key: it is an attribute of nobody.
        self._key_for: Callable[[str], bytes | None] = lambda other: key_for(key, other)
        self._named_key: KeySource | Literal[False] | None = key if key is None or _is_named(key) else False
        where = FolderBlobs(folder) if blobs is None and folder is not None else blobs
        self._hold(Contents(namespace, where, self._key_for(namespace)))
        self.url: str | None = None
        self._is_shared = False
        self.reads_in_place: bool = getattr(storage, "reads_in_place", False)
        self.claims_in_place: bool = getattr(storage, "claims_in_place", False)
        self.distant = storage if isinstance(storage, Distant) else None
        self.faults = 0
        self.warned: set[tuple[str, str]] = set()
        """Of which steps it was told, by name, that they ask for something of this kind (see `engine.outside`)."""
        self.fault_log = FaultLog()
        self._identified: dict[tuple[str, bytes, str | None], tuple[Callable[[], Any], CodeRecord]] = {}
        self._trackers: weakref.WeakKeyDictionary[Callable[..., Any], CodeTracker] = weakref.WeakKeyDictionary()
        self._namesakes: dict[str, MusubitoEngine] = {}
        self._closed = False
        # Counted on in a process that is forked inside one: that one's number is taken there, too.
        self._run_numbers = itertools.count(1)
        self._begin_process()
        _ENGINES.add(self)

    def _hold(self, contents: Contents) -> None:
        """These are the namespace's contents."""
        self.contents = contents
        self.keyed = None if contents.keys is None else Keyed.of(contents.keys)

    def digest_of_read(self, digest: Any) -> Any:
        """As it is stored."""
        return digest if self.keyed is None or type(digest) is not bytes else self.keyed.read(digest)

    def keep_reads(self, execution: int, started_at: float, reads: Sequence[Read]) -> Sequence[Read]:
        """Keep what an execution read, for the next replay: executions never change."""
        if len(self.reads_of) >= MOST_READS:
            self.reads_of.clear()
        kept = self.reads_of[execution, started_at] = Reads(reads)
        return kept

    def keep_text(self, operation: str, read: Read) -> Any:
        """The text of this file is kept from now on; gives back the digest under which it is."""
        if len(self.texts_kept) >= MOST_READS:
            self.texts_kept.clear()
        assert read.digest is not None  # noqa: S101 - what is absent has no text
        self.texts_kept.add((operation, read.digest))
        return self.digest_of_read(read.digest)

    def _begin_process(self) -> None:
        """What belongs to this process alone: after a fork, the child's own."""
        self.owner = int(time.time() * 1000).to_bytes(6, "big") + secrets.token_bytes(6)
        self.flights = Flights()
        self.open = Open()
        self._process = this_process()
        where = this_host(), os.getpid(), self._process
        self.journal = Journal(self.owner, self.contents, self.redact, where)
        self.keeper = Keeper(self)
        self.writer = Writer(self.storage)
        # Now, and not with the first claim: an event loop may be watched for what reads files.
        self._holder = Holder(self.owner, this_host(), 0, "", 0.0)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> MusubitoEngine:
        """An engine on the store that the URL names: `sqlite:///relative/path`, `sqlite:////absolute/path`,
        `postgresql://user:password@host/database`.

        It can be pickled, URL included, and reconnects where it is unpickled: all that are unpickled of it in one
        process are one engine, which ends with the process. `StoreError` for any other URL.
        """
        engine = cls(open_store(url), **options)
        # Wherever it is unpickled it is the same file.
        path = getattr(engine.storage, "db_path", None)
        engine.url = url if path is None else f"sqlite:///{path}"
        return engine

    def in_namespace(self, namespace: str) -> MusubitoEngine:
        """The engine of another namespace on the same store: always the same one. It ends with this one."""
        if namespace == self.namespace:
            return self
        engine = self._namesakes.get(namespace)
        if engine is None:
            made = MusubitoEngine(
                self.storage,
                namespace=namespace,
                now_provider=self.now,
                strict=self.strict,
                redact=self.redact,
                blobs=self._blobs,
                key=self._key_for if self._named_key is False else self._named_key,
                track_files=self._track_files,
            )
            made.url, made._is_shared, made.fault_log = self.url, self._is_shared, self.fault_log
            # One family: from each of them the others are found.
            self._namesakes.setdefault(self.namespace, self)
            made._namesakes = self._namesakes
            engine = self._namesakes.setdefault(namespace, made)
        return engine

    def __reduce__(self) -> tuple[Any, ...]:
        if self.url is None:
            raise TypeError("only an engine made by MusubitoEngine.from_url can be pickled")
        if self.now.__class__ is not time.time.__class__ or self.now is not time.time:
            raise TypeError("an engine with a now_provider of its own cannot be pickled")
        if self._named_key is False:
            raise TypeError("an engine with a key can be pickled only if the key is given by a function of a module")
        options = Options(self.strict, self.redact, self._blobs, self._named_key, self._track_files, self.owner)
        return reopened, (type(self), self.url, self.namespace, options)

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
        """`func(**inputs)`, replayed or run; what a decorated function does, without a decorator."""
        mode = current_mode()
        if mode is OFF:
            return run_unrecorded(partial(func, **inputs))
        call = self._call(operation_name, inputs, func, semantics, operation_version)
        return self.perform(call, mode)

    async def execute_async(
        self,
        operation_name: str,
        inputs: Mapping[str, object],
        func: Callable[..., Awaitable[T]],
        semantics: StepConfiguration | None = None,
        *,
        operation_version: str | Callable[[], str | int] | None = None,
    ) -> MusubitoResult[T]:
        """`await func(**inputs)`, replayed or run."""
        mode = current_mode()
        if mode is OFF:
            return await run_unrecorded_async(partial(func, **inputs))
        call = self._call(operation_name, inputs, func, semantics, operation_version)
        return await self.aperform(call, mode)

    def perform(self, call: Call, mode: Mode) -> MusubitoResult[Any]:
        """One call of a sync step."""
        return run(self.story(call, mode).tell(), self)

    async def aperform(self, call: Call, mode: Mode) -> MusubitoResult[Any]:
        """One call of an async step."""
        story = await asyncio.to_thread(self.story, call, mode) if loop_is_watched() else self.story(call, mode)
        return await arun(story.tell(), self)

    def story(
        self,
        call: Call,
        mode: Mode = REPLAY,
        scope: Scope | None = None,
        kinds: tuple[type[Story], type[EffectStory]] | None = None,
    ) -> Story:
        """The call's story, in the scope that is given or that it is made in; `kinds`: of a step, and of an effect,
        else those of the mode."""
        scope = scope or SCOPE.get()
        if scope.engine is not self:
            scope = Scope(self, None, scope.frame, scope.parents, scope.ambient, scope.mode)
        effect = call.definition.semantics.step_type is StepType.EXTERNAL_EFFECT
        if mode is REFRESH and not effect:
            call = forced(call)
        if kinds is None:
            kinds = RUNS if mode is REPLAY or mode is REFRESH else REPLAYS
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
        semantics = semantics or StepConfiguration()
        # Callables that are equal need not be the same.
        if tracker is None or tracker.function is not func or tracker.packages != semantics.packages:
            tracker = self._trackers[func] = CodeTracker(func, step=name, packages=semantics.packages)
        definition = StepDefinition(func, name, semantics, operation_version)
        definition, fingerprint, current = CodeVersion(definition).now(tracker)
        arguments = dict(inputs)
        counting = definition.semantics.inputs
        if counting is not None:
            check_inputs(name, counting, arguments)
        counted = arguments if counting is None else {each: arguments[each] for each in counting}
        begin, code = self.identified(definition, fingerprint)
        function = partial(func, **arguments)
        return Call(definition, fingerprint, current, tracker, begin, code, counted, function, arguments)

    def identified(self, definition: StepDefinition, fingerprint: Fingerprint) -> tuple[Callable[[], Any], CodeRecord]:
        """What all keys of this step begin with, and its code as the store is told of it."""
        version: Any = definition.operation_version  # a text by now: see `CodeVersion`
        which = definition.name, fingerprint.digest, version
        made = self._identified.get(which)
        if made is None:
            begin = head(self.namespace, definition.name, fingerprint.digest, version)
            if definition.semantics.code == "version":
                code = CodeRecord(fingerprint.digest, [], (), ())
            else:
                parts = [(part.name, part.digest, shown_source(part)) for part in fingerprint.parts]
                untracked = *fingerprint.untracked, *fingerprint.unseen
                code = CodeRecord(fingerprint.digest, parts, untracked, fingerprint.state)
            if self.keyed is not None:
                begin, code = self.keyed.head(begin), self.keyed.code(code)
            if len(self._identified) >= MOST_IDENTIFIED:
                # Functions may be made anew for each request.
                self._identified.clear()
            made = self._identified[which] = begin, code
        return made

    def explain(self, step: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Explanation:
        """Whether `step(*args, **kwargs)` would be replayed, and why (not); nothing is run.

        Raises TypeError if it is no step, `InputError` as the call would, and `StoreError`.
        """
        make: Callable[..., Call] | None = getattr(step, "__musubito_call__", None)
        if make is None:
            raise TypeError(f"{step!r} is not a step; decorate it with @musubito_step")
        receiver = getattr(step, "__self__", None)
        return explain(self, make(self, args if receiver is None else (receiver, *args), kwargs))

    # -- lineage -------------------------------------------------------------------------------------------------------
    def invalidate(self, what: object) -> int:
        """Never replay the stored results of a step, an operation (by name) or a node (by id) again, nor those of steps
        that called it. What was given its results (its children in the lineage) is stale: at the next call it is
        replayed if what it is given then equals what it was given, and runs if not.

        Gives back how many executions of it there were. Raises `StoreError`.
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
        self.contents.settle(check)
        if check is None and change.operation is not None:
            return 0  # nothing was begun there, and it is to be begun by whoever has its key
        count: int = self.storage.write([change])[0]
        return count

    # -- what the protocol asks of it ----------------------------------------------------------------------------------
    def settle(self) -> None:
        """The namespace is one with this engine's key, or without one, before anything is stored in it. Raises
        `WrongKey` and `StoreError`."""
        if not self.contents.settled:
            self.contents.settle(self.storage.write([Begin(self.namespace, self.contents.key_check)])[0])

    def new_run(
        self, name: str | None = None, tags: str | None = None, within: tuple[bytes, int | None] | None = None
    ) -> Run:
        """A run that begins now; `within`: see `Run`."""
        if name is not None:
            # No store holds lone surrogates, and one name must not cost the lines of all.
            name = name.encode("utf-8", "backslashreplace").decode()
        return Run(next(self._run_numbers), self.now(), name, tags, within, self.owner)

    def part_of(self, body: Frame | None) -> tuple[bytes, int] | None:
        """The run and the call that a run which begins in this body is a part of, though the body be another engine's:
        the time of that call is with all that happens in it. It is the innermost that this engine's ledger has; None if
        there is none."""
        while body is not None:
            if body.run.owner == body.engine.owner and _ledger(body.engine) == _ledger(self):
                return body.run.run_id, body.call
            body = body.around[0] if len(body.around) == 1 else None
        return None

    def open_run(self, name: str, body: Frame | None, operation: str, *, only_asks: bool = False) -> Run:
        """A run of a framework that begins now, perhaps in a step's body, and is in the ledger until `end_run`; how it
        ended, its last call tells. `operation`: its first one, to find the body that is not known. `only_asks`: nothing
        is run in it, so it begins no namespace."""
        run = self.new_run(name, within=self.part_of(body))
        if body is None:
            self.open.stray(run, operation, of_bodies=True)
        run.status, run.side_by_side, run.only_asks = "open", True, only_asks
        if not only_asks:
            self.journal.append(run)
            self.keeper.wake()
        return run

    def end_run(self, run: Run, status: str | None = None) -> None:
        """It has ended; `status`: how, where its last call does not tell."""
        run.finished_at = self.now()
        run.status = status or run.status
        if not self._closed and (self.contents.settled or not run.only_asks):
            self.journal.append(run)
            self.keeper.wake()

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs in it, nor in another namespace of its store."""
        family = dict.fromkeys((*self._namesakes.values(), self))
        return all(engine.open.is_empty and engine.flights.is_empty for engine in family)

    def holder(self) -> Holder:
        """This engine as the holder of a lease that is taken now."""
        until = time.time() + LEASE_SECONDS
        # Either way: the clock may have been put back.
        if abs(until - self._holder.expires_at) > LEASE_SECONDS / 30:
            self._holder = Holder(self.owner, this_host(), os.getpid(), self._process, until)
        return self._holder

    def keep(self, key: bytes, operation: str) -> None:
        """This key is claimed; the keeper sees to it that it stays so."""
        self.flights.claimed(key, operation)
        self.keeper.wake()

    def disown(self, lease: tuple[bytes, bytes]) -> None:
        """A lease that could not be given back; the keeper tries again."""
        self.keeper.disown(lease)

    def report(self, fault: StoreError) -> None:
        """The store failed and the step goes on unrecorded; raised if strict."""
        if self.strict:
            raise fault
        self.faults += 1
        self.fault_log.say("steps run unrecorded", fault)

    def log(self, fault: StoreError) -> None:
        """A fault that concerns no step."""
        self.fault_log.say("the store failed", fault)

    def flush(self) -> None:
        """Write what is buffered of the ledger, so that readers see it."""
        for engine in dict.fromkeys((*self._namesakes.values(), self)):
            engine.keeper.flush()

    def close(self) -> None:
        """Write what is buffered and let go of the store; a second call does nothing. One that was unpickled belongs to
        all that is unpickled in this process: what is buffered is written, and it stays open until the process ends."""
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


def _seconds(now_provider: Callable[[], float | datetime]) -> Callable[[], float]:
    """The same clock, in seconds since the epoch."""

    def now() -> float:
        said = now_provider()
        if isinstance(said, datetime):
            if said.utcoffset() is None:
                raise TypeError(
                    f"now_provider gave {said!r}, which has no time zone; give an aware datetime, such as "
                    "datetime.now(timezone.utc), or seconds since the epoch"
                )
            return said.timestamp()
        if not isinstance(said, int | float):
            raise TypeError(f"now_provider gives seconds since the epoch or an aware datetime, not {said!r}")
        return said

    return now


def _ledger(engine: MusubitoEngine) -> object:
    """Equal for engines whose lines are in one ledger, as far as can be told."""
    storage = engine.storage
    in_memory = getattr(storage, "in_memory", False)
    return storage if in_memory else getattr(storage, "db_path", None) or engine.url or storage


def _is_named(key: KeySource) -> bool:
    """Whether a pickle would hold no more than the name of this."""
    return isinstance(key, FunctionType) and is_of_a_module(key)


_ENGINES: Final[weakref.WeakSet[MusubitoEngine]] = weakref.WeakSet()


def _write_what_is_left() -> None:
    """An engine that nobody has closed still holds the ledger's last lines."""
    for engine in list(_ENGINES):
        engine.writer.close()
        engine.keeper.stop()


def _at_exit() -> None:
    # All of them first: several may share a store.
    _write_what_is_left()
    for engine in list(_ENGINES):
        engine._end()


at_end(_at_exit, _write_what_is_left)


def _after_fork_in_child() -> None:
    for engine in _ENGINES:
        engine._begin_process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
