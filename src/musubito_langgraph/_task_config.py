"""Read what LangGraph tells a task in its config: its place, its channels, what it has written, and its loop.

See `_compat`: these parts are private, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, NoReturn
from uuid import UUID

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.constants import START
from langgraph.errors import GraphInterrupt
from langgraph.types import Command, interrupt

from musubito_langgraph._compat import (
    CONF,
    CONFIG_KEY_CALL,
    CONFIG_KEY_CHECKPOINT_NS,
    CONFIG_KEY_CHECKPOINTER,
    CONFIG_KEY_NODE_ERROR,
    CONFIG_KEY_READ,
    CONFIG_KEY_RESUME_MAP,
    CONFIG_KEY_RESUMING,
    CONFIG_KEY_RUNTIME,
    CONFIG_KEY_SCRATCHPAD,
    CONFIG_KEY_SEND,
    CONFIG_KEY_STREAM,
    CONFIG_KEY_TASK_ID,
    INTERRUPT,
    PREVIOUS,
    PUSH,
    TASKS,
    BaseChannel,
    Config,
    GraphRecursionError,
)


def _conf(config: Config) -> Mapping[str, Any]:
    conf: Mapping[str, Any] = config.get(CONF) or {}
    return conf


def task_in(config: Config) -> str | None:
    """Return the id of the task that runs, None outside of a graph."""
    task: str | None = (config.get(CONF) or {}).get(CONFIG_KEY_TASK_ID)
    return task


def checkpoint_ns_in(config: Config) -> str:
    """Return the namespace that the checkpoints of the task would have."""
    return str(_conf(config).get(CONFIG_KEY_CHECKPOINT_NS, ""))


def channels_in(config: Config) -> Mapping[str, BaseChannel[Any, Any, Any]]:
    """Return the channels of the graph that runs the task, none outside of a graph.

    Each invocation has one mapping of its own.
    """
    args = _read_args(config)
    channels: Mapping[str, BaseChannel[Any, Any, Any]] = args[1] if args else {}
    return channels


def _read_args(config: Config) -> tuple[Any, ...]:
    """Return the scratchpad, channels, managed values and writes that LangGraph's read function was made of."""
    read = (config.get(CONF) or {}).get(CONFIG_KEY_READ)
    args: tuple[Any, ...] = read.args if isinstance(read, partial) else ()
    return args if len(args) == 4 else ()


def writes_in(config: Config) -> Sequence[tuple[str, Any]]:
    """Return what the task has written so far."""
    args = _read_args(config)
    return tuple(args[3].writes) if args else ()


def holds_anything(channel: BaseChannel[Any, Any, Any]) -> bool:
    """Tell whether a trigger was written and is not used up yet.

    A join holds something once one of the nodes that it waits for has written to it.
    """
    contents = channel.checkpoint()
    seen = contents[0] if isinstance(contents, tuple) and contents else contents
    return bool(seen) if isinstance(seen, set) else channel.is_available() or isinstance(contents, tuple)


def read_in(config: Config, select: Sequence[str]) -> dict[str, Any]:
    """Return the values of the selected channels at the beginning of the superstep, without empty channels."""
    read = _conf(config).get(CONFIG_KEY_READ)
    return {} if read is None else dict(read(list(select), False))


def available_in(config: Config, select: Sequence[str]) -> list[str]:
    """Return the selected channels that held something at the beginning of the superstep."""
    channels = channels_in(config)
    return [name for name in select if name in channels and channels[name].is_available()]


def place_of_task(config: Config) -> tuple[Any, ...]:
    """Return the place of the task among the tasks of its superstep.

    An error handler has the place of the task that failed.
    """
    return tuple((config.get("metadata") or {}).get("langgraph_path") or ())[:2]


def step_in(config: Config) -> int:
    """Return the number of the superstep that the task belongs to."""
    return int((config.get("metadata") or {}).get("langgraph_step", 0))


def is_update(config: Config) -> bool:
    """Tell whether the config belongs to an update of the state from outside, and not to a task.

    Such an update uses up no triggers.
    """
    args = _read_args(config)
    return bool(args) and INTERRUPT in args[3].triggers


def position_of_send(config: Config) -> int | None:
    """Return the number of the `Send` that started the task, None if edges started it.

    If the task handles an error, the number is that of the task that failed.
    """
    path: Any = (config.get("metadata") or {}).get("langgraph_path") or ()
    if len(path) >= 3 and path[0] == PUSH and path[-1] is False and isinstance(path[1], int):
        return path[1]
    return None


