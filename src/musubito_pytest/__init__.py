"""The pytest plugin of Musubito: options, the marker and two fixtures. All else is imported only when it is asked for.

`musubito.testing` holds what the plugin does. This module imports nothing of it, so that sessions without Musubito pay
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from musubito import MusubitoEngine

MODES: Final = ("off", "replay", "record", "refresh", "verify")
"""The modes in which recorded tests are run."""
ENGINE: Final = "musubito_engine"
"""The name of the fixture of a test's engine."""
RECORDED: Final = "musubito_recorded_tests"
"""The name of the plugin that records and replays."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the setting of the mode."""
    text = "Replay the steps of tests marked with 'musubito' from their cassettes, or record them"
    group = parser.getgroup("musubito")
    group.addoption("--musubito", choices=MODES, default=None, help=f"{text}. Default: the setting musubito_mode.")
    parser.addini("musubito_mode", f"{text}: {', '.join(MODES)}.", default="off")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Begin to record or replay before a `conftest.py` may define steps."""
    _begin(early_config, early_config.known_args_namespace.musubito)


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker. Begin to record or replay if that has not begun, since a `conftest.py` names this plugin."""
    config.addinivalue_line(
        "markers",
        "musubito(live=(), compare=None, allow_effects=False): record the steps of the test in a cassette, and replay "
        "them. live holds the names of steps that run in a replay, as patterns: 'app.parse', 'tools.*'. "
        "compare(recorded, new) tells for --musubito=verify whether two answers of a STOCHASTIC step are alike. With "
        "allow_effects=True, an effect may be recorded, for which it takes place.",
    )
    _begin(config, config.getoption("--musubito"))


def _begin(config: pytest.Config, option: str | None) -> None:
    """Register the plugin that records and replays, if a mode asks for it and it is not registered yet."""
    mode = option or config.getini("musubito_mode")
    if mode not in MODES:
        raise pytest.UsageError(f"musubito_mode is one of {', '.join(MODES)}, not {mode!r}")
    if mode != "off" and not config.pluginmanager.has_plugin(RECORDED):
        from musubito.testing.plugin import RecordedTests  # noqa: PLC0415 - only where it is asked for

        config.pluginmanager.register(RecordedTests(config, mode), RECORDED)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let marked tests use the fixture of the engine, before all other fixtures of one test."""
    for item in items:
        if item.get_closest_marker("musubito") is not None:
            _use_engine(item)


def _use_engine(item: Any) -> None:
    names = item.fixturenames
    if ENGINE not in names:
        known = item._fixtureinfo.name2fixturedefs
        wider = [name for name in names if name in known and known[name][-1].scope != "function"]
        names.insert(len(wider), ENGINE)


@pytest.fixture
def musubito_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MusubitoEngine]:
    """Return the engine of the test, whose store lies in `tmp_path`. It is the default engine until the test ends.

    In a marked test its store holds the results of the cassette, if the mode is not `off`.
    """
    recorded = request.config.pluginmanager.get_plugin(RECORDED)
    if recorded is not None and request.node.get_closest_marker("musubito") is not None:
        yield from recorded.engine_of(request, tmp_path)
        return
    from musubito import MusubitoEngine, SQLiteStorage, use_musubito_engine  # noqa: PLC0415 - as above

    with MusubitoEngine(SQLiteStorage(tmp_path / "musubito.db")) as engine, use_musubito_engine(engine):
        yield engine


@pytest.fixture
def musubito_scrub() -> Callable[[str], str] | None:
    """Return a function that takes a text out of an input, an output or the code, and returns what is recorded of it.

    Define a fixture of this name in a test module or a `conftest.py`. Without one, texts are recorded as they are.
    """
    return None
