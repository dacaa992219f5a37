"""What all property tests share."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fleeting import IN_MEMORY


@pytest.fixture
def tmp_path():
    with TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)
