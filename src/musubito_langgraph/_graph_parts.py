"""Look into the nodes, writers, branches and tools of a compiled graph. See `_compat`: these parts are private, too."""

from __future__ import annotations

import copyreg
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import iscoroutinefunction, signature
from types import FunctionType
from typing import Any, Final

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseLanguageModel
from langchain_core.output_parsers import BaseTransformOutputParser
from langchain_core.runnables import RunnableSerializable
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import run_in_executor
from langgraph.constants import END
from langgraph.types import Command, Send

from musubito_langgraph._compat import (
    DEFAULT_BOUND,
    MISSING,
    PASSTHROUGH,
    SKIP_WRITE,
    BranchSpec,
    ChannelWrite,
    ChannelWriteEntry,
    ChannelWriteTupleEntry,
    Config,
    ParentCommand,
    Pregel,
    RunnableCallable,
)
from musubito_langgraph._task_config import channels_in, checkpoint_ns_in, read_in

AGENTS: Final = ("langchain.agents.", "langgraph.prebuilt.")
"""Beginnings of the names of the modules with LangChain's own agents and their parts."""

RAISED: Final = "(raised)"
"""Stands for the graph of the task in a stored `Command` that was raised: the real name holds the id of the task."""


# -- nodes -------------------------------------------------------------------------------------------------------------


def branch_of(writer: Any) -> BranchSpec | None:
    """Return the conditional edge that a node's writer publishes, None for another writer."""
    if type(writer) is not RunnableCallable:
        return None
    branch = getattr(writer.func or writer.afunc, "__self__", None)
    return branch if isinstance(branch, BranchSpec) else None


def only_looks(router: Any) -> bool:
    """Tell whether this decides on a conditional edge of LangChain's own agents, as `tools_condition` does.

    Such a function reads the messages of the state, asks nobody, and takes less time than to look up what it returned.
    """
    # A decorator of the user's may bear the names of the function that it wraps.
    return type(router) is RunnableCallable and all(
        isinstance(function, FunctionType)
        and str(function.__globals__.get("__name__")).startswith(AGENTS)
        and not hasattr(function, "__wrapped__")
        for function in functions_of(router)
    )


def writer_of(writer: Any, branch: BranchSpec) -> Any:
    """Return a copy of a writer that publishes this branch instead.

    `writer` must be the writer of a conditional edge (see `branch_of`).
    """
    copy = copied(writer)
    copy.func = branch._route
    copy.afunc = branch._aroute
    return copy


def unbound(runnable: Any) -> Any:
    """Return the Runnable to which arguments or a config are bound; any other thing itself."""
    while isinstance(runnable, RunnableBindingBase):
        runnable = runnable.bound
    return runnable


def is_model(bound: Any) -> bool:
    """Tell whether this is a model, maybe with arguments bound to it."""
    return isinstance(unbound(bound), BaseLanguageModel | Embeddings)


def only_writes(bound: Any) -> bool:
    """Tell whether this is LangGraph's placeholder in a node without a Runnable, such as the one that begins a graph.

    An unpickled graph holds a copy of the placeholder.
    """
    return bound is DEFAULT_BOUND or (
        type(bound) is RunnableCallable
        and isinstance(bound.func, FunctionType)
        and _place_of(bound.func) == _place_of(DEFAULT_BOUND.func)
    )


def _place_of(function: Any) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def recorded_parts(parts: Sequence[Any]) -> list[int]:
    """Return the positions of the parts of a sequence that become steps.

    LangChain's own output parsers become steps only if there is no other part. An output parser is quick, and reads
    token by token; a step does not.
    """
    places = [
        number
        for number, part in enumerate(parts)
        if not (isinstance(part, BaseTransformOutputParser) and type(part).__module__.startswith("langchain_core."))
    ]
    return places or list(range(len(parts)))


def functions_of(function: Any) -> Iterator[Any]:
    """Yield the functions that a `RunnableCallable` calls.

    LangGraph makes an async version of a sync function; that version is left out.
    """
    if function.func is not None:
        yield function.func
    coroutine = function.afunc
    in_a_thread = (
        type(coroutine) is partial and coroutine.func is run_in_executor and coroutine.args == (None, function.func)
    )
    if coroutine is not None and not in_a_thread:
        yield coroutine


def is_tool_node(runnable: Any) -> bool:
    """Tell whether this is LangGraph's `ToolNode`, or a tool node that LangChain has had.

    A tool node is recognised by its shape: with some pairs of releases, `langgraph.prebuilt` cannot be imported.
    """
    return isinstance(runnable, RunnableCallable) and isinstance(getattr(runnable, "tools_by_name", None), Mapping)


def runs_tools_alone(node: Any) -> bool:
    """Tell whether a tool node runs each tool in a method that is handed the tool call and fills in the rest itself."""
    execute = getattr(type(node), "_execute_tool_sync", None)
    return execute is not None and "_inject_tool_args" in execute.__code__.co_names


def tools_called(node: Any, value: Any) -> list[str] | None:
    """Return the names of the tools that this input of a tool node calls, None if the names cannot be found."""
    try:
        calls = node._parse_input(value)[0]
    except (ValueError, TypeError, AttributeError, KeyError):
        return None  # the node raises the error itself when it runs
    return [call["name"] for call in calls]


