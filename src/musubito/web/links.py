"""Say where a link leads: on the served page to other pages, in an exported file to other parts of it."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from urllib.parse import quote

from musubito.web.contents import Picture


class Links:
    """The addresses of what a page shows, on the served page. An empty address: there is no link."""

    def run(self, run_id: str) -> str:
        """Return the address of a run."""
        return f"/runs/{run_id}"

    def rerun(self, run_id: str, run: str | None = "") -> str:
        """Return the address of a rerun, or that of a run in it."""
        return f"/reruns/{run_id}" + (f"/{run}" if run else "")

    def result(self, node_id: str) -> str:
        """Return the address of a step result."""
        return f"/results/{node_id}"

    def operation(self, name: str) -> str:
        """Return the address of an operation."""
        return f"/operations/{quote(name, safe='')}"

    def tagged(self, key: str, value: object) -> str:
        """Return the address of the runs that have a tag."""
        return f"/?tag={quote(f'{key}={value}')}"

    def image(self, node_id: str, side: str, picture: Picture) -> str:
        """Return the address of an image in the input or the output of a result."""
        return f"/results/{node_id}/{side}/{picture.number}"


class FileLinks(Links):
    """Links of an exported file, which holds the results, or the runs of a rerun, with these ids and nothing else."""

    def __init__(self, results: Iterable[str]) -> None:
        self._results = frozenset(results)

    def run(self, run_id: str) -> str:
        """See `Links.run`."""
        return ""

    def rerun(self, run_id: str, run: str | None = "") -> str:
        """See `Links.rerun`."""
        return f"#run-{run}" if run in self._results else ""

    def result(self, node_id: str) -> str:
        """See `Links.result`."""
        return f"#result-{node_id}" if node_id in self._results else ""

    def operation(self, name: str) -> str:
        """See `Links.operation`."""
        return ""

    def tagged(self, key: str, value: object) -> str:
        """See `Links.tagged`."""
        return ""

    def image(self, node_id: str, side: str, picture: Picture) -> str:
        """Return the image itself as an address."""
        data = base64.b64encode(picture.image.bytes()).decode()
        return f"data:{picture.image.media_type};base64,{data}"
