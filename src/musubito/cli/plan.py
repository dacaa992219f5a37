"""`musubito plan`: what a call or a graph would replay and what it would run, and what that would take."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from importlib import import_module
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from musubito import MusubitoError, use_musubito_engine
from musubito.cli.columns import Name
from musubito.cli.here import CommandError, Here, as_json, json_option, says_what_is_wrong
from musubito.cli.money import unpriced_note, worth
from musubito.cli.tables import print_table
from musubito.cli.words import clean, duration, one_line, reason
from musubito.lineage import Cost, Plan, PlanLine, plan
from musubito.lineage.plan import REPLAY, RUN, UNKNOWN
from musubito.lineage.prices import dollars

__all__ = ["command"]

MARKS = {REPLAY: "●", RUN: "○", UNKNOWN: "?"}
WITHIN = "·"
"""What a call may make inside, which is not counted with the calls at the top."""
SCRIPT = "__main__"
REMEDY = "TARGET is path/to/file.py:name or module:name, where name is a step or a graph."


@click.command(
    "plan",
    short_help="What a call or a graph would replay, and what it would run.",
    epilog="""Example: musubito plan flows/report.py:graph --input '{"topic": "knots"}'""",
)
@click.argument("target")
@click.option("--input", "input_", metavar="JSON", help="What a graph is invoked with.")
@click.option("--args", "arguments", metavar="JSON", help="What a step is called with: a list, or an object by name.")
@json_option
@click.pass_obj
@says_what_is_wrong
def command(here: Here, target: str, input_: str | None, arguments: str | None, json_: bool) -> None:
    """What calling TARGET would replay and what it would run, with the time and the tokens that this took earlier.

    TARGET is path/to/file.py:name or module:name; the module is imported, with all that it does then. Nothing else of
    it runs, and nothing is recorded. A graph is planned for a new thread. ● would be replayed, ○ would run, ? depends
    on what those give, · may be called inside of the one above.
    """
    with use_musubito_engine(here.engine):
        module, name = _module(target)
    with use_musubito_engine(here.engine):
        made = _made(here, target, _found(module, name, target), module.__name__, input_, arguments)
        title = target
        if _ran_as_script(here, made, module.__name__) and module.__file__:
            with _as_script(module) as script:
                made = _made(here, target, _found(script, name, target), SCRIPT, input_, arguments)
            title = f"{target} as a script"
    if json_:
        here.json({**as_json(made), "perhaps": made.perhaps, "dollars": dollars(made.estimate)})
    else:
        _print(here.console, title, made)


def _made(here: Here, target: str, found: Any, module: str, input_: str | None, arguments: str | None) -> Plan:
    if hasattr(found, "__musubito_call__"):
        if input_ is not None:
            raise click.UsageError(f"{target} is a step: give its arguments with --args")
        return _of_step(here, found, _json("--args", arguments or "[]"))
    if arguments is not None or input_ is None:
        wrong = "is no step: --args is for functions with @musubito_step" if arguments is not None else "is no step"
        raise click.UsageError(f"{target} {wrong}; say what a graph is invoked with by --input")
    return _of_graph(target, found, _json("--input", input_), module)


# -- the target --------------------------------------------------------------------------------------------------------


def _module(target: str) -> tuple[ModuleType, str]:
    """The module of a target, and what names the rest in it."""
    where, _, name = target.rpartition(":")
    if not where or not name:
        raise click.UsageError(f"{target!r} names nothing. {REMEDY}")
    # What a module prints is no part of the plan.
    with redirect_stdout(sys.stderr):
        return _imported(where), name


def _found(module: ModuleType, name: str, target: str) -> Any:
    try:
        return attrgetter(name)(module)
    except AttributeError:
        raise CommandError(f"{target.rpartition(':')[0]} has no {name}. {REMEDY}") from None


def _imported(where: str) -> ModuleType:
    file = Path(where).resolve() if where.endswith(".py") else None
    if file is not None and not file.is_file():
        raise CommandError(f"there is no file {where}. {REMEDY}")
    root, name = (Path.cwd(), where) if file is None else _home(file)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        module = import_module(name)
    except (Exception, SystemExit) as error:
        raise CommandError(f"{where} cannot be imported: {type(error).__qualname__}: {one_line(str(error))}") from error
    if file is not None and Path(module.__file__ or "").resolve() != file:
        raise CommandError(f"{where} cannot be imported, since {name!r} is another module; rename the file")
    return module


def _home(file: Path) -> tuple[Path, str]:
    """The directory that a file is imported from, and the name of the module that it then is."""
    parts, root = [file.stem], file.parent
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return root, ".".join(parts)


# -- what ran as a script ----------------------------------------------------------------------------------------------


def _ran_as_script(here: Here, made: Plan, module: str) -> bool:
    """Whether what would run differs from what ran last since that was a script: its names began with __main__."""
    namespace = here.engine.namespace
    asked: list[tuple[str, dict[str, Any]]] = []
    for line in made.lines:
        if line.outcome != RUN:
            continue
        if line.reason.startswith("code changed"):
            asked.append(
                ("newest_code_in", {"namespace": namespace, "operation": line.operation, "prefix": "__main__."})
            )
        elif line.estimate is None and line.operation.startswith(f"{module}."):
            name = SCRIPT + line.operation.removeprefix(module)
            asked.append(("newest_code_in", {"namespace": namespace, "operation": name, "prefix": "__main__."}))
    return any(here.lineage.ask(*asked))


@contextmanager
def _as_script(module: ModuleType) -> Iterator[ModuleType]:
    """The same module under the name that its classes and functions have in a script, without what it does only as a
    script: `if __name__ == "__main__":`."""
    path = str(module.__file__)
    script = ModuleType(SCRIPT, module.__doc__)
    script.__file__, script.__package__ = path, module.__name__.rpartition(".")[0]
    before = sys.modules[SCRIPT]
    sys.modules[SCRIPT] = script
    try:
        tree = ast.parse(Path(path).read_bytes(), path)
        tree.body = [each for each in tree.body if not _is_for_scripts(each)]
        with redirect_stdout(sys.stderr):
            exec(compile(tree, path, "exec", dont_inherit=True), vars(script))  # noqa: S102 - it was imported already
        yield script
    except click.ClickException:
        raise
    except (Exception, SystemExit) as error:
        raise CommandError(
            f"{path} cannot be read as a script: {type(error).__qualname__}: {one_line(str(error))}"
        ) from error
    finally:
        sys.modules[SCRIPT] = before


def _is_for_scripts(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.If):
        return False
    test = statement.test
    both = [test.left, *test.comparators] if isinstance(test, ast.Compare) else []
    return any(isinstance(each, ast.Name) and each.id == "__name__" for each in both)


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{option} is not JSON: {error}") from None


# -- the plan ----------------------------------------------------------------------------------------------------------


def _of_step(here: Here, step: Any, arguments: Any) -> Plan:
    if not isinstance(arguments, list | dict):
        raise click.UsageError("--args is a list of arguments, or an object of arguments by name")
    try:
        return (
            plan(here.engine, step, **arguments) if isinstance(arguments, dict) else plan(here.engine, step, *arguments)
        )
    except TypeError as error:
        raise CommandError(one_line(str(error))) from error


def _of_graph(target: str, graph: Any, given: Any, module: str) -> Plan:
    if "langgraph" not in sys.modules:
        raise CommandError(f"{target} is no step, and no graph. {REMEDY}")
    try:
        # The core knows no framework, and has it told only where a module uses it.
        made: Plan = import_module("musubito_langgraph.graph").plan_of(graph, given, module)
    except click.ClickException:
        raise
    except MusubitoError as error:
        raise CommandError(f"{target}: {error}. {REMEDY}") from error
    except Exception as error:
        # Whatever the graph makes of such an input.
        raise CommandError(f"{target}: {type(error).__qualname__}: {one_line(str(error))}") from error
    return made


def _print(console: Console, target: str, made: Plan) -> None:
    top = [line for line in made.lines if line.within is None]
    said = [
        f"{sum(line.outcome == outcome for line in top):,} {words}"
        for outcome, words in ((REPLAY, "would be replayed"), (RUN, "would run"), (UNKNOWN, "unknown"))
        if any(line.outcome == outcome for line in top)
    ]
    click.echo(f"{clean(target)}: {', '.join(said) or 'nothing would be called'}.")
    click.echo()
    rows = [_row(line, number, console.width) for line, number in _together(made.lines)]
    if rows:
        print_table(console, ("", "operation", "takes", "cost", "why"), rows, name=4, texts=(0, 1))
        click.echo()
    unknown = [line for line in top if line.outcome == UNKNOWN]
    # What an outer step took includes inner ones, which may be replayed. Where something is unknown, more may run.
    most = "at most " if not unknown and any(line.within for line in made.lines) else ""
    console.print(f"Estimate: {_estimated(made.estimate, [line for line in top if line.outcome == RUN], most)}.")
    if unknown:
        said_of = _estimated(made.perhaps, unknown, "")
        more = "" if said_of == UNKNOWN else " more"
        console.print(f"What is unknown, each once: {said_of}{more}. Branches may leave it out, loops repeat it.")
    for text in made.unknown:
        console.print(f"Not known: {one_line(text)}")
    note = unpriced_note(made.estimate + made.perhaps)
    if note:
        console.print(note)


def _row(line: PlanLine, number: int, width: int) -> tuple[str | Text, ...]:
    name = Name(
        clean(line.operation), before=Text("  " if line.within else ""), after=f" × {number}" if number > 1 else ""
    )
    # Of several, what all of them take: so the column adds up to the estimate.
    cost = None if line.estimate is None else sum([line.estimate] * number, Cost())
    return (
        WITHIN if line.within else MARKS[line.outcome],
        # Both this and the reason may be long.
        name.within(min(name.cell_len, max(20, width // 2 - 8))),
        "" if cost is None else duration(cost.milliseconds),
        "" if cost is None else worth(cost),
        clean(reason(line.reason)),
    )


def _together(lines: tuple[PlanLine, ...]) -> Iterator[tuple[PlanLine, int]]:
    """Equal calls in a row once, with their number."""
    for line, equal in groupby(lines, key=lambda each: replace(each, node_id=None)):
        yield line, len(list(equal))


def _estimated(cost: Cost, lines: list[PlanLine], most: str) -> str:
    """What these would take: unknown if none of them ever ran, at least this if some did not."""
    known = [line for line in lines if line.estimate is not None]
    if lines and not known:
        return UNKNOWN
    return f"{'at least ' if len(known) < len(lines) else most}{_sum(cost)}"


def _sum(cost: Cost) -> str:
    parts = worth(cost), duration(cost.milliseconds) if cost.milliseconds else ""
    return " and ".join(part for part in parts if part) or "nothing"
