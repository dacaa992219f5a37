"""Objects of the libraries that people use, made where a module is imported, in the code of a step.

Each program is loaded by three processes with different hash seeds: as it is, after one edit, and as it was. Each asks
its step twice. An edit that matters runs the step again, any other edit does not, and after the edit is undone the first
result is replayed. The first use of an object may change it, and costs no run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

DRIVER: Final = """
import importlib, json, os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, os.getcwd())
from musubito import run
programs = {name: importlib.import_module(name + ".program") for name in sys.argv[1:]}
said = {}
for name, program in programs.items():
    with run() as work:
        values = [program.step("q").value for _ in range(2)]
    said[name] = [[call.outcome for call in work.calls], values[0]]
    assert values[0] == values[1], name
print(json.dumps(said))
"""
HEAD: Final = "from musubito import musubito_step\n"


class Library(NamedTuple):
    """A program, the edits that matter for its step, and those that do not: each a text of a file and its successor."""

    text: str
    matter: dict[str, tuple[str, str]]
    do_not: dict[str, tuple[str, str]]
    files: dict[str, str] = {}  # noqa: RUF012
    oldest: tuple[int, int] = (3, 11)


HTTPX: Final = Library(
    """
import httpx
URL = "http://one.test"
TIMEOUT = 5

def answer(request):
    return httpx.Response(200, text=f"{request.url} {request.headers['x-tone']}")

client = httpx.Client(base_url=URL, headers={"x-tone": "kind", "Authorization": "Bearer one"}, transport=httpx.MockTransport(answer))
client.params = {"page": "1"}
other = httpx.Client(timeout=TIMEOUT)

@musubito_step
def step(q):
    return client.get("/" + q).text
""",
    {
        "a URL in a constant": ("http://one.test", "http://two.test"),
        "a header": ('"kind"', '"curt"'),
        "a handler of its transport": ("200, text=f", '200, text="so: " + f'),
        "a parameter that is set later": ('{"page": "1"}', '{"page": "2"}'),
    },
    {
        "a token": ("Bearer one", "Bearer two"),
        "another client": ("TIMEOUT = 5", "TIMEOUT = 6"),
        "how it is written": ("client = httpx.Client(", "# asks the service\nclient = httpx.Client(\n    "),
    },
)
OPENAI: Final = Library(
    '''
import json
import httpx
import openai
SYSTEM = "Be kind."

def reply(request):
    asked = json.loads(request.content)
    message = {"role": "assistant", "content": f"{request.url} {asked}"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return httpx.Response(200, json={"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

client = openai.OpenAI(
    api_key="sk-one", base_url="http://one.test/v1", http_client=httpx.Client(transport=httpx.MockTransport(reply))
)

def complete(q, temperature=0.5):
    """Ask the model."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": q}]
    answer = client.chat.completions.create(model="small", messages=messages, temperature=temperature)
    return answer.choices[0].message.content

@musubito_step
def step(q):
    return complete(q)
