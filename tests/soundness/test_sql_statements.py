"""A statement or a table of SQLAlchemy that a module holds counts by what it says, and is the same in each process."""

from __future__ import annotations

from typing import Final

import pytest
import sqlalchemy

from musubito.code.part_texts import object_text
from tests.soundness.changed_programs import Program, Runs, in_three_processes

HEAD: Final = """
import importlib
import sqlalchemy as sa
USERS = sa.Table("users", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String))
LOOSE = sa.table("loose", sa.column("name"))
"""
TABLE: Final = "sa.Table('{}', sa.MetaData(), sa.Column('{}', sa.String, {}))"
STATEMENTS: Final = {
    "a comparison": "sa.select(USERS).where(USERS.c.name == 'VALUE')",
    "a column without a type": "sa.select(LOOSE.c.name).where(LOOSE.c.name == 'VALUE')",
    "several comparisons": "sa.select(USERS.c.id).where(USERS.c.id > 3, USERS.c.name.like('VALUE')).limit(5)",
    "a list": "sa.select(USERS).where(USERS.c.name.in_(['VALUE', 'other']))",
    "a label without a name": "sa.select((USERS.c.name + 'VALUE').label(None))",
    "a case": "sa.select(sa.case((USERS.c.id == 1, 'VALUE'), else_='other'))",
    "values": "sa.insert(USERS).values(name='VALUE')",
    "a named parameter": "sa.select(USERS).where(USERS.c.name == sa.bindparam('VALUE'))",
    "an alias": "sa.select(sa.alias(USERS, 'VALUE').c.name)",
    "a part of a condition": (
        "sa.select(USERS).where(sa.or_(USERS.c.id == 1, sa.and_(USERS.c.id == 2, USERS.c.name != 'VALUE')))"
    ),
    "a subquery": "sa.select(sa.select(USERS).where(USERS.c.name == 'VALUE').subquery().c.id)",
    "a common table expression": "sa.select(sa.select(USERS).where(USERS.c.name == 'VALUE').cte().c.id)",
    "a union": "sa.union(sa.select(USERS.c.id), sa.select(USERS.c.id).where(USERS.c.name == 'VALUE'))",
    "whether there is one": "sa.select(USERS.c.id).where(sa.exists().where(LOOSE.c.name == 'VALUE'))",
    "a join": "sa.select(USERS.c.id).join(LOOSE, LOOSE.c.name == USERS.c.name + 'VALUE')",
    "an upsert": (
        "importlib.import_module('sqlalchemy.dialects.postgresql').insert(USERS).values(name='x')"
        ".on_conflict_do_update(index_elements=['id'], set_={'name': 'VALUE'})"
    ),
    "an option of the execution": "sa.select(USERS).execution_options(mark='VALUE')",
    "a hint": "sa.select(USERS).with_hint(USERS, 'VALUE', 'mysql')",
    "a hint within": "sa.select(sa.select(USERS).with_hint(USERS, 'VALUE', 'mysql').subquery().c.id)",
    "a hint for the statement": "sa.select(USERS).with_statement_hint('VALUE')",
    "a prefix for one database": "sa.select(USERS).prefix_with('VALUE', dialect='mysql')",
    "a lock": "sa.select(USERS).with_for_update(skip_locked='VALUE' == 'one')",
    "the type of a result": "sa.select(sa.type_coerce(USERS.c.name, sa.Enum('VALUE', 'other')))",
    "the type of a parameter": "sa.select(USERS.c.id).where(LOOSE.c.name == sa.bindparam('a', 1, sa.Enum('VALUE')))",
    "the type of a text's column": "sa.text('select a').columns(a=sa.Enum('VALUE', 'other'))",
    "a text": "sa.text('select VALUE')",
    "a table's name": TABLE.format("VALUE", "name", ""),
    "a column's name": TABLE.format("t", "VALUE", ""),
    "a column's default": TABLE.format("t", "name", "default='VALUE'"),
    "a foreign key": TABLE.format("t", "name", "sa.ForeignKey('VALUE.id')"),
    "a column of a table": TABLE.format("VALUE", "name", "") + ".c.name",
}
ORM: Final = """
from sqlalchemy import orm
class Base(orm.DeclarativeBase): pass
class User(Base):
    __tablename__ = "users"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    items: orm.Mapped[list["Item"]] = orm.relationship()
class Item(Base):
    __tablename__ = "items"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    user: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("users.id"))
"""
PROGRAMS: Final = {
    name: Program(f"{HEAD}HELD = {text}\ndef step(q): return type(HELD).__name__", "one", "two")
    for name, text in STATEMENTS.items()
} | {
    "how related objects are loaded": Program(
        f"{HEAD}{ORM}HELD = sa.select(User).options(orm.VALUE(User.items))\ndef step(q): return type(HELD).__name__",
        "selectinload",
        "joinedload",
    )
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return in_three_processes(tmp_path_factory.mktemp("statements"), PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_statement_counts_by_what_it_says(name: str, runs: Runs) -> None:
    assert name not in runs.failed
    assert [name in ran for ran in (runs.first, runs.again, runs.other)] == [True, False, True]


def test_a_statement_is_shown_by_its_text_and_its_parameters() -> None:
    users = sqlalchemy.table("users", sqlalchemy.column("age"), sqlalchemy.column("password"))
    statement = sqlalchemy.select(users.c.age).where(users.c.age > 18, users.c.password == "open sesame")
    shown = object_text(statement, of_user=False)
    assert shown is not None
    assert shown.splitlines()[-2:] == ["WHERE users.age > :age_1 AND users.password = :password_1", "age_1 = 18"]
