"""Find the values that differ from run to run and that a step's code reads.

A config names the thread, the checkpoint, the run and the task, and so does `runtime.execution_info`. If these values
counted for every step, no step would ever be replayed. For a step that reads such a value, it must count. Two rules
decide, and no rule follows a config through the code:

1. *Names.* A value counts for a step if the user's code that the step reaches mentions two names. These are the name of
   the value and the name of the part that holds it ("configurable" and "thread_id"). The names are those of the
   compiled code: attributes, keywords, parameters, texts, fields of classes (`Fingerprint.words`).
2. *Reads.* The parts that a running step is handed note who reads them (`musubito_langgraph.observed_config`). The
   code may have computed the key, or the code of a package may read it. Such a read is noted with the execution, as
   reads of a store are, and is compared before a replay.

Code that iterates, copies, prints, compares or returns a part reads the whole config. There is one exception, an
iteration that first asks of each key whether it is wanted: `{k: v for k, v in part.items() if k in fields}`. Such code
reads the keys that are wanted. LangChain and LangGraph themselves only hand configs on.

langgraph-supervisor reads the thread for remote graphs alone. It is no read where the agents are graphs of this
process.

Neither rule is enough alone:

- Names miss a computed key, and a config that is printed into a prompt.
- Reads miss values that no Python code reads; pydantic, for example, validates a dict in native code. Besides, a result
  for which another thread read a different value would replace this thread's result.

A mention that is no read costs a run, never a wrong replay. Code that mentions a packer such as orjson and a part of
the config may pack the whole part in native code. The thread and the user's metadata count then. Neither rule sees what
other native code reads without a dict's methods, nor a computed key of the config itself, beside its parts, unless the
value is named.

LangChain merges configs into plain ones (`with_config`). These are observed again where LangChain tells that something
begins. A Runnable of the user's own with an `invoke` of its own does not tell. So everything counts for code that
reaches such a Runnable and binds Runnables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Final

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase

from musubito.adapter import Fingerprint
from musubito_langgraph._compat import CONFIG_KEY_SEND, READ, Pregel
from musubito_langgraph.settings import KEY, VOLATILE

EVERYTHING: Final = "config"
"""The name that stands for all values that differ from run to run."""
EXECUTION: Final = ("checkpoint_id", "checkpoint_ns", "task_id", "thread_id", "run_id", "node_first_attempt_time")
"""Attributes of `execution_info`, without the number of the attempt: a replay returns the result of the last
attempt."""
SERVED: Final = ("assistant_id", "graph_id", "user")
"""Attributes of `server_info`."""
ABOUT: Final = {"execution_info": EXECUTION, "server_info": SERVED}
"""Attributes of a runtime that tell which execution this is, and for whom it runs."""
IDS: Final = ("thread_id", "checkpoint_id", "checkpoint_ns")
"""Keys by which the methods of a graph look up the state of a thread."""
STATES: Final = frozenset(name for name in dir(Pregel) if re.search("_state(_history)?$", name))
"""Methods of a graph that read or write the state of a thread."""
BINDING: Final = frozenset({"bind", "with_config", "with_listeners", "with_types"})
"""Methods of a Runnable that bind something to it."""
FRAMEWORKS: Final = frozenset({"langchain", "langchain_core", "langgraph"})
"""Packages whose own Runnables tell when they begin."""
CALLED: Final = frozenset({"invoke", "batch", "stream", "transform"} | {"ainvoke", "abatch", "astream", "atransform"})
"""Methods of a Runnable to which LangChain hands configs."""
PARTS: Final = frozenset({"configurable", "metadata", "tags", "callbacks"})
"""Keys of a config that a mention of the key alone does not read."""
PACKERS: Final = frozenset({"orjson", "ormsgpack", "msgspec", "ujson", "rapidjson"})
"""Packages that read a dict in native code."""
OF_EACH_STEP: Final = ("langgraph_", "checkpoint", "__")
"""Beginnings of the names of metadata that differ for each step."""
MAX_KEPT: Final = 256
"""Number of answers that are kept, by the words of code and the keys of a config."""


def counted(words: frozenset[str], config: RunnableConfig) -> frozenset[str]:
    """Return the names of the values that count for code that mentions these words."""
    configurable, metadata = tuple(config.get("configurable") or ()), tuple(config.get("metadata") or ())
    return _counted(words, tuple(config), configurable, metadata)


@lru_cache(MAX_KEPT)
def _counted(
    words: frozenset[str], keys: Sequence[str], configurable: Sequence[str], metadata: Sequence[str]
) -> frozenset[str]:
    """Return the names that count, of a config that has these keys."""
    names = set(words.intersection(keys) - PARTS)
    if "configurable" in words:
        names.update(f"configurable.{key}" for key in configurable if key in words and differs(key))
    if words & PACKERS and words & {"config", "get_config", "runtime"}:
        # They may pack a whole part of the config, unseen. What tells a user from another counts then.
        names.update({f"configurable.{IDS[0]}"} if "configurable" in words else ())
        own = (key for key in metadata if key != KEY and not key.startswith(OF_EACH_STEP))
        names.update(f"metadata.{key}" for key in own if "metadata" in words)
    if words & STATES:
        names.update(f"configurable.{key}" for key in IDS)
    if "metadata" in words:
        names.update(f"metadata.{key}" for key in metadata if key in words and key != KEY)
    for about, attributes in ABOUT.items():
        if about in words:
            names.update(f"execution.{key}" for key in words.intersection(attributes))
    if "previous" in words:
        names.add("runtime.previous")
    if "[tags]" in words:  # only as a text: many keywords are called tags
        names.add("tags")
    return frozenset(names)


def everything(config: RunnableConfig) -> Iterator[str]:
    """Yield the names of all values that differ from run to run."""
    yield from (f"configurable.{key}" for key in config.get("configurable") or {} if key in VOLATILE and key != KEY)
    yield from (f"metadata.{key}" for key in config.get("metadata") or {} if key != KEY)
    yield from (f"execution.{key}" for keys in ABOUT.values() for key in keys)
    yield from ("runtime.previous", "run_id", "run_name", "tags")


def differs(key: str) -> bool:
    """Tell whether a key of `configurable` holds a value that differs from run to run."""
    # What the functions do that read and write the state is observed itself (`observe_state`, `recorder.watching`).
    return (key in VOLATILE and key != KEY) or (key.startswith("__") and key not in (READ, CONFIG_KEY_SEND))


def binds(code: Fingerprint) -> bool:
    """Tell whether code binds a Runnable to something, or holds a bound Runnable: LangChain then merges configs."""
    if not BINDING.isdisjoint(code.words):
        return True
    return bool(code.met) and any(isinstance(thing, RunnableBindingBase) for thing in code.met)


@cache
def takes_config(cls: type) -> bool:
    """Tell whether a class is a Runnable whose own methods are handed configs by LangChain."""
    others = (base for base in cls.__mro__ if base.__module__.partition(".")[0] not in FRAMEWORKS)
    return issubclass(cls, Runnable) and any(not vars(base).keys().isdisjoint(CALLED) for base in others)
