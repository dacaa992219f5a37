"""Why a node ran, told from what was recorded."""

from __future__ import annotations

import importlib
import linecache
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, StepType, musubito_step, run, use_musubito_engine
from musubito.engine.nearest import COMPARED
from musubito.lineage import Lineage
from musubito.lineage.readers.operation_history import history_of
from musubito.lineage.readers.why import why, with_reasons
from musubito.model import ReplayReason
from tests.fresh import fresh

PIPELINE = """
from musubito import musubito_step

PROMPT = "PROMPT TEXT"

def helper(text):
    return text.METHOD()

@musubito_step(name="fetch")
def fetch(topic, settings):
    return f"{topic} {settings}"

@musubito_step(name="write")
def write(facts):
    return PROMPT + helper(facts.value)
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[MusubitoEngine]:
    with MusubitoEngine(SQLiteStorage(fresh(tmp_path / "m.db"))) as engine, use_musubito_engine(engine):
        yield engine


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    # Bytecode is told from that of an edit by the second and the size alone.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def made(prompt: str = "Write:", method: str = "upper", text: str = PIPELINE) -> Any:
        text = text.replace("PROMPT TEXT", prompt).replace("METHOD", method)
        (folder / "why_pipeline.py").write_text(text)
        monkeypatch.delitem(sys.modules, "why_pipeline", raising=False)
        importlib.invalidate_caches()
        linecache.clearcache()
        return importlib.import_module("why_pipeline")

    return made


def test_an_edit_of_a_live_step_is_shown_once(engine: MusubitoEngine, pipeline: Any):
    live = PIPELINE.replace('(name="fetch")', '(StepConfiguration(step_type="live"), name="fetch")')
    live = live.replace("import musubito_step", "import StepConfiguration, musubito_step")
    pipeline(text=live).fetch("knots", 1)
    told = why(Lineage(engine), pipeline(text=live).fetch("knots", 1).node_id)
    assert (told.reason, told.code) == ("live", ())
    told = why(Lineage(engine), pipeline(text=live.replace('"{topic}', '"all {topic}')).fetch("knots", 1).node_id)
    assert told.reason == "live"
    assert [part.part for part in told.code] == ["why_pipeline.fetch"]


def test_the_first_of_its_operation(engine: MusubitoEngine, pipeline: Any):
    told = why(Lineage(engine), pipeline().fetch("knots", {"n": 1}).node_id)
    assert (told.reason, told.nearest, told.fields, told.code) == ("node not found", None, (), ())


def test_an_input_that_changed_is_told_by_its_field(engine: MusubitoEngine, pipeline: Any):
    fetch = pipeline().fetch
    first = fetch("knots", {"n": 1, "deep": [{"x": "a"}]})
    fetch("ships", {"n": 9})
    told = why(Lineage(engine), fetch("knots", {"n": 1, "deep": [{"x": "b"}]}).node_id)
    assert told.reason == "input changed"
    assert told.nearest is not None
    assert told.nearest.node_id == first.node_id
    assert told.arguments == ("settings",)
    assert [str(field) for field in told.fields] == ['$.settings.deep[0].x: "a" → "b"']


def test_the_nearest_differs_at_the_fewest_places_of_one_argument(engine: MusubitoEngine):
    """All that a node of a graph is given is one argument."""

    @musubito_step(name="g")
    def g(state: dict[str, Any]) -> int:
        return 0

    first = g({"city": "Oslo", "ask": "weather", "n": 2}).node_id
    g({"city": "Oslo!", "ask": "weather", "n": 3})
    explained = engine.explain(g, {"city": "Paris", "ask": "weather", "n": 2})
    assert (explained.nearest_node_id, explained.fields) == (first, ('$.state.city: "Oslo" → "Paris"',))
    told = why(Lineage(engine), g({"city": "Paris", "ask": "weather", "n": 2}).node_id)
    assert told.nearest is not None
    assert told.nearest.node_id == first
    assert [str(field) for field in told.fields] == ['$.state.city: "Oslo" → "Paris"']


@musubito_step(name="asks")
def asks(question: str, model: str = "small") -> str:
    return question


def test_a_first_question_is_new(engine: MusubitoEngine):
    with run():
        asks("When does the library in Oslo open on Sundays?")
    question = "Who is the author of Peer Gynt?"
    explained = engine.explain(asks, question)
    assert (explained.decision.reason, explained.nearest_node_id, explained.fields) == ("nothing like it", None, ())
    with run() as record:
        node = asks(question).node_id
    lineage = Lineage(engine)
    told = why(lineage, node)
    assert (told.reason, told.reason.sentence, told.reason.word, told.nearest) == (
        "nothing like it",
        "nothing like it was asked before",
        "new",
        None,
    )
    assert [call.reason for call in record.calls] == [told.reason]
    assert [call.reason for call in with_reasons(lineage, lineage.run(record.run_id)).calls] == [told.reason]
    assert history_of(lineage, "asks", 0.0).ran[0].reason == told.reason


def test_of_equally_similar_calls_that_of_the_same_thread_is_compared(engine: MusubitoEngine):
    nodes = []
    for thread, question in enumerate(("open on Sundays?", "close on Mondays?", "close?")):
        with run("support", tags={"thread": thread}):
            nodes.append(asks(f"When does the library in Oslo {question}").node_id)
    for thread in (0, 1):
        with run("support", tags={"thread": thread}):
            node = asks("When does the library in Oslo close on Sundays?" + "!" * thread).node_id
        told = why(Lineage(engine), node)
        assert (told.reason, told.nearest and told.nearest.node_id) == ("input changed", nodes[thread])


def test_the_nearest_stays_so_when_it_runs_again(engine: MusubitoEngine):
    @musubito_step(name="s")
    def s(doc: str, q: int) -> str:
        return doc

    with run():
        nearest = s("long", 1).node_id
    with run():
        s("other", 5)
    with run():
        node = s("long", 2).node_id
    engine.invalidate(nearest)
    with run():
        s("long", 1)
    told = why(Lineage(engine), node)
    assert told.nearest is not None
    assert told.nearest.node_id == nearest


def test_a_constant_whose_text_is_hidden_is_named(engine: MusubitoEngine, pipeline: Any):
    node = ""
    for number in (1, 2):
        text = f"""
