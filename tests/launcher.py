"""Run programs in processes that are forked from one that has imported Musubito, which takes longer than most programs.

Run as a script, this module waits for programs and calls nothing of Musubito itself. A forked process runs its program
as a script, in its own folder and environment, and ends as every interpreter does.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["Forked", "fork", "run"]

_ONE = b"1"
"""Asks for a program, and brings the descriptors that it is to have."""
_SEEDS = itertools.cycle(("1", "2"))


# -- in the test -------------------------------------------------------------------------------------------------------
class Forked:
    """A process of a program, with what tests use of `subprocess.Popen`."""

    def __init__(self, status: socket.socket, stdout: int, stderr: int) -> None:
        self._status = status
        self.stdout, self.stderr = os.fdopen(stdout), os.fdopen(stderr)
        self.pid = self._number()
        self.returncode: int | None = None
        self._texts: dict[int, str] = {}
        self._readers = [threading.Thread(target=self._read, args=(number,), daemon=True) for number in range(2)]

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            ready = select.poll()
            ready.register(self._status, select.POLLIN)
            if not ready.poll(None if timeout is None else max(0, timeout) * 1000):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = self._number()
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        until = None if timeout is None else time.monotonic() + timeout
        for reader in self._readers:
            if reader.ident is None:
                reader.start()
        for reader in self._readers:
            reader.join(None if until is None else max(0, until - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        self.wait(None if until is None else until - time.monotonic())
        return self._texts[0], self._texts[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read(self, number: int) -> None:
        with (self.stdout, self.stderr)[number] as file:
            self._texts[number] = file.read()

    def _number(self) -> int:
        return int.from_bytes(self._status.recv(4), "big", signed=True)


def fork(
    path: Path,
    *arguments: object,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    imports: str = "musubito",
) -> Forked:
    """Run the program in a process of its own, which has imported a module before it.

    By default the process is in this folder and has this environment. From one process to the next, sets of texts are
    in another order.
    """
    variables = {"PYTHONHASHSEED": next(_SEEDS), **(os.environ if environment is None else environment)}
    of_python = tuple(sorted((name, value) for name, value in variables.items() if name.startswith("PYTHON")))
    requests = _started(imports, of_python)
    (stdout, of_stdout), (stderr, of_stderr), (status, of_status) = os.pipe(), os.pipe(), socket.socketpair()
    with of_status:
        socket.send_fds(requests, [_ONE], [of_stdout, of_stderr, of_status.fileno()])
    os.close(of_stdout)
    os.close(of_stderr)
    about = [str(path), list(map(str, arguments)), str(folder or Path.cwd()), variables]
    status.sendall(json.dumps(about).encode() + b"\n")
    return Forked(status, stdout, stderr)


def run(path: Path, *arguments: object, timeout: float = 120, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run the program as `fork` does, until it ends; like `subprocess.run`, which captures the output as text."""
    process = fork(path, *arguments, **how)
    try:
        stdout, stderr = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess([str(path), *arguments], process.wait(), stdout, stderr)


@cache
def _started(imports: str, of_python: tuple[tuple[str, str], ...]) -> socket.socket:
    """Start the process that forks programs with these settings of Python."""
    ours, theirs = socket.socketpair()
    with theirs:
        others = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), imports],
            env={**others, **dict(of_python)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# -- in the process that forks -----------------------------------------------------------------------------------------
def _keep_modules_at_exit() -> Callable[[], None]:
    """Return a function that says: the modules that are imported by now stay as they are when a program ends.

    To take them apart takes longer than most programs. What the program defined or imported itself is taken apart as ever.
    """
    modules, names, kept = sys.modules, set[str](), list[Any]()
    # Once this cycle is frozen, it is not garbage, so what it holds is never let go.
    kept.append(kept)

    def keep() -> None:
        kept.extend(modules.pop(name, None) for name in names)

    # What ends first was registered last; so whatever else runs at exit still finds its modules.
    atexit.register(keep)
    return lambda: names.update(modules.keys() - {"__main__", "builtins", "sys"})


def _import_what_programs_use(module: str) -> None:
    keep_what_is_imported = _keep_modules_at_exit()
    for name in ("asyncio", "warnings", "musubito.store.sqlite.storage", module):
        import_module(name)
    musubito = sys.modules["musubito"]
    for name in musubito.__all__:
        getattr(musubito, name)
    if find_spec("psycopg") is not None:
        import_module("musubito.store.postgres.storage")
    assert threading.active_count() == 1
    # A process that ends would else visit all of these objects, and copy each page of memory on which one lies.
    gc.collect()
    gc.freeze()
    keep_what_is_imported()


def _next_program(requests: socket.socket) -> tuple[str, list[str], str, dict[str, str]]:
    """Return a program in a process that has been forked for it; nobody else comes back from here."""
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        message, descriptors, _, _ = socket.recv_fds(requests, len(_ONE), 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            break
        for each in descriptors:
            os.close(each)
    requests.close()
    stdout, stderr, status = descriptors
    with socket.socket(fileno=status) as channel:
        program = os.fork()
        if program:
            # It only waits, so that the program leaves no zombie and the test learns how it has ended.
            os.close(stdout)
            os.close(stderr)
            channel.sendall(program.to_bytes(4, "big"))
            ended = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
            channel.sendall(ended.to_bytes(4, "big", signed=True))
            os._exit(0)
        with channel.makefile("rb") as lines:
            path, arguments, folder, environment = json.loads(lines.readline())
    for each, standard in ((stdout, 1), (stderr, 2)):
        os.dup2(each, standard)
        os.close(each)
    return path, arguments, folder, environment


def _run(path: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = [path, *arguments]
    sys.path[0] = os.path.dirname(path)
    loader = SourceFileLoader("__main__", path)
    code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
    names = sys.modules["__main__"].__dict__
    kept = {name: names[name] for name in ("__builtins__", "__name__", "__package__", "__spec__")}
    names.clear()
    names.update(kept, __file__=path, __loader__=loader, __doc__=None, __cached__=None)
    exec(code, names)


if __name__ == "__main__":
    _import_what_programs_use(sys.argv[2])
    _run(*_next_program(socket.socket(fileno=int(sys.argv[1]))))
