"""Settings of pydantic that a step makes itself: the variables that fill their fields count, under any spelling."""

from __future__ import annotations

import os

import pytest
from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from musubito import MusubitoEngine, SQLiteStorage, musubito_step, use_musubito_engine
from musubito.code.tracker import CodeTracker
from tests.fresh import fresh


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="TOLD_")
    model: str = "small"
    api_key: SecretStr = SecretStr("")
    temperature: float = Field(1.0, validation_alias=AliasChoices("TOLD_TEMP", "TOLD_TEMPERATURE"))


class Nested(BaseSettings):
    model_config = SettingsConfigDict(env_nested_delimiter="__", case_sensitive=True)
    told_mode: str = "x"


class Customised(BaseSettings):
    told_mode: str = "x"

    @classmethod
    def settings_customise_sources(cls, *sources: object, **named: object) -> tuple[PydanticBaseSettingsSource, ...]:
        return ()


def reads_settings():
    return Settings().model


def reads_nested():
    return Nested().told_mode


def reads_customised():
    return Customised().told_mode


@pytest.mark.parametrize("name", ["TOLD_MODEL", "told_model", "TOLD_TEMP", "TOLD_TEMPERATURE"])
def test_what_fills_a_field_counts(tmp_path, monkeypatch, name):
    ran = []

    @musubito_step(name="answer")
    def answer(q):
        ran.append(q)
        settings = Settings()
        return settings.model, settings.temperature

    store = SQLiteStorage(fresh(tmp_path / "musubito.db"))
    with MusubitoEngine(store) as engine, use_musubito_engine(engine):
        answer(1)
        answer(1)
        monkeypatch.setenv(name, "3")
        assert "3" in str(answer(1).value)
        monkeypatch.setenv(name, "4")
        assert "4" in str(answer(1).value)
        assert len(ran) == 3
        monkeypatch.setenv("TOLD_API_KEY", "rotated")
        monkeypatch.setenv("TOLD_UNRELATED", "1")
        answer(1)
        assert len(ran) == 3


class Connection(BaseSettings):
    model: str = "small"
    timeout: float = 30
    db_port: int = 1


def reads_connection():
    return CONNECTION.model


def reads_with_fallback():
    try:
        return CONNECTION.model
    except TimeoutError:
        return ""


CONNECTION = Connection()


def test_how_long_and_where_a_service_is_asked_does_not_count(monkeypatch):
    def names(function):
        return {part.name.rpartition(".")[2].upper() for part in CodeTracker(function).current().parts}

    def digest(function):
        return CodeTracker(function).current().digest

    assert "ENVIRONMENT MODEL" in names(reads_connection)
    assert not names(reads_connection) & {"ENVIRONMENT TIMEOUT", "ENVIRONMENT DB_PORT"}
    assert names(reads_with_fallback) & {"ENVIRONMENT TIMEOUT", "ENVIRONMENT DB_PORT"} == {"ENVIRONMENT TIMEOUT"}
    before = digest(reads_connection), digest(reads_with_fallback)
    monkeypatch.setattr(CONNECTION, "db_port", 2)
    assert (digest(reads_connection), digest(reads_with_fallback)) == before
    monkeypatch.setattr(CONNECTION, "timeout", 5)
    assert digest(reads_connection) == before[0]
    assert digest(reads_with_fallback) != before[1]


def test_other_sources_are_listed():
    (line,) = (each for each in CodeTracker(reads_nested).current().untracked if "settings" in each)
    assert line.endswith("Nested: settings that come from env_nested_delimiter")
    (line,) = (each for each in CodeTracker(reads_customised).current().untracked if "settings" in each)
    assert line.endswith("Customised: settings that come from settings_customise_sources")


def test_a_case_that_counts_is_told_apart():
    parts = [part.name for part in CodeTracker(reads_nested).current().parts]
    assert "environment told_mode" in parts and "environment TOLD_MODE" not in parts
    assert "TOLD_MODE" not in os.environ
