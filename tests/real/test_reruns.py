"""A support agent with recorded threads is rerun against edits, on a server that counts what it is asked."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.types import Command

from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine
from musubito.lineage import Lineage, rerun
from musubito.lineage.readers.run_texts import text_of_output
from tests.fresh import fresh
from tests.real.model_server import ModelServer, model_server
from tests.server import drop_database, new_database

pytestmark = pytest.mark.filterwarnings("ignore")
THREADS = 200
SOURCE = Path(__file__).with_name("rerun_support.py").read_text()


def loaded(folder: Path, old: str = "", new: str = "") -> Any:
    """Load the agent's program, with `new` in place of a text that it has once."""
    assert not old or SOURCE.count(old) == 1, old
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / "rerun_app.py"
    file.write_text(SOURCE.replace(old, new))
    spec = importlib.util.spec_from_file_location("rerun_app", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def asked(number: int) -> str:
    return f'Where is it? look_up{{"number": "{number}"}}'


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with model_server() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="module")
def recorded(server: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MusubitoEngine]:
    """The threads of a day: each asks for an order, and every tenth then asks something else."""
    folder = tmp_path_factory.mktemp("recorded")
    with MusubitoEngine(SQLiteStorage(fresh(folder / "m.db"))) as engine, use_musubito_engine(engine):
        program = loaded(folder)
        agent = program.agent()
        for number in range(THREADS):
            config = {"configurable": {"thread_id": f"thread {number}"}}
            for text in (asked(number), *(["Thank you."] if number % 10 == 0 else [])):
                agent.invoke({"messages": [HumanMessage(text)]}, config, context=program.User("Ann"))
        server.took()
        yield engine


def test_without_an_edit_nothing_is_asked(recorded: MusubitoEngine, server: ModelServer, tmp_path: Path) -> None:
    program = loaded(tmp_path, "PROMPT =", "# A comment costs nothing.\nPROMPT =")
    report = rerun(program.agent(), last=THREADS)
    assert report.counts == {"same": THREADS}
    assert (server.took(), program.WORLD) == (0, [])


def test_an_edited_prompt_costs_its_node_and_what_follows(
    recorded: MusubitoEngine, server: ModelServer, tmp_path: Path
) -> None:
    program = loaded(tmp_path, "You help customers.", "You help customers, briefly.")
    report = rerun(program.agent(), last=THREADS + THREADS // 10)
    # An order takes two questions, a thank-you one. No tool runs.
    assert server.took() == 2 * THREADS + THREADS // 10
    assert program.WORLD == []
    assert report.counts == {"differs": THREADS + THREADS // 10}
    bare = program.built()
    for row in report.rows[:20]:
        first = recorded_state(recorded, row.run_ids[0])
        truth = bare.invoke(first, context=program.User("Ann"))["messages"][-1].text
        assert text_of_output(row.after) == truth
    server.took()
    assert rerun(program.agent(), last=THREADS).counts == {"differs": THREADS}
    assert server.took() == 0


def recorded_state(engine: MusubitoEngine, run_id: str) -> Any:
    given = Lineage(engine).input_of_run(run_id)
    assert given is not None
    return given.values["state"]


def test_an_edited_tool_does_not_run_and_that_is_said(
    recorded: MusubitoEngine, server: ModelServer, tmp_path: Path
) -> None:
    program = loaded(tmp_path, "is on its way", "is late")
    report = rerun(program.agent(), last=20)
    assert report.counts == {"same": 20}
    assert (server.took(), program.WORLD) == (0, [])
    assert {row.not_run for row in report.rows} <= {("support/tools.look_up",), ()}
    assert any(row.not_run for row in report.rows)


def test_an_edited_tool_that_may_run_costs_its_callers(
    recorded: MusubitoEngine, server: ModelServer, tmp_path: Path
) -> None:
    program = loaded(tmp_path, "is on its way", "is lost")
    report = rerun(program.agent(), where='look_up{"number": "19', last=9, live_tools=["look_up"])
    assert (len(program.WORLD), server.took()) == (9, 9)
    assert report.counts == {"differs": 9}


def test_another_model_costs_all(recorded: MusubitoEngine, server: ModelServer, tmp_path: Path) -> None:
    program = loaded(tmp_path, "gpt-4o-mini", "gpt-4.1-mini")
    report = rerun(program.agent(), last=9, where='look_up{"number": "18')
    assert (server.took(), report.counts, program.WORLD) == (18, {"differs": 9}, [])


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_an_approval_is_answered_as_it_was(server: ModelServer, tmp_path: Path, database: str) -> None:
    url = new_database() if database == "postgresql" else f"sqlite:///{tmp_path / 'm.db'}"
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        program = loaded(tmp_path)
        agent = program.agent()
        for number, answer in enumerate(("yes", "no")):
            config = {"configurable": {"thread_id": f"thread {number}"}}
            text = f'Money! refund{{"number": "{number}", "amount": 5}}'
            agent.invoke({"messages": [HumanMessage(text)]}, config, context=program.User("Ann"))
            agent.invoke(Command(resume=answer), config, context=program.User("Ann"))
        assert program.WORLD == ["refund 0"]
        server.took()
        program = loaded(tmp_path / "edited", "You help customers.", "You help.")
        report = rerun(program.agent(), last=10)
        assert program.WORLD == []
        assert report.counts == {"differs": 2}
        assert server.took() == 4
    if database == "postgresql":
        drop_database(url)


CRASHING = """
import sys
import time
sys.path.insert(0, sys.argv[1])
from musubito import MusubitoEngine, use_musubito_engine
from musubito.lineage import rerun
import rerun_app

with MusubitoEngine.from_url(sys.argv[2]) as engine, use_musubito_engine(engine):
    rerun(rerun_app.agent(), last=int(sys.argv[3]))
"""


def test_a_rerun_that_was_killed_goes_on_where_it_stopped(server: ModelServer, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    with MusubitoEngine.from_url(url) as engine, use_musubito_engine(engine):
        program = loaded(tmp_path / "before")
        agent = program.agent()
        for number in range(30):
            config = {"configurable": {"thread_id": f"thread {number}"}}
            agent.invoke({"messages": [HumanMessage(asked(number))]}, config, context=program.User("Ann"))
        server.took()
        program = loaded(tmp_path / "after", "You help customers.", "You help.")
        command = [sys.executable, "-c", CRASHING, str(tmp_path / "after"), url, "30"]
        with subprocess.Popen(command) as process:
            while len(server.questions) < 20:
                assert process.poll() is None
                time.sleep(0.01)
            process.kill()
        asked_before = server.took()
        assert rerun(program.agent(), last=30).counts == {"differs": 30}
        # Up to four runs were in the middle of a question, whose answer was lost.
        assert 60 <= asked_before + server.took() <= 64
