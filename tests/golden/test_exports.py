"""Moving or renaming code of Musubito runs nothing again, and stored values are found under the names they have."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import musubito
import musubito_langgraph
from musubito.values.artifact_codec import decode_value, encode_value
from musubito.values.class_instances import find_class
from musubito.values.class_names import qualified_name
from musubito.values.own_names import now_called, recorded_as
from musubito_langgraph.message_ids.placeholders import (
    Derived,
    IdPlaceholder,
    NodeOutput,
    RenamedOutput,
    Reported,
    SendPlaceholder,
)

SCRIPT = Path(__file__).with_name("check_exports.py")
SOURCE = Path(musubito.__file__).parents[1]
RECORDED = [line.split("\t") for line in Path(__file__).with_name("own_names.tsv").read_text("utf-8").splitlines()]
CLASSES = [name for name in musubito.__all__ if isinstance(getattr(musubito, name), type)]


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_steps_that_reach_public_names_have_the_fingerprints_that_they_had(seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("package", "name", "module", "recorded"), RECORDED)
def test_a_name_counts_as_it_did(package: str, name: str, module: str, recorded: str) -> None:
    assert recorded_as(f"{package}.anywhere", name) == (module, recorded)
    assert recorded_as(f"{package}.anywhere", f"{name}.method") == (module, f"{recorded}.method")
    assert now_called(module, recorded)[0].partition(".")[0] == package
    assert now_called(module, recorded)[1] == name


def test_every_export_has_a_recorded_name_or_counts_as_an_export() -> None:
    recorded = {(package, name) for package, name, _, _ in RECORDED}
    for package in (musubito, musubito_langgraph):
        for name in package.__all__:
            assert getattr(package, name).__module__ == package.__name__
            if (package.__name__, name) not in recorded:
                assert recorded_as(package.__name__, name) == (package.__name__, name)


@pytest.mark.parametrize("name", CLASSES)
def test_a_stored_class_name_leads_to_the_exported_class(name: str) -> None:
    cls = getattr(musubito, name)
    assert find_class(*qualified_name(cls), {}) is cls
    typing.get_type_hints(cls)


def test_values_are_stored_under_the_names_that_databases_hold() -> None:
    payload = encode_value(musubito.StepType.STOCHASTIC)
    assert b"musubito.model" in payload
    assert decode_value(payload, {}) is musubito.StepType.STOCHASTIC


STORED = [line.split("\t") for line in Path(__file__).with_name("adapter_payloads.tsv").read_text("utf-8").splitlines()]


@pytest.mark.parametrize(("text", "payload"), STORED)
def test_what_the_adapter_stores_is_stored_as_it_was_and_read_again(text: str, payload: str) -> None:
    names = {"Derived": Derived, "Name": IdPlaceholder, "Packed": RenamedOutput, "Reported": Reported}
    value = eval(text, {**names, "NodeOutput": NodeOutput, "Sent": SendPlaceholder})
    assert encode_value(value).hex() == payload
    assert decode_value(bytes.fromhex(payload), {}) == value


def test_nothing_inside_is_called_like_an_export() -> None:
    """A function of the same name in another module would count as the export."""
    homes: dict[tuple[str, str], set[str]] = {(package, name): set() for package, name, _, _ in RECORDED}
    for file in sorted(SOURCE.glob("musubito*/**/*.py")):
        package = file.relative_to(SOURCE).parts[0]
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                homes.get((package, node.name), set()).add(str(file.relative_to(SOURCE)))
    assert {key: files for key, files in homes.items() if len(files) != 1} == {}