def sends_in_channels(channels: Mapping[str, BaseChannel[Any, Any, Any]]) -> list[str]:
    """Return the nodes of all `Send`s that start tasks of this superstep."""
    channel = channels.get(TASKS)
    return [send.node for send in channel.get()] if channel is not None and channel.is_available() else []


def sends_in(writes: Sequence[tuple[str, Any]]) -> list[str]:
    """Return the nodes that these writes send to, in the order of the writes."""
    return [value.node for channel, value in writes if channel == TASKS]


def state_in(writes: Sequence[tuple[str, Any]]) -> list[list[Any]]:
    """Return the changes that these writes make to the state, without the writes that trigger nodes."""
    return [[key, value] for key, value in writes if not _leads(key)]


def _leads(channel: str) -> bool:
    return channel == TASKS or channel.startswith(("branch:to:", "join:"))


def is_of_state(config: Config, channel: str) -> bool:
    """Tell whether a write to this channel changes the state of the task's graph, and nothing else."""
    return channel in channels_in(config) and not _leads(channel) and not channel.startswith("__")


def send(config: Config, writes: Sequence[tuple[str, Any]]) -> None:
    """Write in the name of the task, as code of a node does besides returning a value."""
    _conf(config)[CONFIG_KEY_SEND](writes)


def error_in(config: Config) -> Any:
    """Return the `NodeError` that the task is to handle, None if the task is no error handler."""
    return (config.get(CONF) or {}).get(CONFIG_KEY_NODE_ERROR)


def later_than(config: Config, key: str, channels: Iterable[str]) -> list[str]:
    """Return the given channels that were written later than the channel `key`.

    The result has no channel whose version the loop does not know.
    """
    checkpoint = getattr(_loop_of(config), "checkpoint", None)
    versions = checkpoint.get("channel_versions", {}) if isinstance(checkpoint, dict) else {}
    last = versions.get(key)
    return [name for name in channels if name in versions and (last is None or versions[name] > last)]


def _loop_of(config: Config) -> Any:
    """Return the loop that runs the task, None if the loop cannot be found.

    The task knows its loop only as the owner of the method that schedules other tasks.
    """
    caller = (config.get(CONF) or {}).get(CONFIG_KEY_CALL)
    schedule = caller.keywords.get("schedule_task") if isinstance(caller, partial) else None
    return getattr(schedule, "__self__", None)


def equal_sends_before(config: Config, begun: Collection[str], counted: Callable[[Any], Any]) -> int:
    """Return how many equal `Send`s of this superstep come before the `Send` that started the task.

    Two `Send`s are equal if `counted` makes equal values of their inputs. A `Send` whose task was done earlier is left
    out: of the tasks that are not in `begun`, only such a task has written something.
    """
    position = position_of_send(config)
    tasks = getattr(_loop_of(config), "tasks", None)
    if not position or not isinstance(tasks, dict):
        return 0
    # The tasks of `Send`s come first in the loop's mapping, in the order of the `Send`s.
    *others, this = islice(tasks.values(), position + 1)
    alike = (task for task in others if task.name == this.name and (not task.writes or task.id in begun))
    mine = counted(this.input)
    return sum(_are_equal(counted(task.input), mine) for task in alike)


