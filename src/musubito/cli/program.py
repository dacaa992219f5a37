"""Import the program that a target names, such as flows/report.py:graph, without running a step of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec, module_from_spec
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import click

from musubito.cli.context import CommandContext, CommandError
from musubito.engine.engine_in_use import engine_in_mode
from musubito.engine.modes import Mode, make_off, mode_of_off
from musubito.engine.read_only_engine import ReadOnlyEngine
from musubito.errors import NotReplayed
from musubito.lineage.readers.formatting import clean, one_line

REMEDY: Final = (
    "TARGET is path/to/file.py:name or module:name, where name is a step, a graph, or a function that returns one."
)


@contextmanager
def called_without_arguments(target: str) -> Iterator[None]:
    """Let the module see what a program sees that is called without arguments: those of this command are not for it."""
    arguments, sys.argv = sys.argv, [target.rpartition(":")[0]]
    try:
        yield
    finally:
        sys.argv = arguments


def named_in_module(context: CommandContext, target: str) -> tuple[ModuleType, Any]:
    """Return the module of a target, and the step, graph or function in it that the target names."""
    location, _, name = target.rpartition(":")
    if not location or not name:
        module, _, name = (target, "", "NAME") if target.endswith(".py") else target.rpartition(".")
        meant = f"; did you mean {module}:{name}?" if module else "."
        raise click.UsageError(f"{target!r} names nothing{meant} {REMEDY}")
    found, stopped = imported(context, location)
    try:
        return found, attrgetter(name)(found)
    except AttributeError:
        if stopped is None:
            raise CommandError(f"{location} has no {name}. {REMEDY}") from None
    raise CommandError(_calls_too_early(stopped, location, name)) from stopped


def _calls_too_early(error: NotReplayed, location: str, name: str) -> str:
    return (
        f"{location} calls {clean(error.operation)} before it defines {name}, and a plan runs no step "
        f"({clean(error.why)}). Call steps and graphs below 'if __name__ == \"__main__\":'"
    )


@contextmanager
def _no_step_runs(context: CommandContext) -> Iterator[None]:
    """Let the user's code run, such as a script without a guard: its steps may be replayed, but must not run.

    The plan alone goes to the standard output: a program may read it as JSON.
    """
    off = mode_of_off()
    make_off(Mode.REPLAY_ONLY)
    try:
        with engine_in_mode(ReadOnlyEngine(context.engine), Mode.REPLAY_ONLY), redirect_stdout(sys.stderr):
            yield
    finally:
        make_off(off)


def makes_graph(thing: Any) -> bool:
    """Tell whether a thing is neither a step nor a graph, but a function that may return a graph."""
    return callable(thing) and not any(hasattr(thing, name) for name in ("__musubito_call__", "invoke", "compile"))


def made_by(context: CommandContext, target: str, function: Any, arguments: Any) -> Any:
    """Return what a function that returns a graph returns for these arguments."""
    if not makes_graph(function):
        raise click.UsageError(f"{target} is no function that returns a graph: it takes no --call")
    if not isinstance(arguments, list | dict):
        raise click.UsageError("--call is a list of arguments, or an object of arguments by name")
    try:
        with _no_step_runs(context):
            return function(**arguments) if isinstance(arguments, dict) else function(*arguments)
    except Exception as error:
        remedy = "; say with --call what it is called with" if isinstance(error, TypeError) else ""
        raise CommandError(f"{target}: {type(error).__qualname__}: {one_line(str(error))}{remedy}") from error


def imported(context: CommandContext, location: str) -> tuple[ModuleType, NotReplayed | None]:
    """Import a module or a file, up to the first call of a step that would run, and return that call, too.

    A program without a guard calls its steps and graphs there. What it defines below such a call, the call itself does
    not see, either.
    """
    file = _file_at(location) if location.endswith(".py") else None
    root, name = (Path.cwd(), location) if file is None else _home(file)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    stopped = None
    with _no_step_runs(context):
        try:
            spec = find_spec(name)  # this imports the packages around it
            if spec is None or spec.loader is None:
                raise ModuleNotFoundError(f"No module named {name!r}")
            if name not in sys.modules:
                module = sys.modules[name] = module_from_spec(spec)
                if spec.parent and spec.parent != name:
                    setattr(sys.modules[spec.parent], name.rpartition(".")[2], module)
                spec.loader.exec_module(module)
        except NotReplayed as error:
            if name not in sys.modules:  # a package around it has called a step
                raise CommandError(_calls_too_early(error, location, name)) from error
            stopped = error
        except (Exception, SystemExit) as error:
            raise CommandError(
                f"{location} cannot be imported: {type(error).__qualname__}: {one_line(str(error))}"
            ) from error
    if file is not None and Path(sys.modules[name].__file__ or "").resolve() != file:
        raise CommandError(f"{location} cannot be imported, since {name!r} is another module; rename the file")
    return sys.modules[name], stopped


def _file_at(location: str) -> Path:
    file = Path(location).resolve()
    if not file.is_file():
        raise CommandError(f"there is no file {location}. {REMEDY}")
    return file


def _home(file: Path) -> tuple[Path, str]:
    """Return the directory from which a file is imported, and the name of its module there."""
    parts, root = [file.stem], file.parent
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return root, ".".join(parts)


def json_option_value(option: str, text: str | None) -> Any:
    """Return the value of an option that is JSON; None without one."""
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{option} is not JSON: {error}") from None
