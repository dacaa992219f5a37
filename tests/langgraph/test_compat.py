"""What is not public in LangGraph stands in one module, which says at import if a LangGraph does not fit."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import musubito
import musubito_langgraph

ADAPTER = Path(musubito_langgraph.__file__).parent
CORE = Path(musubito.__file__).parent
FITS = "musubito_langgraph needs langgraph>=1.0,<2 with langchain-core>=1.0,<2"


# -- only one module knows what is private -----------------------------------------------------------------------------
def imported(source: str) -> Iterator[str]:
    """The dotted paths of all that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)


def named(source: str) -> Iterator[str]:
    """Whatever a module names in its texts, that could be imported by these names, or be a key of a config."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
            yield node.value


def is_private(path: str) -> bool:
    """Whether it belongs to LangGraph and is none of what it publishes: `langgraph.pregel` publishes two names."""
    parts = path.split(".")
    if parts[0] != "langgraph":
        return False
    return any(part.startswith("_") for part in parts) or (
        parts[1:2] == ["pregel"] and path not in ("langgraph.pregel.Pregel", "langgraph.pregel.NodeBuilder")
    )


@pytest.mark.parametrize(
    ("path", "private"),
    [
        ("langgraph.pregel._read.PregelNode", True),
        ("langgraph._internal._constants.CONF", True),
        ("langgraph.graph._branch.BranchSpec", True),
        ("langgraph.pregel.main.Pregel", True),
        ("langgraph.pregel.protocol.PregelProtocol", True),
        ("langgraph.pregel._messages", True),
        ("langgraph.pregel.Pregel", False),
        ("langgraph.graph.StateGraph", False),
        ("langgraph.types.Command", False),
        ("langchain_core._api.deprecated", False),
        ("musubito_langgraph._compat.Pregel", False),
    ],
)
def test_what_counts_as_private(path: str, private: bool):
    assert is_private(path) is private


def test_only_one_module_imports_what_is_private():
    sources = sorted(ADAPTER.rglob("*.py")) + sorted(CORE.rglob("*.py"))
    assert len(sources) > 30
    found = {source.name for source in sources if any(map(is_private, imported(source.read_text())))}
    assert found == {"_compat.py"}


def test_nor_does_another_name_it_in_a_text():
    for source in sorted(ADAPTER.rglob("*.py")):
        told = {each for each in named(source.read_text()) if each.startswith("__pregel_") or is_private(each)}
        assert not told or source.name == "_compat.py", told


def test_the_core_knows_nothing_of_it():
    for source in sorted(CORE.rglob("*.py")):
        assert not [path for path in imported(source.read_text()) if path.split(".")[0] in ("langgraph", "langchain")]


# -- a LangGraph that does not fit -------------------------------------------------------------------------------------
FORKING = """
import json, os, sys, traceback
import langchain.agents, langgraph.func, langgraph.graph, langgraph.prebuilt, langgraph.pregel

for before in json.load(sys.stdin):
    child = os.fork()
    if not child:
        try:
            exec(before, {})
            import musubito_langgraph
        except BaseException as error:
            print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)
        else:
            print(json.dumps("it fits"), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
"""Imports the adapter in a process for each of these: they share what takes long, which is to import LangGraph."""


def importing(*befores: str) -> list[str]:
    """What the adapter says at import, in other processes in which something was done before."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        input=json.dumps([textwrap.dedent(each) for each in befores]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


REMOVED = {
    "PregelNode.copy": "from langgraph.pregel._read import PregelNode as there\ndel there.copy",
    "PregelNode.flat_writers": "from langgraph.pregel._read import PregelNode as there\ndel there.flat_writers",
    "ChannelWrite._write": "from langgraph.pregel._write import ChannelWrite as there\ndel there._awrite",
    "BranchSpec.path": """
        import langgraph.graph.state
        from typing import NamedTuple

        class BranchSpec(NamedTuple):
            way: object

        langgraph.graph._branch.BranchSpec = BranchSpec
    """,
    "PregelScratchpad": """
        from langgraph._internal import _scratchpad
        fields = _scratchpad.PregelScratchpad.__dataclass_fields__
        fields["answers"] = fields.pop("resume")
    """,
    "Runtime.__init__": "from langgraph.runtime import Runtime\nRuntime.__post_init__ = print",
    "BaseChannel.copy": "from langgraph.channels.base import BaseChannel\ndel BaseChannel.copy",
}
"""What is looked at, and what takes it away."""


SEVERAL = "\n".join(map(textwrap.dedent, (REMOVED["PregelNode.copy"], REMOVED["Runtime.__init__"])))
MOVED = {
    "langgraph.pregel._read": "import sys; sys.modules['langgraph.pregel._read'] = None",
    "CONFIG_KEY_SCRATCHPAD": "from langgraph._internal import _constants; del _constants.CONFIG_KEY_SCRATCHPAD",
}
"""What has another place or is gone, and what takes it away."""
WITHOUT_NUMPY = """
    import sys

    class Refusal:
        def find_spec(self, name, path=None, target=None):
            if name == "numpy":
                raise AssertionError("numpy is imported")

    sys.meta_path.insert(0, Refusal())
"""


@pytest.fixture(scope="module")
def imported_after() -> dict[str, str]:
    """What the adapter says at import, by what was done before."""
    befores = ("", *REMOVED.values(), SEVERAL, *MOVED.values(), WITHOUT_NUMPY)
    return dict(zip(befores, importing(*befores), strict=True))


def test_one_that_does_not_fit_is_named_at_import(imported_after):
    assert imported_after[""] == "it fits"
    for what, before in REMOVED.items():
        assert imported_after[before] == (
            f"ImportError: {FITS}; langgraph {version('langgraph')} is installed, and in it {what} is not what it was"
        )


def test_numpy_is_left_to_those_who_need_it(imported_after):
    """To import it takes a tenth of the time that the adapter takes."""
    assert imported_after[WITHOUT_NUMPY] == "it fits"


def test_all_that_is_missing_is_named_at_once(imported_after):
    assert imported_after[SEVERAL].endswith("in it PregelNode.copy, Runtime.__init__ is not what it was")


@pytest.mark.parametrize("what", MOVED)
def test_what_has_moved_or_gone_is_named(imported_after, what):
    said = imported_after[MOVED[what]]
    assert said.startswith(f"ImportError: {FITS} (pip install 'musubito[langgraph]'): ")
    assert what in said


def without_langgraph(module: str) -> subprocess.CompletedProcess[str]:
    """Imports a module where LangGraph is not installed."""
    program = f"import sys; sys.modules['langgraph'] = sys.modules['langchain_core'] = None; import {module}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)


def test_without_langgraph_it_says_what_to_install():
    done = without_langgraph("musubito_langgraph")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {FITS} (pip install 'musubito[langgraph]'): ")


def test_the_core_alone_does_not_need_it():
    done = without_langgraph("musubito")
    assert (done.returncode, done.stderr) == (0, "")


def test_all_that_is_looked_at_has_a_test():
    source = (ADAPTER / "_compat.py").read_text()
    (check,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "_check")
    looked_at = next(node for node in ast.walk(check) if isinstance(node, ast.Dict))
    assert [key.value for key in looked_at.keys if isinstance(key, ast.Constant)] == list(REMOVED)