def _are_equal(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # some values have no truth value for `==`, as arrays
        return False


def shows_graphs(config: Config) -> bool:
    """Tell whether the caller is shown what graphs inside the task stream."""
    return CONFIG_KEY_STREAM in _conf(config)


def keeps_checkpoints(config: Config) -> bool:
    """Tell whether the invocation keeps checkpoints, so that it can be resumed."""
    return bool(_conf(config).get(CONFIG_KEY_CHECKPOINTER))


def is_resuming(config: Config) -> bool:
    """Tell whether the invocation resumes from a checkpoint, so that answers to interrupts may be available."""
    return bool(_conf(config).get(CONFIG_KEY_RESUMING))


def may_stop(config: Config) -> bool:
    """Tell whether the invocation was told to stop before or after nodes."""
    loop = _loop_of(config)
    return bool(getattr(loop, "interrupt_before", None) or getattr(loop, "interrupt_after", None))


def has_questions(config: Config) -> bool:
    """Tell whether the checkpoint from which the invocation resumes holds questions of `interrupt`."""
    return any(channel == INTERRUPT for _, channel, *_ in getattr(_loop_of(config), "checkpoint_pending_writes", ()))


def has_answer(config: Config) -> bool:
    """Tell whether an answer is available that a graph inside the task may be given."""
    at_hand = _conf(config)[CONFIG_KEY_SCRATCHPAD].get_null_resume(False) is not None
    return at_hand or bool(_conf(config).get(CONFIG_KEY_RESUME_MAP))


def answers_in(config: Config) -> list[Any]:
    """Return the answers to interrupts that are available to the task."""
    scratchpad = _conf(config).get(CONFIG_KEY_SCRATCHPAD)
    if scratchpad is None:
        return []
    last = scratchpad.get_null_resume(False)
    return [*scratchpad.resume, *([] if last is None else [last])]


def answers_by_id(config: Config) -> list[Any]:
    """Return the answers that were given by the ids of interrupts, of which graphs inside the task may use some."""
    return sorted((_conf(config).get(CONFIG_KEY_RESUME_MAP) or {}).values(), key=repr)


def ask(config: Config, question: Any, schema: Any) -> NoReturn:
    """Ask a person as the task did, which used up the answers to its earlier questions. Raises `GraphInterrupt`."""
    given = {} if schema is None else {"response_schema": schema}  # since LangGraph 1.2
    with _around_call(config):
        while True:
            interrupt(question, **given)


def take_answer(config: Config) -> None:
    """Use up the next answer, as the task did. A graph inside it may have been given an answer of its own."""
    with _around_call(config), suppress(GraphInterrupt):
        interrupt(None)


@contextmanager
def _around_call(config: Any) -> Iterator[None]:
    token = var_child_runnable_config.set(config)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


def begun_with(config: Config) -> dict[str, Any]:
    """Return what the invocation began with that the task belongs to: its state, the answer of a person, or neither.

    Nothing is returned if the loop cannot be found. "missing" holds the reason why there is no state.
    """
    loop = _loop_of(config)
    if loop is None:
        return {}
    if isinstance(loop.input, Command):
        if loop.input.update is not None or loop.input.goto:
            return {"missing": {"state": "its input was a Command with update or goto"}}
        return {"resume": loop.input.resume}
    if loop.input is None:
        return {"go_on": True}
    # LangGraph takes the input in one step. A graph with a state spends one more step on its `__start__`.
    begun = loop.stop - loop.config["recursion_limit"] - 1
    if loop.step > begun + 1 + (START in loop.nodes):
        return {"missing": {"state": "its first step was not recorded"}}
    channels = channels_in(config)
    own = [name for name in channels if is_of_state(config, name) or name == "__root__"]
    # A function that is an entrypoint has an input, and what it returned before.
    own = own or [name for name in (START, PREVIOUS) if name in channels]
    is_start = (config.get("metadata") or {}).get("langgraph_node") == START
    try:
        return {"state": dict(_conf(config)[CONFIG_KEY_READ](own, is_start))}
    except Exception as error:  # a channel may be the user's, and no reader's wish may stop a task
        return {"missing": {"state": f"it could not be read: {type(error).__name__}"}}


def runtime_in(config: Config) -> Any:
    """Return the `Runtime` of the task, None outside of a graph."""
    return (config.get(CONF) or {}).get(CONFIG_KEY_RUNTIME)


def when_left(config: Config, tell: Callable[[BaseException | None], None]) -> None:
    """Call `tell` when the invocation ends that the task belongs to, with its error or None."""
    loop = _loop_of(config)
    stack: Any = getattr(loop, "stack", None)
    if stack is None:
        return

    def left(_: Any, error: BaseException | None, __: Any) -> None:
        # LangGraph raises this error only after it has left the stack.
        tell(GraphRecursionError() if error is None and loop.status == "out_of_steps" else error)

    stack.push(left)


def tags_in(config: Config) -> dict[str, str]:
    """Return the thread and the user that a task runs for, as far as its config or its context names them."""
    conf, context = _conf(config), getattr(runtime_in(config), "context", None)
    fields = context if isinstance(context, Mapping) else getattr(context, "__dict__", {})
    users = (conf.get("langgraph_auth_user_id"), conf.get("user_id"), fields.get("user_id"), fields.get("user"))
    named = {"thread": conf.get("thread_id"), "user": next((user for user in users if user is not None), None)}
    return {key: str(value) for key, value in named.items() if isinstance(value, str | int | UUID)}
