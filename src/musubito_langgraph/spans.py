"""Find the spans that instrumentors of LangChain hold for the code that runs now.

Both OpenInference and OpenLLMetry are callback handlers with a span for each run of LangChain. Neither makes it the
current span in all cases: a callback does not know the context of the code that it is told of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config

from musubito_langgraph.recorder.config import handlers, parent_in


def spans_here() -> Sequence[Any]:
    """Return the spans of the LangChain run around this code, one for each instrumentor."""
    return spans_in(var_child_runnable_config.get() or {})


def spans_in(config: RunnableConfig) -> Sequence[Any]:
    """Return the spans of the LangChain run that made this config, one for each instrumentor."""
    run_id = parent_in(config)
    if run_id is None:
        return ()
    spans = []
    for handler in handlers(config):
        get_span, held = getattr(handler, "get_span", None), getattr(handler, "spans", None)
        if callable(get_span):  # OpenInference
            spans.append(get_span(run_id))
        elif isinstance(held, Mapping):  # OpenLLMetry
            spans.append(getattr(held.get(run_id), "span", None))
    return [span for span in spans if span is not None]
