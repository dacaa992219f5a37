"""Run pytest as `python -m pytest` does, as a program of `tests.launcher`."""

from __future__ import annotations

import os
import sys

import pytest

sys.path[0] = os.getcwd()
sys.exit(pytest.console_main())
