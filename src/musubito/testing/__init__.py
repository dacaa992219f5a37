"""Helpers for tests of code that uses Musubito, and for tests of a new store; pytest is needed."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("musubito.testing.conformance")
