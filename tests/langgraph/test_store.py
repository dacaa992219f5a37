"""The store as a node is given it: it does what the user's own store does, and what is read from it counts."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, ClassVar, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore, GetOp, Item, ListNamespacesOp, PutOp, SearchItem, SearchOp
from langgraph.store.memory import InMemoryStore

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StepType, musubito_step, use_musubito_engine
from musubito_langgraph import musubito_graph, musubito_runnable
from tests.langgraph.specimen import Ran

pytestmark = pytest.mark.usefixtures("engine")
Ask = Callable[..., Any]
SPACE = ("facts", "ann")


class State(TypedDict, total=False):
    text: str
    said: Any


@pytest.fixture(params=["invoke", "ainvoke"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """What a graph says, asked in both ways."""

    def ask(graph: Any) -> Any:
        if request.param == "invoke":
            return graph.invoke({"text": "x"})["said"]
        return asyncio.run(graph.ainvoke({"text": "x"}))["said"]

    return ask


def bare(node: Any, **around: Any) -> Any:
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="g", **around)


def graph_of(node: Any, **around: Any) -> Any:
    return musubito_graph(bare(node, **around))


def mood(store: BaseStore) -> Any:
    item = store.get(SPACE, "mood")
    return item and item.value["is"]


# -- a class of the user's ---------------------------------------------------------------------------------------------


class Tenants(InMemoryStore):
    """Each tenant sees what is his."""

    tenant = "one"

    def get(self, namespace: Any, key: str, **more: Any) -> Any:
        return super().get((self.tenant, *namespace), key, **more)

    def put(self, namespace: Any, key: str, value: Any, *args: Any, **more: Any) -> None:
        super().put((self.tenant, *namespace), key, value, *args, **more)

    def search(self, prefix: Any, /, **more: Any) -> Any:
        return super().search((self.tenant, *prefix), **more)

    def delete(self, namespace: Any, key: str) -> None:
        super().delete((self.tenant, *namespace), key)

    def list_namespaces(self, **more: Any) -> Any:
        return super().list_namespaces(prefix=(self.tenant,), **more)

    async def aget(self, namespace: Any, key: str, **more: Any) -> Any:
        return await super().aget((self.tenant, *namespace), key, **more)

    async def aput(self, namespace: Any, key: str, value: Any, *args: Any, **more: Any) -> None:
        await super().aput((self.tenant, *namespace), key, value, *args, **more)

    async def asearch(self, prefix: Any, /, **more: Any) -> Any:
        return await super().asearch((self.tenant, *prefix), **more)

    async def adelete(self, namespace: Any, key: str) -> None:
        await super().adelete((self.tenant, *namespace), key)

    async def alist_namespaces(self, **more: Any) -> Any:
        return await super().alist_namespaces(prefix=(self.tenant,), **more)


def kept(store: Tenants) -> list[Any]:
    found = InMemoryStore.search(store, (), limit=100)
    return sorted((item.namespace, item.key, item.value["is"]) for item in found)


def test_what_a_class_overrides_is_what_is_called(ask: Ask):
    def node(state: State, runtime: Runtime) -> Any:
        store: Any = runtime.store
        store.put(SPACE, "kept", {"is": 1})
        store.put(SPACE, "gone", {"is": 2})
        store.delete(SPACE, "gone")
        names = sorted(item.key for item in store.search(("facts",)))
        return {"said": [mood(store), names, store.list_namespaces(), len(store.batch([GetOp(SPACE, "mood")]))]}

    def story(wrap: Callable[[Any], Any]) -> Any:
        store = Tenants()
        store.put(SPACE, "mood", {"is": "glad"})
        return ask(wrap(bare(node, store=store))), kept(store)

    live = story(lambda graph: graph)
    assert live[0] == ["glad", ["kept", "mood"], [("one", *SPACE)], 1]
    assert story(musubito_graph) == live


def test_so_are_its_async_methods():
    async def node(state: State, runtime: Runtime) -> Any:
        store: Any = runtime.store
        await store.aput(SPACE, "kept", {"is": 1})
        await store.aput(SPACE, "gone", {"is": 2})
        await store.adelete(SPACE, "gone")
        item = await store.aget(SPACE, "mood")
        names = sorted(item.key for item in await store.asearch(("facts",)))
        return {"said": [item.value, names, await store.alist_namespaces(), len(await store.abatch([]))]}

    def story(wrap: Callable[[Any], Any]) -> Any:
        store = Tenants()
        store.put(SPACE, "mood", {"is": "glad"})
        return asyncio.run(wrap(bare(node, store=store)).ainvoke({"text": "x"}))["said"], kept(store)

    live = story(lambda graph: graph)
    assert live[0] == [{"is": "glad"}, ["kept", "mood"], [("one", *SPACE)], 0]
    assert story(musubito_graph) == live


def searched(store: BaseStore) -> Any:
    return [item.value["is"] for item in store.search(SPACE)] or None


def listed(store: BaseStore) -> Any:
    return len(store.list_namespaces()) or None


@pytest.mark.parametrize("read", [mood, searched, listed])
def test_what_an_overridden_method_finds_counts(read: Callable[[BaseStore], Any], ran: Ran, ask: Ask):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": read(runtime.store)}

    store = Tenants()
    graph = graph_of(node, store=store)
    assert [ask(graph), ask(graph)] == [None, None]
    assert ran.counts == {"node": 1}
    InMemoryStore.put(store, SPACE, "mood", {"is": "of no interest"})
    InMemoryStore.put(store, ("two", *SPACE), "mood", {"is": "another's"})
    assert ask(graph) is None
    assert ran.counts == {"node": 1}
    store.put(SPACE, "mood", {"is": "glad"})
    first = ask(graph)
    assert first in ("glad", ["glad"], 1)
    assert ask(graph) == first
    assert ran.counts == {"node": 2}
    store.tenant = "nobody"
    assert ask(graph) is None


def test_what_an_overridden_async_method_finds_counts(ran: Ran):
    async def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        item = await runtime.store.aget(SPACE, "mood")
        return {"said": item and item.value["is"]}

    store = Tenants()
    graph = graph_of(node, store=store)

    def asked() -> Any:
        return asyncio.run(graph.ainvoke({"text": "x"}))["said"]

    assert [asked(), asked()] == [None, None]
    store.put(SPACE, "mood", {"is": "glad"})
    assert [asked(), asked()] == ["glad", "glad"]
    assert ran.counts == {"node": 2}


def test_a_method_is_asked_again_and_not_its_other_form(ran: Ran):
    class Half(BaseStore):
        def __init__(self) -> None:
            self.behind = InMemoryStore()

        def batch(self, ops: Any) -> Any:
            return self.behind.batch([op._replace(namespace=("one", *op.namespace)) for op in ops])

        async def abatch(self, ops: Any) -> Any:
            return await self.behind.abatch(ops)

    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": mood(runtime.store)}

    store = Half()
    graph = graph_of(node, store=store)

    def asked() -> Any:
        return asyncio.run(graph.ainvoke({"text": "x"}))["said"]

    assert [asked(), asked()] == [None, None]
    asyncio.run(store.aput(SPACE, "mood", {"is": "of no interest"}))
    assert asked() is None
    assert ran.counts == {"node": 1}
    store.put(SPACE, "mood", {"is": "glad"})
    assert [asked(), asked()] == ["glad", "glad"]
    assert ran.counts == {"node": 2}


class Fixed(InMemoryStore):
    """What it says depends on nothing but what it was made with."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said

    def get(self, namespace: Any, key: str, *, refresh_ttl: bool | None = None) -> Any:
        then = datetime(2024, 1, 1, tzinfo=UTC)
        return Item(value={"is": self.said}, key=key, namespace=namespace, created_at=then, updated_at=then)