from musubito import musubito_step
TOKEN = "tok-{number}"
LIMIT = {number}
@musubito_step(name="hides")
def hides(x):
    return len(TOKEN) + LIMIT
"""
        module = pipeline(text=text)
        node = module.hides(1).node_id
    told = why(Lineage(engine), node)
    assert [each.part for each in told.code] == ["why_pipeline.LIMIT", "why_pipeline.TOKEN"]
    assert not any("tok-" in each.diff for each in told.code)


def test_what_names_a_constant_that_changed_has_not_changed(engine: MusubitoEngine, pipeline: Any):
    node = ""
    for number in (1, 2):
        text = f"""
from musubito import musubito_step
SETTINGS = {{"model": "m{number}"}}
LIMIT = {number}
def login(password): ...
@musubito_step(name="asks")
def asks(x):
    login(password="swordfish")
    return SETTINGS["model"] * LIMIT
"""
        module = pipeline(text=text)
        node = module.asks(1).node_id
    told = [each.part for each in why(Lineage(engine), node).code]
    assert told == ["why_pipeline.LIMIT", "why_pipeline.SETTINGS"]


def test_code_that_changed_is_told_with_its_diff(engine: MusubitoEngine, pipeline: Any):
    facts = pipeline().fetch("knots", 1)
    pipeline().write(facts)
    edited = pipeline("Tell:", "lower")
    told = why(Lineage(engine), edited.write(facts).node_id)
    assert (told.reason, told.arguments, told.fields) == ("code changed", (), ())
    changed = {each.part.rpartition(".")[2]: (each.change, each.diff) for each in told.code}
    assert set(changed) == {"PROMPT", "helper"}
    assert changed["helper"][0] == "changed"
    assert "-    return text.upper()\n+    return text.lower()" in changed["helper"][1]
    assert "-Write:" in changed["PROMPT"][1]


def test_a_parent_that_changed_is_told(engine: MusubitoEngine, pipeline: Any):
    module = pipeline()
    module.write(module.fetch("knots", 1))
    other = module.fetch("ships", 1)
    told = why(Lineage(engine), module.write(other).node_id)
    assert told.reason in ("input changed", "upstream changed")
    ((before, after),) = told.parents
    assert before is not None
    assert after is not None
    assert (before.operation, after.node_id) == ("fetch", other.node_id)


def length(text: str) -> int:
    return len(text)


def test_what_is_no_difference_is_said_as_the_call_said_it(engine: MusubitoEngine):
    forced = musubito_step(StepConfiguration(force_reexecution=True), name="forced")(length)
    forced("abc")
    assert why(Lineage(engine), forced("abc").node_id).reason == "force reexecution"
    sample = musubito_step(StepConfiguration(step_type=StepType.STOCHASTIC), name="sample")(length)
    with run():
        sample("abc")
        second = sample("abc")
    assert why(Lineage(engine), second.node_id).reason == "another sample"


def test_what_ran_before_its_run_says_more_than_its_siblings(engine: MusubitoEngine, pipeline: Any):
    fetch = pipeline().fetch
    for text in ("old", "new"):
        with run():
            last = [fetch(f"{number}", {"text": text}).node_id for number in range(3)][-1]
    told = why(Lineage(engine), last)
    assert [str(field) for field in told.fields] == ['$.settings.text: "old" → "new"']


def test_an_object_that_each_process_makes_anew_has_a_remedy(engine: MusubitoEngine, pipeline: Any):
    text = PIPELINE.replace(
        'PROMPT = "PROMPT TEXT"', "import requests\nPROMPT = requests.Session()\nPROMPT.max_redirects = id(PROMPT) + 1"
    )
    text = text.replace("PROMPT + helper", "str(PROMPT.max_redirects) + helper")

    def ask(text: str) -> str:
        m = pipeline(text=text)
        return m.write(m.fetch("x", 1)).node_id

    kept = pipeline(text=text)  # so that the next one has another id
    kept.write(kept.fetch("x", 1))
    made_anew = why(Lineage(engine), ask(text))
    assert made_anew.remedy == (
        f"If nobody changed {made_anew.code[0].part}, each process makes it anew: "
        "make it in a function under functools.cache that names the model and the settings in use."
    )
    assert [part.part for part in made_anew.code] == ["why_pipeline.PROMPT"]
    edited = why(Lineage(engine), ask(text.replace("METHOD()", "lower()")))
    assert edited.remedy == ""


def test_the_version_that_differs_the_least_is_compared(engine: MusubitoEngine, pipeline: Any):
    def ask(a: str, b: str) -> Any:
        text = f"""
