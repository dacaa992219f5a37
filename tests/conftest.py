"""What all tests share: how long hypothesis looks, that no prune waits for ledgers of other processes, and that no
engine uses the database of whoever runs them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from musubito.lineage import prune

# No deadline: on a shared machine the slowest example is slow for reasons of its own.
settings.register_profile("ci", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", settings.get_profile("ci"), max_examples=2_000, stateful_step_count=100)
# `pytest --hypothesis-profile=soak` comes later and wins.
settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="session")
def _apart() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MUSUBITO_URL", "MUSUBITO_MODE", "MUSUBITO_BLOBS"):
            patch.delenv(name, raising=False)
        patch.setattr(prune, "UNTIL_SAID", 0.0)
        yield