def has_wrapper(node: Any) -> bool:
    """Tell whether a wrapper is put around all tools of the node; such a wrapper sees the state."""
    return any(getattr(node, name, None) is not None for name in ("_wrap_tool_call", "_awrap_tool_call"))


def tool_sees_state(node: Any, name: str) -> bool:
    """Tell whether a tool is handed the state, or a runtime that holds the state."""
    injected = getattr(node, "_injected_args", {}).get(name)
    return injected is None or bool(injected.state) or bool(injected.runtime)


def state_of_tools(node: Any, value: Any, config: Config) -> Any:
    """Return the state that the tools of a node are handed."""
    extract: Any = getattr(node, "_extract_state", None)
    if extract is None:
        return read_in(config, list(channels_in(config)))
    return extract(value) if len(signature(extract).parameters) == 1 else extract(value, config)


def injected_into(function: Any) -> frozenset[str]:
    """Return the parameters of a task's function that LangGraph itself fills in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangGraph warns of it already when it makes its own RunnableCallable
        wrapper = RunnableCallable(None, function) if iscoroutinefunction(function) else RunnableCallable(function)
    return frozenset(wrapper.func_accepts)


def has_no_tables(saver: Any) -> bool:
    """Tell whether this is a saver on SQLite whose database has no tables yet.

    Such a saver makes its tables as soon as it is used.
    """
    connection = getattr(saver, "conn", None)
    if getattr(saver, "is_setup", True) or not isinstance(connection, sqlite3.Connection):
        return False
    with saver.lock:
        row = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'checkpoints'").fetchone()
    return row is None


def is_functional(graph: Any) -> bool:
    """Tell whether the graph was made of an `@entrypoint`."""
    return type(graph) is Pregel and graph.output_channels == END and END in graph.channels


def commands_in(output: Any) -> list[Command[Any]]:
    """Return each `Command` that a node returned."""
    parts = output if isinstance(output, list | tuple) else (output,)
    return [part for part in parts if isinstance(part, Command)]


def output_of(raised: ParentCommand, config: Config) -> Command[Any]:
    """Return what is stored of a `Command` that a graph inside the task has raised for the task's own graph.

    Raise the `Command` again if it is for another graph.
    """
    (command,) = raised.args
    if command.graph != checkpoint_ns_in(config):
        raise raised
    return replace(command, graph=RAISED)


def returned_or_raised(output: Any, config: Config) -> Any:
    """Return the output of a task. If that is what `output_of` returned, raise the `Command` as it was raised."""
    if isinstance(output, Command) and output.graph == RAISED:
        raise ParentCommand(replace(output, graph=checkpoint_ns_in(config)))
    return output


def leaves_graph(output: Any) -> bool:
    """Tell whether a node returned a `Command` for a graph that encloses the node's graph."""
    return any(command.graph not in (None, RAISED) for command in commands_in(output))


def declared_ends(writer: ChannelWrite) -> tuple[list[str], list[str]]:
    """Return the channels that a node's writer always writes to, and the channels that a `Command` may lead to.

    The second list holds what was declared of the node.
    """
    always = [write.channel for write in writer.writes if isinstance(write, ChannelWriteEntry)]
    tuples = [write.static or () for write in writer.writes if isinstance(write, ChannelWriteTupleEntry)]
    return always, [channel for static in tuples for channel, *_ in static]


def destinations(target: Any) -> list[str]:
    """Return the nodes that a router's result or a `Command` names."""
    if isinstance(target, Command):
        return destinations(target.goto)
    if isinstance(target, list | tuple):
        return [node for part in target for node in destinations(part)]
    if isinstance(target, Send):
        return [target.node]
    return [target] if isinstance(target, str) and target else []


def drawn_as(stands: Any, runnable: Any) -> None:
    """Make a drawing of the graph show `stands` as it would show `runnable`.

    LangChain takes the name of a node from these two attributes.
    """
    path = (
        runnable.lc_id()
        if isinstance(runnable, RunnableSerializable)
        else [type(runnable).__module__, type(runnable).__name__]
    )
    stands.__module__, stands.__name__ = ".".join(path[:-1]), path[-1]


def copied(runnable: Any) -> Any:
    """Return a new object of the same class with the same fields."""
    copy = object.__new__(type(runnable))
    copy.__dict__.update(runnable.__dict__)
    return copy


# -- in another process ------------------------------------------------------------------------------------------------

_SIGNS: Final = {"MISSING": MISSING, "PASSTHROUGH": PASSTHROUGH, "SKIP_WRITE": SKIP_WRITE}
"""Objects that LangGraph recognises by their identity. LangGraph would not recognise a copy. Without this table, no
compiled graph that is unpickled would run, wrapped or not."""


def _sign(name: str) -> object:
    return _SIGNS[name]


def _reduced(thing: object) -> str | tuple[Any, ...]:
    name = next((name for name, sign in _SIGNS.items() if sign is thing), None)
    return object.__reduce_ex__(thing, 4) if name is None else (_sign, (name,))


# `copyreg` applies to objects whose class is `object` itself. Other such objects are pickled as before.
copyreg.pickle(object, _reduced)
