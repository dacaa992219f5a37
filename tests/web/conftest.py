"""The page, asked as a browser asks it, of a store that real steps have written."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, record_usage, run, use_musubito_engine
from musubito.lineage import Lineage
from musubito.web.app import application
from tests.fresh import fresh

HOST = "127.0.0.1:8778"
NASTY = """<script>alert(1)</script></script><img src=x onerror=alert(2)>"'& javascript:alert(3)\u2028"""


@musubito_step(name="load")
def load(path: str) -> dict[str, str]:
    return {"path": path, "body": f"first line of {path}\nsecond line"}


@musubito_step(name="ask")
def ask(messages: list[dict[str, Any]]) -> dict[str, Any]:
    record_usage(input_tokens=812, output_tokens=44, model="small")
    return {"role": "assistant", "content": f"{len(messages)} messages"}


@musubito_step(name="rate")
def rate(text: str) -> int:
    if "bad" in text:
        raise ValueError(f"cannot rate {text}")
    return len(text)


@musubito_step(name="report")
def report(path: str) -> str:
    body = load(path).value["body"]
    answer = ask([{"role": "user", "content": body}]).value["content"]
    return f"{answer}: {rate(answer).value}"


class Site:
    """The page, and what asks it."""

    def __init__(self, lineage: Lineage) -> None:
        self.secrets: list[str] = []
        self.lineage = lineage
        self.stopping = asyncio.Event()
        self.app = application(lineage, [HOST], self.secrets.append, self.stopping)
        self.client = self.browser()

    def browser(self) -> TestClient:
        return TestClient(self.app, base_url=f"http://{HOST}", follow_redirects=False)

    def enter(self) -> None:
        answer = self.client.get("/", params={"secret": self.secrets[-1]})
        assert answer.status_code == 303

    def get(self, path: str, **parameters: str) -> str:
        answer = self.client.get(path, params=parameters or None)
        assert answer.status_code == 200, answer.text
        return answer.text

    def says(self, path: str, **parameters: str) -> str:
        """The words of a page, without its markup."""
        text = re.sub(r"<(script|style)\b.*?</\1>", " ", self.get(path, **parameters), flags=re.DOTALL)
        return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", text).split()))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    with (
        MusubitoEngine(SQLiteStorage(fresh(tmp_path / "musubito.db"))) as engine,
        use_musubito_engine(engine),
    ):
        yield engine


@pytest.fixture
def site(engine: MusubitoEngine) -> Site:
    site = Site(Lineage(engine))
    site.enter()
    return site


@pytest.fixture
def ran() -> Callable[..., str]:
    """Runs the report in a run, and returns the run's id."""

    def ran(path: str = "a.txt", name: str = "nightly", **tags: str) -> str:
        with run(name, tags=tags) as recorded:
            report(path)
        return recorded.run_id

    return ran
