"""The Celery application that a test's workers load: a broker and a result backend in a folder."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from celery import Celery

from musubito import StepConfiguration, musubito_step, run
from tests.cluster import work

FOLDER = Path(os.environ[work.LOG]).parent
QUEUE = FOLDER / "queue"
for folder in (QUEUE, FOLDER / "results"):
    folder.mkdir(exist_ok=True)

app = Celery("reports", broker="filesystem://", backend=(FOLDER / "results").as_uri())
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(QUEUE),
        "data_folder_out": str(QUEUE),
        "control_folder": str(QUEUE),
        "polling_interval": 0.02,
    },
    # A message is taken from the queue when its task has ended, and is given back if its process is killed.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_lost_wait=0.1,
)


@app.task
def asked(number: int) -> str:
    return work.asked(number)


@app.task
def replayed(number: int) -> str:
    """With what other workers have run, and nothing else: a task that would have to run something fails."""
    with run(mode="replay_only"):
        return work.asked(number)


@app.task
def helped(problem: str) -> list[str]:
    return work.helped(problem)


@musubito_step(name="mail", semantics=StepConfiguration(step_type="external_effect"))
def mail(order: int) -> str:
    work.note("mail", order)
    return f"mail about {order}"


@app.task(bind=True, max_retries=5, default_retry_delay=0)
def mailed(self: Any, order: int) -> str:
    """Fail, be killed, and at last come through; what was mailed stays so."""
    sent: str = mail(order).value
    work.note("tried", order)
    tries = (FOLDER / "log").read_text().count(f"tried {order} ")
    if tries == 1:
        raise self.retry()
    if tries == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return sent