''',
    {
        "a prompt": ("Be kind.", "Be brief."),
        "a model": ('model="small"', 'model="large"'),
        "a temperature": ("temperature=0.5", "temperature=0.7"),
        "a base URL": ("http://one.test/v1", "http://two.test/v1"),
    },
    {
        "a timeout in a constant": ('api_key="sk-one", ', 'api_key="sk-one", timeout=len(SYSTEM), '),
        "a proxy": ("httpx.Client(transport", 'httpx.Client(proxy="http://proxy.test", transport'),
        "the number of a request": ('api_key="sk-one", ', 'api_key="sk-one", default_headers={"X-Request-Id": "1"}, '),
        "a port": ("http://one.test/v1", "https://one.test:81/v1"),
        "a key": ("sk-one", "sk-two"),
        "a docstring": ("Ask the model.", "Ask OpenAI."),
        "a comment": ("    answer = ", "    # may take a while\n    answer = "),
    },
)
ANTHROPIC: Final = Library(
    """
import functools
import json
import os
import anthropic
os.environ["ANTHROPIC_API_KEY"] = "key one"
try:
    import httpx2 as httpx
except ImportError:
    import httpx
URL = "http://one.test"

def reply(request):
    asked = json.loads(request.content)
    text = f"{request.url} {asked}"
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "usage": usage}
    return httpx.Response(200, json={**message, "content": [{"type": "text", "text": text}]})

@functools.cache
def connect():
    transport = httpx.MockTransport(reply)
    return anthropic.Anthropic(api_key=os.environ["ANTHROPIC_API_KEY"], base_url=URL, http_client=httpx.Client(transport=transport))

class Agent:
    tokens = 100

    def __init__(self, client, model):
        self.client = client
        self.model = model

    def ask(self, q):
        messages = [{"role": "user", "content": q}]
        return self.client.messages.create(model=self.model, max_tokens=self.tokens, messages=messages).content[0].text

    def reset(self):
        self.model = None

agent = Agent(connect(), "small")

@musubito_step
def step(q):
    return agent.ask(q)
""",
    {
        "the client in a field": ("http://one.test", "http://two.test"),
        "a field": ('"small"', '"large"'),
        "a field of the class": ("tokens = 100", "tokens = 200"),
        "a method": ('"user", "content": q', '"user", "content": q + "?"'),
    },
    {
        "a key of the environment": ("key one", "key two"),
        "a method that is not called": ("self.model = None", 'self.model = ""'),
        "a comment": ("@functools.cache", "# one for all\n@functools.cache"),
    },
)
PYDANTIC: Final = Library(
    """
from typing import Annotated
import pydantic
LIMIT = 9
Score = Annotated[int, pydantic.Field(le=LIMIT, description="how good")]

class Item(pydantic.BaseModel):
    name: str
    score: Score = 3

    @pydantic.field_validator("name")
    @classmethod
    def tidy(cls, value):
        return value.strip()

    def shown(self):
        return self.name

class Answer(pydantic.BaseModel):
    items: list[Item]

answers = pydantic.TypeAdapter(list[Answer])
settings = Item(name="default")

@musubito_step
def step(q):
    read = answers.validate_json('[{"items": [{"name": " a "}]}]')
    return [repr(read), settings.name, str(Answer.model_json_schema())]
""",
    {
        "a default": ("Score = 3", "Score = 4"),
        "a bound": ("LIMIT = 9", "LIMIT = 10"),
        "a description": ("how good", "how bad"),
        "a validator": ("value.strip()", "value.strip().upper()"),
        "a type": ("    items: list[Item]", "    items: tuple[Item, ...]"),
        "a value": ('name="default"', 'name="other"'),
    },
    {
        "a comment": ("    items: list[Item]", "    items: list[Item]  # the best first"),
        "a method that is not called": ("return self.name", "return self.name.title()"),
    },
)
SQLALCHEMY: Final = Library(
    """
import sqlalchemy as sa
from sqlalchemy import event, orm

class Base(orm.DeclarativeBase):
    pass

class User(Base):
    __tablename__ = "users"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(default="nobody")

class Place(Base):
    __tablename__ = "places"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)

ROWS = 2
engine = sa.create_engine("sqlite://", echo=False)
Session = orm.sessionmaker(engine, expire_on_commit=False)
newest = sa.select(User).order_by(User.id.desc()).limit(ROWS)

@event.listens_for(engine, "connect")
def prepare(connection, record):
    connection.create_function("shout", 1, lambda text: text.upper())

@musubito_step
def step(q):
    with Session() as session:
        Base.metadata.create_all(session.connection())
        session.add_all([User(), User(name=q), User()])
        session.flush()
        found = [user.name for user in session.scalars(newest)]
        return [found, str(newest), session.scalar(sa.text("select shout('a')")), str(engine.url)]
""",
    {
        "a column": ('default="nobody"', 'default="someone"'),
        "a table": ('"users"', '"people"'),
        "a query": ("User.id.desc()", "User.id.asc()"),
        "a limit": ("ROWS = 2", "ROWS = 1"),
        "a URL": ('"sqlite://"', '"sqlite:///:memory:"'),
        "a listener": ("text.upper()", "text.upper() + '!'"),
    },
    {
        "another table": ('"places"', '"towns"'),
        "a comment": ("newest = ", "# the last who came\nnewest = "),
        "how it is written": ("sa.select(User).order_by(", "sa.select(User).order_by(\n    "),
    },
)
JINJA: Final = Library(
    """
from pathlib import Path
import jinja2
PAGES = {"head": "Dear {{ name | loud }},"}
environment = jinja2.Environment(
    loader=jinja2.ChoiceLoader([jinja2.DictLoader(PAGES), jinja2.FileSystemLoader(Path(__file__).parent)])
)
environment.globals["tone"] = "kind"

def loud(text):
    return text.upper()

def quiet(text):
    return text.lower()

environment.filters["loud"] = loud
inline = environment.from_string("Be {{ tone }}. ")
ending = jinja2.Template(Path(__file__).with_name("ending.txt").read_text())
UNUSED = "a"

@musubito_step
def step(q):
    parts = [inline, environment.get_template("head"), environment.get_template("body.txt"), ending]
    return [part.render(name=q) for part in parts]
""",
    {
        "a text": ("Dear", "Hello"),
        "a template": ("Be {{", "Stay {{"),
        "a global": ('"kind"', '"curt"'),
        "a filter": ("text.upper()", "text.upper() + '!'"),
        "an option": ("    loader", "    keep_trailing_newline=True, loader"),
        "a file that is read at import": ("Yours", "Ever yours"),
        # Last, because each program of a process that uses Jinja depends on all files that Jinja has read before.
        "a file": ("how are you", "how do you do"),
    },
    {
        "a function that is no filter": ("text.lower()", "text.strip()"),
        "a comment": ("inline = ", "# first\ninline = "),
        "another constant": ('UNUSED = "a"', 'UNUSED = "b"'),
    },
    {"body.txt": "how are you?\n", "ending.txt": "Yours"},
)
BOTO3: Final = Library(
    """
import boto3
from botocore.config import Config
REGION = "eu-west-1"
session = boto3.session.Session(region_name=REGION, aws_access_key_id="one", aws_secret_access_key="secret one")
s3 = session.client("s3", endpoint_url="http://one.test", config=Config(s3={"addressing_style": "path"}))
table = session.resource("dynamodb").Table("users")
RETRIES = 2

@musubito_step
def step(q):
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": q})
    return [url.partition("?")[0], s3.meta.region_name, table.name]
""",
    {
        "a region": ("eu-west-1", "eu-west-2"),
        "an endpoint": ("http://one.test", "http://two.test"),
        "a style": ('"path"', '"virtual"'),
        "a table": ('"users"', '"people"'),
    },
    {
        "a key": ("secret one", "secret two"),
        "another constant": ("RETRIES = 2", "RETRIES = 3"),
        "how it is written": ('client("s3", ', 'client(  # in the cellar\n    "s3", '),
    },
)
SKLEARN: Final = Library(
    """
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
ROWS = [[0, 1], [1, 1], [2, 0], [3, 0], [4, 1], [5, 1]]
LABELS = [0, 0, 0, 1, 1, 1]

def widen(rows):
    return np.asarray(rows) * 2

model = make_pipeline(FunctionTransformer(widen), RandomForestClassifier(3, random_state=1))
model.fit(ROWS, LABELS)
SEEN = len(ROWS)

@musubito_step
def step(q):
    return [model.predict_proba([[2.4, 1]]).tolist(), str(model[1])]
""",
    {
        "a number of trees": ("Classifier(3, ", "Classifier(4, "),
        "a transformer": ("* 2", "* 0"),
        "the data": ("[5, 1]]", "[2.5, 1]]"),
    },
    {
        "a comment": ("model = ", "# small\nmodel = "),
        "another constant": ("SEEN = len(ROWS)", "SEEN = 2"),
    },
)
HYDRA: Final = Library(
    """
from pathlib import Path
from hydra import compose, initialize_config_dir
with initialize_config_dir(str(Path(__file__).parent), version_base=None):
    config = compose("config", overrides=["model.size=2"])

@musubito_step
def step(q):
    return [config.model.name, config.model.size, config.tone]
""",
    {
        "a file": ("name: small", "name: large"),
        "a file that is included": ("tone: kind", "tone: curt"),
        "an override": ("model.size=2", "model.size=3"),
    },
    {
        "a comment": ("    config = ", "    # for all\n    config = "),
        "another constant": ("\n@musubito_step", "OTHER = 1\n\n@musubito_step"),
    },
    {
        "config.yaml": "defaults: [base, _self_]\nmodel: {name: small, size: 1}\n".replace(
            "{name: small, size: 1}", "\n  name: small\n  size: 1"
        ),
        "base.yaml": "tone: kind\n",
    },
)
PANDAS: Final = Library(
    """
from pathlib import Path
import pandas as pd
prices = pd.DataFrame({"item": ["a", "b"], "price": [1, 2]})
prices["tax"] = prices["price"] * 0.5
stock = pd.read_csv(Path(__file__).parent / "stock.csv").set_index("item")
DIGITS = 2

@musubito_step
def step(q):
    return prices.join(stock, on="item").to_csv()
""",
    {
        "a value": ("[1, 2]", "[1, 3]"),
        "a column that is set later": ("* 0.5", "* 0.25"),
        "a file": ("a,7", "a,8"),
    },
    {
        "an equal frame": ('{"item": ["a", "b"], "price": [1, 2]}', 'dict(item=list("ab"), price=[1, 2])'),
        "a comment": ("stock = ", "# as of today\nstock = "),
        "another constant": ("DIGITS = 2", "DIGITS = 3"),
    },
    {"stock.csv": "item,count\na,7\nb,9\n"},
)
REQUESTS: Final = Library(
    """
import requests
TOKEN = "one"

class Canned(requests.adapters.HTTPAdapter):
    def send(self, request, **options):
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, request.url
        response._content = f"{response.status_code} {request.url} {request.headers['x-tone']} {options['timeout']}".encode()
        return response

def check(response, *args, **options):
    response.headers["checked"] = "yes"

session = requests.Session()
session.headers.update({"x-tone": "kind", "Authorization": f"Bearer {TOKEN}"})
session.headers["x-api-key"] = "key one"
session.auth = ("user", "password one")
session.mount("https://", Canned(max_retries=3))
session.hooks["response"].append(check)
session.params = {"page": 1}
other = requests.Session()
other.verify = True

@musubito_step
def step(q):
    response = session.get("https://one.test/" + q, timeout=5)
    return [response.text, response.headers["checked"]]
""",
    {
        "a header": ('"kind"', '"curt"'),
        "an adapter": ("200, request,", "201, request,"),
        "a hook": ('"yes"', '"no"'),
        "a parameter": ('"page": 1', '"page": 2'),
    },
    {
        "a token": ('TOKEN = "one"', 'TOKEN = "two"'),
        "a key": ("key one", "key two"),
        "a password": ("password one", "password two"),
        "another session": ("verify = True", "verify = False"),
        "a comment": ("session.mount", "# asks nobody\nsession.mount"),
    },
)
REDIS: Final = Library(
    """
import redis

class Canned(redis.Connection):
    def connect(self):
        self.asked = []

    def send_command(self, *command, **options):
        self.asked.append(" ".join(map(str, command)))

    def read_response(self, *args, **options):
        return f"{self.host} {self.db} {self.asked}"

    def can_read(self, timeout=0):
        return False

    def disconnect(self, *args):
        pass

pool = redis.ConnectionPool(connection_class=Canned, host="one", db=1, password="secret one", decode_responses=True)
client = redis.Redis(connection_pool=pool)
prefix = "cache:"
shared = redis.Redis.from_url("redis://:secret-one@elsewhere/2")

@musubito_step
def step(q):
    return [client.get(prefix + q), shared.connection_pool.connection_kwargs["host"]]
""",
    {
        "a host": ('"one"', '"two"'),
        "a database": ("db=1", "db=2"),
        "a connection": ('f"{self.host} ', 'f"from {self.host} '),
        "a prefix": ('"cache:"', '"store:"'),
        "a host in a URL": ("@elsewhere", "@nowhere"),
    },
    {
        "a password": ('"secret one"', '"secret two"'),
        "a password in a URL": (":secret-one@", ":secret-two@"),
        "a comment": ("client = ", "# of all\nclient = "),
    },
)
WRAPT: Final = Library(
    """
import wrapt
ENDING = "!"

@wrapt.decorator
def marked(wrapped, instance, args, kwargs):
    return "marked " + wrapped(*args, **kwargs)

def ended(q):
    return q + ENDING

@marked
def helper(q):
    return "helped " + ended(q)

class Tool:
    @marked
    def use(self, q):
        return "used " + ended(q)

    @marked
    def other(self, q):
        return "unused"

@musubito_step
def step(q):
    return helper(q) + Tool().use(q)
""",
    {
        "the decorator": ('"marked "', '"noted "'),
        "a function": ('"helped "', '"cured "'),
        "a method": ('"used "', '"taken "'),
        "a constant of both": ('"!"', '"?"'),
    },
    {"a comment": ("ENDING = ", "# of all\nENDING = ")},
)
WRAPPED_NODE: Final = Library(
    """
from types import SimpleNamespace
from typing import TypedDict
import wrapt
from langgraph.graph import START, StateGraph
from musubito import StepConfiguration
from musubito_langgraph import musubito_graph

class State(TypedDict, total=False):
    q: str

@wrapt.decorator
def marked(wrapped, instance, args, kwargs):
    return {"q": "marked " + wrapped(*args, **kwargs)["q"]}

@marked
def node(state):
    return {"q": "helped " + state["q"]}

@marked
def other(state):
    return {"q": "unused"}

built = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="graph")
graph = musubito_graph(built, default=StepConfiguration(step_type="deterministic"))

def step(q):
    return SimpleNamespace(value=graph.invoke({"q": q})["q"])
""",
    {"the decorator": ('"marked "', '"noted "'), "the node": ('"helped "', '"cured "')},
    {"a comment": ("@marked\ndef node", "@marked  # twice\ndef node"), "what is no node": ('"unused"', '"idle"')},
)
LOCAL_NODE: Final = Library(
    WRAPPED_NODE.text.replace('"node", node', '"node", made()').replace(
        "\nbuilt",
        """
def made():
    @marked
    def last(state):
        return {"q": "ended " + state["q"]}
    return last

built""",
    ),
    {"the node": ('"ended "', '"done "')},
    {"what is no node": ('"unused"', '"idle"')},
)
TARGET: Final = Library(
    """
from pathlib import Path
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
with initialize_config_dir(str(Path(__file__).parent), version_base=None):
    config = compose("config")

@musubito_step
def step(q):
    return instantiate(config.model).ask(q)
""",
    {
        "a method": ("self.size * 2", "self.size * 3"),
        "a class": ("factor = 1", "factor = 2"),
        "a file": ("size: 1", "size: 2"),
    },
    {
        "a method that is not called": ('"idle"', '"lazy"'),
        "a comment": ("class Model:", "class Model:  # a small one"),
    },
    {
        "config.yaml": "model:\n  _target_: NAME.models.Model\n  size: 1\n",
        "models.py": """
class Model:
    factor = 1

    def __init__(self, size):
        self.size = size

    def ask(self, q):
        return [q, self.size * 2, self.factor]

    def idle(self):
        return "idle"
""",
    },
    (3, 12),
)
LIBRARIES: Final = {
    "httpx": HTTPX,
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "pydantic": PYDANTIC,
    "sqlalchemy": SQLALCHEMY,
    "jinja2": JINJA,
    "boto3": BOTO3,
    "sklearn": SKLEARN,
    "hydra": HYDRA,
    "hydra's targets": TARGET,
    "pandas": PANDAS,
    "requests": REQUESTS,
    "redis": REDIS,
    "wrapt": WRAPT,
    "wrapt around a node": WRAPPED_NODE,
    "wrapt around a node of a function": LOCAL_NODE,
}
Replacements = tuple[tuple[str, str], ...]
EDITS: Final[dict[str, tuple[Library, Replacements, bool]]] = {}
"""The edits that matter one by one, and all of a library's that do not at once: if one of them did, the step would run."""
for _name, _library in LIBRARIES.items():
    if sys.version_info >= _library.oldest:
        EDITS[f"{_name}: {', '.join(_library.do_not)}"] = _library, (*_library.do_not.values(),), False
        EDITS.update({f"{_name}: {edit}": (_library, (texts,), True) for edit, texts in _library.matter.items()})


def write(folder: Path, library: Library, edits: Replacements) -> None:
    """Write the files of a program, with these edits."""
    files = {"program.py": HEAD + library.text, **library.files}
    for name, text in files.items():
        for old, new in edits:
            assert any(old in each for each in files.values()), old
            text = text.replace(old, new)
        (folder / name).write_text(text.replace("NAME", folder.name))


def asked(folder: Path, names: list[str], seed: int) -> dict[str, list[Any]]:
    """Ask each program in one new process: whether its step ran, and what it returned."""
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(seed),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MUSUBITO_URL": f"sqlite:///{folder}/libraries.db",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    command = [sys.executable, "-c", DRIVER, *names]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Any]]]:
    """Return for each edit the answers before it, after it, and after it was undone."""
    folder = tmp_path_factory.mktemp("libraries")
    names = {edit: f"program_{number}" for number, edit in enumerate(EDITS)}
    found: dict[str, list[list[Any]]] = {edit: [] for edit in EDITS}
    for seed in (1, 2, 3):
        for edit, (library, edits, _) in EDITS.items():
            place = folder / names[edit]
            place.mkdir(exist_ok=True)
            write(place, library, edits if seed == 2 else ())
        said = asked(folder, list(names.values()), seed)
        for edit, name in names.items():
            found[edit].append(said[name])
    return found


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_runs_the_step_exactly_if_it_matters(edit: str, answers: dict[str, list[list[Any]]]) -> None:
    before, after, undone = answers[edit]
    matters = EDITS[edit][2]
    assert before[0] == ["ran", "replayed"]
    assert (after[0], after[1] != before[1]) == (["ran" if matters else "replayed", "replayed"], matters)
    assert undone == [["replayed", "replayed"], before[1]]
