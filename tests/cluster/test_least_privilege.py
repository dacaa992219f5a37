"""A role that may do what the page on PostgreSQL grants it, and nothing more, is all that a worker needs."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from musubito import MusubitoEngine, StoreError, musubito_step, use_musubito_engine
from tests.server import drop_database, new_database, server_url

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "postgresql.md"


@pytest.fixture
def database() -> Iterator[str]:
    url = new_database()
    yield url
    drop_database(url)


@pytest.fixture
def role() -> Iterator[str]:
    name = f"worker_{secrets.token_hex(4)}"
    with psycopg.connect(server_url(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'for a test'")
    yield name
    with psycopg.connect(server_url(), autocommit=True) as connection:
        connection.execute(f"DROP ROLE {name}")


def of(url: str, role: str) -> str:
    user = conninfo_to_dict(url)["user"]
    return re.sub(rf"//{user}(:[^@]*)?@", f"//{role}:for%20a%20test@", url)


def test_a_worker_needs_what_the_readme_grants_it(database: str, role: str) -> None:
    with pytest.raises(StoreError, match="may not make the schema"):
        MusubitoEngine.from_url(of(database, role))
    MusubitoEngine.from_url(database).close()
    grants = re.search(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert grants is not None
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(re.sub(r"\bworker\b", role, grants[1]))

    runs = []

    @musubito_step
    def f(x: int) -> int:
        runs.append(x)
        return x

    for _ in range(2):
        with MusubitoEngine.from_url(of(database, role), strict=True) as engine, use_musubito_engine(engine):
            assert f(1).value == 1
            engine.flush()
    assert runs == [1]
    with psycopg.connect(of(database, role)) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("CREATE TABLE musubito.mine (x int)")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {role}")