from musubito import musubito_step
A = "{a}"
B = "{b}"
@musubito_step(name="joins")
def joins(x):
    return A + B + x
"""
        return pipeline(text=text).joins

    ask("a1", "b1")("x")
    ask("a2", "b1")("x")
    assert [part.part for part in why(Lineage(engine), ask("a1", "b2")("x").node_id).code] == ["why_pipeline.B"]
    assert engine.explain(ask("a2", "b3"), "x").code == ("why_pipeline.B",)


def test_a_setting_is_told_by_its_field_without_secrets(engine: MusubitoEngine, pipeline: Any):
    node = ""
    for model, word in (("small", "tulip"), ("large", "dahlia")):
        text = f"""
from musubito import musubito_step
from pydantic import SecretStr
from pydantic_settings import BaseSettings
class Settings(BaseSettings):
    model: str = "other"
    limit: int = 3
    api_key: str = "none"
    extra: SecretStr = SecretStr("none")
SETTINGS = Settings(model="{model}", api_key="{word}", extra="{word}")
@musubito_step(name="asks")
def asks(x):
    return SETTINGS.model
"""
        node = pipeline(text=text).asks(1).node_id
    told = {part.part: part.diff.splitlines()[-2:] for part in why(Lineage(engine), node).code}
    assert told == {"why_pipeline.SETTINGS.api_key": [], "why_pipeline.SETTINGS.model": ["-small", "+large"]}


def test_a_path_is_told_relative_to_the_working_directory(
    engine: MusubitoEngine, pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    node = ""
    for below in ("", ' / "prompts"'):
        text = f"""
