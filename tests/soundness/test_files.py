"""Files and folders that a step reads: an edit makes it run again, and nothing else does."""

from __future__ import annotations

import asyncio
import atexit
import csv
import errno
import glob
import io
import json
import logging
import logging.handlers
import os
import pickle
import pkgutil
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from functools import lru_cache
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from musubito import (
    MusubitoEngine,
    ReplayReason,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_step,
    run,
    use_musubito_engine,
)
from tests import launcher
from tests.soundness.world import World


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def of_relative() -> str:
    with open("prompt.txt") as file:
        return file.read()


def text_of(name: str) -> str:
    return Path(name).read_text()


def of_pathlib() -> str:
    return Path("prompt.txt").read_text()


def of_absolute() -> str:
    return (Path.cwd() / "prompt.txt").read_text()


def of_lines() -> str:
    with Path("prompt.txt").open() as file:
        return "".join(file)


def of_descriptor() -> str:
    descriptor = os.open("prompt.txt", os.O_RDONLY)
    try:
        return os.read(descriptor, 100).decode()
    finally:
        os.close(descriptor)


def of_bytes_name() -> str:
    with open(os.fsencode(os.path.abspath("prompt.txt"))) as file:
        return file.read()


def of_json() -> str:
    Path("prompt.txt")
    with open("prompt.txt") as file:
        return str(json.load(file))


def of_csv() -> str:
    with open("prompt.txt", newline="") as file:
        return str(list(csv.reader(file)))


def of_pandas() -> str:
    return str(pd.read_csv("prompt.txt", header=None).iloc[0, 0])


def of_numpy() -> str:
    return str(np.loadtxt("prompt.txt"))


def of_copy() -> str:
    shutil.copyfile("prompt.txt", "copied.txt")
    return Path("copied.txt").read_text()


def of_thread_with_context() -> str:
    found: list[str] = []
    thread = threading.Thread(target=copy_context().run, args=(lambda: found.append(Path("prompt.txt").read_text()),))
    thread.start()
    thread.join()
    return found[0]


def of_thread_without_context() -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(Path("prompt.txt").read_text()))
    thread.start()
    thread.join()
    return found[0]


def of_pool() -> str:
    with ThreadPoolExecutor(2) as pool:
        return next(pool.map(lambda name: Path(name).read_text(), ["prompt.txt"]))


def of_pool_that_stays() -> str:
    return POOL.submit(Path("prompt.txt").read_text).result()


POOL = ThreadPoolExecutor(1)
POOL.submit(str).result()


def of_executor() -> str:
    async def read() -> str:
        return await asyncio.get_running_loop().run_in_executor(POOL, Path("prompt.txt").read_text)

    return asyncio.run(read())


def of_multiprocessing_pool() -> str:
    return POOL_OF_MULTIPROCESSING.apply(text_of, ["prompt.txt"])


def of_worker() -> str:
    answer: queue.Queue[str] = queue.Queue()
    ASKED.put(("prompt.txt", answer))
    return answer.get()


def _works() -> None:
    while True:
        name, answer = ASKED.get()
        answer.put(text_of(name))


POOL_OF_MULTIPROCESSING = ThreadPool(1)
atexit.register(POOL_OF_MULTIPROCESSING.terminate)
ASKED: queue.Queue[tuple[str, queue.Queue[str]]] = queue.Queue()
threading.Thread(target=_works, daemon=True).start()


def of_empty_context() -> str:
    return Context().run(text_of, "prompt.txt")


def of_context_of_before() -> str:
    return OF_BEFORE.run(text_of, "prompt.txt")


OF_BEFORE = copy_context()


async def of_task_in_empty_context() -> str:
    async def read() -> str:
        return text_of("prompt.txt")

    return await asyncio.create_task(read(), context=Context())


def of_task() -> str:
    async def read() -> str:
        return await asyncio.to_thread(Path("prompt.txt").read_text)

    async def both() -> list[str]:
        return await asyncio.gather(read(), read())

    return asyncio.run(both())[0]


READERS = [
    of_relative,
    of_pathlib,
    of_absolute,
    of_lines,
    of_descriptor,
    of_bytes_name,
    of_json,
    of_csv,
    of_pandas,
    of_numpy,
    of_copy,
    of_thread_with_context,
    of_thread_without_context,
    of_pool,
    of_pool_that_stays,
    of_executor,
    of_multiprocessing_pool,
    of_worker,
    of_empty_context,
    of_context_of_before,
    of_task,
]


@pytest.mark.parametrize("read", READERS, ids=lambda each: each.__name__)
def test_an_edited_file_is_read_again(w: World, here: Path, read: Callable[[], str]) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        return read()

    prompt = here / "prompt.txt"
    prompt.write_text("1")
    first = f(0).value
    assert (f(0).value, w.ran["f"]) == (first, 1)
    prompt.write_text("2")
    with run() as r:
        assert f(0).value != first
    assert r.calls[0].reason is ReplayReason.READ_CHANGED
    assert (f(0).value, w.ran["f"]) == (first.replace("1", "2"), 2)
    prompt.write_text("1")
    assert (f(0).value, w.ran["f"]) == (first, 2), "what it read is as it was the first time"


