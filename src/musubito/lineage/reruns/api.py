"""Rerun what was recorded of a graph or a step, from Python."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from musubito.engine.engine import MusubitoEngine
from musubito.engine.engine_in_use import current_engine
from musubito.errors import MusubitoError
from musubito.lineage.readers.reader import Lineage
from musubito.lineage.reruns.cases import Selection, cases_of, cases_of_inputs
from musubito.lineage.reruns.judge import step_of_judge
from musubito.lineage.reruns.report import RerunReport, rerun_report
from musubito.lineage.reruns.runner import RerunOptions, rerun_cases
from musubito.lineage.reruns.target import StepTarget, Target


def rerun(
    what: Any,
    *,
    engine: MusubitoEngine | None = None,
    last: int | None = None,
    runs: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    where: str | None = None,
    since: float = 0.0,
    inputs: Iterable[Any] | None = None,
    live_tools: Collection[str] | bool = (),
    samples: int = 1,
    budget: float | None = None,
    concurrency: int = 4,
    config: Mapping[str, Any] | None = None,
    context: Any = None,
    judge: Callable[[Any, Any, Any], Any] | None = None,
) -> RerunReport:
    """Make recorded runs of a graph or a step once more with today's code, and return what differs.

    A call whose code and input are those of before is answered as it was then. Others run, and are recorded. Nothing
    touches the world: live steps, tools and external effects are answered as they were when they were asked the same. A
    run that asks them something new has diverged, and stops. What a node does itself, and is neither a tool nor a step
    of its own, runs with the node.

    The runs are the newest `last` of them, those of the ids `runs`, those with these `tags`, those whose input holds
    `where` (see `musubito forget --where`), or those that began at `since`, in seconds since 1970, or later. `inputs`
    are inputs in place of runs. `live_tools` names the live steps that may run, or is True for all. `samples` is how
    often each is made, `budget` the dollars that may be spent. `config` and `context` of a graph replace what was
    recorded. `judge(input, before, after)` returns a bool, a number or a dict of such for each answer.

    Raise `MusubitoError` if nothing was recorded that is like that.

    >>> from musubito import musubito_step
    >>> from musubito.lineage import rerun
    >>> @musubito_step
    ... def shout(text: str) -> str:
    ...     return text.upper()
    >>> answer = shout("hello")
    >>> rerun(shout, last=1).counts
    {'same': 1}
    """
    engine = engine or current_engine()
    lineage = Lineage(engine)
    engine.flush()
    target = target_of(what)
    step = None if judge is None else step_of_judge(judge)
    options = RerunOptions(live_tools, samples, budget, concurrency, config or {}, context)
    if inputs is not None:
        cases = cases_of_inputs(target, inputs, engine.namespace)
    else:
        cases = cases_of(lineage, target, Selection(last, since, tags, where, runs), options.known)
    return rerun_report(lineage, rerun_cases(lineage, target, cases, options, step))


def target_of(what: Any, module: str = "__main__") -> Target:
    """Return what can be rerun of a step or a graph that a module holds. Raises `MusubitoError` for anything else."""
    if hasattr(what, "__musubito_step__") and hasattr(what, "__musubito_call__"):
        return StepTarget(what)
    if "langgraph" not in sys.modules:
        raise MusubitoError(f"only a step or a graph is rerun, and not a {type(what).__qualname__}")
    # The core knows no framework: the adapter is imported only if the program uses LangGraph.
    target: Target = import_module("musubito_langgraph.rerun").target_of(what, module)
    return target
