"""Objects of packages that programs hold in globals: what their use and each new process makes of them costs no run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from musubito.code.fingerprint import CodeTracker

PROGRAM = """
import json, sys
from musubito import MusubitoEngine, SQLiteStorage, StepConfiguration, musubito_step, use_musubito_engine
MADE
ran = []
@musubito_step(StepConfiguration(step_type="stochastic"))
def ask(q):
    ran.append("ask " + q)
    return BODY
@musubito_step(StepConfiguration(step_type="stochastic"))
def tell(q):
    ran.append("tell " + q)
    return BODY
with MusubitoEngine(SQLiteStorage("m.db")) as engine, use_musubito_engine(engine):
    for line in sys.argv[1:]:
        exec(line)
        print(json.dumps(ran))
        ran.clear()
"""
HELD = {
    "an engine of SQLAlchemy": (
        "import sqlalchemy\nheld = sqlalchemy.create_engine('sqlite:///data.db')",
        "str(held.connect().execute(sqlalchemy.text('select 1')).scalar()) + q",
    ),
    # Its mapper holds much that leads to each other, some of it made at the first use, and numbers that are hashes.
    "a class of SQLAlchemy's": (
        """
import sqlalchemy, sqlalchemy.orm
class Base(sqlalchemy.orm.DeclarativeBase): pass
class Word(Base):
    __tablename__ = "words"
    text: sqlalchemy.orm.Mapped[str] = sqlalchemy.orm.mapped_column(primary_key=True)
engine = sqlalchemy.create_engine("sqlite:///data.db")
Base.metadata.create_all(engine)
held = sqlalchemy.orm.sessionmaker(engine)
def many():
    with held() as session:
        return len(session.scalars(sqlalchemy.select(Word)).all())
""",
        "many()",
    ),
    # Its handlers hold themes and styles of their own.
    "a logger of loguru": ("from loguru import logger as held\nheld.remove()", "(held.info('asked'), q)[1]"),
    # Its tables keep a hash.
    "a database of peewee": (
        """
import peewee
held = peewee.SqliteDatabase("data.db")
class Word(peewee.Model):
    text = peewee.TextField()
    class Meta:
        database = held
with held.connection_context():
    held.create_tables([Word])
def many():
    with held.connection_context():
        return Word.select().count()
""",
        "many()",
    ),
    # Its pool keeps the number of the process.
    "a client of Redis": ("import redis\nheld = redis.Redis(port=1)", "held.connection_pool.max_connections"),
    # It holds the description of a whole service, shared in many places, and names its version in an order of its own.
    "a client of S3": (
        "import boto3\nheld = boto3.client('s3', region_name='eu-west-1', aws_access_key_id='a', aws_secret_access_key='b')",
        "held.generate_presigned_url('get_object', Params={'Bucket': 'b', 'Key': q})[:20]",
    ),
    # Its registry is a mapping of another language's, in the order of hashes.
    "a validator of JSON Schema": (
        "import jsonschema\nheld = jsonschema.Draft202012Validator({'type': 'string'})",
        "held.is_valid(q)",
    ),
    # Its output is of a class derived from str, which can be called.
    "a chain of LangChain": (
        """
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
held = ChatPromptTemplate.from_template("say {q}") | FakeListChatModel(responses=["a", "b"]) | StrOutputParser()
""",
        "held.invoke({'q': q})",
    ),
    # The functions that it puts in the place of the client's hold an id made at random.
    "a client of instructor": (
        "import instructor, openai\nheld = instructor.from_openai(openai.OpenAI(api_key='a'))",
        "held.chat.completions.create.__name__ + str(held.mode) + q",
    ),
    # Its options are a model, and the key of the service is a header in there.
    "a client of Gemini": (
        """
from google import genai
held = genai.Client(api_key=str(id(sys)), http_options={"base_url": "http://127.0.0.1:1"})
def refused():
    try:
        held.models.generate_content(model="m", contents="q")
    except Exception as error:
        return type(error).__name__
