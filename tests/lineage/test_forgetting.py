"""Somebody's data is erased: a namespace, or all that came of one input, and no file holds a trace of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from musubito import (
    MusubitoEngine,
    SQLiteStorage,
    StepConfiguration,
    StepType,
    musubito_merge,
    musubito_step,
    run,
    use_musubito_engine,
)
from musubito.lineage import Lineage, LineageError
from musubito.lineage.readers.input_search import InputQuery, search_inputs
from musubito.lineage.readers.verify import verify
from musubito.lineage.removal.erase import changes_for, changes_for_nodes, forget, forget_namespace, with_downstream
from musubito.store.changes import Forget
from musubito.store.postgres.storage import PostgreSQLStorage
from tests.fresh import fresh
from tests.reference.store import MemoryStore
from tests.server import drop_database, new_store

ran: list[str] = []


@dataclass
class Person:
    name: str
    number: int


@musubito_step(name="load")
def load(request):
    ran.append("load")
    return {"of": request, "mail": "alice-at-home"}


@musubito_step(name="answer")
def answer(text):
    ran.append("answer")
    return f"dear {text.value if hasattr(text, 'value') else text}"[:80] + "!" * 2000


@musubito_step(name="shared")
def shared(what):
    ran.append("shared")
    return f"shared {what}"


@musubito_step(name="inside")
def inside(what):
    ran.append("inside")
    return f"inside {what}"


@musubito_step(name="outer")
def outer(what):
    ran.append("outer")
    return [inside(f"about {what}").value, shared("for all").value]


@musubito_step(StepConfiguration(step_type=StepType.EXTERNAL_EFFECT), name="send")
def send(to):
    ran.append("send")
    return to


@musubito_step(name="fails")
def fails(what):
    raise ValueError(f"no {what}")


class World:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = MusubitoEngine(SQLiteStorage(fresh(path)))
        self.lineage = Lineage(self.engine)

    def is_found(self, *texts: str) -> list[str]:
        """Those that some file beside the database still holds, while it is open."""
        self.engine.flush()
        # Not by the database's own file alone: it must not be opened and closed in this process, or its locks are gone.
        self.engine.close()
        content = b"".join(file.read_bytes() for file in self.path.parent.iterdir())
        self.__init__(self.path)
        return [text for text in texts if text.encode() in content]

    def count(self, table: str) -> int:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def findings(self) -> list:
        return [finding for checked in verify(self.lineage) for finding in checked.findings]

    def again(self, step, *args) -> list[str]:
        """What has to run for a call."""
        ran.clear()
        with use_musubito_engine(self.engine):
            step(*args)
        return list(ran)


@pytest.fixture
def w(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    world = World(folder / "musubito.db")
    yield world
    assert world.findings() == []
    assert world.engine.faults == 0
    world.engine.close()


# -- a namespace -------------------------------------------------------------------------------------------------------
def test_of_a_namespace_nothing_is_left_but_names(w):
    def special(what):
        "of-their-own-code"
        return what + "text-of-their-code"

    with use_musubito_engine(w.engine):
        kept = load("kept-request").node_id
        answer(load("kept-request"))
    nodes, calls, code = w.count("nodes"), 3, w.count("code")
    with use_musubito_engine(w.engine.in_namespace("tenant")), run("their run", tags={"who": "their-tag"}):
        with run("a part"):
            answer(load("their-request"))
            outer("their-outer")
        with pytest.raises(ValueError):
            fails("their-failure")
        musubito_step(name="special")(special)("their-special" * 200)
    every = ("their-request", "their-outer", "their-failure", "their-special", "their-tag", "text-of-their-code")
    assert set(w.is_found(*every)) == set(every)
    with use_musubito_engine(w.engine):
        load("last")
    done = forget_namespace(w.lineage, "tenant")
    assert (done.executions, done.nodes, done.runs, done.erased) == (7, 7, 2, True)
    assert w.is_found(*every) == []
    assert w.count("nodes") == nodes + 1 and w.count("calls") == calls + 1 and w.count("executions") == nodes + 1
    assert w.count("code") == code
    assert w.lineage.node(kept).status.value == "SUCCESS"
    assert w.again(load, "kept-request") == []
    with use_musubito_engine(w.engine.in_namespace("tenant")):
        ran.clear()
        assert load("their-request").value["of"] == "their-request"
        assert ran == ["load"]


def test_an_effect_of_a_forgotten_namespace_does_not_take_place_again(w):
    with use_musubito_engine(w.engine.in_namespace("tenant")):
        send("their-address")
    forget_namespace(w.lineage, "tenant")
    assert w.is_found("their-address") == []
    with use_musubito_engine(w.engine.in_namespace("tenant")), pytest.raises(Exception, match="lost"):
        ran.clear()
        send("their-address")
    assert ran == []


def test_what_another_namespace_has_built_on_stays_as_a_skeleton(w):
    with use_musubito_engine(w.engine.in_namespace("tenant")):
        text = load("their-request")
    with use_musubito_engine(w.engine):
        child = answer(text).node_id
    forget_namespace(w.lineage, "tenant")
    assert w.lineage.node(text.node_id).status.value == "INVALID"
    assert [each.node.node_id for each in w.lineage.ancestors(child)] == [text.node_id]


# -- one input ---------------------------------------------------------------------------------------------------------
def test_all_that_came_of_an_input_goes(w):
    with use_musubito_engine(w.engine):
        for user in ("user-one", "user-two"):
            with run(user):
                text = load({"user": user, "question": f"question of {user}"})
                answer(text)
                with musubito_merge(text):
                    outer(f"{user}-deep")
        w.engine.flush()
    watched: list[tuple[int, int]] = []
    held = search_inputs(
        w.lineage, InputQuery.of("$.request.user=user-one"), lambda done, total: watched.append((done, total))
    )
    assert watched == [(0, 9)]
    assert (len(held.nodes), held.inputs, held.looked_at, held.unreadable) == (1, [], 9, 0)
    wanted = with_downstream(w.lineage, changes_for_nodes(held.nodes))
    # load, answer, outer and what that called by itself; not what the other one called as well.
    assert forget(w.lineage, wanted).executions == 4
    assert w.is_found("user-one-deep", "question of user-one") == []
    assert set(w.is_found("user-two-deep", "question of user-two", "shared for all")) == {
        "user-two-deep",
        "question of user-two",
        "shared for all",
    }
    assert w.again(load, {"user": "user-two", "question": "question of user-two"}) == []
    assert w.again(shared, "for all") == []
    assert w.again(load, {"user": "user-one", "question": "question of user-one"}) == ["load"]


def test_what_the_named_node_called_goes_with_it_unless_it_was_called_by_itself_too(w):
    with use_musubito_engine(w.engine):
        outer("deep-matter")
        outer("other-matter")
        inside("about other-matter")
        w.engine.flush()
    (first,) = search_inputs(w.lineage, InputQuery.of("$.what=deep-matter")).nodes
    forget(w.lineage, with_downstream(w.lineage, changes_for_nodes([first])))
    assert w.is_found("deep-matter") == []
    (second,) = search_inputs(w.lineage, InputQuery.of("$.what=other-matter")).nodes
    forget(w.lineage, with_downstream(w.lineage, changes_for_nodes([second])))
    assert w.is_found("other-matter") == ["other-matter"]
    assert w.again(inside, "about other-matter") == []
    # Now nothing needs it but itself.
    assert w.again(shared, "for all") == ["shared"]


def test_an_answer_that_was_given_elsewhere_goes_with_it(w):
    # The second load answers the same; what consumed that was answered by the first one's execution.
    with use_musubito_engine(w.engine):
        with musubito_merge(shared("x")):
            answer("secret-matter")
        with musubito_merge(load("x")):
            elsewhere = answer("secret-matter")
        shared(elsewhere.value)
    forget(w.lineage, with_downstream(w.lineage, changes_for(w.lineage, elsewhere.node_id)))
    w.engine.flush()
    assert w.again(answer, "secret-matter") == ["answer"]


def test_texts_of_code_go_with_the_last_that_was_made_by_them(w):
    def mine(what):
        return what + " made-by-mine"

    step = musubito_step(name="mine")(mine)
    with use_musubito_engine(w.engine):
        nodes = [step(what).node_id for what in ("one", "two")]
        load("x")
    assert w.is_found("made-by-mine")
    forget(w.lineage, changes_for(w.lineage, nodes[0]))
    with closing(sqlite3.connect(w.path)) as connection:
        assert connection.execute("SELECT count(*) FROM code WHERE source LIKE '%made-by-mine%'").fetchone() == (1,)
    forget(w.lineage, changes_for(w.lineage, nodes[1]))
    assert w.is_found("made-by-mine") == []
    assert w.count("code") > 0
    with use_musubito_engine(w.engine):
        step("one")
    with closing(sqlite3.connect(w.path)) as connection:
        assert connection.execute("SELECT count(*) FROM code WHERE source LIKE '%made-by-mine%'").fetchone() == (1,)


# -- what an input holds -----------------------------------------------------------------------------------------------
HELD = {
    "name": ["a", {"user": "Bob", "id": 42, "tags": ("x", "y")}],
    "deep": {"a": [{"b": {"who": "Bob"}}, {"b": {"who": "Eve"}}]},
    "person": Person("Bob", 7),
    "cost": Decimal("1.50"),
    "flag": True,
    "7": "7",
    "a.b": {"it's [x]=1": 'Ann "A" Lee', "$cost": "$5 = 4.60 EUR"},
    "number": 7,
    "nothing": None,
    "long": ["item " * 30 + str(n) for n in range(30)] + ["needle in a haystack"],
}


@pytest.mark.parametrize(
    ("said", "is_there"),
    [
        ("$.request.name[1].user=Bob", True),
        ("$.request.name[1].id=42", True),
        ("$.request.name[1].id=4", False),
        ("$.request.name[0].id=42", False),
        ("$.request.name[*].id=42", True),
        ("$.request.name[1].tags[1]=y", True),
        ("$.request.name[1].tags[*]=z", False),
        ("$..who=Eve", True),
        ("$..who=Al", False),
        ("$.request.deep..who=Bob", True),
        ("$.request.person.name=Bob", True),
        ("$.request.person.number=7", True),
        ("$.request.cost=1.50", True),
        ("$.request.flag=true", True),
        ("$.request.flag=1", False),
        ("$.request.nothing=null", True),
        ("$.request.long[30]=needle in a haystack", True),
        # keys in quotes
        ("$.request['a.b'].$cost=$5 = 4.60 EUR", True),
        ('$.request["a.b"]["$cost"]=$5 = 4.60 EUR', True),
        ("$..['a.b']..$cost=$5 = 4.60 EUR", True),
        ("$['request']['a.b'][\"it's [x]=1\"]=Ann \"A\" Lee", True),
        ("$.request['a.b']['it\\'s [x]=1']=Ann \"A\" Lee", True),
        ("$.request['a']['b']=x", False),
        # values in quotes
        ('$.request["7"]="7"', True),
        ("$.request['7']='7'", True),
        ("$.request['7']=7", True),
        ("$.request.number=7", True),
        ('$.request.number="7"', False),
        ('$.request.name[1].user="Bob"', True),
        ('$.request.cost="1.50"', True),
        ('$..user="Bo\\u0062"', True),
        ('$.request["a.b"]["it\'s [x]=1"]="Ann \\"A\\" Lee"', True),
        # wildcards
        ("$.request.*.user=Bob", False),
        ("$.request.*[*].user=Bob", True),
        ("$.request.name[*].tags[*]=x", True),
        ("$.*.person.*=Bob", True),
        ("$.request.person.*=Person", False),
        ("$..*=42", True),
        ("$..*=43", False),
        ("$.request.deep.*[*].b[*]=Eve", True),
        ("$..[30]=needle in a haystack", True),
        ("$..tags..*=y", True),
        # texts in quotes
        ('"needle in a"', True),
        ("'$5 ='", True),
        ('"Ann \\"A\\" L"', True),
        ('"needle" in', False),
        ("needle in a", True),
        ("Bob", True),
        ("haystacks", False),
        ("who", True),
    ],
)
def test_an_input_is_found_by_what_it_holds(w, said, is_there):
    with use_musubito_engine(w.engine):
        node = load(HELD).node_id
        load("something else")
    held = search_inputs(w.lineage, InputQuery.of(said))
    assert [each.hex() for each in held.nodes] == ([node] if is_there else [])
    assert held.looked_at == 2


@pytest.mark.parametrize("said", ["", '""', "''"])
def test_an_empty_text_is_refused(said):
    with pytest.raises(LineageError, match="an empty text is in every input"):
        InputQuery.of(said)


@pytest.mark.parametrize(
    "said",
    [
        *(
            "$",
            "$.a",
            "$a=1",
            "$.=1",
            "$=1",
            "$.a[x]=1",
            "$[0=1",
            "$.a[-1]=1",
            "$.a[0:2]=1",
            "$.a[0,1]=1",
            "$.a[?(@.b)]=1",
        ),
        *("$.a.length()=1", "$...a=1", "$..=1", "$.a*=1", "$.a.=1", "$['a=1", "$.'a'=1", '$["\\x"]=1', "$.a[]=1"),
        "$.a[?@.b==1]",
    ],
)
def test_a_form_that_is_not_supported_is_an_error_with_those_that_are(said):
    with pytest.raises(
        LineageError, match=r"is no field with a value\. Such are \$\.name=value, .*\$\['a\.key'\]=value"
    ):
        InputQuery.of(said)


def test_an_input_that_no_node_has_is_found_and_erased(w):
    with use_musubito_engine(w.engine):
        load("secret-matter")
        w.engine.flush()
    with closing(sqlite3.connect(w.path)) as connection, connection:
        connection.execute("UPDATE _inputs SET input_hash = x'00'")
    held = search_inputs(w.lineage, InputQuery.of("secret-matter"))
    assert (held.nodes, len(held.inputs)) == ([], 1)
    assert forget(w.lineage, changes_for_nodes(held.nodes), held.inputs).inputs == 1
    assert search_inputs(w.lineage, InputQuery.of("secret-matter")).looked_at == 0


def test_damaged_inputs_are_counted(w):
    with use_musubito_engine(w.engine):
        load("one-matter")
        load("two-matter")
        w.engine.flush()
    with closing(sqlite3.connect(w.path)) as connection, connection:
        connection.execute("UPDATE _inputs SET body = x'ff' WHERE instr(body, CAST('one-matter' AS BLOB)) > 0")
    held = search_inputs(w.lineage, InputQuery.of("matter"))
    assert (len(held.nodes), held.unreadable) == (1, 1)
    forget(w.lineage, changes_for(w.lineage, "load"))


# -- tags of runs ------------------------------------------------------------------------------------------------------
@pytest.fixture(params=["sqlite", "postgres", "reference"])
def engine(request, tmp_path):
    """An engine whose lines of the history are written only when they are asked for."""
    url = new_store() if request.param == "postgres" else ""
    stores = {"sqlite": lambda: SQLiteStorage(fresh(tmp_path / "m.db")), "reference": MemoryStore}
    engine = MusubitoEngine(stores.get(request.param, lambda: PostgreSQLStorage(url))())
    with use_musubito_engine(engine):
        yield engine
    engine.close()
    if url:
        drop_database(url)


def tags(engine, record):
    engine.flush()
    if isinstance(engine.storage, MemoryStore):
        return next(line.tags for line in engine.storage.runs if line.run_id.hex() == record.run_id)
    return Lineage(engine).run(record.run_id).summary.tags


def test_the_runs_that_asked_for_what_is_forgotten_lose_their_tags(engine):
    with run("asked", tags={"user": "ann"}) as asked:
        node = bytes.fromhex(load("hers").node_id)
        load("of both")
    with run("replays", tags={"user": "ann"}) as replays:
        load("hers")
    with run("another", tags={"user": "bob"}) as another:
        load("of both")
    assert None not in [tags(engine, each) for each in (asked, replays, another)]
    with run("goes on", tags={"user": "ann"}) as goes_on:
        load("hers")
        engine.flush()
        engine.storage.write([Forget("", nodes=[node])])
        assert [tags(engine, each) for each in (asked, replays, goes_on)] == [None] * 3
    assert tags(engine, goes_on) is None
    assert "bob" in str(tags(engine, another))


def test_a_run_loses_its_tags_at_its_end_if_its_calls_were_told_after_they_were_forgotten(engine):
    with run("goes on", tags={"user": "ann"}) as goes_on:
        engine.storage.write([Forget("", nodes=[bytes.fromhex(load("hers").node_id)])])
    assert tags(engine, goes_on) is None
