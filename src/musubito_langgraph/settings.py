"""Say how the steps of a wrapped graph or Runnable may be replayed: by node, by graph, by invocation."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from musubito import MusubitoEngine, StepConfiguration, StepType
from musubito.adapter import Mode, current_engine, current_mode, mode_named, recording_engine, standing_engine
from musubito_langgraph import _compat
from musubito_langgraph.mcp_sessions import has_unknown_server

KEY: Final = "musubito"
"""Key in the `metadata` of a node, and in the `configurable` of an invocation."""
VOLATILE: Final = frozenset(
    {KEY, "thread_id", "thread_ts", "checkpoint_id", "checkpoint_ns", "checkpoint_map", "run_id"}
    | {"assistant_id", "graph_id", "langgraph_request_id"}
    | {"langgraph_auth_user", "langgraph_auth_user_id", "langgraph_auth_permissions"}
)
"""Keys of `configurable` that say where, when and for whom a graph runs, and not what it does. The LangGraph server
adds some of them, and `thread_ts` is an earlier name of `checkpoint_id`."""
SAMPLE: Final = StepConfiguration(step_type=StepType.STOCHASTIC)
LIVE: Final = StepConfiguration(step_type=StepType.LIVE, allow_cross_parent_reuse=True)


class Invocation(NamedTuple):
    """The way in which an invocation is made: as `config["configurable"]["musubito"]` says, or what surrounds it.

    `said` is the mode that the config itself names, None if it names none.
    """

    mode: Mode
    said: Mode | None = None
    namespace: str | None = None


def invocation_of(config: Mapping[str, Any]) -> Invocation:
    """Return how an invocation with this config is made here.

    Raise `ValueError` if the config asks for something impossible.
    """
    request = (config.get(_compat.CONF) or {}).get(KEY)
    if request is None:
        return Invocation(current_mode())
    if not isinstance(request, Mapping) or not set(request) <= {"mode", "namespace"}:
        modes = ", ".join(mode.value for mode in Mode)
        raise ValueError(
            f'config["configurable"]["{KEY}"] is a mapping with "mode" ({modes}) and "namespace", not {request!r}'
        )
    mode = mode_named(request["mode"], f'the mode in config["configurable"]["{KEY}"]') if "mode" in request else None
    namespace = request.get("namespace")
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        raise ValueError(f'the namespace in config["configurable"]["{KEY}"] is a text that is not empty')
    return Invocation(mode or current_mode(), mode, namespace)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that a graph or Runnable was wrapped with.

    `steps` has the path of a node in the graph as its key; `default` holds for all others.
    """

    engine: MusubitoEngine | None = None
    steps: Mapping[str, StepConfiguration] = field(default_factory=dict)
    default: StepConfiguration = SAMPLE
    ignore_config: frozenset[str] = frozenset()
    home: str = ""
    """The module that wrapped the graph or Runnable. If a step's function is a framework's, this module decides what
    counts as the user's own code."""
    replay_tools: frozenset[str] | bool = False
    """The names of the tools that replay. True: all tools."""
    models: bool = True
    """Whether each call of a model inside a step is a step of its own."""
    inner: bool = True
    """Whether the nodes of a graph that a step invokes by itself are steps."""
    ignore_settings: tuple[str, ...] = ()
    """Names of settings of clients and models that count in no step."""

    @property
    def keeps_inputs(self) -> bool:
        """Tell whether the inputs of all steps are stored: that of the run holds what each of them may be given."""
        return all(semantics.record_inputs for semantics in (self.default, *self.steps.values()))

    def engine_for(self, invocation: Invocation) -> MusubitoEngine:
        """Return the engine that records an invocation."""
        engine = self.engine and (standing_engine() or self.engine)
        engine = engine or (current_engine() if invocation.said is None else recording_engine())
        return engine if invocation.namespace is None else engine.in_namespace(invocation.namespace)

    def semantics(self, path: str, said_by_node: StepConfiguration | None = None) -> StepConfiguration:
        """Return how the step at `path` may be replayed.

        Everything that a node sees is in its input. So its parents do not restrict where its result may be used again,
        unless a setting says that they do.
        """
        semantics = self.steps.get(path) or said_by_node or self.default
        reuse = semantics.allow_cross_parent_reuse is None or semantics.allow_cross_parent_reuse
        ignored = tuple(sorted({*semantics.ignore_settings, *self.ignore_settings}))
        return replace(semantics, allow_cross_parent_reuse=reuse, ignore_settings=ignored)

    def of_tool(
        self, path: str, tool: Any, said_by_node: StepConfiguration | None = None
    ) -> tuple[StepConfiguration, bool]:
        """Return how the tool at `path` may be replayed, and whether the user said so.

        A tool may change the world or read what changes, so it is LIVE unless it is opted in: by its name here, by its
        own metadata, by `replay_tools`, or by the configuration of its node.
        """
        said = self.steps.get(path) or configuration_in(getattr(tool, "metadata", None), f"tool {tool.name!r}")
        opted_in = self.replay_tools is True or (self.replay_tools and tool.name in self.replay_tools)
        if said is None and said_by_node is None and (not opted_in or has_unknown_server(tool)):
            return replace(LIVE, ignore_settings=self.ignore_settings), False
        return self.semantics(path, said or said_by_node), True


