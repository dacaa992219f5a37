"""A worker of Temporal: `python -m tests.cluster.temporal_worker localhost:7233`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from musubito import StepConfiguration, musubito_step
    from tests.cluster import work

QUEUE = "reports"


@musubito_step
def answer(question: str) -> str:
    """Stand in for a model."""
    work.note("answer", question)
    return f"It is {question}."


@musubito_step(StepConfiguration(step_type="external_effect"), name="mail")
def mail(order: str, text: str) -> str:
    work.note("mail", order)
    return f"{order}: {text}"


@activity.defn
def answered(question: str) -> str:
    """Be killed after the step, before Temporal knows of it; another attempt fails, and the third comes through."""
    text: str = answer(question).value
    if activity.info().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if activity.info().attempt == 2:
        raise TimeoutError("the network is down")
    return text


@activity.defn
def mailed(order: str, text: str) -> str:
    """Mail, and fail."""
    sent: str = mail(order, text).value
    if activity.info().attempt == 1:
        raise TimeoutError("the network is down")
    return sent


@activity.defn
def helped(problem: str) -> list[str]:
    return work.helped(problem)


@workflow.defn
class Order:
    """Answer, and mail the answer once."""

    @workflow.run
    async def run(self, question: str) -> str:
        often = RetryPolicy(initial_interval=timedelta(milliseconds=100), backoff_coefficient=1)
        soon = timedelta(seconds=2)
        text = await workflow.execute_activity(answered, question, start_to_close_timeout=soon, retry_policy=often)
        order = workflow.info().workflow_id
        return await workflow.execute_activity(
            mailed, args=[order, text], start_to_close_timeout=soon, retry_policy=often
        )


@workflow.defn
class Help:
    """The example of the README, in one activity."""

    @workflow.run
    async def run(self, problem: str) -> list[str]:
        return await workflow.execute_activity(helped, problem, start_to_close_timeout=timedelta(seconds=60))


async def main(address: str) -> None:
    client = await Client.connect(address)
    with ThreadPoolExecutor(4) as threads:
        worker = Worker(
            client,
            task_queue=QUEUE,
            workflows=[Order, Help],
            activities=[answered, mailed, helped],
            activity_executor=threads,
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
        )
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
