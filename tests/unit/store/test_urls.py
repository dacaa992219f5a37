"""Which store a URL names, and that nothing secret is said of one that names none."""

from __future__ import annotations

import pytest

from musubito import StoreError
from musubito.store.urls import open_store

BAD = [
    "postgresql://user:pa/ss-SECRET@host/db",
    "postgresql://user:SECRET@ho st/db",
    "postgresql://user:SEC%RET@host/db",
    "postgresql://user:SECRET@[::1/db",
    "postgresql://user:a@SECRET@127.0.0.1:1/db",
    "postgresql://user:SECRET@localhost/db?foo=1",
    "postgresql://user:SECRET@localhost/db\0x",
    "postgresql://user:SECRET@localhost/\ud800",
    "postgresql://user@/db?host=/nowhere&password=SECRET",
    "postgresql+psycopg://user:SECRET@host/db",
    "mysql://user:a/SECRET@host/db",
    "sqlite://user:a@SECRET@host/db",
    "host=localhost password=SECRET",
    "postgresql://host/db?password=a&SECRET=b",
    "postgresql://host/db?sslmode=disable&password=a&SECRET=b&bogus=1",
    "postgresql://user:a?SECRET=b@host/db",
    "postgresql://user:a@b?SECRET=c@host/db",
    "postgresql://user:a@b?SECRET=c&host=@here",
]


@pytest.mark.parametrize("url", BAD, ids=ascii)
def test_a_url_that_names_no_store_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreError) as raised:
        open_store(url)
    for secret in ("SECRET", "SEC%RET", "ss-SEC"):
        assert secret not in str(raised.value)


def test_what_is_wrong_with_it_is_said_with_the_remedy() -> None:
    with pytest.raises(StoreError, match=r"more than one @, or a / before it. .*percent-encoded \(urllib.parse.quote"):
        open_store("postgresql://user:a/b@host/db")
    with pytest.raises(StoreError, match="'mysql://...@host/db' names no store; use sqlite:///path"):
        open_store("mysql://user:password@host/db")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:SECRET@host/db?bogus=1",
        "postgresql://host/db?bogus=1&password=SECRET",
        "postgresql://host/db?bogus=1",
    ],
)
def test_an_option_that_libpq_does_not_know_is_named(url: str) -> None:
    with pytest.raises(StoreError, match="bogus") as raised:
        open_store(url)
    assert "SECRET" not in str(raised.value)
