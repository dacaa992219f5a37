"""Find the spans that instrumentors of LangChain hold for the code that runs now.

Both OpenInference and OpenLLMetry are callback handlers with a span for each run of LangChain. Neither makes it the
current span in all cases: a callback does not know the context of the code that it is told of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config


def spans_here() -> Sequence[Any]:
    """Return the spans of the LangChain run around this code, one for each instrumentor."""
    return spans_in(var_child_runnable_config.get())


def spans_in(config: RunnableConfig | None) -> Sequence[Any]:
    """Return the spans of the LangChain run that made this config, one for each instrumentor."""
    callbacks = None if config is None else config.get("callbacks")
    if not isinstance(callbacks, BaseCallbackManager) or callbacks.parent_run_id is None:
        return ()
    run_id = callbacks.parent_run_id
    spans = []
    for handler in callbacks.handlers:
        get_span, held = getattr(handler, "get_span", None), getattr(handler, "spans", None)
        if callable(get_span):  # OpenInference
            spans.append(get_span(run_id))
        elif isinstance(held, Mapping):  # OpenLLMetry
            spans.append(getattr(held.get(run_id), "span", None))
    return [span for span in spans if span is not None]
