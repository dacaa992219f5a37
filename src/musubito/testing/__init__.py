"""For those who test against Musubito, or a store of their own for it; needs pytest."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("musubito.testing.conformance")
