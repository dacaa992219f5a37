"""Which parts of a config and of a runtime a piece of code is said to read."""

from __future__ import annotations

import itertools
import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito_langgraph.sees import WHOLE, Sees, what_is_seen


def sees(*whole: str, configurable: str = "", metadata: str = "", execution: str = "", top: str = "") -> Sees:
    return Sees(
        frozenset(configurable.split()),
        frozenset(metadata.split()),
        frozenset(execution.split()),
        frozenset(whole),
        frozenset(top.split()),
    )


def everything(**named: str) -> Sees:
    return sees(*WHOLE, **named)


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
    assert what_is_seen([node(body)]) == BODIES[body]


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
    "return config.get('run', HERE) if False else 1",
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
    seen = what_is_seen([node(place.replace("HERE", 'config["configurable"]["thread_id"]'))])
    assert (seen.configurable, seen.execution, seen.whole) == (frozenset({"thread_id"}), frozenset(), frozenset())
    assert what_is_seen([node(place.replace("HERE", "a"))]).configurable == frozenset()


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
    assert what_is_seen([node(body, head=RT)]) == RUNTIMES[body]


HEADS: dict[str, Sees] = {
    "def node(state, cfg: RunnableConfig):": everything(),
    "def node(state, cfg: Optional[RunnableConfig] = None):": everything(),
    "def node(state, cfg: 'RunnableConfig | None'):": everything(),
    "def node(state, cfg: Annotated[lc.RunnableConfig, InjectedToolArg]):": everything(),
    "def node(state, *, cfg: RunnableConfig):": everything(),
    "async def node(state, cfg: RunnableConfig, /):": everything(),
    "def node(state, cfg: Runtime[Context]):": everything(),
    "def node(state, cfg: 'ToolRuntime'):": everything(),
    "def node(state, cfg: AppConfig):": sees(),
    "def node(state, cfg):": sees(),
    "def node(state, cfg=get_config()):": everything(),
    "def node(state, *cfg):": sees(),
    "def node(state, **cfg):": sees(),
    "@wraps(f)\ndef node(state, *cfg):": everything(),
    "@functools.wraps(f)\ndef node(state, **cfg):": everything(),
    "def __call__(self, *args, **cfg):": everything(),
    "def __init__(self, cfg: RunnableConfig):": everything(),
}


@pytest.mark.parametrize("head", HEADS)
def test_what_a_parameter_is(head: str) -> None:
    assert what_is_seen([node("return str(cfg)", head=head)]) == HEADS[head]