def test_a_file_whose_times_and_inode_alone_differ_costs_nothing(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        return of_pathlib()

    prompt = here / "prompt.txt"
    prompt.write_text("1")
    f(0)
    os.utime(prompt, ns=(1, 1))
    f(0)
    (here / "new.txt").write_text("1")
    (here / "new.txt").replace(prompt)
    f(0)
    prompt.chmod(0o600)
    f(0)
    assert w.ran["f"] == 1


def test_size_and_time_of_change_do_not_hide_an_edit(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        return of_pathlib()

    prompt = here / "prompt.txt"
    prompt.write_text("1")
    times = prompt.stat().st_atime_ns, prompt.stat().st_mtime_ns
    assert f(0).value == "1"
    prompt.write_text("2")
    os.utime(prompt, ns=times)
    assert f(0).value == "2"


def test_edits_in_quick_succession_are_told_apart(w: World, here: Path) -> None:
    """Within one tick of the file system's clock a file keeps its times, its size and its inode."""

    @musubito_step(name="f")
    def f(x: int) -> str:
        return of_pathlib()

    prompt = here / "prompt.txt"
    for number in range(300):
        text = str(number % 7)
        prompt.write_text(text)
        assert f(0).value == text


def test_a_file_that_is_not_there(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        try:
            return of_pathlib()
        except FileNotFoundError:
            return "default"

    prompt = here / "prompt.txt"
    assert [f(0).value, f(0).value, w.ran["f"]] == ["default", "default", 1]
    prompt.write_text("1")
    assert [f(0).value, f(0).value, w.ran["f"]] == ["1", "1", 2]
    prompt.unlink()
    assert [f(0).value, w.ran["f"]] == ["default", 2]
    prompt.mkdir()
    with pytest.raises(IsADirectoryError):
        f(0)


def test_a_link_that_leads_elsewhere(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        return of_pathlib()

    for name in ("a", "b"):
        (here / name).write_text(name)
    (here / "prompt.txt").symlink_to("a")
    assert f(0).value == "a"
    (here / "prompt.txt").unlink()
    (here / "prompt.txt").symlink_to("b")
    assert f(0).value == "b"
    (here / "b").write_text("c")
    assert f(0).value == "c"


def test_a_file_may_not_be_read_or_may(w: World, here: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may read everything")

    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        try:
            return of_pathlib()
        except PermissionError:
            return "forbidden"

    prompt = here / "prompt.txt"
    prompt.write_text("1")
    prompt.chmod(0)
    assert [f(0).value, f(0).value, w.ran["f"]] == ["forbidden", "forbidden", 1]
    prompt.chmod(0o600)
    assert f(0).value == "1"


# -- steps in steps ----------------------------------------------------------------------------------------------------
def test_what_an_inner_step_read_is_handed_up(w: World, here: Path) -> None:
    @musubito_step(name="inner")
    def inner(x: int) -> str:
        w.count("inner")
        return of_pathlib()

    @musubito_step(name="outer")
    def outer(x: int) -> str:
        w.count("outer")
        return inner(0).value

    @musubito_step(name="top")
    def top(x: int) -> str:
        w.count("top")
        return outer(0).value

    prompt = here / "prompt.txt"
    prompt.write_text("1")
    inner(0)
    assert [top(0).value, top(0).value] == ["1", "1"]
    prompt.write_text("2")
    assert [top(0).value, top(0).value] == ["2", "2"]
    assert w.ran == {"inner": 2, "outer": 2, "top": 2}


def test_fallback_after_a_failure_that_a_file_decided(w: World, here: Path) -> None:
    @musubito_step(name="inner")
    def inner(x: int) -> str:
        return of_pathlib()

    @musubito_step(name="outer")
    def outer(x: int) -> str:
        try:
            return inner(0).value
        except FileNotFoundError:
            return "fallback"

    assert outer(0).value == "fallback"
    (here / "prompt.txt").write_text("1")
    assert outer(0).value == "1"


def test_a_stream_that_was_closed_early_read_what_it_read(w: World, here: Path) -> None:
    @musubito_step(name="inner")
    def inner(x: int) -> Iterator[str]:
        yield of_pathlib()
        yield "more"

    @musubito_step(name="outer")
    def outer(x: int) -> str:
        for chunk in inner(0):
            return chunk
        return ""

    (here / "prompt.txt").write_text("1")
    assert outer(0).value == "1"
    (here / "prompt.txt").write_text("2")
    assert outer(0).value == "2"


def test_an_effect_that_took_place_is_not_repeated_and_nothing_runs_for_its_files(w: World, here: Path) -> None:
    @musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
    def send(x: int) -> str:
        w.count("send")
        return of_pathlib()

    @musubito_step(name="outer")
    def outer(x: int) -> str:
        w.count("outer")
        return send(0).value

    (here / "prompt.txt").write_text("1")
    outer(0)
    (here / "prompt.txt").write_text("2")
    assert (outer(0).value, w.ran) == ("1", {"outer": 1, "send": 1})


# -- async, streams, tasks ---------------------------------------------------------------------------------------------
def test_async_steps(w: World, here: Path) -> None:
    @musubito_step(name="f")
    async def f(x: int) -> str:
        w.count("f")
        await asyncio.sleep(0)
        return of_pathlib()

    async def both() -> list[str]:
        return [(await f(0)).value, (await f(0)).value]

    (here / "prompt.txt").write_text("1")
    assert asyncio.run(both()) == ["1", "1"]
    (here / "prompt.txt").write_text("2")
    assert asyncio.run(both()) == ["2", "2"]
    assert w.ran["f"] == 2


def test_a_task_in_an_empty_context(w: World, here: Path) -> None:
    @musubito_step(name="f")
    async def f(x: int) -> str:
        w.count("f")
        return await of_task_in_empty_context()

    for text in ("1", "1", "2", "2"):
        (here / "prompt.txt").write_text(text)
        assert asyncio.run(f(0)).value == text
    assert w.ran["f"] == 2


def test_a_large_file_on_an_event_loop(w: World, here: Path) -> None:
    @musubito_step(name="f")
    async def f(x: int) -> int:
        w.count("f")
        return len(await asyncio.to_thread((here / "large").read_bytes))

    async def both() -> list[int]:
        return [(await f(0)).value, (await f(0)).value]

    for size in (5_000_000, 5_000_001):
        (here / "large").write_bytes(bytes(size))
        assert asyncio.run(both()) == [size, size]
        os.utime(here / "large")
        assert asyncio.run(both()) == [size, size]
    assert w.ran["f"] == 2


def test_side_by_side_each_step_has_its_own_reads(w: World, here: Path) -> None:
    @musubito_step(name="f")
    async def f(name: str) -> str:
        w.count(name)
        await asyncio.sleep(0)
        text = text_of(name)
        await asyncio.sleep(0)
        return text

    async def all_of_them() -> list[str]:
        return [each.value for each in await asyncio.gather(f("a"), f("b"), f("c"))]

    for name in "abc":
        (here / name).write_text(name)
    assert asyncio.run(all_of_them()) == ["a", "b", "c"]
    (here / "b").write_text("new")
    assert asyncio.run(all_of_them()) == ["a", "new", "c"]
    assert w.ran == {"a": 1, "b": 2, "c": 1}


def test_streams(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> Iterator[str]:
        w.count("f")
        yield "prompt: "
        yield of_pathlib()

    @musubito_step(name="g")
    async def g(x: int) -> AsyncIterator[str]:
        w.count("g")
        yield "prompt: "
        yield await asyncio.to_thread(of_pathlib)

    async def all_of_g() -> str:
        return "".join([chunk async for chunk in g(0)])

    for text, count in (("1", 1), ("2", 2)):
        (here / "prompt.txt").write_text(text)
        for _ in range(2):
            assert "".join(f(0)) == asyncio.run(all_of_g()) == f"prompt: {text}"
        assert w.ran == {"f": count, "g": count}


# -- what changes meanwhile --------------------------------------------------------------------------------------------
def test_a_file_that_changes_while_the_step_runs(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        before = of_pathlib()
        w.happens("between")
        return before + of_pathlib()

    prompt = here / "prompt.txt"
    prompt.write_text("1")
    w.hooks["between"] = lambda: w.elsewhere(lambda: prompt.write_text("2"))
    assert f(0).value == "12"
    assert w.rows("SELECT replayable FROM executions") == [
        ("a file that it read was changed while it ran, or may have been: file 'prompt.txt'",)
    ]
    for text in ("1", "2"):
        prompt.write_text(text)
        assert f(0).value == text + text
    assert w.ran["f"] == 3


def test_a_change_within_the_tick_in_which_it_was_read(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        text = of_pathlib()
        w.happens("after")
        return text

    prompt = here / "prompt.txt"
    for _ in range(50):
        prompt.write_text("1")
        w.hooks["after"] = lambda: prompt.write_text("2")
        assert f(0).value == "1"
        assert f(0).value == "2"


def test_a_state_that_is_read_and_written_is_none_to_go_by(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        number = int(Path("count").read_text()) + 1
        Path("count").write_text(str(number))
        return number

    (here / "count").write_text("0")
    assert [f(0).value for _ in range(3)] == [1, 2, 3]


def test_a_file_that_is_added_to_and_read(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        with open("log", "a") as log:
            log.write("x")
        return Path("log").read_text()

    (here / "log").write_text("")
    assert [f(0).value for _ in range(3)] == ["x", "xx", "xxx"]


def test_a_log_that_is_only_written_counts_for_nothing(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> None:
        w.count("f")
        with open("log", "a") as log:
            log.write("x")

    f(0)
    (here / "log").write_text("another")
    f(0)
    assert w.ran["f"] == 1


def test_a_log_that_rolls_over_counts_for_nothing(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        for number in range(10):
            LOG_OF_THIS_TEST.warning("line %d", number)
        return of_pathlib()

    (here / "prompt.txt").write_text("1")
    handlers = [
        logging.handlers.RotatingFileHandler(here / "size.log", maxBytes=20, backupCount=2),
        logging.handlers.TimedRotatingFileHandler(here / "time.log", when="S", backupCount=1),
    ]
    for handler in handlers:
        LOG_OF_THIS_TEST.addHandler(handler)
    try:
        handlers[1].rolloverAt = 0
        f(0)
        handlers[1].rolloverAt = 0
        assert (f(0).value, w.ran["f"]) == ("1", 1)
        assert len(list(here.glob("*.log.*"))) == 3
    finally:
        for handler in handlers:
            LOG_OF_THIS_TEST.removeHandler(handler)
            handler.close()


LOG_OF_THIS_TEST = logging.getLogger("of this test")


def test_what_a_step_wrote_itself_is_no_input(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        Path("out").mkdir(exist_ok=True)
        Path("out/a").write_text("mine")
        Path("out/b.tmp").write_text("mine, too")
        os.replace("out/b.tmp", "out/b")
        return Path("out/a").read_text() + Path("out/b").read_text() + ",".join(sorted(os.listdir("out")))

    f(0)
    (here / "out" / "a").write_text("edited")
    (here / "out" / "b").write_text("edited")
    assert f(0).value == "minemine, tooa,b"
    assert w.ran["f"] == 1


def test_what_could_not_be_written_is_an_input(w: World, here: Path) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    @musubito_step(name="f")
    def f(x: int) -> str:
        try:
            with open("a", "w", opener=refuse) as file:
                file.write("mine")
        except OSError:
            return Path("a").read_text()
        return ""

    (here / "a").write_text("1")
    assert f(0).value == "1"
    (here / "a").write_text("2")
    assert f(0).value == "2"


def test_a_folder_that_was_there_is_an_input_though_it_was_to_be_made(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> list[str]:
        os.makedirs("docs", exist_ok=True)
        return sorted(os.listdir("docs"))

    (here / "docs").mkdir()
    assert f(0).value == []
    (here / "docs" / "a").touch()
    assert f(0).value == ["a"]


def test_a_file_that_an_inner_step_is_given_by_its_name(w: World, here: Path) -> None:
    """Whoever wrote it does not depend on it; who reads it does."""

    @musubito_step(name="inner")
    def inner(x: int) -> str:
        w.count("inner")
        return Path("between").read_text()

    @musubito_step(name="outer")
    def outer(x: int) -> str:
        w.count("outer")
        Path("between").write_text("from outer")
        return inner(0).value

    outer(0)
    (here / "between").write_text("from elsewhere")
    assert outer(0).value == "from outer"
    assert inner(0).value == "from elsewhere"
    assert w.ran == {"outer": 1, "inner": 2}


def test_a_file_that_an_inner_step_wrote(w: World, here: Path) -> None:
    """A replay of the inner one writes nothing, so what is there then counts."""

    @musubito_step(name="inner")
    def inner(x: int) -> None:
        w.count("inner")
        Path("between").write_text("from inner")

    @musubito_step(name="outer")
    def outer(x: int) -> str:
        w.count("outer")
        inner(0)
        return Path("between").read_text()

    assert [outer(0).value, outer(0).value, w.ran["outer"]] == ["from inner", "from inner", 1]
    (here / "between").write_text("from elsewhere")
    assert outer(0).value == "from elsewhere"
    assert w.ran == {"outer": 2, "inner": 1}


def test_temporary_files_are_no_inputs(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> list[str]:
        w.count("f")
        with tempfile.NamedTemporaryFile("w+") as file, tempfile.TemporaryDirectory() as folder:
            file.write("x")
            file.flush()
            subprocess.run([sys.executable, "-c", f"open({folder + '/made'!r}, 'w').write('y')"], check=True)
            (Path(folder) / "sub").mkdir()
            return [Path(file.name).read_text(), (Path(folder) / "made").read_text(), *sorted(os.listdir(folder))]

    assert f(0).value == f(0).value == ["x", "y", "made", "sub"]
    assert w.ran["f"] == 1


def test_a_temporary_folder_at_the_beginning_of_a_step_is_no_input(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> None:
        with tempfile.TemporaryDirectory():
            w.count("f")

    for x in range(20):
        f(x)
        f(x)
    assert w.ran["f"] == 20


def test_a_file_that_was_taken_away_is_none_of_its_own(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        text = of_pathlib()
        os.unlink("prompt.txt")
        return text

    for text in ("1", "2", "1"):
        (here / "prompt.txt").write_text(text)
        assert f(0).value == text


# -- where it lies -----------------------------------------------------------------------------------------------------
PROGRAM = """
import os, sys
from pathlib import Path
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine

ran = []

@musubito_step(name="relative")
def relative(x):
    print("ran", end=" ")
    return open("prompts/prompt.txt").read()

@musubito_step(name="absolute")
def absolute(x):
    print("ran", end=" ")
    return (Path(__file__).parent / "prompts" / "prompt.txt").read_text()

@musubito_step(name="listing")
def listing(x):
    print("ran", end=" ")
    return sorted(p.name for p in (Path(__file__).parent / "prompts").iterdir())

with use_musubito_engine(MusubitoEngine(SQLiteStorage(sys.argv[1]))) as engine:
    print({"relative": relative, "absolute": absolute, "listing": listing}[sys.argv[2]](0).value)
    engine.close()
"""


class Checkouts:
    """Programs in folders of their own, run by processes of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self, name: str, prompt: str) -> Path:
        folder = self.root / name
        (folder / "prompts").mkdir(parents=True)
        (folder / "program.py").write_text(PROGRAM)
        (folder / "prompts" / "prompt.txt").write_text(prompt)
        return folder

    def says(self, step: str, folder: Path, program: Path | None = None) -> str:
        script = (program or folder) / "program.py"
        done = launcher.run(script, self.root / "lineage.db", step, folder=folder)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def checkouts(tmp_path: Path) -> Checkouts:
    return Checkouts(tmp_path)


def test_another_process_sees_the_edit(checkouts: Checkouts) -> None:
    folder = checkouts.make("one", "1")
    for step in ("relative", "absolute"):
        (folder / "prompts" / "prompt.txt").write_text("1")
        assert [checkouts.says(step, folder) for _ in range(2)] == ["ran 1", "1"]
        (folder / "prompts" / "prompt.txt").write_text("2")
        assert [checkouts.says(step, folder) for _ in range(2)] == ["ran 2", "2"]


def test_a_checkout_that_moved_is_replayed(checkouts: Checkouts) -> None:
    folder = checkouts.make("one", "1")
    for step in ("relative", "absolute", "listing"):
        checkouts.says(step, folder)
    folder = folder.rename(checkouts.root / "two")
    assert [checkouts.says(step, folder) for step in ("relative", "absolute")] == ["1", "1"]
    assert checkouts.says("listing", folder) == "['prompt.txt']"


def test_two_checkouts_with_different_files(checkouts: Checkouts) -> None:
    one, two = checkouts.make("one", "1"), checkouts.make("two", "2")
    for step in ("relative", "absolute"):
        assert [checkouts.says(step, each) for each in (one, two)] == ["ran 1", "ran 2"]
        assert [checkouts.says(step, each) for each in (one, two)] == ["1", "2"]


def test_a_file_of_the_same_relative_name_elsewhere(checkouts: Checkouts) -> None:
    """What was opened by its absolute path is not told by what lies below another working directory."""
    one, two = checkouts.make("one", "1"), checkouts.make("two", "1")
    assert checkouts.says("absolute", one) == "ran 1"
    (one / "prompts" / "prompt.txt").write_text("2")
    assert checkouts.says("absolute", two, program=one) == "ran 2"
    (one / "prompts" / "prompt.txt").write_text("1")
    (two / "prompts" / "prompt.txt").write_text("2")
    assert checkouts.says("relative", two, program=one) == "ran 2"


def test_the_folder_that_a_program_is_started_in_does_not_count(checkouts: Checkouts) -> None:
    """What is opened by its absolute path is the same file from wherever the program is started."""
    one, beside = checkouts.make("one", "1"), checkouts.root / "beside"
    beside.mkdir()
    for step in ("absolute", "listing"):
        assert "ran" in checkouts.says(step, one)
        for folder in (one / "prompts", checkouts.root, beside):
            assert "ran" not in checkouts.says(step, folder, program=one)
    (one / "prompts" / "prompt.txt").write_text("2")
    assert checkouts.says("absolute", beside, program=one) == "ran 2"


def test_a_folder_that_was_deleted_in_a_copy_of_the_checkout(checkouts: Checkouts) -> None:
    one, two = checkouts.make("one", "1"), checkouts.make("two", "1")
    assert checkouts.says("listing", one) == "ran ['prompt.txt']"
    (two / "prompts" / "prompt.txt").rename(two / "prompts" / "other.txt")
    assert checkouts.says("listing", two) == "ran ['other.txt']"
    (one / "prompts" / "prompt.txt").write_text("2")
    assert checkouts.says("absolute", one) == "ran 2"
    (two / "prompts" / "other.txt").unlink()
    (two / "prompts" / "prompt.txt").write_text("3")
    assert checkouts.says("absolute", two) == "ran 3"


def test_a_step_that_goes_to_another_folder(w: World, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        os.chdir("sub")
        try:
            return of_relative()
        finally:
            os.chdir("..")

    (here / "sub").mkdir()
    (here / "prompt.txt").write_text("not this one")
    for text in ("1", "2"):
        (here / "sub" / "prompt.txt").write_text(text)
        assert [f(0).value, f(0).value] == [text, text]


def test_a_working_directory_that_is_gone(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        try:
            return of_relative() + Path(__file__).name
        except FileNotFoundError:
            return "gone"

    (here / "prompt.txt").write_text("1")
    assert f(0).value == "1test_files.py"
    shutil.rmtree(here)
    assert [f(0).value, f(0).value] == ["gone", "gone"]


def test_a_working_directory_that_became_another(w: World, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        w.count("f")
        return of_relative() + Path("../shared.txt").read_text()

    (here.parent / "shared.txt").write_text("!")
    for name in ("a", "b"):
        (here / name).mkdir()
        (here / name / "prompt.txt").write_text(name)
        (here / "shared.txt").write_text("?")
    for folder, answer in ((here / "a", "a?"), (here / "b", "b?"), (here / "a", "a?")):
        monkeypatch.chdir(folder)
        assert f(0).value == answer
    assert w.ran["f"] == 2


# -- folders -----------------------------------------------------------------------------------------------------------
LISTINGS: list[Callable[[], list[str]]] = [
    lambda: os.listdir("docs"),
    lambda: [each.name for each in os.scandir("docs")],
    lambda: [each.name for each in Path("docs").iterdir()],
    lambda: [Path(each).name for each in glob.glob("docs/*")],
    lambda: [Path(each).name for each in glob.glob("docs/**", recursive=True)],
    lambda: [each.name for each in Path("docs").glob("*")],
    lambda: [each.name for each in Path("docs").resolve().rglob("*")],
    lambda: [name for _, folders, files in os.walk("docs") for name in folders + files],
]


def test_the_modules_of_a_folder(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> list[str]:
        w.count("f")
        return [module.name for module in pkgutil.iter_modules([str(here / "plugins")])]

    (here / "plugins").mkdir()
    (here / "plugins" / "a.py").touch()
    assert (f(0).value, f(0).value, w.ran["f"]) == (["a"], ["a"], 1)
    (here / "plugins" / "b.py").touch()
    assert (f(0).value, w.ran["f"]) == (["a", "b"], 2)


@pytest.mark.parametrize("number", range(len(LISTINGS)))
def test_the_entries_of_a_folder(w: World, here: Path, number: int) -> None:
    listing = LISTINGS[number]

    @musubito_step(name="f")
    def f(x: int) -> list[str]:
        w.count("f")
        return sorted(listing())

    docs = here / "docs"
    docs.mkdir()
    (docs / "a").touch()
    first = f(0).value
    (docs / "a").write_text("its content is not read")
    assert (f(0).value, w.ran["f"]) == (first, 1)
    (docs / "b").mkdir()
    second = f(0).value
    assert set(second) - set(first) == {"b"}
    assert w.ran["f"] == 2
    shutil.rmtree(docs)
    docs.mkdir()
    (docs / "a").touch()
    assert (f(0).value, w.ran["f"]) == (first, 2), "the folder is another one, with the same entries"


def test_a_folder_deep_below(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> list[str]:
        return sorted(str(each) for each in Path("docs").rglob("*.md"))

    (here / "docs/a/b").mkdir(parents=True)
    assert f(0).value == []
    (here / "docs/a/b/c.md").touch()
    assert f(0).value == ["docs/a/b/c.md"]


def test_the_lineage_beside_the_files_is_no_entry(here: Path) -> None:
    """SQLite's files beside the database come and go."""
    ran: list[int] = []

    def f(x: int) -> list[str]:
        return sorted(set(os.listdir()) & {"a", "b"})

    for expected in (["a"], ["a"], ["a", "b"], ["a", "b"]):
        (here / expected[-1]).touch()
        with MusubitoEngine(SQLiteStorage("lineage.db")) as engine, use_musubito_engine(engine), run() as r:
            assert (
                musubito_step(
                    f,
                )
                .__call__(0)
                .value
                == expected
            )
            ran.append(r.calls[0].outcome != "replayed")
    assert ran == [1, 0, 1, 0]


def test_a_folder_in_which_files_are_replaced_while_it_is_read(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> list[str]:
        w.count("f")
        names = sorted(os.listdir("docs"))
        Path("docs/a.tmp").write_text("new")
        os.replace("docs/a.tmp", "docs/a")
        return names

    (here / "docs").mkdir()
    (here / "docs" / "a").touch()
    assert [f(0).value, f(0).value, w.ran["f"]] == [["a"], ["a"], 1]


def test_a_folder_that_changes_after_it_was_listed(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> list[str]:
        names = os.listdir("docs")
        w.happens("then")
        return names

    (here / "docs").mkdir()
    w.hooks["then"] = lambda: w.elsewhere((here / "docs" / "a").touch)
    assert [f(0).value, f(0).value] == [[], ["a"]]


def test_a_folder_that_was_listed_in_two_states(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> list[str]:
        before = os.listdir("docs")
        w.happens("between")
        among = os.listdir("docs")
        w.happens("then")
        return before + among

    docs = here / "docs"
    docs.mkdir()
    for _ in range(20):
        w.hooks["between"] = lambda: w.elsewhere((docs / "a").touch)
        w.hooks["then"] = lambda: w.elsewhere((docs / "a").unlink)
        assert f(0).value == ["a"]
    assert f(0).value == []


def test_the_whole_working_directory(here: Path) -> None:
    """Bytecode and the lineage lie below it, too."""
    outcomes: list[str] = []

    @musubito_step(name="f")
    def f(x: int) -> list[str]:
        import module_of_that_test  # type: ignore[import-not-found]

        large = random.Random(module_of_that_test.SEED).randbytes(1_000_000).hex()
        return [name for _, _, files in os.walk(".") for name in files if name.endswith(".md")] + [large]

    (here / "a.md").touch()
    (here / "module_of_that_test.py").write_text("SEED = 0\n")
    sys.path.insert(0, str(here))
    try:
        for path in (".musubito/musubito.db", "lineage.db", "lineage.db"):
            with MusubitoEngine(SQLiteStorage(path)) as engine, use_musubito_engine(engine), run() as r:
                assert f(0).value[:-1] == ["a.md"]
                outcomes += [call.outcome for call in r.calls]
    finally:
        sys.path.remove(str(here))
        del sys.modules["module_of_that_test"]
    assert (here / "lineage.db-blobs").is_dir()
    assert outcomes == ["ran", "ran", "replayed"]


# -- what is nobody's input --------------------------------------------------------------------------------------------
def test_what_the_interpreter_reads(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        import inspect
        import traceback
        import zoneinfo
        from importlib import metadata

        import importlib_metadata
        import module_of_this_test  # type: ignore[import-not-found]

        Path("/proc/self/stat").read_text()
        with open(os.devnull) as nothing:
            nothing.read()
        metadata.version("pytest")
        importlib_metadata.version("numpy")
        zoneinfo.ZoneInfo("Europe/Berlin")
        Path(json.__file__).read_text()
        Path(np.__file__).read_text()
        inspect.getsource(module_of_this_test.g)
        try:
            module_of_this_test.g()
        except ValueError:
            return traceback.format_exc()[-20:]
        return ""

    (here / "module_of_this_test.py").write_text("def g():\n    raise ValueError('no')\n")
    sys.path.insert(0, str(here))
    try:
        f(0)
    finally:
        sys.path.remove(str(here))
        del sys.modules["module_of_this_test"]
    assert w.rows("SELECT kind, key FROM reads") == []


@pytest.mark.parametrize("looks", [os.path.exists, lambda path: path.read_text()], ids=["look", "read"])
def test_the_name_of_code_that_is_in_no_file_is_no_file(w: World, here: Path, looks: Callable[[Path], Any]) -> None:
    @musubito_step(name="f")
    def f(x: int) -> int:
        with suppress(FileNotFoundError):
            looks(here / "<unknown>")
        return x

    f(0)
    assert w.rows("SELECT kind, key FROM reads WHERE kind = 'file'") == []


def test_source_texts_and_data_that_are_read_as_data(w: World, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        import importlib.resources
        import linecache
        import pkgutil

        linecache.clearcache()
        text = importlib.resources.files("package_of_this_test").joinpath("a.txt").read_text()
        data = pkgutil.get_data("package_of_this_test", "b.txt") or b""
        return text + data.decode() + Path("package_of_this_test/__init__.py").read_text() + linecache.getline("c", 1)

    package = here / "package_of_this_test"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("a.txt", "b.txt"):
        (package / name).write_text("1")
    (here / "c").write_text("1")
    monkeypatch.syspath_prepend(here)
    assert f(0).value == "111\n"
    for path, answer in (
        (package / "a.txt", "211\n"),
        (package / "b.txt", "221\n"),
        (package / "__init__.py", "2221\n"),
        (here / "c", "2222\n"),
    ):
        path.write_text("2")
        assert f(0).value == answer
    sys.modules.pop("package_of_this_test")


def test_what_modules_read_while_they_are_imported(w: World, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is installed is as it is; one of the user's may be made of what it reads."""

    @musubito_step(name="f")
    def f(x: int) -> None:
        import mine_of_this_test  # noqa: F401
        import theirs_of_this_test  # noqa: F401

    site = here / "lib" / "site-packages"
    site.mkdir(parents=True)
    for folder, name in ((here, "mine"), (site, "theirs")):
        (folder / f"{name}_of_this_test.py").write_text(f"open('{name}.txt').close()")
        (here / f"{name}.txt").touch()
    monkeypatch.syspath_prepend(site)
    monkeypatch.syspath_prepend(here)
    f(0)
    assert w.rows("SELECT kind, key FROM reads WHERE kind <> 'code'") == [("file", "mine.txt")]
    for name in ("mine", "theirs"):
        del sys.modules[f"{name}_of_this_test"]


PLUG_IN_PROGRAM = """
import importlib, importlib.util, runpy, sys
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine

sys.path.append("plugins")
named = "named"

def by_spec(name):
    spec = importlib.util.spec_from_file_location("loaded", f"plugins/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.VALUE

def by_name(name):
    return importlib.import_module("plug" + name[4:]).VALUE

def by_path(name):
    return runpy.run_path(f"plugins/{name}.py")["VALUE"]

@musubito_step
def ask(how, name):
    print("ran", end=" ")
    return {"spec": by_spec, "name": by_name, "path": by_path}[how](name)

with use_musubito_engine(MusubitoEngine(SQLiteStorage("lineage.db"))) as engine:
    print(ask(sys.argv[1], "plug_in").value)
    engine.close()
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 does not tell which code runs")
@pytest.mark.parametrize("how", ["spec", "name", "path"])
def test_code_that_a_step_loads_by_a_name_that_it_computes(here: Path, how: str) -> None:
    def says() -> str:
        done = launcher.run(here / "program.py", how, folder=here)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (here / "plugins").mkdir()
    (here / "program.py").write_text(PLUG_IN_PROGRAM)
    plug_in, helper = here / "plugins" / "plug_in.py", here / "plugins" / "helper.py"
    plug_in.write_text("from helper import VALUE\n")
    helper.write_text("VALUE = 'one'\n")
    assert [says(), says()] == ["ran one\n", "one\n"]
    helper.write_text("VALUE = 'other'\n")
    assert [says(), says()] == ["ran other\n", "other\n"]
    plug_in.write_text("VALUE = 'its own'\n")
    assert [says(), says()] == ["ran its own\n", "its own\n"]


def test_code_that_a_step_names_counts_as_code_and_not_as_a_file(w: World, here: Path) -> None:
    (here / "helper.py").write_text("from below import VALUE\n")
    (here / "below.py").write_text("VALUE = 1\n")
    program = (
        "import sys\n"
        "from musubito import musubito_step\n"
        "@musubito_step\n"
        "def inner(x):\n"
        "    import helper\n"
        "    return helper.VALUE\n"
        "@musubito_step\n"
        "def outer(x):\n"
        "    print('ran', end=' ')\n"
        "    return inner(x).value\n"
        "print(outer(0).value)\n"
    )
    (here / "program.py").write_text(program)

    def says() -> str:
        done = launcher.run(here / "program.py", folder=here)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert [says(), says()] == ["ran 1\n", "1\n"]
    (here / "helper.py").write_text("# a comment\nfrom below import VALUE\n")
    (here / "below.py").write_text("# a comment\nVALUE = 1\n")
    assert says() == "1\n"


def test_data_of_the_steps_own_package_where_it_is_installed(here: Path) -> None:
    site = here / "lib" / "site-packages"
    for package in ("mine", "theirs"):
        (site / package).mkdir(parents=True)
        (site / package / "prompt.txt").write_text("1")
    # What an index gave out; a folder that was merely copied there would count by its contents.
    release = site / "theirs-1.0.dist-info"
    release.mkdir()
    (release / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (release / "INSTALLER").write_text("pip\n")
    (release / "RECORD").write_text("theirs/__init__.py,,\ntheirs/prompt.txt,,\n")
    (site / "theirs" / "__init__.py").write_text(
        "from pathlib import Path\ndef prompt(): return (Path(__file__).parent / 'prompt.txt').read_text()\n"
    )
    (site / "mine" / "__init__.py").write_text(
        "from pathlib import Path\nimport theirs\nfrom musubito import musubito_step\n"
        "@musubito_step\ndef f(x): return (Path(__file__).parent / 'prompt.txt').read_text() + theirs.prompt()\n"
    )

    def says() -> str:
        done = subprocess.run(
            [sys.executable, "-c", "import mine; print(mine.f(0).value)"],
            cwd=here,
            env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert says() == "11"
    (site / "theirs" / "prompt.txt").write_text("2")
    assert says() == "11", "the data of an installed package goes with its version"
    (site / "mine" / "prompt.txt").write_text("2")
    assert says() == "22"


def test_what_a_thread_writes_that_may_be_somebody_elses_is_read(w: World, here: Path) -> None:
    """A pool's thread that was told nothing of the step writes the file, and then the step reads it."""
    with ThreadPoolExecutor(1) as pool:

        @musubito_step(name="f")
        def f(x: int) -> str:
            w.count("f")
            pool.submit(Path("a").write_text, "new").result()
            return Path("a").read_text()

        assert [f(0).value, f(0).value] == ["new", "new"]
        (here / "a").write_text("newer")
        assert f(0).value == "new"
    assert w.ran["f"] == 2


def test_an_answer_in_which_the_working_directory_stands_is_no_answer_elsewhere(
    w: World, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @musubito_step(name="resolved")
    def resolved(pattern: str) -> list[str]:
        w.count("resolved")
        return [str(path.resolve()) for path in sorted(Path("data").glob(pattern))]

    @musubito_step(name="outer")
    def outer(pattern: str) -> int:
        w.count("outer")
        return len(resolved(pattern).value)

    for number in range(2):
        place = here / f"checkout {number}"
        (place / "data").mkdir(parents=True)
        (place / "data" / "a.txt").write_text("a")
        monkeypatch.chdir(place)
        for _ in range(2):
            assert resolved("*.txt").value == [str(place / "data" / "a.txt")]
            assert outer("*.txt").value == 1
    assert w.ran == {"resolved": 2, "outer": 2}


def test_a_pipe_cannot_be_read_twice(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(x: int) -> str:
        return Path("pipe").read_text()

    os.mkfifo(here / "pipe")
    for text in ("1", "2"):
        writer = threading.Thread(target=lambda text=text: (here / "pipe").write_text(text))
        writer.start()
        assert f(0).value == text
        writer.join()


@pytest.mark.parametrize("place", ["step", "inner step", "thread"])
def test_an_answer_at_the_console_holds_for_one_time(w: World, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    @musubito_step(name="inner")
    def inner() -> str:
        return input()

    @musubito_step(name="f")
    def f(x: int) -> str:
        if place == "inner step":
            return inner().value
        if place == "thread":  # it inherits no context
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(input).result()
        return input()

    monkeypatch.setattr("sys.stdin", io.StringIO("Paris\nRome\n"))
    assert [f(0).value, f(0).value] == ["Paris", "Rome"]


# -- settings ----------------------------------------------------------------------------------------------------------
def test_files_that_a_step_ignores(w: World, here: Path) -> None:
    @musubito_step(StepConfiguration(ignore_files=("*.log", "cache/*")), name="f")
    def f(x: int) -> str:
        w.count("f")
        return "".join(Path(each).read_text() for each in ("a.log", "cache/b", "prompt.txt"))

    (here / "cache").mkdir()
    for name in ("a.log", "cache/b", "prompt.txt"):
        (here / name).write_text("1")
    f(0)
    for name in ("a.log", "cache/b"):
        (here / name).write_text("2")
    f(0)
    assert w.ran["f"] == 1
    (here / "prompt.txt").write_text("2")
    assert f(0).value == "222"


@pytest.mark.parametrize("wrong", ["*.log", ["*.log"], ("",), (1,)])
def test_patterns_that_are_none(wrong: Any) -> None:
    with pytest.raises(TypeError, match="ignore_files must be a tuple of patterns"):
        StepConfiguration(ignore_files=wrong)


def test_files_may_be_left_out_of_account(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: int) -> str:
        return of_pathlib()

    prompt, database = here / "prompt.txt", tmp_path / "lineage.db"
    prompt.write_text("1")

    def asked(**options: bool) -> str:
        with MusubitoEngine(SQLiteStorage(database), **options) as engine:
            return engine.execute("f", {"x": 0}, f).value

    assert asked() == "1"
    prompt.write_text("2")
    assert asked(track_files=False) == "1"
    monkeypatch.setenv("MUSUBITO_TRACK_FILES", "0")
    assert asked() == "1"
    monkeypatch.delenv("MUSUBITO_TRACK_FILES")
    assert asked() == "2"


@pytest.mark.parametrize("value", ["0", "false", "No", "OFF"])
def test_values_of_the_variable_that_turn_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MUSUBITO_TRACK_FILES", value)
    assert not MusubitoEngine(SQLiteStorage(tmp_path / "lineage.db")).track_files


@pytest.mark.parametrize("value", ["", "1", "True", "yes", "ON"])
def test_values_of_the_variable_that_leave_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MUSUBITO_TRACK_FILES", value)
    assert MusubitoEngine(SQLiteStorage(tmp_path / "lineage.db")).track_files


def test_a_value_of_the_variable_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSUBITO_TRACK_FILES", "nope")
    with pytest.raises(ValueError, match="MUSUBITO_TRACK_FILES is 'nope': say 1, true"):
        MusubitoEngine(SQLiteStorage(tmp_path / "lineage.db"))


def test_an_engine_that_was_pickled_watches_as_before(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'lineage.db'}"
    for track_files in (True, False):
        with MusubitoEngine.from_url(url, track_files=track_files) as engine:
            again = pickle.loads(pickle.dumps(engine))
            assert (again.track_files, again.in_namespace("another").track_files) == (track_files, track_files)
    with pytest.raises(TypeError, match="track_files must be True or False, not 'no'"):
        MusubitoEngine.from_url(url, track_files="no")


def test_an_encrypted_namespace_names_no_file(tmp_path: Path, here: Path) -> None:
    path = tmp_path / "lineage.db"

    def f(x: int) -> str:
        text = of_pathlib()
        if text == "3":
            (here / "prompt.txt").write_text("4")
        return text

    with MusubitoEngine(SQLiteStorage(path), key=bytes(32)) as engine:
        for text in ("1", "2"):
            (here / "prompt.txt").write_text(text)
            for _ in range(2):
                assert engine.execute("f", {"x": 0}, f).value == text
        (here / "prompt.txt").write_text("3")
        assert engine.execute("f", {"x": 0}, f).value == "3"
    for file in tmp_path.glob("lineage.db*"):
        assert b"prompt.txt" not in file.read_bytes()


def test_files_are_opened_to_the_last_moment_of_a_process(here: Path) -> None:
    (here / "program.py").write_text(
        "import sqlite3, threading, zoneinfo\n"
        "from musubito import musubito_step\n"
        "class Late:\n"
        "    def __init__(self):\n"
        "        self.open, self.connect = open, sqlite3.connect\n"
        "    def __del__(self):\n"
        "        self.open('late.txt', 'w').close()\n"
        "        self.connect('late.db').close()\n"
        "        print('done')\n"
        "@musubito_step\n"
        "def f(x):\n"
        "    return open('program.py').read()\n"
        "f(0)\n"
        "threading.late = Late()\n"
    )
    done = subprocess.run([sys.executable, "program.py"], cwd=here, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_pool_at_work_for_somebody_else(w: World, here: Path) -> None:
    """`asyncio.to_thread` brings its own context along: what it reads is no step's that is open elsewhere."""

    @musubito_step(name="f")
    async def f(x: int) -> None:
        w.count("f")
        begun.set()
        await done.wait()

    async def somebody_else() -> None:
        await begun.wait()
        await asyncio.to_thread((here / "other.txt").read_text)
        done.set()

    async def both() -> None:
        nonlocal begun, done
        begun, done = asyncio.Event(), asyncio.Event()
        await asyncio.gather(somebody_else(), f(0))

    begun = done = asyncio.Event()
    (here / "other.txt").write_text("1")
    asyncio.run(both())
    assert w.rows("SELECT key FROM reads") == []


# -- what it costs -----------------------------------------------------------------------------------------------------
def test_an_event_with_no_step_open_costs_next_to_nothing(w: World, here: Path) -> None:
    """It costs about what an empty hook does; the loop and `sys.audit` itself cost something, too."""
    program = """
import sys, time
def seconds():
    began = time.process_time()
    for _ in range(20_000):
        sys.audit("open", "prompt.txt", "r", 0)
    return (time.process_time() - began) / 20_000
without = min(seconds() for _ in range(20))
sys.addaudithook(lambda event, given: None)
empty = min(seconds() for _ in range(20))
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
@musubito_step
def f(x):
    return None
with use_musubito_engine(MusubitoEngine(SQLiteStorage("lineage.db"))) as engine:
    f(0)
    engine.close()
print((min(seconds() for _ in range(20)) - empty) / (empty - without))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 10


# -- what is kept in memory --------------------------------------------------------------------------------------------
CACHING_PROGRAM = """
import functools, sys
from pathlib import Path
import jinja2
from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine

TEXT = None
TEXTS = {}
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader("."))

def text():
    global TEXT
    if TEXT is None:
        TEXT = Path("prompt.txt").read_text()
    return TEXT

def keyed():
    if "prompt" not in TEXTS:
        TEXTS["prompt"] = Path("prompt.txt").read_text()
    return TEXTS["prompt"]

@functools.lru_cache
def cached():
    return Path("prompt.txt").read_text()

class Prompts:
    text = None

    def lazily(self):
        if self.text is None:
            self.text = Path("prompt.txt").read_text()
        return self.text

class Once:
    @functools.cached_property
    def once(self):
        return Path("prompt.txt").read_text()

    @staticmethod
    @functools.cache
    def static():
        return Path("prompt.txt").read_text()

PROMPTS = Prompts()
ONCE = Once()
STEPS = {
    "global": lambda x: text(),
    "dict": lambda x: keyed(),
    "lru_cache": lambda x: cached(),
    "attribute": lambda x: PROMPTS.lazily(),
    "property": lambda x: ONCE.once,
    "static": lambda x: Once.static(),
    "template": lambda x: TEMPLATES.get_template("prompt.txt").render(),
}

with use_musubito_engine(MusubitoEngine(SQLiteStorage("lineage.db"))) as engine:
    def said(name, x):
        step = musubito_step(name=name)(STEPS[name])
        from musubito import run
        with run() as r:
            value = step(x).value
        return value + ("!" if r.calls[0].outcome == "ran" else "")

    for x in sys.argv[1:]:
        print(*(said(name, x) for name in STEPS))
    engine.close()
"""


def test_what_was_read_once_and_is_kept_in_memory(here: Path) -> None:
    def says(*calls: str) -> list[set[str]]:
        done = subprocess.run(
            [sys.executable, "program.py", *calls], cwd=here, capture_output=True, text=True, check=True
        )
        return [set(line.split()) for line in done.stdout.splitlines()]

    (here / "program.py").write_text(CACHING_PROGRAM)
    (here / "prompt.txt").write_text("1")
    assert says("a", "b", "a", "b") == [{"1!"}, {"1!"}, {"1"}, {"1"}]
    assert says("b", "a") == [{"1"}, {"1"}]
    (here / "prompt.txt").write_text("2")
    assert says("b", "a", "b") == [{"2!"}, {"2!"}, {"2"}]


def test_what_is_read_anew_each_time_is_in_no_cache(w: World, here: Path) -> None:
    """A step that keeps something is not taken to keep what it reads."""

    @musubito_step(name="f")
    def f(name: str) -> str:
        COUNT[name] = COUNT.get(name, 0) + 1
        return Path(name).read_text()

    for name in ("a", "b"):
        (here / name).write_text(name)
        f(name)
    (here / "a").write_text("new")
    assert [f("b").value, f("a").value] == ["b", "new"]
    assert COUNT == {"a": 2, "b": 1}


def test_of_a_cache_that_has_not_answered_nothing_was_told(w: World, here: Path) -> None:
    @musubito_step(name="f")
    def f(name: str) -> str:
        w.count(name)
        return loaded(name)

    for name in ("a", "b"):
        (here / name).write_text(name)
        f(name)
    (here / "a").write_text("new")
    assert f("b").value == "b"
    loaded.cache_clear()
    assert f("a").value == "new"
    assert w.ran == {"a": 2, "b": 1}


COUNT: dict[str, int] = {}


@lru_cache
def loaded(name: str) -> str:
    return Path(name).read_text()
