from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from musubito.code import parts
from musubito.code.ownership import Owner, Owners
from musubito.code.tracker import CodeTracker

TABLE = {"a": 1}


def step(x: Any) -> Any:
    return TABLE, json.dumps(x)


class Agent:
    MODEL = "m"
    UNREAD = 1

    def answer(self, x: Any) -> Any:
        return self.MODEL, x


def test_texts_are_cleaned_once_for_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned, nodes = list[str](), list[str]()
    monkeypatch.setattr(parts, "without_secrets_in", lambda text: cleaned.append(text) or text)
    decorated = musubito_step(step)
    for _ in range(2):
        with MusubitoEngine(SQLiteStorage(tmp_path / "m.db")) as engine, use_musubito_engine(engine):
            cleaned.append("an engine")
            nodes.append(decorated(1).node_id)
    assert nodes[0] == nodes[1]
    assert len(cleaned) > 2, "the first engine stores the texts"
    assert cleaned[-1] == "an engine", "the second one has nothing to store"


def test_whose_code_it_is() -> None:
    origins = Owners("pytest")
    assert origins.of_class(Agent) is Owner.USER
    assert origins.of_class(json.JSONDecoder) is Owner.STDLIB
    assert origins.of_module(os) is Owner.STDLIB
    assert origins.of_module(pytest) is Owner.USER  # the step's own package, though it lies in site-packages
    assert Owners("elsewhere").of_module(pytest) is Owner.OTHER
    assert Owners("musubito").of_class(CodeTracker) is Owner.OTHER
    assert Owners("x").of_name("__main__", "<stdin>") is Owner.USER