def test_a_read_is_asked_again_of_another_store_by_another_engine(tmp_path: Any, ran: Ran, ask: Ask):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": mood(runtime.store)}

    for said, runs in [("glad", 1), ("glad", 1), ("sad", 2), ("sad", 2)]:
        engine = MusubitoEngine(SQLiteStorage(tmp_path / "again.db"))
        with use_musubito_engine(engine):
            assert ask(graph_of(node, store=Fixed(said))) == said
        engine.close()
        assert ran.counts == {"node": runs}


@pytest.mark.parametrize("has_word", [True, False])
def test_to_look_again_makes_nothing_live_longer(has_word: bool, ran: Ran):
    asked = []

    class Expiring(InMemoryStore):
        supports_ttl = True

        def batch(self, ops: Any) -> Any:
            asked.extend(op.refresh_ttl for op in ops)
            return super().batch(ops)

    class Wordless(Expiring):
        def get(self, namespace: Any, key: str) -> Any:
            return super().get(namespace, key)

    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        runtime.store.batch([GetOp(SPACE, "mood")])
        return {"said": mood(runtime.store)}

    store = Expiring() if has_word else Wordless()
    graph = graph_of(node, store=store)
    graph.invoke({"text": "x"})
    assert asked == [True, True]
    graph.invoke({"text": "x"})
    assert ran.counts == {"node": 1}
    # A method that cannot be told so does as it does.
    assert sorted(asked[2:]) == [False, not has_word]


