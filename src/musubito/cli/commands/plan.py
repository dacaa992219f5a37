"""`musubito plan`: show what a call or a graph would replay and run, and the cost of running it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import groupby
from types import FunctionType, ModuleType
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from musubito import MusubitoError, use_musubito_engine
from musubito.cli.context import CommandContext, CommandError, as_json, json_option
from musubito.cli.program import (
    REMEDY,
    called_without_arguments,
    imported,
    json_option_value,
    made_by,
    makes_graph,
    named_in_module,
)
from musubito.cli.table_layout import Name, table_of
from musubito.lineage import Cost, Plan, PlanLine, plan
from musubito.lineage.readers.cost_format import cost_text, unpriced_note, worth
from musubito.lineage.readers.formatting import clean, duration, one_line
from musubito.lineage.readers.plan import REPLAY, RUN, UNKNOWN
from musubito.lineage.readers.prices import dollars
from musubito.lineage.readers.run_plan import Step, plan_of_run
from musubito.reasons import ReplayReason

MARKS = {REPLAY: "●", RUN: "○", UNKNOWN: "?"}
"""The mark of each outcome."""
WITHIN = "·"
"""The mark of a call that may be made inside another; it is not counted with the calls at the top."""
MAX_RUNS = 100
"""Newest runs among which the last run of a program is looked for."""
LONG_NAME = 30
"""Characters above which the name of a part is shortened."""


@click.command(
    "plan",
    short_help="What a call or a graph would replay, and what it would run.",
    epilog="""Example: musubito plan flows/report.py:graph --input '{"topic": "knots"}'""",
)
@click.argument("target")
@click.option("--input", "input_", metavar="JSON", help="What a graph is invoked with.")
@click.option("--config", metavar="JSON", help="The config of a graph, such as '{\"configurable\": {...}}'.")
@click.option("--context", "context_", metavar="JSON", help="The context of a graph.")
@click.option("--args", "arguments", metavar="JSON", help="What a step is called with: a list, or an object by name.")
@click.option("--call", "call_", metavar="JSON", help="The same for a function that returns a graph. Default: nothing.")
@json_option
@click.pass_obj
def command(
    context: CommandContext,
    target: str,
    input_: str | None,
    config: str | None,
    context_: str | None,
    arguments: str | None,
    call_: str | None,
    json_: bool,
) -> None:
    """Show what calling TARGET would replay and what it would run.

    Beside each call stand the time and the tokens that it took earlier.

    TARGET is path/to/file.py:name or module:name. A function that returns a graph is called, and its graph is planned.
    A graph is planned for a new thread, unless its config names one.

    TARGET may also be a program, such as pipeline.py: each call of its last run is planned with the code, the files and
    the environment of now. A call is unknown if its input holds what a call that would run gives.

    The module is imported, with all that it does then, except that no step runs. Nothing is recorded.

    ● would be replayed, ○ would run, ? depends on results that are not known yet, · may be called inside of the one
    above.
    """
    invocation = {"--input": input_, "--config": config, "--context": context_}
    with called_without_arguments(target), use_musubito_engine(context.engine):
        if target.endswith(".py"):
            result = _of_program(context, target, [input_, config, context_, arguments, call_])
            _say(context, target, result, json_=json_)
            return
        module, thing = named_in_module(context, target)
        if call_ is not None or makes_graph(thing):
            thing = made_by(context, target, thing, json_option_value("--call", call_ or "[]"))
        if hasattr(thing, "__musubito_call__"):
            result = _of_step(context, target, thing, invocation, json_option_value("--args", arguments or "[]"))
        else:
            result = _of_graph(target, thing, module.__name__, invocation, arguments)
    _say(context, target, result, json_=json_)


def _say(context: CommandContext, target: str, result: Plan, *, json_: bool) -> None:
    if json_:
        context.json({**as_json(result), "perhaps": result.perhaps, "dollars": dollars(result.estimate)})
    else:
        _print(context.console, target, result)


def _of_program(context: CommandContext, file: str, options: list[str | None]) -> Plan:
    """Return the plan of a program: of the calls of its last run."""
    if any(option is not None for option in options):
        raise click.UsageError(f"{file} is planned as a program; --input and --args are for a graph or a step in it")
    module, _ = imported(context, file)
    steps = dict(_steps_in(list(sys.modules.values())))
    for summary in context.lineage.runs(MAX_RUNS):
        report = context.lineage.run(summary.run_id)
        if any(call.operation in steps for call in report.calls):
            return plan_of_run(context.lineage, report, steps)
    graph = next((name for name, thing in vars(module).items() if _is_graph(thing) and hasattr(thing, "nodes")), None)
    if graph is not None:
        raise CommandError(f"{file} has a graph. Plan that: musubito plan {file}:{graph} --input JSON")
    raise CommandError(f"none of the newest {MAX_RUNS} runs called a step of {file}. Run it first. {REMEDY}")


def _steps_in(modules: list[ModuleType]) -> Iterator[tuple[str, Step]]:
    for module in modules:
        for thing in list(getattr(module, "__dict__", {}).values()):
            owned = [(member, thing) for member in vars(thing).values()] if type(thing) is type else []
            for step, owner in ((thing, None), *owned):
                function = step.__func__ if isinstance(step, classmethod | staticmethod) else step
                if isinstance(function, FunctionType) and "__musubito_recorded_call__" in vars(function):
                    made = vars(function)["__musubito_recorded_call__"]
                    yield vars(function)["__musubito_step__"].name, partial(made, owner=owner)


# -- the plan ----------------------------------------------------------------------------------------------------------


def _of_step(
    context: CommandContext, target: str, step: Any, invocation: dict[str, str | None], arguments: Any
) -> Plan:
    if any(text is not None for text in invocation.values()):
        raise click.UsageError(f"{target} is a step: give its arguments with --args")
    if not isinstance(arguments, list | dict):
        raise click.UsageError("--args is a list of arguments, or an object of arguments by name")
    try:
        return (
            plan(context.engine, step, **arguments)
            if isinstance(arguments, dict)
            else plan(context.engine, step, *arguments)
        )
    except TypeError as error:
        remedy = "" if arguments else "; say with --args what it is called with"
        raise CommandError(f"{one_line(str(error))}{remedy}") from error


def _is_graph(thing: Any) -> bool:
    return not isinstance(thing, type) and (hasattr(thing, "invoke") or hasattr(thing, "compile"))


def _of_graph(target: str, graph: Any, module: str, invocation: dict[str, str | None], arguments: str | None) -> Plan:
    if not _is_graph(graph):
        what = f"a plan is made for a graph or a step, not for a {type(graph).__qualname__}"
        raise CommandError(f"{target}: {what}. {REMEDY} A node is planned with its graph.")
    if arguments is not None or invocation["--input"] is None:
        wrong = "no step: --args is for functions with @musubito_step" if arguments is not None else "a graph"
        raise click.UsageError(f"{target} is {wrong}; say with --input what a graph is invoked with")
    if "langgraph" not in sys.modules:
        raise CommandError(f"{target} is no step, and no graph. {REMEDY}")
    value, config, context = (json_option_value(option, text) for option, text in invocation.items())
    if not isinstance(config, dict | None):
        raise click.UsageError('--config is an object, such as {"configurable": {"thread_id": "1"}}')
    try:
        # The core knows no framework: the adapter is imported only if the module uses LangGraph.
        result: Plan = import_module("musubito_langgraph.graph").plan_of(graph, module, value, config, context)
    except MusubitoError as error:
        raise CommandError(f"{target}: {error}. {REMEDY}") from error
    except Exception as error:
        # A graph may raise anything for an input that does not fit it.
        raise CommandError(f"{target}: {type(error).__qualname__}: {one_line(str(error))}") from error
    return result


def _print(console: Console, target: str, result: Plan) -> None:
    top = [line for line in result.lines if line.within is None]
    counts = [
        f"{sum(line.outcome == outcome for line in top):,} {words}"
        for outcome, words in ((REPLAY, "would be replayed"), (RUN, "would run"), (UNKNOWN, "unknown"))
        if any(line.outcome == outcome for line in top)
    ]
    click.echo(f"{clean(target)}: {', '.join(counts) or 'nothing would be called'}.")
    click.echo()
    rows = [_row(line, number, console.width) for line, number in _together(result.lines)]
    if rows:
        console.print(table_of(("", "step", "takes", "cost", "why"), rows, console.width, name=4, texts=(0, 1)))
        click.echo()
    unknown = [line for line in top if line.outcome == UNKNOWN]
    # The cost of an outer step includes inner ones, which may be replayed. Unknown calls may add to it.
    most = "at most " if not unknown and any(line.within for line in result.lines) else ""
    runs = [line for line in top if line.outcome == RUN]
    console.print(f"Estimate: {_estimated(result.estimate, runs, most)}." if runs else "Nothing to run, cost 0.")
    if unknown:
        additional = _estimated(result.perhaps, unknown, "")
        more = "" if additional == UNKNOWN else " more"
        console.print(f"What is unknown, each once: {additional}{more}. Branches may leave it out, loops repeat it.")
    for text in result.unknown:
        console.print(f"Not known: {one_line(text)}")
    note = unpriced_note(result.estimate + result.perhaps)
    if note:
        console.print(note)


def _row(line: PlanLine, number: int, width: int) -> tuple[str | Text, ...]:
    name = Name(
        clean(line.operation), before=Text("  " if line.within else ""), after=f" × {number}" if number > 1 else ""
    )
    # Equal calls are summed, so that the column adds up to the estimate.
    cost = None if line.estimate is None else sum([line.estimate] * number, Cost())
    return (
        WITHIN if line.within else MARKS[line.outcome],
        # The name and the reason may both be long, and have to share the line.
        name.within(min(name.cell_len, max(20, width // 2 - 8))),
        "" if cost is None else duration(cost.compute_ms),
        "" if cost is None else worth(cost),
        clean(_why(replace(line, parts=_short(line.parts), code=_short(line.code)))),
    )


def _why(line: PlanLine) -> str:
    """Return the reason of a line: in a word or two where it names a difference, else as a sentence."""
    if line.outcome == UNKNOWN or line.reason.forbids_replay:
        return line.says
    if line.reason is ReplayReason.LIVE:
        return "live: runs each time"
    return ": ".join(filter(None, (line.reason.word, ", ".join(line.parts))))


def _short(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of parts of code that fit a column: of a long one, the end."""
    return tuple(
        ".".join(part.replace("<locals>.", "").split(".")[-2:])
        if len(part) > LONG_NAME and "/" not in part and " " not in part
        else part
        for part in parts
    )


def _together(lines: tuple[PlanLine, ...]) -> Iterator[tuple[PlanLine, int]]:
    """Yield equal calls in a row as one, with their number."""
    for line, equal in groupby(lines, key=lambda call: replace(call, node_id=None)):
        yield line, len(list(equal))


def _estimated(cost: Cost, lines: list[PlanLine], most: str) -> str:
    """Return what these calls would take, in words.

    The estimate is unknown if none of them ever ran, and a lower bound if some never did.
    """
    estimated = [line for line in lines if line.estimate is not None]
    if lines and not estimated:
        return UNKNOWN
    return f"{'at least ' if len(estimated) < len(lines) else most}{_sum(cost)}"


def _sum(cost: Cost) -> str:
    return cost_text(cost) if cost.total_tokens or cost.compute_ms else "no cost"
