"""`musubito run`: run a program as one run, and tell at its end what was replayed and what ran."""

from __future__ import annotations

import os
import runpy
import sys
import threading
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Final

import click
from rich.console import Group
from rich.text import Text

import musubito
from musubito import MusubitoEngine, MusubitoError
from musubito.cli.call_tree import calls_table, lines
from musubito.cli.commands.runs import to_tags
from musubito.cli.commands.show import head
from musubito.cli.context import CommandContext, CommandError, Screen, json_option, json_text, valid_settings
from musubito.engine.engine_in_use import recording_engine
from musubito.engine.mode_in_use import current_mode
from musubito.engine.modes import Mode
from musubito.lineage import Lineage
from musubito.lineage.readers.calls_of_run import without_routers
from musubito.lineage.readers.formatting import short, times
from musubito.lineage.readers.why import with_reasons

MAX_LINES: Final = 40
"""Lines of the calls that are shown at most."""
INTERRUPTED: Final = 130
"""The exit status of a program that Ctrl-C ended, as shells tell it."""


@click.command(
    "run",
    short_help="Run a program, and tell what was replayed and what ran.",
    context_settings={"allow_interspersed_args": False},
    epilog="Example: musubito run --mode replay_only --name nightly app.py --fast",
)
@click.option("-m", "is_module", is_flag=True, help="SCRIPT is the name of a module, as after 'python -m'.")
@click.option("--mode", type=click.Choice([mode.value for mode in Mode]), help="How calls are made.")
@click.option("--namespace", metavar="NAME", help="The namespace of steps without an engine of their own.")
@click.option("--name", metavar="NAME", help="The name of the run. Default: SCRIPT.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", callback=to_tags, help="A tag of the run.")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@json_option
@click.pass_obj
def command(
    context: CommandContext,
    is_module: bool,
    mode: str | None,
    namespace: str | None,
    name: str | None,
    tags: dict[str, str],
    script: str,
    arguments: tuple[str, ...],
    json_: bool,
) -> None:
    """Run SCRIPT as 'python SCRIPT' would, as one run, and tell at its end what was replayed and what ran.

    What stands after SCRIPT is the program's. So is the standard output: the summary goes to the standard error. The
    exit status is that of the program. Steps in other processes, in threads that inherit no context, and of engines
    that the program opens itself are in runs of their own.
    """
    if not is_module and not Path(script).exists():
        raise CommandError(f"there is no file {script}; 'musubito run -m MODULE' runs a module")
    settings = {"MUSUBITO_URL": context.url_of_options(), "MUSUBITO_MODE": mode, "MUSUBITO_NAMESPACE": namespace}
    # In the environment, the settings also hold in processes that the program starts.
    os.environ.update({key: value for key, value in settings.items() if value is not None})
    with valid_settings():
        current_mode()
        engine = recording_engine()
    status, run_id = 0, ""
    try:
        with musubito.run(name or script, tags=tags or None) as record:
            run_id = record.run_id
            # The program may end by `os._exit` before the thread has written anything.
            engine.flush()
            _call(script, arguments, is_module=is_module)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        status = INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    if current_mode() is Mode.OFF:
        click.echo("\nmusubito: the mode is off, so nothing was recorded.", err=True)
    else:
        _print_summary(engine, run_id, json_=json_)
    sys.exit(status)


# -- the program -------------------------------------------------------------------------------------------------------
def _call(script: str, arguments: tuple[str, ...], *, is_module: bool) -> None:
    """Run the program to the end of its threads, and print the error with which it ends, as Python would."""
    sys.argv = [script, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = str(Path.cwd() if is_module else Path(script).resolve().parent)
    try:
        if is_module:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        elif Path(script).suffix not in (".py", ".pyw"):
            runpy.run_path(script, run_name="__main__")
        else:
            _exec(str(Path(script).absolute()))
    except SystemExit as end:
        if end.code in (None, 0):
            return
        if not isinstance(end.code, int):
            click.echo(end.code, err=True)
        raise
    except BaseException as error:
        trace = _of_the_program(error.__traceback__)
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        raise
    finally:
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()


def _exec(path: str) -> None:
    """Run the script as the main module, which it stays: threads and exit handlers may ask for it later."""
    main = ModuleType("__main__")
    main.__file__, main.__loader__ = path, SourceFileLoader("__main__", path)
    sys.modules["__main__"] = main
    exec(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True), vars(main))  # noqa: S102 - the user asks


def _of_the_program(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames that led to the program."""
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, runpy.run_path.__code__.co_filename):
        trace = trace.tb_next
    return trace


# -- the summary -------------------------------------------------------------------------------------------------------
def _print_summary(engine: MusubitoEngine, run_id: str, *, json_: bool) -> None:
    console = Screen(stderr=True, highlight=False, markup=False, emoji=False)
    try:
        lineage = Lineage(engine)
        report = with_reasons(lineage, lineage.run(run_id))
    except (MusubitoError, TypeError) as error:
        console.print(f"\nmusubito: nothing was recorded: {error}", soft_wrap=True)
        return
    if json_:
        click.echo(json_text(report), err=True)
        return
    calls = without_routers(report.calls)
    tree = lines(calls)
    console.print(Text(""), Group(head(report, contents=True), calls_table(tree[:MAX_LINES], console.width)))
    if not report.calls:
        console.print("No step was called in this run. 'musubito runs' lists all runs.", soft_wrap=True)
    elif len(tree) > MAX_LINES or len(calls) < len(report.calls):
        hidden = times(len(report.calls) - sum(len(line.calls) for line in tree[:MAX_LINES]), "more call")
        console.print(f"{hidden}: musubito show --all {short(report.summary.run_id)}", soft_wrap=True)
