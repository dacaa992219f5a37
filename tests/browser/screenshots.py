"""Make the pictures of the documentation from what `make demo` runs: `python -m tests.browser.screenshots`.

Needs what `make browser` installs.
"""

from __future__ import annotations

import subprocess
import sys

from musubito.lineage import Lineage
from tests.browser.recorded import DATABASE, PLAN, ROOT, environment, move_to_an_earlier_day, record_plan
from tests.browser.served import Complaints, chromium, served, signed_in

DEMO = ROOT / ".demo"
IMAGES = ROOT / "docs" / "images"
SIZE = {"width": 1200, "height": 760}
MOST = 1_000_000
"""Bytes of all pictures together at most."""


def main() -> None:
    """Run the demo on two days, edit its prompt, run what the plan is of, and write a picture of each page."""
    subprocess.run([sys.executable, ROOT / "examples" / "demo.py"], env=environment(), check=True)
    with Lineage.from_url(f"sqlite:///{DEMO / DATABASE}") as lineage:
        last = lineage.run("last")
        for earlier in lineage.runs()[1:]:
            move_to_an_earlier_day(DEMO, earlier.run_id)
    agent = DEMO / "agent.py"
    agent.write_text(agent.read_text("utf-8").replace("in one or two sentences", "in one sentence"), "utf-8")
    subprocess.run([sys.executable, "agent.py"], cwd=DEMO, env=environment(), check=True, stdout=subprocess.PIPE)
    ran = next(call for call in last.calls if call.operation == "agent/model" and call.outcome == "ran")
    record_plan(DEMO)
    pages = {
        "runs": "/",
        "run": f"/runs/{last.summary.run_id}",
        "graph": f"/runs/{last.summary.run_id}#graph",
        "comparison": f"/compare?run={last.summary.run_id}",
        "result": f"/results/{ran.node_id}",
        "operations": "/operations",
        "operation": "/operations/agent%2Fmodel#versions-title",
        "savings": "/savings",
        "store": "/store#contents",  # below the path of this machine
        "plan": "/plan",
    }
    complaints = Complaints()
    with (
        served(DEMO, *PLAN) as server,
        chromium() as browser,
        signed_in(browser, server, complaints, viewport=SIZE, color_scheme="light") as page,
    ):
        for name, path in pages.items():
            page.goto(server.url + path)
            page.locator(".graph svg, svg.bars, h1").first.wait_for()
            for details in page.locator("#versions details:not([open]) summary").all():
                details.click()
            page.screenshot(path=IMAGES / f"{name}.png")
    size = sum((IMAGES / f"{name}.png").stat().st_size for name in pages)
    sys.exit("\n".join(complaints) or (f"{size:,} bytes are too many" if size > MOST else None))


if __name__ == "__main__":
    main()
