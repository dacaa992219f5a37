"""Name the pages of the recorded store, each with its path and with what it shows."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from tests.browser.recorded import ATTACK, ATTACKING_FILE, ATTACKING_STEP, Recorded

PAGES: Final[dict[str, tuple[str, ...]]] = {
    "runs": ("/", "under way", "running", "failing", "report", "who=me", "agent"),
    "failed runs": ("/?status=failed", "failing", "mail"),
    "runs with a tag": ("/?tag=who%3Dme", "report", "who=me"),
    "searched runs": ("/?text=shipping", "report", "Searched:"),
    "runs of a day": ("/?day=2026-01-01", "No run is like that."),
    "no runs": ("/?name=nobody", "No run is like that."),
    "run": ("/runs/{runs[report]}", "Asked", "Answered", "finished", "ran", "replayed", "code changed", "tok", "try=2"),
    "run under way": ("/runs/{runs[under way]}", "running", "outer", "so far"),
    "run of many calls": ("/runs/{runs[many calls]}", "220", "rate × 220"),
    "equal calls": ("/runs/{runs[many calls]}?like=1", "all 220", "Later calls", "xxx"),
    "later calls": ("/runs/{runs[many calls]}?like=1&after=200", "xxx"),
    "run of a graph": (
        "/runs/{runs[graph]}",
        "The graph as LangGraph draws it",
        "refund/look up",
        "1 failed",
        "not reached",
        "a refund",
    ),
    "failed run": ("/runs/{runs[failing]}", "failed", "cannot rate bad and on two lines"),
    "run that waits": ("/runs/{runs[waiting]}", "suspended"),
    "encrypted run": ("/runs/{runs[sealed]}", "rate"),
    "attacking run": ("/runs/{runs[attack]}", ATTACKING_STEP),
    "comparison": (
        "/compare?run={runs[report]}&run={runs[first]}",
        "Outputs that differ",
        "+Lamps",
        "load × 3",
        "its input changed",
    ),
    "result": (
        "/results/{results[report]}",
        "what it reads changed",
        "file two.txt",
        "Runs that used it",
        "What an edit",
    ),
    "result of an edited file": ("/results/{results[file changed]}", "-Lamps are returned within 30 days.", "+Lamps"),
    "result of edited code": ("/results/{results[code changed]}", "its code changed", "+You are a bold editor."),
    "chat": ("/results/{results[chat]}", "system", "Say what an image shows.", "order(lamp=1)"),
    "encrypted result": ("/results/{results[sealed]}", "sealed", "(encrypted)"),
    "attacking result": ("/results/{results[attack]}", ATTACKING_STEP, f"file {ATTACKING_FILE}"),
    "attacking chat": ("/results/{results[attacking chat]}", ATTACKING_STEP, "user"),
    "operations": ("/operations", "agent/model", "rate sealed", "rate trial"),
    "operations by time": ("/operations?sort=time", "agent/model", "Mean time"),
    "operation": ("/operations/agent%2Fmodel", "If it is edited", "Why it ran", "input changed", "Versions", "Spent"),
    "operation of two versions": ("/operations/summarise", "+You are a bold editor.", "the first that is stored"),
    "attacking operation": (f"/operations/{quote(ATTACKING_STEP, safe='')}", ATTACKING_STEP),
    "reruns": ("/reruns", "reply", "finished"),
    "rerun": ("/reruns/{runs[rerun]}", "not the same 3", "May it be sent?", "Hello,", "cannot reply to bad", "mean"),
    "attacking row": ("/reruns/{runs[rerun]}/{runs[attacking row]}", ATTACK.partition("\u2028")[0], "+  Hello,"),
    "row of a rerun": (
        "/reruns/{runs[rerun]}/{runs[differs row]}",
        "May it be sent?",
        "-  Dear customer,",
        "+  Hello,",
    ),
    "failed row": ("/reruns/{runs[rerun]}/{runs[failed row]}", "reply: ValueError", "There is no answer."),
    "run of a rerun": ("/runs/{runs[differs row]}", "once more", "Both answers"),
    "savings": ("/savings", "Saved", "gpt-4o", "agent/model"),
    "store": (
        "/store",
        "quick_check found nothing",
        "1 with unknown outcome",
        "Idempotency key",
        "--never-happened",
        "Step results",
        "Outputs that are stored now",
    ),
    "plan": ("/plan", "app.py:graph", "2 would be replayed", "article/research"),
}
"""The path of each page, and texts that it shows."""
ATTACKED: Final = (*(name for name in PAGES if "attacking" in name), "runs", "rerun", "operations", "savings")
"""Pages that show the texts of attacks."""
ECHOES: Final = {
    f"/?{name}={quote(ATTACK)}" for name in ("name", "operation", "status", "tag", "since", "before", "text", "day")
} | {f"/savings?since={quote(ATTACK)}", f"/reruns?before={quote(ATTACK)}"}
"""Addresses that hold an attack."""


def path_of(name: str, recorded: Recorded) -> str:
    """Return the path of a page."""
    return PAGES[name][0].format(runs=recorded.runs, results=recorded.results)
