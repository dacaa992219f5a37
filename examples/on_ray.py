"""Reports in the tasks of Ray: `pip install ray`, then `python on_ray.py`.

In a cluster, MUSUBITO_URL names a PostgreSQL that all its machines reach.
"""

from __future__ import annotations

import os
from pathlib import Path

import ray
from reports import ASKED, report_for, told

report = ray.remote(report_for)

if __name__ == "__main__":
    url = os.environ.get("MUSUBITO_URL", f"sqlite:///{Path.cwd()}/reports.db")
    ray.init(log_to_driver=False, include_dashboard=False, runtime_env={"env_vars": {"MUSUBITO_URL": url}})
    for _ in range(2):
        print(told(ray.get([report.remote(city, reader) for city, reader in ASKED])))