def configuration_in(metadata: Mapping[str, Any] | None, of: str) -> StepConfiguration | None:
    """Return the configuration that a node or a tool carries in its metadata. Raise TypeError for anything else."""
    said = (metadata or {}).get(KEY)
    if said is not None and not isinstance(said, StepConfiguration):
        raise TypeError(f'metadata["{KEY}"] of {of} must be a StepConfiguration, not {said!r}')
    return said


def calling_module() -> str:
    """Return the module that calls the function that calls this function."""
    return str(sys._getframe(2).f_globals.get("__name__", ""))


def checked_types(
    engine: Any,
    steps: Any,
    default: Any,
    ignore_config: Any,
    replay_tools: Any,
    ignore_settings: Any,
    **switches: object,
) -> None:
    """Raise TypeError or ValueError for a setting that a graph cannot have."""
    checked_engine(engine)
    if steps is not None and not isinstance(steps, Mapping):
        raise TypeError(f"steps is a mapping from the names of steps to StepConfiguration, not {steps!r}")
    checked_texts("steps", [*(steps or {})], "the names of steps")
    for name, semantics in (steps or {}).items():
        if not isinstance(semantics, StepConfiguration):
            raise TypeError(f"steps[{name!r}] must be a StepConfiguration, not {semantics!r}")
    if default is not None and not isinstance(default, StepConfiguration):
        raise TypeError(f"default must be a StepConfiguration, not {default!r}")
    if any(semantics is not None and semantics.code == "version" for semantics in (default, *(steps or {}).values())):
        raise ValueError('code="version" needs an operation_version, which only functions under @musubito_step have')
    checked_texts("ignore_config", ignore_config, "keys")
    checked_texts("ignore_settings", ignore_settings, "names of settings")
    StepConfiguration(ignore_settings=tuple(ignore_settings))
    if not isinstance(replay_tools, bool):
        checked_texts("replay_tools", replay_tools, "names of tools")
    for name, switch in switches.items():
        if not isinstance(switch, bool):
            raise TypeError(f"{name} is True or False, not {switch!r}")


def checked_texts(name: str, texts: Any, what: str) -> None:
    """Raise TypeError if these are no texts: `what` names them."""
    if isinstance(texts, str):
        raise TypeError(f"{name} is a collection of {what}, not a text: ({texts!r},)")
    if not isinstance(texts, Collection) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{name} is a collection of {what}, which are texts, not {texts!r}")


def checked_engine(engine: Any) -> None:
    """Raise TypeError if this is no engine."""
    if engine is not None and not isinstance(engine, MusubitoEngine):
        raise TypeError(f"engine must be a MusubitoEngine, such as MusubitoEngine(SQLiteStorage(path)), not {engine!r}")


def checked_names(steps: Mapping[str, StepConfiguration], names: Mapping[str, bool]) -> None:
    """Raise ValueError for a name that the graph does not have; `names` has True for steps that may call others.

    The names of the steps that these call are not known here.
    """
    callers = {name: [name[:at] for at, sign in enumerate(name) if sign == "/"] for name in steps if name not in names}
    unknown = sorted(name for name, around in callers.items() if not any(map(names.get, around)))
    if unknown:
        raise ValueError(f"no step is called {', '.join(map(repr, unknown))}; there are {', '.join(sorted(names))}")
