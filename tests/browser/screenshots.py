"""Make the pictures of the documentation from what `make demo` runs: `python -m tests.browser.screenshots`.

Needs what `make browser` installs.
"""

from __future__ import annotations

import subprocess
import sys

from musubito.lineage import Lineage
from tests.browser.recorded import DATABASE, ROOT, environment
from tests.browser.served import Complaints, chromium, served, signed_in

DEMO = ROOT / ".demo"
IMAGES = ROOT / "docs" / "images"
SIZE = {"width": 1200, "height": 640}


def main() -> None:
    """Run the demo and write the pictures of its last run and of the call of the model that ran again."""
    subprocess.run([sys.executable, ROOT / "examples" / "demo.py"], env=environment(), check=True)
    with Lineage.from_url(f"sqlite:///{DEMO / DATABASE}") as lineage:
        last = lineage.run("last")
    ran = next(call for call in last.calls if call.operation == "agent/model" and call.outcome == "ran")
    IMAGES.mkdir(exist_ok=True)
    complaints = Complaints()
    with (
        served(DEMO) as server,
        chromium() as browser,
        signed_in(browser, server, complaints, viewport=SIZE, color_scheme="light") as page,
    ):
        for name, path in (("run", f"/runs/{last.summary.run_id}"), ("result", f"/results/{ran.node_id}")):
            page.goto(server.url + path)
            page.locator(".graph svg, svg.bars").first.wait_for()
            page.screenshot(path=IMAGES / f"{name}.png")
    sys.exit("\n".join(complaints) or None)


if __name__ == "__main__":
    main()