from pathlib import Path
from musubito import musubito_step
HERE = Path(__file__).parent{below}
@musubito_step(name="looks")
def looks(x):
    return str(HERE)
"""
        node = pipeline(text=text).looks(1).node_id
    (part,) = why(Lineage(engine), node).code
    assert part.diff.splitlines()[-2:] == ["-PosixPath('code')", "+PosixPath('code/prompts')"]


def test_a_tool_that_is_added_in_front_is_told_by_its_name(engine: MusubitoEngine):
    @musubito_step(name="agent")
    def agent(tools: list[dict[str, Any]], question: str) -> str:
        return question

    def tools(*names: str) -> list[dict[str, Any]]:
        return [{"type": "function", "function": {"name": name, "description": f"tell {name}"}} for name in names]

    agent(tools("search", "weather"), "When does the library open?")
    node = agent(tools("opening_hours", "search", "weather"), "When does the library open?").node_id
    (field,) = why(Lineage(engine), node).fields
    assert (field.path, field.before) == ("$.tools.opening_hours", "(absent)")


def test_a_record_is_told_by_its_fields_without_secrets(engine: MusubitoEngine, pipeline: Any):
    node = ""
    for model, word in (("small", "tulip"), ("large", "dahlia")):
        text = f"""
from dataclasses import dataclass
from musubito import musubito_step
@dataclass
class Settings:
    model: str
    max_tokens: int
    password: str
    prompt: str
SETTINGS = Settings("{model}", 100, "{word}", "You answer in one sentence.\\nYou are kind, and you are brief.")
@musubito_step(name="asks")
def asks(x):
    return SETTINGS.model, SETTINGS.prompt
"""
        node = pipeline(text=text).asks(1).node_id
    (part,) = why(Lineage(engine), node).code
    assert part.part == "why_pipeline.SETTINGS"
    assert (
        "-    model='small',\n+    model='large',\n     password='**********',\n     prompt='You answer in one"
        in part.diff
    )


def test_an_object_is_told_by_the_lines_that_made_it(engine: MusubitoEngine, pipeline: Any):
    """An object with two names is listed once."""
    for redirects in (3, 4):
        text = f"""
import requests
from musubito import musubito_step
SESSION = requests.Session()
SESSION.max_redirects = {redirects}
class Agent:
    def __init__(self, session):
        self.session = session
    def ask(self):
        return self.session.max_redirects
AGENT = Agent(SESSION)
@musubito_step(name="asks")
def asks(x):
    return AGENT.ask() + SESSION.max_redirects
"""
        asks = pipeline(text=text).asks
        node = asks(1).node_id
    (part,) = why(Lineage(engine), node).code
    assert part.part == "why_pipeline.SESSION, the lines that made it"
    assert part.diff.endswith("-SESSION.max_redirects = 3\n+SESSION.max_redirects = 4")
    explained = engine.explain(asks, 1)
    told = "why_pipeline.SESSION: requests.sessions.Session, which counts by the lines that made it"
    assert explained.untracked == (told,)
    assert f"  not by value:\n    {told}\n" in str(explained)


def test_what_a_step_changes_itself_is_told_by_its_lines(engine: MusubitoEngine, pipeline: Any):
    for start in ("", "0"):
        text = f"""
from musubito import musubito_step
USAGE = [{start}]
@musubito_step(name="asks")
def asks(x):
    USAGE.append(x)
    return x