""",
        "refused()",
    ),
    # One of its patterns holds the characters of a set, in the order of hashes.
    "a parser of Markdown": ("import markdown_it\nheld = markdown_it.MarkdownIt()", "held.render(q)"),
    "a template of Jinja": (
        "import jinja2, markupsafe\nheld = jinja2.Environment(loader=jinja2.DictLoader({'a': 'hi {{q}}'}))",
        "markupsafe.Markup(held.get_template('a').render(q=q))",
    ),
}
CHANGES = {
    "a class of SQLAlchemy's": "held.kw['autoflush'] = False",
    "a logger of loguru": "held.configure(extra={'a': 1})",
    "an engine of SQLAlchemy": "held.url = held.url.set(database='other.db')",
    "a database of peewee": "Word._meta.table_name = 'other'",
    "a client of Redis": "held.connection_pool.max_connections = 3",
    "a client of S3": "held.meta.config.region_name = 'us-east-1'",
    "a validator of JSON Schema": "held.schema['type'] = 'number'",
    "a chain of LangChain": "held.steps[1].responses[1] = 'c'",
    "a client of instructor": "held.mode = instructor.Mode.JSON",
    "a client of Gemini": "held._api_client._http_options.base_url = 'http://127.0.0.1:2'",
    "a parser of Markdown": "held.options['typographer'] = True",
    "a template of Jinja": "held.loader.mapping['a'] = 'ho {{q}}'",
}


def play(here: Path, *lines: str) -> list[list[str]]:
    """A new process runs each of these lines after the program; what ran during each."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "program.py", *lines]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", HELD)
def test_what_a_package_holds_is_replayed_in_each_process_and_what_is_changed_there_is_not(
    tmp_path: Path, name: str
) -> None:
    made, body = HELD[name]
    (tmp_path / "program.py").write_text(PROGRAM.replace("MADE", made).replace("BODY", body))
    play(tmp_path)  # makes the tables that a program finds afterwards
    first = play(tmp_path, "ask('a')", "ask('a')", "ask('b')", "tell('a')", "ask('a')")
    assert first == [["ask a"], [], ["ask b"], ["tell a"], []]
    assert play(tmp_path, "tell('a')", "ask('b')", "tell('b')", "ask('a')") == [[], [], ["tell b"], []]
    change = CHANGES[name]
    assert play(tmp_path, "ask('a')", change, "ask('a')", "ask('a')") == [[], [], ["ask a"], []]


SETTINGS = {
    # Their content is another language's; only they say how it is pickled.
    "a table of Polars": "import polars\nheld = polars.DataFrame({'a': [V, 2]})",
    "a column of Polars": "import polars\nheld = polars.Series([V, 2])",
    "a query of Polars": "import polars\nheld = polars.DataFrame({'a': [1]}).lazy().filter(polars.col('a') > V)",
    "an expression of Polars": "import polars\nheld = polars.col('a') > V",
    "an array of bits": "import bitarray\nheld = bitarray.bitarray([1, V - 1])",
    # What they connect to lies two objects below, beside locks.
    "the port of Redis": "import redis\nheld = redis.Redis(port=V)",
    "the host of Redis": "import redis\nheld = redis.from_url(f'redis://host{V}:1')",
    "the engine of a session": (
        "import sqlalchemy, sqlalchemy.orm\n"
        "held = sqlalchemy.orm.sessionmaker(sqlalchemy.create_engine(f'sqlite:///{V}.db'))"
    ),
    # Its slots are filled when they are asked for.
    "a table of SQLAlchemy": (
        "import sqlalchemy\n"
        "held = sqlalchemy.Table(f't{V}', sqlalchemy.MetaData(), sqlalchemy.Column('a', sqlalchemy.Integer))"
    ),
    "the region of a client of AWS": (
        "import boto3\n"
        "held = boto3.client('sqs', region_name=f'eu-west-{V}', aws_access_key_id='a', aws_secret_access_key='b')"
    ),
    "the endpoint of a client of AWS": (
        "import boto3\nheld = boto3.client('sqs', region_name='eu-west-1', endpoint_url=f'http://host{V}',"
        " aws_access_key_id='a', aws_secret_access_key='b')"
    ),
}


@pytest.mark.parametrize("text", SETTINGS.values(), ids=SETTINGS)
def test_what_an_object_of_a_package_holds_counts(text: str) -> None:
    def digest(number: int) -> bytes:
        made: dict[str, Any] = {"V": number}
        exec(text, made)
        names: dict[str, Any] = {"__name__": "holding", "held": made["held"]}
        exec(compile("def step(q):\n    return held\n", "<holding>", "exec", dont_inherit=True), names)
        return CodeTracker(names["step"]).current().digest

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)
