"""Reports in the tasks of Celery: `pip install celery`, a worker, and `python on_celery.py`, twice.

Its queue is a folder, for one machine. In a cluster it is Redis or RabbitMQ, and MUSUBITO_URL names a PostgreSQL.
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery
from reports import ASKED, Report, report_for, told

HERE = Path(__file__).resolve().parent / "queue"
for folder in (HERE, HERE / "results"):
    folder.mkdir(exist_ok=True)
os.environ.setdefault("MUSUBITO_URL", f"sqlite:///{HERE}/reports.db")

app = Celery("on_celery", broker="filesystem://", backend=(HERE / "results").as_uri())
app.conf.broker_transport_options = {
    "data_folder_in": str(HERE),
    "data_folder_out": str(HERE),
    "control_folder": str(HERE),
    "polling_interval": 0.1,
}
# If a worker is killed, another does its task: what the first had done is replayed.
app.conf.task_acks_late = app.conf.task_reject_on_worker_lost = True

report = app.task(report_for, name="report")

if __name__ == "__main__":
    sent = [report.delay(city, reader) for city, reader in ASKED]
    print(told(Report(*each.get(timeout=60)) for each in sent))