def test_a_batch_of_reads_is_replayed_and_one_with_a_write_is_not(ran: Ran, ask: Ask):
    reads = [GetOp(SPACE, "mood"), SearchOp(("facts",)), ListNamespacesOp()]

    def node(state: State, runtime: Runtime) -> Any:
        ran("reads")
        item, found, names = runtime.store.batch(reads)
        return {"said": [item and item.value["is"], len(found), SPACE in names]}

    def writes(state: State, runtime: Runtime) -> Any:
        ran("writes")
        runtime.store.batch(iter([GetOp(SPACE, "mood"), PutOp(SPACE, "mood", {"is": "glad"})]))
        return {"said": "done"}

    store = InMemoryStore()
    reader, writer = graph_of(node, store=store), graph_of(writes, store=store)
    store.put(SPACE, "other", {"is": "dull"})
    assert [ask(reader), ask(reader)] == [[None, 1, True]] * 2
    assert ran.counts == {"reads": 1}
    assert [ask(writer), ask(writer)] == ["done", "done"]
    assert [ask(reader), ask(reader)] == [["glad", 2, True]] * 2
    assert ran.counts == {"reads": 2, "writes": 2}


def test_what_cannot_be_compared_or_asked_again_is_read_each_time(ran: Ran, ask: Ask):
    class Odd(InMemoryStore):
        def get(self, namespace: Any, key: Any, **more: Any) -> Any:
            return None if not self._data else threading.Lock()

    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": runtime.store.get(SPACE, "mood") is not None}

    def finds(state: State, runtime: Runtime) -> Any:
        ran("finds")
        return {"said": len(runtime.store.search(SPACE, filter={"is": threading.Lock()}))}

    store = Odd()
    store.put(SPACE, "mood", {"is": "glad"})
    graph = graph_of(node, store=store)
    assert [ask(graph), ask(graph)] == [True, True]
    assert ran.counts == {"node": 2}
    store._data.clear()
    assert ask(graph) is False
    graph = graph_of(finds, store=store)
    assert [ask(graph), ask(graph)] == [0, 0]
    assert ran.counts == {"node": 3, "finds": 2}


def test_a_read_that_fails_is_not_replayed(ran: Ran, ask: Ask):
    class Down(InMemoryStore):
        up = False

        def get(self, namespace: Any, key: Any, **more: Any) -> Any:
            if not self.up:
                raise ConnectionError("not now")
            return super().get(namespace, key, **more)

    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        try:
            return {"said": mood(runtime.store)}
        except ConnectionError:
            return {"said": "sorry"}

    store = Down()
    graph = graph_of(node, store=store)
    assert [ask(graph), ask(graph)] == ["sorry", "sorry"]
    Down.up = True
    assert [ask(graph), ask(graph)] == [None, None]
    assert ran.counts == {"node": 3}


# -- it passes for the store -------------------------------------------------------------------------------------------


def test_it_is_of_the_class_of_the_store(ran: Ran):
    class Listed(InMemoryStore):
        known: ClassVar[list[str]] = []

        def __init__(self) -> None:
            ran("made")
            super().__init__()

        def __init_subclass__(cls) -> None:
            Listed.known.append(cls.__name__)

    store = Listed()

    def node(state: State, runtime: Runtime) -> Any:
        given = runtime.store
        same = given == store and store == given and hash(given) == hash(store) and given is not store
        return {"said": [isinstance(given, Listed), type(given).__name__, same, repr(given) == repr(store)]}

    assert graph_of(node, store=store).invoke({"text": "x"})["said"] == [True, "Listed", True, True]
    assert ran.counts == {"made": 1}
    assert Listed.known == []


