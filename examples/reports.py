"""Reports for readers of some cities: what cluster.py, on_ray.py, on_celery.py and on_temporal.py make.

Five readers want a report on each city. Each city is researched once, whichever worker is asked first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import NamedTuple, TypedDict

from langgraph.graph import START, StateGraph

from musubito import run
from musubito_langgraph import musubito_graph

CITIES = ["Cork", "Bergen", "Porto", "Gdansk"]
READERS = ["Ada", "Ben", "Cleo", "Dan", "Eve"]
ASKED = [(city, reader) for reader in READERS for city in CITIES]


class State(TypedDict, total=False):
    """All that the graph knows. A node depends on the keys that it looks up."""

    city: str
    reader: str
    facts: str
    report: str


def research(state: State) -> State:
    """Stand in for slow and expensive work. It reads no reader, so that all readers share its result."""
    time.sleep(0.3)
    return {"facts": f"{state['city']} has {len(state['city'])} bridges"}


def write(state: State) -> State:
    """Stand in for a model that writes for one reader."""
    time.sleep(0.05)
    return {"report": f"Dear {state['reader']}, {state['facts']}."}


BUILDER = StateGraph(State)
BUILDER.add_node("research", research)
BUILDER.add_node("write", write)
BUILDER.add_edge(START, "research")
BUILDER.add_edge("research", "write")
GRAPH = musubito_graph(BUILDER.compile(name="report"))


class Report(NamedTuple):
    """A report, the process that made it, and the steps that ran for it."""

    text: str
    worker: int
    ran: list[str]
    replayed: int


def report_for(city: str, reader: str) -> Report:
    """Make a report in this process, with the store of its engine or of MUSUBITO_URL."""
    with run(f"{city} for {reader}") as this:
        text = GRAPH.invoke({"city": city, "reader": reader})["report"]
    ran = [f"{call.operation} {call.node_id[:10]}" for call in this.calls if call.outcome == "ran"]
    return Report(text, os.getpid(), ran, len(this.calls) - len(ran))


def told(reports: Iterable[Report]) -> str:
    """Say how many steps ran for some reports, and that none ran for two of them."""
    reports = list(reports)
    ran = [step for report in reports for step in report.ran]
    twice = len(ran) - len(set(ran))
    return (
        f"{len(reports)} reports: {len(ran)} steps ran, {sum(report.replayed for report in reports)} were replayed"
        + (f", {twice} ran twice" if twice else "")
    )
