"""Which of what differs from run to run counts for a piece of code because the code names it.

What code looks at as a whole, it does not name: that is seen when it does (`test_config_reads`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito.code.syntax.words import words_of
from musubito_langgraph.config_reads import counted
from musubito_langgraph.settings import VOLATILE

WHOLE = frozenset({"configurable", "metadata", "execution", "tags", "config"})
CONFIG: Any = {
    "configurable": dict.fromkeys((*VOLATILE, "__pregel_task_id", "user_id"), "1"),
    "metadata": dict.fromkeys(("langgraph_step", "tenant", "source", "tags", "a", "b", "x", "y"), 1),
    "tags": ["t"],
    "callbacks": None,
    "run_name": "r",
    "run_id": "1",
    "recursion_limit": 25,
    "max_concurrency": 1,
}


@dataclass(frozen=True)
class Sees:
    """What a piece of code reads: as a whole, and by name."""

    whole: frozenset[str]
    configurable: frozenset[str] = frozenset()
    metadata: frozenset[str] = frozenset()
    execution: frozenset[str] = frozenset()
    top: frozenset[str] = frozenset()

    @property
    def named(self) -> set[str]:
        """The names of what differs from run to run."""
        return {
            *(f"configurable.{key}" for key in self.configurable & VOLATILE),
            *(f"metadata.{key}" for key in self.metadata & CONFIG["metadata"].keys()),
            *(f"execution.{key}" for key in self.execution & {"task_id", "thread_id", "run_id"}),
            *(self.top & CONFIG.keys()),
        }


def sees(*whole: str, configurable: str = "", metadata: str = "", execution: str = "", top: str = "") -> Sees:
    return Sees(
        frozenset(whole),
        frozenset(configurable.split()),
        frozenset(metadata.split()),
        frozenset(execution.split()),
        frozenset(top.split()),
    )


def everything(**named: str) -> Sees:
    return sees(*WHOLE, **named)


def counts(*sources: str) -> set[str]:
    """The names of what counts for functions with these texts, taken as one program."""
    words = frozenset[str]()
    for source in sources:
        if any(word in source for word in ("await ", "async for ")):
            source = source.replace("def node(", "async def node(", 1).replace("async async", "async")
        words |= words_of(compile(source, "node.py", "exec"))
    return set(counted(words, CONFIG))


def node(*body: str, head: str = "def node(state, config):") -> str:
    return "\n".join((head, *(f"    {line}" for text in body for line in text.splitlines())))


THREAD = sees(configurable="thread_id")
RT = "def node(state, runtime):"

BODIES: dict[str, Sees] = {
    # -- keys by their names
    'return config["configurable"]["user_id"]': sees(configurable="user_id"),
    'return config["configurable"].get("thread_id")': THREAD,
    'return config["configurable"].get("thread_id", "none")': THREAD,
    'return config["configurable"].pop("thread_id", None)': THREAD,
    'return config["configurable"].setdefault("thread_id", "x")': THREAD,
    'return config.get("configurable", {}).get("thread_id")': THREAD,
    'return (config.get("configurable") or {}).get("thread_id")': THREAD,
    'return ((config or {}).get("configurable") or {})["thread_id"]': THREAD,
    'return config["configurable"]["a"], config["configurable"]["b"]': sees(configurable="a b"),
    'return "thread_id" in config["configurable"]': THREAD,
    'return "thread_id" not in config["configurable"]': THREAD,
    'return f\'{config["configurable"]["thread_id"]}\'': THREAD,
    'return [x for x in state if x == config["configurable"]["thread_id"]]': THREAD,
    'return (lambda: config["configurable"]["thread_id"])()': THREAD,
    'config["configurable"]["thread_id"] += "x"': THREAD,
    'del config["configurable"]["thread_id"]': THREAD,
    'config["configurable"]["thread_id"] = 1': sees(),
    'config["metadata"] = {"a": 1}': sees(),
    'return config["metadata"]["langgraph_step"]': sees(metadata="langgraph_step"),
    'return config["metadata"].get("tenant")': sees(metadata="tenant"),
    'return config["metadata"]["tags"]': sees(metadata="tags"),
    'return config["configurable"]["metadata"]["x"]': sees(configurable="metadata"),
    'return config["run_name"], config.get("recursion_limit"), config["run_id"]': sees(
        top="run_name recursion_limit run_id"
    ),
    'return "max_concurrency" in config': sees(top="max_concurrency"),
    'return config["tags"]': sees("tags"),
    'return "x" in config.get("tags", [])': sees("tags"),
    'if config and config["configurable"]:\n    return 1': sees(),
    "return 1 if config is None else 2": sees(),
    "assert not config": sees(),
    "return isinstance(config, dict)": sees(),
    'return cast("RunnableConfig", config)["configurable"]["thread_id"]': THREAD,
    # -- names that stand for them
    'cfg = config["configurable"]\nreturn cfg["x"]': sees(configurable="x"),
    'cfg = config\nconf = cfg["configurable"]\nreturn conf["x"], cfg["metadata"]["y"]': sees(
        configurable="x", metadata="y"
    ),
    'cfg, meta = config["configurable"], config["metadata"]\nreturn cfg["x"], meta["y"]': sees(
        configurable="x", metadata="y"
    ),
    '[cfg, meta] = config["configurable"], config["metadata"]\nreturn meta': sees("metadata"),
    'a = b = config["configurable"]\nreturn b["x"], a["y"]': sees(configurable="x y"),
    'cfg: dict = config["configurable"]\nreturn cfg["x"]': sees(configurable="x"),
    'if cfg := config.get("configurable"):\n    return cfg["x"]': sees(configurable="x"),
    'return (cfg := config["configurable"])["x"], cfg["y"]': sees(configurable="x y"),
    'cfg = config["configurable"] if config else {}\nreturn cfg["x"]': sees(configurable="x"),
    'cfg = config["configurable"]\ndef inner():\n    return cfg["x"]\nreturn inner()': sees(configurable="x"),
    'cfg = config["configurable"]\ndef inner():\n    return str(cfg)\nreturn inner()': sees("configurable"),
    'def inner():\n    return str(cfg)\ncfg = config["configurable"]\nreturn inner()': sees("configurable"),
    'def inner(c=config["configurable"]):\n    return c["x"]\nreturn inner()': sees(configurable="x"),
    'def inner(*, c=config["configurable"]):\n    return str(c)\nreturn inner()': sees("configurable"),
    "def inner(cfg):\n    return str(cfg)\nreturn inner(1)": sees(),
    "def inner():\n    return config\nreturn 1": everything(),
    'cfg = {}\nfor _ in state:\n    print(cfg)\n    cfg = config["configurable"]': sees("configurable"),
    'cfg = config["configurable"]\nreturn cfg': sees("configurable"),
    'cfg = config["configurable"]\nreturn [k for k in cfg]': sees("configurable"),
    'a, *b = config["configurable"]': sees("configurable"),
    'a, b = config["configurable"], *state': sees("configurable"),
    "global kept\nkept = config": everything(),
    'kept = 1\ndef keep():\n    nonlocal kept\n    kept = config["metadata"]\nreturn kept': sees("metadata"),
    'class Kept:\n    it = config["configurable"]\nreturn Kept': sees("configurable"),
    # -- a part as a whole
    'return {**config["configurable"]}': sees("configurable"),
    'return f(**config["configurable"])': sees("configurable"),
    'return f(*config["configurable"])': sees("configurable"),
    'return dict(config["configurable"])': sees("configurable"),
    'return config["configurable"].copy()': sees("configurable"),
    'return config["configurable"].items()': sees("configurable"),
    'get = config["configurable"].get\nreturn get("x")': sees("configurable"),
    'for k in config["configurable"]:\n    print(k)': sees("configurable"),
    'return [k for k in config["metadata"]]': sees("metadata"),
    "return f'{config[\"metadata\"]}'": sees("metadata"),
    "return f'{config[\"metadata\"]!r}'": sees("metadata"),
    'return config["configurable"] == state': sees("configurable"),
    'return config["configurable"] | {}': sees("configurable"),
    'return config["configurable"][key]': sees("configurable"),
    'return config["configurable"].get(key)': sees("configurable"),
    'return config["configurable"]["thread" + "_id"]': sees("configurable"),
    'return config["configurable"][f"{a}_id"]': sees("configurable"),
    'return key in config["configurable"]': sees("configurable"),
    'return operator.itemgetter("thread_id")(config["configurable"])': sees("configurable"),
    'return {"a": config["configurable"]}': sees("configurable"),
    'return [config["configurable"]]': sees("configurable"),
    'state["a"] = config["configurable"]': sees("configurable"),
    'state.update(a=config["configurable"])': sees("configurable"),
    'yield config["metadata"]': sees("metadata"),
    'with open(config["configurable"]) as f:\n    pass': sees("configurable"),
    'config["configurable"] |= state': sees("configurable"),
    'return state.get("x", config["configurable"])': sees("configurable"),
    'return client.get("url", config)': everything(),
    'raise ValueError(config["metadata"])': sees("metadata"),
    'client.get("url", config)': everything(),
    "match state:\n    case runtime.execution_info.task_id:\n        return 1": sees(execution="task_id"),
    # -- the config as a whole
    "return json.dumps(config)": everything(),
    "return str(config)": everything(),
    "return f'{config}'": everything(),
    "return config[key]": everything(),
    'return config["config" + "urable"]["thread_id"]': everything(),
    "return config.get(key)": everything(),
    "return {**config}": everything(),
    "return config": everything(),
    "return config.values()": everything(),
    "return config.__repr__()": everything(),
    "self.config = config": everything(),
    "for k in config:\n    pass": everything(),
    "return helper(config)": everything(),
    "return helper(state, config=config)": everything(),
    "return [config]": everything(),
    "a, b = state, config\nreturn a": sees(),
    "a, b = state, config\nreturn b": everything(),
    "a, (b, c) = config, state\nreturn b": sees(),
    "(a, b), c = config, state": everything(),
    "return lambda: config": everything(),
    "return functools.partial(helper, config=config)": everything(),
    "return '{config}'.format(**locals())": everything(),
    "return '%(config)s' % vars()": everything(),
    "return eval(state)": everything(),
    "return vars(state)": sees(),
    "return config.model_name, config.settings.name": sees(),
    # -- handing a config on
    "return model.invoke(messages, config)": sees(),
    "return model.invoke(messages, config=config)": sees(),
    "return model.invoke(config)": everything(),
    "return model.invoke(messages, other, config)": everything(),
    "return model.invoke(*messages, config)": everything(),
    "return model.invoke(messages, **config)": everything(),
    'return model.invoke(messages, config["configurable"])': sees("configurable"),
    "return await chain.ainvoke(x, config=config)": sees(),
    "return model.bind_tools(tools).with_config(config).invoke(x)": sees(),
    "return model.bind(config=config)": sees(),
    "return model.bind(config)": everything(),
    "for chunk in graph.stream(x, config, stream_mode='values'):\n    print(chunk)": sees(),
    "return [x async for x in graph.astream_events(x, config, version='v2')]": sees(),
    "return model.batch(xs, config=config)": sees(),
    "return invoke(messages, config)": everything(),
    "return graph.get_state(config)": sees(configurable="thread_id checkpoint_id checkpoint_ns"),
    "return graph.get_state(state)": sees(),
    "graph.update_state(config=config, values=state)": sees(configurable="thread_id checkpoint_id checkpoint_ns"),
    "return model.invoke(x, ensure_config(config))": sees(),
    "return model.invoke(x, patch_config(config, run_name='x'))": sees(),
    'c = merge_configs(state, config)\nreturn c["configurable"]["x"]': sees(configurable="x"),
    "return str(patch_config(config, run_name='x'))": everything(),
    'return patch_config(config, configurable=config["configurable"])': everything(),
    'return model.invoke(x, {"callbacks": config["callbacks"]})': sees(),
    'return model(x, callbacks=config.get("callbacks"))': sees(),
    'manager = config["callbacks"]\nmanager.on_text("x")\nreturn m(x, callbacks=manager.get_child("a"))': sees(),
    'return config["callbacks"].parent_run_id': everything(),
    'return {"callbacks": config}': everything(),
    # -- where no parameter is
    'return get_config()["configurable"]["thread_id"]': THREAD,
    'return langgraph.config.get_config()["configurable"]["thread_id"]': THREAD,
    'c = get_config()\nreturn c["metadata"]["x"]': sees(metadata="x"),
    "return str(get_config())": everything(),
    "return list(map(call, [get_config]))": everything(),
    "c: RunnableConfig = current()\nreturn str(c)": everything(),
    'return current()["configurable"]["thread_id"]': THREAD,
    "return var_child_runnable_config.get()": everything(),
    "return ensure_config()": everything(),
    'dispatch_custom_event("told", state, config=config)': sees(),
    'dispatch_custom_event("told", config)': everything(),
    'state.dispatch_custom_event("told", state, config=config)': everything(),
    'dispatch_custom_event = state.tell\ndispatch_custom_event("told", state, config=config)': everything(),
    'adispatch_custom_event("told", config["configurable"]["x"], config=config)': sees(configurable="x"),
    "from langgraph.config import get_config\nreturn 1": sees(),
    "from langgraph.config import get_config as c\nreturn str(c())": everything(),
    'c = typing.cast(RunnableConfig, current())\nreturn c["configurable"]["x"]': sees(configurable="x"),
    "return cast(config, String)": everything(),
    "return column.cast(String, config)": everything(),
    "return inspect.currentframe().f_locals": everything(),
    # -- match
    'match config:\n    case {"configurable": {"thread_id": t}}:\n        return t': THREAD,
    'match config:\n    case {"configurable": {"thread_id": "1" | "2"}}:\n        return 1': THREAD,
    'match config:\n    case {"configurable": c}:\n        return c["x"]': sees(configurable="x"),
    'match config:\n    case {"configurable": {} as c} if str(c):\n        return 1': sees("configurable"),
    'match config:\n    case {"configurable": {"a": 1, **rest}}:\n        return rest': sees(
        "configurable", configurable="a"
    ),
    'match config:\n    case {"tags": [first]}:\n        return first': sees("tags"),
    'match config:\n    case {"metadata": [*_]}:\n        return 1': sees("metadata"),
    'match config["configurable"]:\n    case {Key.thread: t}:\n        return t': sees("configurable"),
    "match config:\n    case dict(c):\n        return c": everything(),
    "match config:\n    case dict() as c:\n        return len(c)": everything(),
    'match config:\n    case {"run_id": r}:\n        return r\n    case _:\n        return 0': sees(top="run_id"),
    'match load():\n    case {"configurable": {"thread_id": t}}:\n        return t': THREAD,
    "match config, state:\n    case (c, _):\n        return c": everything(),
    'match state:\n    case [{"metadata": m}]:\n        return m': sees("metadata"),
    'match state:\n    case {"metadata": m}:\n        return m': sees(),
    "match runtime:\n    case Runtime(execution_info=i):\n        return i.task_id": sees(execution="task_id"),
    'match config:\n    case {"configurable": {"a": {"b": [x, {"configurable": c}]}}}:\n        return c': sees(
        "configurable", configurable="a"
    ),
    'match state:\n    case [{"configurable": c}] | {"a": {"configurable": c}}:\n        return c["x"]': sees(
        configurable="x"
    ),
    'match state:\n    case Box({"configurable": c}):\n        return c["x"]': sees(configurable="x"),
    'match state:\n    case {"configurable": {"x": _}} as c:\n        return 1': sees(configurable="x"),
    'match config["configurable"]:\n    case state.other:\n        return 1': sees("configurable"),
    'match config["configurable"]:\n    case "x":\n        return 1': sees("configurable"),
    'match state:\n    case {**d}:\n        return d["metadata"]': sees("metadata"),
    'match state:\n    case [*d]:\n        return d["metadata"]': sees("metadata"),
    'match state:\n    case d:\n        return d["metadata"]': sees("metadata"),
    'try:\n    pass\nexcept E as d:\n    return d["metadata"]': sees("metadata"),
    'import d\nreturn d["metadata"]': sees("metadata"),
    'd = {}\ndef inner():\n    nonlocal d\n    d = load()\nreturn d["metadata"]': sees("metadata"),
    'for d in state:\n    d = load()\n    print(d["metadata"])': sees("metadata"),
    'state.setdefault("a", config)': everything(),
    'config.setdefault("a", config["metadata"])': sees("metadata", top="a"),
    'return config.get("configurable", config["metadata"])["x"]': sees(configurable="x", metadata="x"),
    'return config.get("configurable", default=config)': everything(),
    # -- the user's own data
    'return state["metadata"]': sees(),
    'return state["tags"], state.get("metadata"), "tags" in state': sees(),
    'return [d["metadata"] for d in state["documents"]]': sees(),
    'for d in state["documents"]:\n    yield d["metadata"]["source"]': sees(),
    'd = {"metadata": state}\nreturn d["metadata"]': sees(),
    'return {"metadata": state}["metadata"]': sees(),
    'return [d.metadata for d in state["documents"]], doc.metadata["thread_id"], doc.tags': sees(),
    'return load()["metadata"]["source"]': sees(metadata="source"),
    'return load()["metadata"]': sees("metadata"),
    'd = load()\nreturn d["tags"]': sees("tags"),
    'd = {}\nd = load()\nreturn d["metadata"]': sees("metadata"),
    'state = load()\nreturn state["metadata"]': sees("metadata"),
    'return self.last["metadata"]': sees("metadata"),
    'return OUTSIDE["metadata"]["x"]': sees(metadata="x"),
    'return state["configurable"]["thread_id"]': THREAD,
    'return state["configurable"]': sees("configurable"),
    'return state["thread_id"], state["run_id"], state.get("recursion_limit")': sees(),
    'return "configurable"': sees(),
}


@pytest.mark.parametrize("body", BODIES)
def test_body(body: str) -> None:
    assert counts(node(body)) >= BODIES[body].named


NOTHING = [body for body, seen in BODIES.items() if seen == sees()]
MENTIONS = {
    'config["configurable"]["thread_id"] = 1': {"configurable.thread_id"},
    'return state["tags"], state.get("metadata"), "tags" in state': {"tags", "metadata.tags"},
    'for d in state["documents"]:\n    yield d["metadata"]["source"]': {"metadata.source"},
    'return [d.metadata for d in state["documents"]], doc.metadata["thread_id"], doc.tags': {"metadata.tags"},
    'return state["thread_id"], state["run_id"], state.get("recursion_limit")': {"run_id", "recursion_limit"},
    "return model.invoke(x, patch_config(config, run_name='x'))": {"run_name"},
    'config["metadata"] = {"a": 1}': {"metadata.a"},
    "return graph.get_state(state)": {f"configurable.{key}" for key in ("thread_id", "checkpoint_id", "checkpoint_ns")},
}
"""What counts though it is not read: code of these names it."""


@pytest.mark.parametrize("body", NOTHING)
def test_code_that_reads_nothing(body: str) -> None:
    assert counts(node(body)) == MENTIONS.get(body, set())


PLACES = [
    "@HERE\ndef inner(): pass",
    "@HERE\nclass Inner: pass",
    "@call(lambda: HERE)\ndef inner(): pass",
    "def inner(a=lambda: HERE): pass",
    "class Inner(HERE): pass",
    "class Inner(a, key=HERE): pass",
    "class Inner(call(lambda: HERE)): pass",
    "class Inner:\n    def method(self): return HERE",
    "call(HERE).a = 1",
    "call(HERE)[0] = 1",
    "a[HERE] = 1",
    "a[lambda: HERE], b = state",
    "[*a[HERE]] = state",
    "a: int = HERE",
    "a: int = call(lambda: HERE).b",
    "a += HERE",
    "for a[HERE] in state: pass",
    "for a in HERE: pass",
    "for a in state: HERE",
    "for a in state: pass\nelse: HERE",
    "return [a for a in HERE]",
    "return [a for a in state if HERE]",
    "return [a for a[HERE] in state]",
    "return {HERE for a in state}",
    "return {HERE: a for a in state}",
    "return {a: HERE for a in state}",
    "return (HERE for a in state)",
    "with HERE: pass",
    "with a as b[HERE]: pass",
    "with a: HERE",
    "while HERE: pass",
    "if HERE: pass",
    "if state: pass\nelif HERE: pass",
    "assert HERE",
    "assert state, HERE",
    "del a[HERE]",
    "raise HERE",
    "try: HERE\nfinally: pass",
    "try: pass\nexcept HERE: pass",
    "try: pass\nexcept E as e: HERE",
    "match HERE:\n    case 1: pass",
    "match state:\n    case 1 if HERE: pass",
    "match state:\n    case 1: HERE",
    "return state[HERE]",
    "return state[HERE:]",
    "return HERE[state]",
    "return HERE.a",
    "return HERE and state",
    "return state or HERE",
    "return 1 if HERE else 2",
    "return HERE if state else 2",
    "return 1 if state else HERE",
    "return (a := HERE)",
    "return not HERE",
    "return -HERE",
    "return HERE + 1",
    "return HERE is None",
    "return None is not HERE",
    "return HERE == 1 < 2",
    "return HERE in state",
    "return state in HERE",
    "return lambda: HERE",
    "return {HERE: 1}",
    "return {1: HERE}",
    "return {**HERE}",
    "return [HERE, {HERE}, (HERE,)]",
    "return f'{HERE:>{HERE}}'",
    "return f'{a:>{HERE}}'",
    "return await HERE",
    "yield HERE",
    "yield from HERE",
    "return HERE()",
    "return call(HERE)",
    "return call(*HERE)",
    "return call(a=HERE)",
    "return call(**HERE)",
    "return call(HERE)(1)",
    "return model.invoke(HERE, config)",
    "return state.get('a', HERE)",
    "return config.get('run', HERE) if state else 1",
    "return state.get('a', default=HERE)",
    "return getattr(HERE, 'a')",
    "return getattr(state, 'a', HERE)",
    "return isinstance(HERE, str)",
    "return isinstance(state, HERE)",
    "return cast(HERE, state)",
    "return cast(str, HERE)",
    "return patch_config(state, run_name=HERE) is None",
    "return get_runtime(HERE) is None",
    "return call(HERE).get_config() is None",
]


@pytest.mark.parametrize("place", PLACES)
def test_a_read_is_seen_wherever_it_stands(place: str) -> None:
    assert "configurable.thread_id" in counts(node(place.replace("HERE", 'config["configurable"]["thread_id"]')))
    assert "configurable.thread_id" not in counts(node(place.replace("HERE", "a")))


RUNTIMES: dict[str, Sees] = {
    "return str(request.runtime)": everything(),
    "return str(request.runtime.config)": everything(),
    "return runtime.override(context=1).override(context=2)": everything(),
    "return box.merge(1).execution": sees(),
    "return str(box.merge(1))": sees(),
    "return runtime.execution_info.thread_id": sees(execution="thread_id"),
    "info = runtime.execution_info\nreturn info.task_id": sees(execution="task_id"),
    "if info := runtime.execution_info:\n    return info.node_attempt": sees(execution="node_attempt"),
    "return runtime.execution_info and 1": sees("execution"),
    "return runtime.execution_info": sees("execution"),
    "return f(runtime.execution_info)": sees("execution"),
    "info = runtime.execution_info\nreturn getattr(info, name)": sees("execution"),
    'info = runtime.execution_info\nreturn getattr(info, "task_id", None)': sees(execution="task_id"),
    'return getattr(runtime, "execution_info", None).run_id': sees(execution="run_id"),
    "return runtime.execution_info.__dict__": sees("execution"),
    "return runtime.execution_info.patch(task_id=1)": sees("execution"),
    "return f'{runtime.execution_info}'": sees("execution"),
    "return request.runtime.execution_info.task_id": sees(execution="task_id"),
    "return anything.execution_info.task_id": sees(execution="task_id"),
    "return get_runtime().execution_info.task_id": sees(execution="task_id"),
    "return get_runtime(Context).context.user": sees(),
    "return runtime.context.user, runtime.store.get(('a',), 'b'), runtime.stream_writer({'a': 1})": sees(),
    "return runtime.state['metadata']": sees("metadata"),
    "return runtime.override(context=1).execution_info.task_id": sees(execution="task_id"),
    "return str(runtime.override(context=1))": everything(),
    "return str(runtime)": everything(),
    "return vars(runtime)": everything(),
    "return getattr(runtime, name)": everything(),
    "return asdict(runtime)": everything(),
    'if hasattr(runtime, "execution_info"):\n    return 1': sees(),
    "return helper(runtime)": everything(),
    'return runtime.config["configurable"]["thread_id"]': THREAD,
    'return request.runtime.config["metadata"]["x"]': sees(metadata="x"),
    "return model.invoke(x, runtime.config)": sees(),
    "return str(runtime.config)": everything(),
    "return self.config.name, str(self.config)": sees(),
}


@pytest.mark.parametrize("body", RUNTIMES)
def test_body_with_a_runtime(body: str) -> None:
    assert counts(node(body, head=RT)) >= RUNTIMES[body].named


@pytest.mark.parametrize(
    "sources",
    [
        (node("return helper(config)"), node('return c["configurable"]["thread_id"]', head="def helper(c):")),
        (node('return helper(config["configurable"])'), node('return c["thread_id"]', head="def helper(c):")),
        (node("return helper(**config)"), node('return k["configurable"]["thread_id"]', head="def helper(**k):")),
        ('f = lambda s, config: config["configurable"]["thread_id"]',),
        ("class A:\n    def f(self, c):\n        return c['configurable'].get('thread_id')",),
        ("class A:\n    key = 'configurable'\n    def f(self, c, thread_id):\n        return c",),
        ("def f(c):\n    return [c['configurable'][k] for k in ('a', 'thread_id')]",),
        ("def f(c):\n    return '{c[configurable][thread_id]}'.format(c=c)",),
        ("def f(c):\n    return pick(c, 'configurable.thread_id')",),
        ("def f(c):\n    return pick(c.configurable, thread_id=1)",),
        ("def f(c):\n    return c['configurable']['thread' + '_id']",),
        ("def f(s, c):\n    return s.get_state(c)",),
    ],
)
def test_a_program_that_names_the_thread(sources: tuple[str, ...]) -> None:
    assert "configurable.thread_id" in counts(*sources)
    assert counts(*reversed(sources)) == counts(*sources)


@pytest.mark.parametrize(
    "source",
    [
        "def f(c):\n    thread_id = 1\n    return c['configurable']",
        "def f(c):\n    return c['configurable'], 'of the thread_id nothing is said'",
        "def f(c):\n    'Of configurable the thread_id is read elsewhere.'\n    return c['configurable']",
        "def f(c):  # thread_id\n    return c['configurable']",
        "def f(c):\n    return c['thread_id']",
    ],
)
def test_a_program_that_does_not(source: str) -> None:
    assert "configurable.thread_id" not in counts(source)


TEXTS = st.sampled_from([*(node(body) for body in BODIES), *(node(body, head=RT) for body in RUNTIMES)])


@given(st.lists(TEXTS, max_size=6), TEXTS)
def test_another_source_never_hides_what_is_named(sources: list[str], another: str) -> None:
    assert counts(*sources, another) >= counts(*sources) | counts(another)