def test_it_is_neither_made_nor_ended_again(ran: Ran, ask: Ask):
    class Pooled(InMemoryStore):
        def __new__(cls) -> Any:
            ran("made")
            return super().__new__(cls)

        def __del__(self) -> None:
            ran("ended")

    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": mood(runtime.store)}

    store = Pooled()
    graph = graph_of(node, store=store)
    assert [ask(graph), ask(graph)] == [None, None]
    gc.collect()
    assert ran.counts == {"made": 1, "node": 1}


class Shelf(InMemoryStore):
    """With operators."""

    def __getitem__(self, key: str) -> Any:
        return self.get(SPACE, key)

    def __contains__(self, key: str) -> bool:
        return self[key] is not None

    def __len__(self) -> int:
        return len(self.search(SPACE))

    def __copy__(self) -> Any:
        return self

    def __str__(self) -> str:
        return "a shelf"

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def test_its_operators_are_those_of_the_store(ran: Ran):
    async def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        store: Any = runtime.store
        async with store as entered:
            same = entered == store and copy.copy(store) == store
        return {"said": [same, "mood" in store, len(store), bool(store), str(store), hasattr(store, "__iter__")]}

    def story(wrap: Callable[[Any], Any]) -> Any:
        store = Shelf()
        graph = wrap(bare(node, store=store))
        before = asyncio.run(graph.ainvoke({"text": "x"}))["said"]
        store.put(SPACE, "mood", {"is": "glad"})
        return before, asyncio.run(graph.ainvoke({"text": "x"}))["said"]

    live = story(lambda graph: graph)
    assert live == ([True, False, 0, False, "a shelf", False], [True, True, 1, True, "a shelf", False])
    assert story(musubito_graph) == live


# -- when an item was written ------------------------------------------------------------------------------------------


def first(store: Any) -> Any:
    return store.search(SPACE)[0]


def single(store: Any) -> Any:
    return store.get(SPACE, "mood")


def batched(store: Any) -> Any:
    return store.batch([SearchOp(SPACE), GetOp(SPACE, "mood")])[1]


FOUND = pytest.mark.parametrize("find", [first, single, batched])


def refilled(node: Any, moods: list[str]) -> list[Any]:
    """What a graph says, each time with a store that was filled anew."""
    said = []
    for each in moods:
        store = InMemoryStore()
        store.put(SPACE, "mood", {"is": each})
        said.append(graph_of(node, store=store).invoke({"text": "x"})["said"])
    return said


@FOUND
def test_a_store_that_is_filled_anew_is_the_same(find: Any, ran: Ran):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        item = find(runtime.store)
        return {"said": [item.value["is"], item.key, list(item.namespace)]}

    assert refilled(node, ["glad", "glad", "sad", "sad"]) == [
        [each, "mood", [*SPACE]] for each in "glad glad sad sad".split()
    ]
    assert ran.counts == {"node": 2}


TIMES: dict[str, Callable[[Any], Any]] = {
    "attribute": lambda item: item.created_at,
    "updated": lambda item: item.updated_at.isoformat(),
    "by name": lambda item: getattr(item, "_".join(["created", "at"])),
    "dict": lambda item: str(item.dict()),
    "printed": lambda item: f"{item}",
    "printed with others": lambda item: str([item]),
    "copied": lambda item: copy.copy(item).created_at,
    "copied deeply": lambda item: str(copy.deepcopy([item])),
    "pickled": lambda item: pickle.loads(pickle.dumps(item)).updated_at,
    "slots": lambda item: [str(getattr(item, each)) for each in item.__slots__],
    "serialized": lambda item: JsonPlusSerializer().dumps_typed(item)[1].hex(),
    "compared": lambda item: item == Item(value=item.value, key=item.key, namespace=item.namespace, created_at=THEN, updated_at=THEN),
}  # fmt: skip
THEN = datetime(2024, 1, 1, tzinfo=UTC)


@FOUND
@pytest.mark.parametrize("look", list(TIMES))
def test_a_node_that_looks_at_the_times_depends_on_them(look: str, find: Any, ran: Ran):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": TIMES[look](find(runtime.store))}

    refilled(node, ["glad", "glad"])
    assert ran.counts == {"node": 2}