PROGRAMS: list[tuple[tuple[str | None, ...], Sees]] = [
    ((), sees()),
    ((None,), everything()),
    (("def broken(:",), everything()),
    (("def broken(:\n  f(lambda s: 1)",), everything()),
    (("a = '\0'",), everything()),
    (('    def method(self, config):\n        return config["configurable"]["x"]\n',), sees(configurable="x")),
    # lambdas, and the lines that they stand on
    (('f = lambda s, config: config["configurable"]["x"]',), sees(configurable="x")),
    (('builder.add_node("a", lambda s, config: config["configurable"]["x"])',), sees(configurable="x")),
    (('    .add_node("a", lambda s, config: config["configurable"]["x"])  # note',), sees(configurable="x")),
    (('    "a": lambda s, config: (config["configurable"]\n["x"]), "b": lambda s: 1,',), sees(configurable="x")),
    (("    A: lambda s, config: str(config)",), everything()),
    (("    A: lambda s, config: str(config),",), everything()),
    (("lambda s, config: config",), everything()),
    (("), lambda s: s['x'], lambda",), everything()),
    # functions of the same texts
    (
        (node("return helper(state, config)"), node('return c["configurable"]["x"]', head="def helper(s, c):")),
        sees(configurable="x"),
    ),
    (
        (node("return helper(state, c=config)"), node("return str(c)", head="def helper(s, *, c):")),
        everything(),
    ),
    (
        (node("return await helper(config)"), node('return str(c["metadata"])', head="async def helper(c):")),
        sees("metadata"),
    ),
    (
        (node('return helper(config["configurable"])'), node('return c["x"]', head="def helper(c):")),
        sees(configurable="x"),
    ),
    (
        (node("return h(r.execution_info)", head="def node(s, r):"), node("return i.task_id", head="def h(i):")),
        sees(execution="task_id"),
    ),
    ((node("return h(config)"), node("return h2(c)", head="def h(c):")), everything()),
    (
        (
            node("return h(config)"),
            node("return h2(c)", head="def h(c):"),
            node('return c["tags"], h(c)', head="def h2(c):"),
        ),
        sees("tags"),
    ),
    # where the name may stand for something else
    (
        (node("return h(config)", head="def node(state, config, h):"), node("return 1", head="def h(c):")),
        everything(),
    ),
    ((node("h = other", "return h(config)"), node("return 1", head="def h(c):")), everything()),
    ((node("from other import h", "return h(config)"), node("return 1", head="def h(c):")), everything()),
    ((node("return json.dumps(config)"), node("return 1", head="def dumps(c):")), everything()),
    ((node("return str(config)"), node("return 1", head="def str(c):")), everything()),
    ((node("return h(*state, config)"), node("return 1", head="def h(a, b):")), everything()),
    ((node("return h(config)"), node("return 1", head="def h(self, c):")), everything()),
    ((node("return h(config)"), node("return 1", head="def h():")), everything()),
    (
        (
            node("return h(config)"),
            node("global h", "h = print", head="def other():"),
            node("return 1", head="def h(c):"),
        ),
        everything(),
    ),
    # what goes into *args and **kwargs
    ((node("return h(config)"), node("return 1", head="def h(*a):")), sees()),
    ((node("return h(config)"), node("return str(a)", head="def h(*a):")), everything()),
    ((node("return h(c=config)"), node('return str(k["c"])', head="def h(**k):")), everything()),
    ((node("return h(c=config)"), node('return str(k["d"])', head="def h(**k):")), sees()),
    ((node('return h("a")'), node("return str(k)", head="def h(**k):")), sees()),
    (
        (
            """
            def logged(f):
                @functools.wraps(f)
                def wrapper(*args, **kwargs):
                    return f(*args, **kwargs)
                return wrapper
            """,
            "@logged\n" + node('return config["configurable"]["x"]'),
        ),
        sees(configurable="x"),
    ),
    ((node("return g(*a, **k)", head="@wraps(f)\ndef wrapper(*a, **k):"),), everything()),
    ((node('return k["config"]["metadata"]["x"]', head="@wraps(f)\ndef wrapper(*a, **k):"),), sees(metadata="x")),
    ((node('return str(k.get("config"))', head="@wraps(f)\ndef wrapper(*a, **k):"),), everything()),
    ((node('return k.get("runtime").execution_info.x', head="@wraps(f)\ndef w(**k):"),), sees(execution="x")),
    ((node('return str(k.get("user"))', head="@wraps(f)\ndef wrapper(*a, **k):"),), sees()),
    ((node("return self.f(*a, **k)", head="def __call__(self, *a, **k):"),), sees()),
    ((node("return self.f(*a, **k)", head="def other(self, *a, **k):"),), sees()),
    ((node("return str(self.f(state, *a))", head="def __call__(self, state, *a):"),), sees()),
    ((node("return str(k)", head="def __call__(self, state, **k):"),), everything()),
    ((node("return retry(lambda: f(*a, **k))", head="@wraps(f)\ndef wrapper(*a, **k):"),), sees()),
    ((node("return g(f, *a)", head="@wraps(f)\ndef wrapper(*a, **k):"),), everything()),
    ((node("return it.invoke(*a, **k)", head="@wraps(f)\ndef wrapper(*a, **k):"),), sees()),
    (
        (
            node("return it.invoke(*a, **k)", head="@wraps(f)\ndef wrapper(*a, **k):"),
            node("return str(c)", head="def invoke(self, x, c):"),
        ),
        everything(),
    ),
    (
        (
            node('return str(k.get("d"))', head="def h(**k):"),
            node("return h(d=x)", head="def h2(x):"),
            node("return h(c=config), h2(config)"),
        ),
        everything(),
    ),
    # classes
    (
        (
            """
            class Node:
                def __init__(self, config):
                    self.config = config

                def __call__(self, state, config):
                    return self.helper(state, config) + self.config["x"]

                def helper(self, state, c):
                    return c["configurable"]["x"]
            """,
        ),
        sees(configurable="x"),
    ),
    (
        (
            node("return self.helper(config)", head="def __call__(self, state, config):"),
            node("return str(c)", head="def helper(self, c):"),
        ),
        everything(),
    ),
    (
        (
            node("self.helper = print", head="def setup(self):"),
            node("return self.helper(config)", head="def __call__(self, state, config):"),
            node("return 1", head="def helper(self, c):"),
        ),
        everything(),
    ),
    ((node("return super().run(config)"), node("return 1", head="def run(self, c):")), everything()),
    ((node("return self.run(config)"), node('return c["tags"]', head="def run(self, c):")), sees("tags")),
    ((node("return other.run(config)"), node('return c["tags"]', head="def run(self, c):")), everything()),
    ((node("return Kept(config)"), "class Kept:\n    def __init__(self, c): self.c = c"), everything()),
    (
        (node("return Kept(config)"), "class Kept:\n    def __init__(self, c): self.x = c['metadata']['x']"),
        sees(metadata="x"),
    ),
    ((node("return Kept(config=config)"), "class Kept:\n    config: dict"), everything()),
    (
        (
            node("return Settings.of(config).x"),
            "class Settings:\n    @classmethod\n    def of(cls, c):\n        return cls(c['configurable']['x'])",
        ),
        sees(configurable="x"),
    ),
    (
        (
            node("return Settings.of(config).x"),
            "class Settings:\n    @staticmethod\n    def of(c):\n        return str(c['configurable'])",
        ),
        sees("configurable"),
    ),
    (
        (node("return Helper.run(state, config)"), "class Helper:\n    def run(self, c):\n        return str(c)"),
        everything(),
    ),
    # whatever has an `invoke` among the texts gets what any `invoke` is handed
    ((node("return it.invoke(state, config)"), node("return str(c)", head="def invoke(self, x, c):")), everything()),
    (
        (node("return it.get_state(config)"), node("return str(c)", head="def get_state(self, c):")),
        everything(configurable="thread_id checkpoint_id checkpoint_ns"),
    ),
    (
        (
            node("dispatch_custom_event('a', 1, config=config)"),
            node("print(config)", head="def dispatch_custom_event(name, data, *, config):"),
        ),
        everything(),
    ),
    ((node("return ensure_config(config)['tags']"), node("return str(c)", head="def ensure_config(c):")), everything()),
    # of the user's own data only what no config reaches
    (
        (node("return h(state)"), node('return d["metadata"]', head="def h(d):")),
        sees(),
    ),
    (
        (node("return h(config)"), node('return d["metadata"]', head="def h(d):")),
        sees("metadata"),
    ),
    ((node("return settings.x", head="def node(s):"), node("return config.x, str(config)", head="def f(s):")), sees()),
]


