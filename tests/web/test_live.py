"""An open page is told of what other processes do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from musubito.web.live import events
from tests.web.conftest import Site

OTHER = """
import sys
from musubito import MusubitoEngine, SQLiteStorage
with MusubitoEngine(SQLiteStorage(sys.argv[1])) as engine:
    engine.execute("elsewhere", {"x": 1}, lambda x: x)
"""


class Asked:
    """A request of a browser that stays."""

    def __init__(self, site: Site, last: str = "") -> None:
        self.app = site.app._app
        self.headers = {"last-event-id": last} if last else {}
        self.query_params: dict[str, str] = {}

    async def is_disconnected(self) -> bool:
        return False


async def told(site: Site, last: str, until: float) -> list[tuple[float, str]]:
    """The changes that are told within some seconds: when each was told, and its id."""
    stream = (await events(Asked(site, last))).body_iterator
    found: list[tuple[float, str]] = []

    async def read() -> None:
        async for text in stream:
            if "event: change" in str(text):
                found.append((time.monotonic(), str(text).split("\n")[0].removeprefix("id: ")))

    task = asyncio.ensure_future(read())
    await asyncio.sleep(until)
    site.stopping.set()
    await asyncio.wait_for(task, 2)
    return found


def test_a_call_of_another_process_is_told_within_a_second(site: Site, engine) -> None:
    async def both() -> tuple[float, list[tuple[float, str]]]:
        watching = asyncio.ensure_future(told(site, site.lineage.last_commit(), 6.0))
        command = [sys.executable, "-c", OTHER, str(engine.storage.db_path)]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        return time.monotonic(), await watching

    ended, found = asyncio.run(both())
    assert found
    assert found[-1][0] < ended + 1
    assert len({change for _, change in found}) == len(found)


def test_a_browser_that_comes_back_is_told_only_of_what_is_new(site: Site, ran) -> None:
    last = site.lineage.last_commit()
    assert asyncio.run(told(site, last, 0.8)) == []
    site.stopping = asyncio.Event()
    site.app._app.state.stopping = site.stopping
    ran()
    site.lineage.engine.flush()
    assert len(asyncio.run(told(site, last, 0.8))) == 1


def test_a_store_that_was_removed_is_told(site: Site, engine) -> None:
    site.get("/store")
    engine.storage.db_path.unlink()
    answer = site.client.get("/")
    assert answer.status_code == 503
    assert "was removed or replaced while it was open" in answer.text
