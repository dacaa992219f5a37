"""Programs with one step each, which differ in what the step's code reaches, as people write them.

Each has a module `app` with a step `answer(question)`. A question that is not "live" needs no network.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["PROGRAMS", "Program"]

Files = dict[str, str]
"""The text of each file of a program, by its path."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program, and the seconds of CPU that the first replay in a process and each further replay may take."""

    files: Callable[[], Files]
    first: float
    again: float
    needs: tuple[str, ...] = ()
    """Modules of packages without which the program cannot run."""
    memory: float | None = None
    """Bytes that the first replay may add to the memory of the process, if this is measured."""


def app(body: str) -> Callable[[], Files]:
    """Return the files of a program of one module."""
    return lambda: {"app.py": f"from musubito import musubito_step\n{body}"}


NOTHING: Final = """
@musubito_step
def answer(question: str) -> str:
    return question.upper()
"""
OPENAI: Final = """
from openai import OpenAI

client = OpenAI(api_key="sk-proj-0123456789", max_retries=4)

@musubito_step
def answer(question: str) -> str:
    if question == "live":
        messages = [{"role": "user", "content": question}]
        return client.chat.completions.create(model="gpt-5-mini", messages=messages).choices[0].message.content or ""
    return question.upper()
"""
LANGCHAIN: Final = """
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

prompt = ChatPromptTemplate.from_messages([("system", "You answer in one sentence."), ("human", "{question}")])
chain = prompt | ChatOpenAI(model="gpt-5-mini", temperature=0, api_key="sk-proj-0123456789") | StrOutputParser()

@musubito_step
def answer(question: str) -> str:
    return chain.invoke({"question": question}) if question == "live" else question.upper()
"""
REQUESTS: Final = """
import requests

session = requests.Session()
session.headers["Accept"] = "application/json"

@musubito_step
def answer(question: str) -> str:
    if question == "live":
        return session.get("https://example.org/answers", params={"question": question}, timeout=9).json()["answer"]
    return question.upper()
"""
SQLALCHEMY: Final = """
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, create_engine, select

engine = create_engine("sqlite:///app.db")
metadata = MetaData()
authors = Table("authors", metadata, Column("id", Integer, primary_key=True), Column("name", String(80)))
books = Table(
    "books",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("title", String(200), nullable=False),
    Column("author_id", ForeignKey("authors.id")),
)

@musubito_step
def answer(question: str) -> str:
    if question == "live":
        with engine.connect() as connection:
            return connection.scalar(select(authors.c.name).join(books).where(books.c.title == question)) or ""
    return question.upper()
"""
BOTO3: Final = """
import boto3

keys = {"region_name": "eu-west-1", "aws_access_key_id": "AKIA0123456789", "aws_secret_access_key": "0123456789"}
s3 = boto3.client("s3", **keys)
table = boto3.client("dynamodb", **keys)
queue = boto3.client("sqs", **keys)

@musubito_step
def answer(question: str) -> str:
    if question == "live":
        table.put_item(TableName="questions", Item={"question": {"S": question}})
        queue.send_message(QueueUrl="https://sqs.example.org/questions", MessageBody=question)
        return s3.get_object(Bucket="answers", Key=question)["Body"].read().decode()
    return question.upper()
"""
SKLEARN: Final = """
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rows, labels = make_classification(500, random_state=0)
pipeline = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=20, random_state=0))
pipeline.fit(rows, labels)

@musubito_step
def answer(question: str) -> str:
    return f"{question}: {pipeline.predict([[float(len(question))] * 20])[0]}"
"""
DICTS: Final = """
import json
from pathlib import Path

with Path(__file__).with_name("examples.jsonl").open() as lines:
    EXAMPLES = [json.loads(line) for line in lines]

@musubito_step
def answer(question: str) -> str:
    return next((each["answer"] for each in EXAMPLES if each["question"] == question), "")
"""
INSTANCES: Final = """
class Document:
    def __init__(self, number: int) -> None:
        self.title = f"document {number}"
        self.year = 1990 + number % 35
        self.score = number / 7

    def matches(self, question: str) -> bool:
        return question in self.title and self.score > 1

DOCUMENTS = [Document(number) for number in range(10_000)]

@musubito_step
def answer(question: str) -> str:
    return str([each.year for each in DOCUMENTS if each.matches(question)])
"""
TUPLES: Final = """
PAIRS = [(number, f"name {number}") for number in range(100_000)]

@musubito_step
def answer(question: str) -> str:
    return str([number for number, name in PAIRS if name == question])
"""
NUMPY: Final = """
import numpy as np

class Index:
    def __init__(self) -> None:
        self.vectors = np.random.default_rng(0).random((35_000, 750), dtype=np.float32)

    def nearest(self, question: str) -> int:
        return int((self.vectors @ np.full(750, len(question), np.float32)).argmax())

index = Index()

@musubito_step
def answer(question: str) -> str:
    return str(index.nearest(question))
"""


def examples() -> Files:
    """Return a program that reads an evaluation set of 50,000 examples at import."""
    lines = (
        json.dumps({"id": n, "question": f"question {n}?", "answer": f"answer {n}", "tags": ["a", f"t{n % 9}"]})
        for n in range(50_000)
    )
    return {**app(DICTS)(), "examples.jsonl": "\n".join(lines)}


