"""What all tests of faults share."""

from __future__ import annotations

import pytest

from tests.faults.children import bury


@pytest.fixture(autouse=True)
def _no_child_is_left():
    yield
    bury()