@pytest.mark.parametrize(("sources", "seen"), PROGRAMS)
def test_program(sources: tuple[str | None, ...], seen: Sees) -> None:
    for order in itertools.permutations(sources):
        assert what_is_seen(order) == seen


def test_what_is_seen_by_two_is_what_either_sees() -> None:
    one = sees("tags", configurable="a", metadata="b", execution="c", top="d")
    other = sees("metadata", configurable="a2", metadata="b2", execution="c2", top="d2")
    both = sees("tags", "metadata", configurable="a a2", metadata="b b2", execution="c c2", top="d d2")
    assert one | other == other | one == both
    assert one | Sees() == one


TEXTS = st.sampled_from(
    [
        *(node(body) for body in BODIES),
        *(node(body, head=RT) for body in RUNTIMES),
        *(node("return str(cfg)", head=head) for head in HEADS),
    ]
)


@given(st.lists(TEXTS, max_size=6), TEXTS | st.none())
def test_another_source_never_hides_what_is_seen(sources: list[str], another: str | None) -> None:
    """Unless it is a function that the others hand something to: then that is no longer unknown code."""
    before, alone, after = what_is_seen(sources), what_is_seen([another]), what_is_seen([*sources, another])
    assert after | before | alone == after


@given(st.sampled_from(list(BODIES)), st.data())
def test_what_a_nested_function_sees_is_seen(body: str, data: st.DataObject) -> None:
    """Wherever the text stands: in a function, a class, a branch, a loop or a handler."""
    wrap = data.draw(
        st.sampled_from(["if state:", "try:", "while state:", "def outer():", "class Outer:", "with lock:"])
    )
    inner = textwrap.indent(node(body), "    ")
    tail = "\nfinally:\n    pass" if wrap == "try:" else ""
    assert what_is_seen([f"{wrap}\n{inner}{tail}"]) == BODIES[body]


def test_deeper_than_can_be_read_is_everything() -> None:
    assert what_is_seen([f"a = {'-' * 100_000}1"]).whole == WHOLE
    assert what_is_seen(["a = " + ".b".join(["x"] * 5_000)]).whole in (WHOLE, frozenset())


def test_fast_enough_to_be_asked_once_per_fingerprint() -> None:
    sources = [node(body) for body in BODIES] + [node(body, head=RT) for body in RUNTIMES]
    started = time.perf_counter()
    what_is_seen(sources)
    assert time.perf_counter() - started < 2