def orm(models: int) -> Callable[[], Files]:
    """Return the files of a program with so many models of an ORM, each of which refers to the one before."""
    text = """
from sqlalchemy import ForeignKey, String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

class Base(DeclarativeBase):
    pass

class Model0(Base):
    __tablename__ = "table_0"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
"""
    for number in range(1, models):
        text += f"""
class Model{number}(Base):
    __tablename__ = "table_{number}"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    above_id: Mapped[int] = mapped_column(ForeignKey("table_{number - 1}.id"))
    above: Mapped[Model{number - 1}] = relationship()
"""
    text += f"""
Session = sessionmaker(create_engine("sqlite:///app.db"))

@musubito_step
def answer(question: str) -> str:
    if question == "live":
        with Session() as session:
            query = select(Model{models - 1}).where(Model{models - 1}.name == question)
            return session.scalars(query).one().above.name
    return question.upper()
"""
    return app(text)


def pydantic(models: int) -> Callable[[], Files]:
    """Return the files of a program with a table of so many pydantic models, most of which hold another one."""
    text = "\nfrom pydantic import BaseModel, Field\n"
    for number in range(models):
        text += f"""
class Model{number}(BaseModel):
    \"\"\"What the model is asked for in case {number}.\"\"\"
    name: str
    count: int = Field({number}, ge=0, description="how many there are")
    tags: list[str] = []
    inner: {f"Model{number // 2} | None = None" if number else "None = None"}

    def line(self) -> str:
        return f"{{self.name}}: {{self.count}}"
"""
    text += f"""
MODELS = {{each.__name__: each for each in ({", ".join(f"Model{number}" for number in range(models))})}}

@musubito_step
def answer(question: str) -> str:
    return MODELS[f"Model{{len(question)}}"](name=question).line()
"""
    return app(text)


def fastapi(routes: int) -> Callable[[], Files]:
    """Return the files of a program with so many routes, each with a model of its own, and a step that has the app."""
    text = """
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI(title="answers")
"""
    for number in range(routes):
        text += f"""
class Request{number}(BaseModel):
    name: str
    count: int = {number}

@app.post("/route-{number}")
def route_{number}(request: Request{number}) -> dict[str, int]:
    return {{request.name: request.count}}
"""
    text += """
@musubito_step
def answer(question: str) -> str:
    return f"{question}: {app.title} {len(app.routes)}"
"""
    return lambda: {"app.py": f"from __future__ import annotations\nfrom musubito import musubito_step\n{text}"}


def modules(number: int, functions: int = 25) -> Callable[[], Files]:
    """Return the files of a program of so many modules, each of which uses two others, in a tree."""

    def module(at: int) -> str:
        below = [each for each in (2 * at + 1, 2 * at + 2) if each < number]
        text = "".join(f"from package import module_{each}\n" for each in below)
        text += f"\nLIMIT = {at + 10}\n"
        for each in range(functions - 1):
            text += f"""
def function_{each}(text: str, times: int = {each}) -> str:
    words = [word.strip(".,") for word in text.split() if len(word) < LIMIT]
    if times > LIMIT:
        words = sorted(set(words))
    return function_{each + 1}(" ".join(words), times + 1)
"""
        calls = "".join(f"    text = module_{each}.function_0(text)\n" for each in below)
        return text + f"\ndef function_{functions - 1}(text: str, times: int = 0) -> str:\n{calls}    return text\n"

    text = """
from package import module_0

@musubito_step
def answer(question: str) -> str:
    return module_0.function_0(question)
"""
    return lambda: {
        **app(text)(),
        "package/__init__.py": "",
        **{f"package/module_{at}.py": module(at) for at in range(number)},
    }


PROGRAMS: Final = {
    "nothing": Program(app(NOTHING), 5e-3, 25e-6),
    "an OpenAI client": Program(app(OPENAI), 10e-3, 50e-6, ("openai",)),
    "a LangChain chain": Program(app(LANGCHAIN), 10e-3, 50e-6, ("langchain_openai",)),
    "requests": Program(app(REQUESTS), 10e-3, 50e-6, ("requests",)),
    "SQLAlchemy's core": Program(app(SQLALCHEMY), 20e-3, 0.1e-3, ("sqlalchemy",)),
    "3 ORM models": Program(orm(3), 20e-3, 0.1e-3, ("sqlalchemy",)),
    "30 ORM models": Program(orm(30), 60e-3, 0.1e-3, ("sqlalchemy",)),
    "3 boto3 clients": Program(app(BOTO3), 10e-3, 0.1e-3, ("boto3",), 5e6),
    "a forest of 20 trees": Program(app(SKLEARN), 30e-3, 0.1e-3, ("sklearn",)),
    "50,000 dicts": Program(examples, 150e-3, 1e-3, (), 20e6),
    "10,000 instances": Program(app(INSTANCES), 150e-3, 0.5e-3, (), 20e6),
    "100,000 tuples": Program(app(TUPLES), 100e-3, 1e-3, (), 20e6),
    "105 MB of numpy": Program(app(NUMPY), 0.3, 0.1e-3, ("numpy",), 20e6),
    "100 pydantic models": Program(pydantic(100), 60e-3, 0.1e-3, ("pydantic",)),
    "30 FastAPI routes": Program(fastapi(30), 60e-3, 0.1e-3, ("fastapi",)),
    "10 modules": Program(modules(10), 40e-3, 0.1e-3),
    "100 modules": Program(modules(100), 0.4, 0.1e-3),
}
"""The programs, by what their step reaches."""
