"""What all tests share: where their files lie, how long hypothesis looks, that no prune waits for ledgers of other
processes, and that no engine uses the database of whoever runs them."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from musubito.dependencies.paths import DATABASES
from musubito.engine.open_engines import ENGINES
from musubito.lineage.removal import prune
from tests.fleeting import keep_temporary_files_in_memory
from tests.quick import is_quick

keep_temporary_files_in_memory()

# No deadline: on a shared machine the slowest example is slow for reasons of its own.
# What gates a commit looks at the same few examples each time; a soak looks at many, and at others each time.
settings.register_profile(
    "ci", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=30, derandomize=True
)
settings.register_profile(
    "soak", settings.get_profile("ci"), max_examples=2_000, stateful_step_count=100, derandomize=False
)
# `pytest --hypothesis-profile=soak` comes later and wins.
settings.load_profile("ci")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that are quick."""
    if isinstance(item, pytest.Function) and is_quick(item):
        item.add_marker("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Let engines that a test left open write what they have to, before the test's files are removed."""
    for engine in tuple(ENGINES):
        if len(engine.journal):
            engine.flush()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Forget the databases of earlier tests that are gone: for each digest of a file, all that are known are looked at."""
    DATABASES.difference_update([path for path in DATABASES if not os.path.exists(path)])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are collected: what is made then stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Keep the garbage collector from visiting the collected tests, and the modules, again and again.

    From now on no bytecode is written, in no child either: a program that is edited within a second, to the same size,
    would run as it was. Nearly all of Musubito has its bytecode by now.
    """
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _frozen() -> None:
    """Keep the garbage collector from visiting what earlier files have left, such as trees of source, again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _apart() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MUSUBITO_URL", "MUSUBITO_MODE", "MUSUBITO_BLOBS", "MUSUBITO_KEY_FILE"):
            patch.delenv(name, raising=False)
        patch.setattr(prune, "HISTORY_DELAY", 0.0)
        yield