"""
        node = pipeline(text=text).asks(1).node_id
    (part,) = why(Lineage(engine), node).code
    assert (part.part, part.diff.splitlines()[-2:]) == (
        "why_pipeline.USAGE, the lines that made it",
        ["-USAGE = []", "+USAGE = [0]"],
    )


def test_values_are_shown_beside_an_object_that_changes_as_it_is_used(engine: MusubitoEngine, pipeline: Any):
    """A default is told by the name of its parameter, and has no text if it is called like a secret."""
    for word in ("kettle", "kettles"):
        text = f"""
from musubito import musubito_step
from openai import OpenAI
CLIENT = OpenAI(api_key="no key")
WORDS = ["{word}"]
def helper(x, suffix="{word}", api_key="{word}"):
    return x + suffix
@musubito_step(name="asks")
def asks(x):
    CLIENT.chat
    return WORDS + [helper(x)]
"""
        node = pipeline(text=text).asks("x").node_id
    told = {part.part: part.diff and part.diff.splitlines()[-2:] for part in why(Lineage(engine), node).code}
    assert told == {
        "why_pipeline.WORDS": ["-['kettle']", "+['kettles']"],
        "why_pipeline.helper(default suffix)": ["-kettle", "+kettles"],
        "why_pipeline.helper(default api_key)": "",
    }


def test_a_setting_whose_name_is_like_a_secret_and_is_none_is_shown(engine: MusubitoEngine, pipeline: Any):
    node = ""
    for limit, word, asked in ((100, "kettle", "0 to 10"), (200, "kettles", "0 to 100")):
        text = f"""
from musubito import musubito_step
from pydantic import BaseModel, Field
MAX_TOKENS = {limit}
KEYWORDS = ["token", "{word}"]
API_TOKENS = ["{word}"]
PASSWORD = {limit}
class Grade(BaseModel):
    "Grade it from {asked}."
    score: int = Field(description="{asked}")
@musubito_step(name="grades")
def grades(x):
    return MAX_TOKENS, KEYWORDS, API_TOKENS, PASSWORD, Grade.model_json_schema()
"""
        node = pipeline(text=text).grades(1).node_id
    told = {part.part.removeprefix("why_pipeline."): part.diff for part in why(Lineage(engine), node).code}
    assert "+200" in told["MAX_TOKENS"]
    assert "+['token', 'kettles']" in told["KEYWORDS"]
    assert '+    "Grade it from 0 to 100."' in told["Grade"]
    assert '+    score: int = Field(description="0 to 100")' in told["Grade"]
    assert (told["API_TOKENS"], told["PASSWORD"]) == ("", "")


def test_calls_of_a_batch_are_compared_with_those_before_it(engine: MusubitoEngine, pipeline: Any):
    asked = [f"knots {number}" for number in range(COMPARED + 20)]
    old = {topic: pipeline().fetch(topic, 1).node_id for topic in asked[-2:]}
    edited = pipeline(text=PIPELINE.replace('"{topic}', '"all {topic}'))
    parts = []
    with run("batch"):
        for topic in asked:
            with run("part") as part:
                edited.fetch(topic, 1)
            parts.append(part)
    lineage = Lineage(engine)
    for topic, part in zip(asked[-2:], parts[-2:], strict=True):
        (call,) = with_reasons(lineage, lineage.run(part.run_id)).calls
        told = why(lineage, call.node_id)
        assert call.reason == told.reason == ReplayReason.CODE_CHANGED
        assert told.nearest is not None and told.nearest.node_id == old[topic]


def test_a_run_is_compared_with_what_was_there_before_it_however_much_came_after(engine: MusubitoEngine, pipeline: Any):
    pipeline().fetch("knots", 1)
    with run() as edited:
        pipeline(text=PIPELINE.replace('"{topic}', '"all {topic}')).fetch("knots", 1)
    for number in range(COMPARED + 20):
        pipeline().fetch(f"knots {number}", 1)
    lineage = Lineage(engine)
    (call,) = with_reasons(lineage, lineage.run(edited.run_id)).calls
    assert call.reason == ReplayReason.CODE_CHANGED
