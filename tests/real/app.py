"""Applications of `tests/real/apps`: how one is loaded, edited, asked and shown."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph.types import Command

from musubito import run
from musubito_langgraph import musubito_graph
from tests.real.test_middleware import MODES, plain

APPS = Path(__file__).parent / "apps"
Edit = tuple[str, str, frozenset[str]]
"""A text of the program, another in its place, and the last parts of the names of what then runs."""


@dataclass(frozen=True)
class App:
    """An application, what it is asked, and what an edit makes run."""

    rounds: Sequence[Any]
    """Inputs and commands, all in one thread."""
    edits: Sequence[Edit] = ()
    knows_user: bool = False
    """Whether its answer says whose it is."""
    runs_again: frozenset[str] = frozenset()
    """What runs again on a replay whose tools replay, too: it writes, or a person has answered it."""
    shows_less: bool = False
    """Whether it has nodes that call a graph: what such a graph emits, a replay does not show again."""
    asks_again: int = 0
    """How many requests that makes."""


def user(text: str) -> Any:
    return {"messages": [("user", text)]}


def ran(*names: str) -> frozenset[str]:
    return frozenset(names)


RESEARCHED = ran("supervisor_tools", "supervisor", "final_report_generation", "compress_research")
EXTRACTED = ran("extract", "validate", "validate:handle_retries", "del_tool_call")
"""The steps of an extractor of trustcall, a graph that a node invokes."""
ENTERED = ran("__start__:enter")
TOPIC = "web_search" + json.dumps({"query": "it"})
BRIEF = json.dumps({"research_brief": "ConductResearch" + json.dumps({"research_topic": TOPIC})})
APPLICATIONS: dict[str, App] = {
    "supervisor": App(
        [
            user(
                'transfer_to_research_expert{} web_search{"query": "faang"} '
                'transfer_to_math_expert{} add{"a": 1, "b": 2}'
            )
        ],
        [
            ("    return a + b", "    return b + a", ran("math_expert", "tools", "tools.add")),
            ("Use one tool at a time.", "Use tools.", ran("math_expert", "agent", "model")),
            (
                "FAANG has people",
                "It has people",
                ran("research_expert", "tools.web_search", "agent", "model", "tools", "tools.transfer_to_math_expert")
                | ran("math_expert"),
            ),
        ],
        shows_less=True,
    ),
    "swarm": App(
        [user('transfer_to_bob{} transfer_to_alice{} add{"a": 1, "b": 2}')],
        [
            ("    return a + b", "    return b + a", ran("tools.add", "tools")),
            (
                "    return a + b",
                "    return b - a",
                ran("tools.add", "tools", "model"),
            ),
            ("like a pirate", "like a lord", ran("model")),
        ],
    ),
    "bigtool": App(
        [{**user('retrieve_tools{"query": "double"}'), "selected_tool_ids": []}],
        [('"""Double a number."""', '"""Double it."""', ran("agent", "agent:should_continue", "select_tools"))],
    ),
    "memories": App(
        [user('search_memory{"query": "tea"} Preference{"category": "food", "preference": "tea"} ' + "Long. " * 60)],
        [
            (
                "You remember.",
                "You remember well.",
                ran("model", "summarize", "remember") | EXTRACTED | ENTERED,
            ),
            ("Extract user preferences.", "Extract preferences.", ran("remember") | EXTRACTED | ENTERED),
        ],
        knows_user=True,
    ),
    "task_maistro": App(
        [
            user('I am Lance. UpdateMemory{"update_type": "user"} Profile{"name": "Lance", "interests": []}'),
            user('UpdateMemory{"update_type": "todo"} ToDo{"task": "swim", "status": "done"}'),
            user('UpdateMemory{"update_type": "instructions"}'),
        ],
        runs_again=ran("task_maistro", "update_profile", "update_todos", "update_instructions") | EXTRACTED | ENTERED,
        asks_again=2,
    ),
    "deep_research": App(
        [user(f"What is it? ResearchQuestion{BRIEF}")],
        [
            (
                '    return f"the web on {query}"',
                '    return f"web on {query}"',
                RESEARCHED | ran("web_search", "researcher", "researcher_tools"),
            ),
            ('"Compress."', '"Sum up."', RESEARCHED),
            ('f"Report on {', 'f"Write about {', ran("final_report_generation")),
        ],
    ),
    "assistant": App(
        [
            user('set_topic{"topic": "tea"} about_topic{"question": "how?"} recall{}'),
            user('send_mail{"to": "bob"}'),
            Command(resume="yes"),
        ],
        [
            ("    return text.title()", "    return str(text).title()", ran("tools.about_topic")),
            ("Create a summary of", "Sum up", ran("summarize", "assistant", "assistant:next_step")),
        ],
        knows_user=True,
        runs_again=ran("tools", "tools.send_mail"),
    ),
}


def loaded(name: str, folder: Path, old: str = "", new: str = "") -> Any:
    """Load an application anew, with `new` in place of a text that it has once."""
    text = (APPS / f"{name}.py").read_text()
    assert not old or text.count(old) == 1, old
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(text.replace(old, new))
    spec = importlib.util.spec_from_file_location(f"app_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def opted_in(graph: Any) -> Any:
    """Wrap an application whose tools replay."""
    return musubito_graph(graph, replay_tools=True)


def configured(thread: str = "one", who: str = "ann") -> Any:
    return {"configurable": {"thread_id": thread, "user_id": who, "langgraph_user_id": who}}


async def seen(graph: Any, app: App, config: Any) -> dict[str, list[Any]]:
    """All that a user sees of a run, in every stream mode; what runs side by side comes in no order."""
    shown: dict[str, list[Any]] = {mode: [] for mode in MODES}
    for each in app.rounds:
        async for mode, event in graph.astream(each, config, stream_mode=list(MODES), version="v1"):
            shown[mode].append(plain(event))
    return {mode: sorted(events, key=lambda event: json.dumps(event, default=str)) for mode, events in shown.items()}


async def events(graph: Any, app: App, config: Any) -> list[Any]:
    """The events of a run, by kind, name and node."""
    return sorted(
        [
            (event["event"], event["name"], event["metadata"].get("langgraph_node", ""))
            for each in app.rounds
            async for event in graph.astream_events(each, config, version="v2")
        ]
    )


async def answered(graph: Any, app: App, config: Any) -> Any:
    """What a run gives, and what ran in it, by the last parts of the names; the server knows which models ran."""
    with run() as calls:
        for each in app.rounds:
            output = await graph.ainvoke(each, config)
    names = [call.operation.rpartition("/")[2] for call in calls.calls if call.outcome != "replayed"]
    return plain(output), frozenset(name for name in names if not name.startswith("Chat"))