def test_so_does_a_node_in_which_an_inner_step_looks(ran: Ran):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        item = single(runtime.store)

        def look(_: str) -> str:
            ran("look")
            return str(item.created_at)

        return {"said": musubito_step(look)("x").value}

    first, second = refilled(node, ["glad", "glad"])
    assert first != second
    assert ran.counts == {"node": 2, "look": 2}


def test_an_inner_step_may_hold_an_item(ran: Ran):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        item = single(runtime.store)

        def look(_: str) -> Any:
            ran("look")
            return item.value["is"]

        return {"said": musubito_step(look)("x").value}

    assert refilled(node, ["glad", "sad", "sad"]) == ["glad", "sad", "sad"]
    assert ran.counts == {"node": 2, "look": 2}


def test_an_item_is_as_in_the_bare_graph():
    def node(state: State, runtime: Runtime) -> Any:
        item, hit = single(runtime.store), first(runtime.store)
        match hit:
            case SearchItem(value={"is": said}, score=score):
                pass
        return {
            "said": [
                isinstance(item, Item),
                isinstance(item, SearchItem),
                isinstance(hit, SearchItem),
                item == single(runtime.store),
                len({item, hit}),
                said,
                score,
                type(copy.deepcopy(item)) is Item,
                hasattr(item, "__dict__"),
            ]
        }

    store = InMemoryStore()
    store.put(SPACE, "mood", {"is": "glad"})
    live = bare(node, store=store).invoke({"text": "x"})
    assert live["said"] == [True, False, True, True, 1, "glad", None, True, False]
    assert graph_of(node, store=store).invoke({"text": "x"}) == live


def test_what_is_set_on_an_item_is_set_on_that_of_the_store():
    def node(state: State, runtime: Runtime) -> Any:
        single(runtime.store).value = {"is": "changed"}
        return {"said": mood(runtime.store)}

    assert refilled(node, ["glad"]) == ["changed"]


class Owned(InMemoryStore):
    """With a method of the user's own."""

    def mood(self) -> Any:
        return mood(self)

    @property
    def size(self) -> int:
        return sum(map(len, self._data.values()))


LOOKS: dict[str, Callable[[Any], Any]] = {
    "method": lambda store: store.mood(),
    "property": lambda store: store.size,
    "private": lambda store: [item.value["is"] for items in store._data.values() for item in items.values()],
    "copy": lambda store: mood(copy.copy(store)),
    "by hand": lambda store: BaseStore.get(store, SPACE, "mood") and store.get(SPACE, "mood").value["is"],
}


@pytest.mark.parametrize("look", list(LOOKS))
def test_what_else_is_asked_of_a_store_is_asked_each_time(look: str, ran: Ran, ask: Ask):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": LOOKS[look](runtime.store)}

    store = Owned()
    graph, live = graph_of(node, store=store), bare(node, store=store)
    for said in ("glad", "sad"):
        store.put(SPACE, "mood", {"is": said})
        assert ask(graph) == ask(live)
    assert ask(graph) == ask(live)
    assert ran.counts == {"node": 6}


def test_what_is_set_is_set_on_the_store(ran: Ran, ask: Ask):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        runtime.store.tenant = "two"
        return {"said": mood(runtime.store)}

    store = Tenants()
    InMemoryStore.put(store, ("two", *SPACE), "mood", {"is": "glad"})
    graph = graph_of(node, store=store)
    assert ask(graph) == "glad"
    assert store.tenant == "two"
    store.tenant = "one"
    assert ask(graph) == "glad"
    assert store.tenant == "two"
    assert ran.counts == {"node": 2}


# -- from threads ------------------------------------------------------------------------------------------------------


