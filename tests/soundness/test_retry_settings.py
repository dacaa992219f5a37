"""How long a client waits, and how often it tries, counts only where code handles errors or names the setting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel

import musubito_langgraph  # noqa: F401 - it says what counts of a Runnable
from musubito.code.fingerprint import CodeTracker


def digest(step: Callable[..., Any]) -> bytes:
    return CodeTracker(step).current().digest


def asks(client: httpx.Client) -> Callable[..., Any]:
    def step(q: str) -> int:
        return client.get(q).status_code

    return step


def handles(client: httpx.Client) -> Callable[..., Any]:
    def step(q: str) -> str:
        try:
            return client.get(q).text
        except httpx.TimeoutException:
            return "nothing"

    return step


def suppresses(client: httpx.Client) -> Callable[..., Any]:
    def step(q: str) -> str | None:
        with suppress(httpx.TimeoutException):
            return client.get(q).text
        return None

    return step


def gathers(client: httpx.AsyncClient) -> Callable[..., Any]:
    async def step(q: str) -> int:
        answers = await asyncio.gather(client.get(q), client.get(q), return_exceptions=True)
        return len([answer for answer in answers if isinstance(answer, Exception)])

    return step


def helped(client: httpx.Client) -> Callable[..., Any]:
    asked = handles(client)

    def step(q: str) -> str:
        return f"{asked(q)}!"

    return step


class Ending:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> bool:
        return True


def ends(client: httpx.Client) -> Callable[..., Any]:
    def step(q: str) -> str | None:
        with Ending():
            return client.get(q).text
        return None

    return step


def names_it(client: httpx.Client) -> Callable[..., Any]:
    def step(q: str) -> str:
        return f"{q} within {client.timeout}"

    return step


def test_how_long_a_client_waits_does_not_count():
    assert digest(asks(httpx.Client(timeout=1))) == digest(asks(httpx.Client(timeout=2)))
    base = httpx.Client(base_url="http://a", timeout=1)
    assert digest(asks(base)) != digest(asks(httpx.Client(base_url="http://b", timeout=1)))


@pytest.mark.parametrize("step", [handles, suppresses, helped, ends, names_it])
def test_it_counts_where_code_answers_in_another_way_if_the_client_gives_up(step):
    assert digest(step(httpx.Client(timeout=1))) == digest(step(httpx.Client(timeout=1)))
    assert digest(step(httpx.Client(timeout=1))) != digest(step(httpx.Client(timeout=2)))


def test_it_counts_where_errors_are_returned_among_the_results():
    one, other = httpx.AsyncClient(timeout=1), httpx.AsyncClient(timeout=2)
    assert digest(gathers(one)) != digest(gathers(other))


class Waits:
    """An object of one's own."""

    def __init__(self, timeout: float) -> None:
        self.timeout, self.base_url = timeout, "http://a"

    def ask(self, q: str) -> str:
        return f"{q} {self.timeout}"


def test_such_a_setting_of_an_object_of_ones_own_counts():
    def made(held: Waits) -> Callable[..., Any]:
        def step(q: str) -> str:
            return held.ask(q)

        return step

    assert digest(made(Waits(1))) != digest(made(Waits(2)))


def test_how_often_a_runnable_is_tried_does_not_count():
    model = FakeListChatModel(responses=["a"])

    def made(runnable: Any) -> Callable[..., Any]:
        def step(q: str) -> Any:
            return runnable.invoke(q)

        return step

    def careful(runnable: Any) -> Callable[..., Any]:
        def step(q: str) -> Any:
            try:
                return runnable.invoke(q)
            except ValueError:
                return None

        return step

    few, many = (model.with_retry(stop_after_attempt=number) for number in (2, 5))
    assert digest(made(few)) == digest(made(many))
    assert digest(careful(few)) != digest(careful(many))
    assert digest(made(few)) != digest(made(model.with_retry(retry_if_exception_type=(ValueError,))))
