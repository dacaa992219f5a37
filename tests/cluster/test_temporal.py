"""Steps in the activities of Temporal, on a real server: a retry finds what an earlier attempt did."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from tests.cluster.conftest import Shared
from tests.cluster.temporal_worker import QUEUE, Help, Order

SERVER = shutil.which("temporal", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


@contextmanager
def worker(address: str, shared: Shared) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.cluster.temporal_worker", address]
    with subprocess.Popen(command, env={**os.environ, **shared.environment}, stderr=subprocess.DEVNULL) as process:
        yield process
        process.kill()


@asynccontextmanager
async def server() -> AsyncIterator[Client]:
    async with await WorkflowEnvironment.start_local(dev_server_existing_path=SERVER) as environment:
        yield environment.client


def test_a_retry_finds_the_result_and_mails_nothing_twice(shared: Shared) -> None:
    async def ordered() -> str:
        async with server() as client:
            address = client.service_client.config.target_host
            with worker(address, shared) as first:
                order = await client.start_workflow(Order.run, "damp", id="order 7", task_queue=QUEUE)
                await asyncio.to_thread(first.wait, 60)
            with worker(address, shared):
                return await order.result()

    assert asyncio.run(ordered()) == "order 7: It is damp."
    assert {what: len(pids) for what, pids in shared.ran().items()} == {"answer damp": 1, "mail order 7": 1}


def test_the_example_of_the_readme(shared: Shared) -> None:
    async def said() -> list[list[str]]:
        async with server() as client:
            with worker(client.service_client.config.target_host, shared):
                return [
                    await client.execute_workflow(Help.run, "My clock burns.", id=f"help {time}", task_queue=QUEUE)
                    for time in range(2)
                ]

    asked, opened = "the model is asked", "a ticket is opened"
    assert asyncio.run(said()) == [[asked, opened, asked, "It is ticket 7."], [opened, "It is ticket 7."]]