def in_a_pool(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def in_a_thread(function: Callable[[], Any]) -> Any:
    said: list[Any] = []
    thread = threading.Thread(target=lambda: said.append(function()))
    thread.start()
    thread.join()
    return said[0]


def in_a_runnable(function: Callable[[], Any]) -> Any:
    """What runs in the thread is inside of a step that is inside of the node."""
    return musubito_runnable(RunnableLambda(lambda _: in_a_pool(function))).invoke("x")


THREADS = {"pool": in_a_pool, "thread": in_a_thread, "runnable": in_a_runnable}


@pytest.mark.parametrize("thread", list(THREADS))
def test_a_read_in_a_thread_counts(thread: str, ran: Ran, ask: Ask):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": THREADS[thread](lambda: mood(runtime.store))}

    store = InMemoryStore()
    graph = graph_of(node, store=store)
    assert [ask(graph), ask(graph)] == [None, None]
    store.put(SPACE, "mood", {"is": "glad"})
    assert [ask(graph), ask(graph)] == ["glad", "glad"]
    assert ran.counts == {"node": 2}


@pytest.mark.parametrize("thread", list(THREADS))
def test_a_write_in_a_thread_counts(thread: str, ran: Ran, ask: Ask):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": THREADS[thread](lambda: runtime.store.put(SPACE, "mood", {"is": "glad"}))}

    store = InMemoryStore()
    graph = graph_of(node, store=store)
    for _ in range(2):
        ask(graph)
        assert mood(store) == "glad"
        store.delete(SPACE, "mood")
    assert ran.counts == {"node": 2}


def test_a_read_in_an_executor_counts(ran: Ran):
    async def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": await asyncio.get_running_loop().run_in_executor(None, mood, runtime.store)}

    store = InMemoryStore()
    graph = graph_of(node, store=store)

    def asked() -> Any:
        return asyncio.run(graph.ainvoke({"text": "x"}))["said"]

    assert [asked(), asked()] == [None, None]
    store.put(SPACE, "mood", {"is": "glad"})
    assert [asked(), asked()] == ["glad", "glad"]
    assert ran.counts == {"node": 2}


def test_what_an_inner_step_reads_in_a_thread_counts_for_that_step(ran: Ran):
    texts = iter(["first", "second", "third"])

    def look(_: Any) -> Any:
        ran("look")
        store = get_store()
        return in_a_pool(lambda: mood(store))

    inner = musubito_runnable(RunnableLambda(look))

    def node(state: State) -> Any:
        ran("node")
        return {"said": [state["text"], inner.invoke("x")]}

    store = InMemoryStore()
    graph = graph_of(node, store=store)
    assert graph.invoke({"text": next(texts)})["said"] == ["first", None]
    assert graph.invoke({"text": next(texts)})["said"] == ["second", None]
    assert ran.counts == {"node": 2, "look": 1}
    store.put(SPACE, "mood", {"is": "glad"})
    assert graph.invoke({"text": next(texts)})["said"] == ["third", "glad"]
    assert ran.counts == {"node": 3, "look": 2}


def test_an_inner_step_may_hold_the_store_that_its_node_was_given(ran: Ran, ask: Ask):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        store = runtime.store

        def look(_: str) -> Any:
            ran("look")
            return mood(store)

        return {"said": [musubito_step(look)("x").value, musubito_step(look)("x").value]}

    store = InMemoryStore()
    graph = graph_of(node, store=store)
    assert [ask(graph), ask(graph)] == [[None, None], [None, None]]
    assert ran.counts == {"node": 1, "look": 1}
    store.put(SPACE, "mood", {"is": "glad"})
    assert [ask(graph), ask(graph)] == [["glad", "glad"], ["glad", "glad"]]
    assert ran.counts == {"node": 2, "look": 2}


HELD: list[BaseStore] = []


def test_a_store_that_another_step_was_given_is_read_each_time(ran: Ran, ask: Ask):
    def keep(state: State, runtime: Runtime) -> Any:
        HELD.append(runtime.store)
        return {"said": None}

    def node(state: State) -> Any:
        ran("node")
        return {"said": mood(HELD[0])}

    store = InMemoryStore()
    ask(graph_of(keep, store=store))
    graph = graph_of(node, store=InMemoryStore())
    assert ask(graph) is None
    store.put(SPACE, "mood", {"is": "glad"})
    assert [ask(graph), ask(graph)] == ["glad", "glad"]
    assert ran.counts == {"node": 3}
    HELD.clear()


def test_a_graph_that_is_invoked_where_a_loop_runs_is_replayed(ran: Ran):
    # As in a notebook.
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": mood(runtime.store)}

    store = InMemoryStore()
    graph = graph_of(node, store=store)

    async def notebook() -> list[Any]:
        return [graph.invoke({"text": "x"})["said"] for _ in range(2)]

    assert asyncio.run(notebook()) == [None, None]
    store.put(SPACE, "mood", {"is": "glad"})
    assert asyncio.run(notebook()) == ["glad", "glad"]
    assert ran.counts == {"node": 2}


# -- what code reaches by itself ---------------------------------------------------------------------------------------
STORE = InMemoryStore()
SAVER = InMemorySaver()
RAN = Ran()
REMOTE = StateGraph(State).add_node("node", lambda _: {"said": mood(get_store())}).add_edge(START, "node")
OWN = REMOTE.compile(store=STORE)
"""Where no graph is around it, it uses its own store."""


@pytest.fixture
def fresh() -> Iterator[None]:
    """What is global in here holds nothing."""
    yield
    STORE._data.clear()
    SAVER.storage.clear()
    RAN.counts.clear()


def put(said: str) -> None:
    STORE.put(SPACE, "mood", {"is": said})
    config: RunnableConfig = {"configurable": {"thread_id": said}}
    StateGraph(State).add_node("node", lambda _: {}).add_edge(START, "node").compile(checkpointer=SAVER).invoke(
        {"text": said}, config
    )


def reads_the_store(_: Any) -> Any:
    RAN("ran")
    return mood(STORE)


def counts_checkpoints(_: Any) -> Any:
    RAN("ran")
    return len(list(SAVER.list(None)))


def asks_a_graph(_: Any) -> Any:
    RAN("ran")
    return in_a_pool(lambda: OWN.invoke({"text": "x"}))["said"]


REACHES = pytest.mark.parametrize("reach", [reads_the_store, counts_checkpoints, asks_a_graph])


def in_a_node(reach: Callable[[Any], Any]) -> Callable[[], Any]:
    graph = graph_of(lambda state: {"said": reach(state["text"])})
    return lambda: graph.invoke({"text": "x"})["said"]


def in_a_step_of_a_node(reach: Callable[[Any], Any]) -> Callable[[], Any]:
    inner = musubito_step(reach)
    graph = graph_of(lambda state: {"said": inner(state["text"]).value})
    return lambda: graph.invoke({"text": "x"})["said"]


def in_a_runnable_alone(reach: Callable[[Any], Any]) -> Callable[[], Any]:
    runnable = musubito_runnable(RunnableLambda(reach))
    return lambda: runnable.invoke("x")


def in_a_step_alone(reach: Callable[[Any], Any]) -> Callable[[], Any]:
    step = musubito_step(reach)
    return lambda: step("x").value


@REACHES
@pytest.mark.parametrize("place", [in_a_node, in_a_step_of_a_node, in_a_runnable_alone, in_a_step_alone])
@pytest.mark.usefixtures("fresh")
def test_what_reaches_a_memory_by_itself_is_not_replayed(reach: Callable[[Any], Any], place: Any):
    put("glad")
    asked = place(reach)
    first = asked()
    put("sad")
    second = asked()
    assert first != second
    runs = RAN.counts["ran"]
    asked()
    assert RAN.counts["ran"] == runs + 1


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("place", ["graph", "step"])
def test_an_effect_that_reaches_a_store_by_itself_is_not_repeated(place: str):
    effect = StepConfiguration(step_type=StepType.EXTERNAL_EFFECT)

    def send(text: str) -> str:
        RAN("sent")
        STORE.put(SPACE, "mood", {"is": text})
        return "sent"

    if place == "graph":
        graph = musubito_graph(bare(lambda state: {"said": send(state["text"])}), steps={"node": effect})
        assert [graph.invoke({"text": "x"})["said"] for _ in range(2)] == ["sent", "sent"]
    else:
        step = musubito_step(effect, name="send")(send)
        assert [step("x").value for _ in range(2)] == ["sent", "sent"]
    assert RAN.counts == {"sent": 1}


def test_whether_there_is_a_store_counts(ran: Ran, ask: Ask):
    def node(state: State, runtime: Runtime) -> Any:
        ran("node")
        return {"said": "none" if runtime.store is None else mood(runtime.store)}

    store = InMemoryStore()
    store.put(SPACE, "mood", {"is": "glad"})
    assert [ask(graph_of(node)) for _ in range(2)] == ["none", "none"]
    assert [ask(graph_of(node, store=store)) for _ in range(2)] == ["glad", "glad"]
    assert [ask(graph_of(node)) for _ in range(2)] == ["none", "none"]
    assert ran.counts == {"node": 2}
