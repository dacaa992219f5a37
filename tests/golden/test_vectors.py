"""The frozen encodings hold in every process, whatever its hash seed, and under other Python versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import musubito.errors

SCRIPT = Path(__file__).with_name("check_vectors.py")
SOURCE = Path(musubito.errors.__file__).parents[1]


def check(python: str, seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([python, str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_frozen_vectors_hold(seed: str) -> None:
    check(sys.executable, seed)


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_the_frozen_vectors_hold_under_another_python(version: str) -> None:
    python = shutil.which(f"python{version}")
    if (
        python is None
        or subprocess.run([python, "-c", "import ormsgpack"], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"no Python {version} with ormsgpack")
    check(python, "7")
