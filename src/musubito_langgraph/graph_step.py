"""Describe a step of an adapter: its code, its settings, and the part of its input that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any

from langchain_core.tools import BaseTool
from pydantic import BaseModel

from musubito import StepConfiguration, StepType
from musubito.adapter import (
    Fingerprint,
    Operation,
)
from musubito_langgraph import _graph_parts
from musubito_langgraph.object_policies import may_run_tools
from musubito_langgraph.settings import Settings
from musubito_langgraph.state_keys import keys_read
from musubito_langgraph.trackers import tracker_of
from musubito_langgraph.user_modules import homes_of


class GraphStep:
    """An operation of an adapter, with its settings."""

    def __init__(
        self,
        name: str,
        code: Any,
        semantics: StepConfiguration,
        settings: Settings,
        calls: Callable[[Any], Any] | None = None,
        counting: Callable[[Any, tuple[str, ...]], Any] | None = None,
        *,
        is_done_anew: bool = False,
        is_configured: bool = False,
        answers_as: str = "",
        state_of: Any = None,
    ) -> None:
        """Make a step of `code`.

        - `calls`: see `watched`.
        - `counting` narrows an input to the `inputs` of the configuration; by default, to keys of a state.
        - `is_configured`: the user configured this very step.
        - `answers_as`: see `Operation`.
        - `is_done_anew`: if the step may run tools, it runs each time that somebody's answer releases it.
        - `state_of`: the function that is given a state. Only the keys of the state count that the function reads.
        """
        self._is_done_anew = is_done_anew
        self._counting = counting or counted_keys
        homes = homes_of(code)
        self._state_of = state_of
        self._home = homes.own or settings.home
        tracker = tracker_of(name, code, self._home, semantics, homes.released)
        self.operation = Operation(
            *(name, code, semantics, self._home, homes.released),
            is_configured=is_configured,
            only_answers=_graph_parts.is_model(code),
            answers_as=answers_as,
            tracker=tracker,
        )
        self.code = code
        self.settings = settings
        self.calls = calls
        self.look_up: Callable[[Any], Any] | None = None
        """Makes a `NodeCall` of the step in a plan: it returns what would be replayed, or stops the graph."""
        self.is_tool_node = _graph_parts.is_tool_node(code)
        """True for LangGraph's own node of tools."""
        self.is_effect = semantics.step_type is StepType.EXTERNAL_EFFECT
        """True if the step has an effect that must not be repeated."""
        self.is_question = bool(answers_as)
        """True if the step is a model that a step asks by itself."""
        self.is_live = semantics.step_type is StepType.LIVE
        """True if the step runs each time."""
        self.opted_in = _opted_in(settings, name.partition("/")[2])
        """What the settings say of the tools and of the steps inside the step; None if they say nothing."""

    def is_done_anew(self, code: Fingerprint) -> bool:
        """Return whether the step of this code runs each time that somebody's answer releases it."""
        return self._is_done_anew and not self.is_effect and self.runs_tools(code)

    def inside(self, code: Fingerprint) -> object:
        """Return what the settings say of what the step may call, None if that does not count for this code.

        A tool that is opted in no more has to run, though the step around it was recorded when it was.
        """
        if self.opted_in is None or (self.opted_in[1] and not self.is_effect):
            return self.opted_in
        holds_tools = not isinstance(self.code, BaseTool) and self.runs_tools(code)
        return self.opted_in if holds_tools else None

    def runs_tools(self, code: Fingerprint) -> bool:
        """Return whether the step is a tool, or may run tools."""
        return self.is_tool_node or may_run_tools(code)

    def counting(self, code: Fingerprint, around: Iterable[Fingerprint]) -> Callable[[Any], Any]:
        """Return the function that returns the part of an input that counts for this code.

        The code may call what is `around` it.
        """
        inputs = self.operation.definition.semantics.inputs
        if inputs is not None:
            return lambda value: self._counting(value, inputs)
        # An effect is identified by all of its arguments, however the code that reads them changes.
        keys = None if self.is_effect else keys_read(self._state_of, code, around, self._home)
        return (lambda value: value) if keys is None else keys.of


def _opted_in(settings: Settings, path: str) -> list[Any] | None:
    tools = settings.replay_tools if isinstance(settings.replay_tools, bool) else sorted(settings.replay_tools)
    inside = (f"{path}/", f"{path}.")
    said = [(name, each) for name, each in settings.steps.items() if name.startswith(inside)]
    steps = sorted([name, each.runs_each_time, each.ttl_seconds] for name, each in said)
    return [tools, steps] if tools or steps else None


def counted_keys(value: Any, names: tuple[str, ...]) -> Any:
    """Return the keys of a state that count, or the fields of a state that is an object.

    If the state has none of these names, the whole state is returned.
    """
    if isinstance(value, Mapping):
        chosen = {name: value[name] for name in names if name in value}
    elif isinstance(value, BaseModel) or is_dataclass(value):
        chosen = {name: getattr(value, name) for name in names if hasattr(value, name)}
    else:
        return value
    return chosen if chosen or not names else value
