"""Define the group of all commands, the options that name the store, and the end of a command."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

import musubito
from musubito.deferred import deferred_module, difflib

if TYPE_CHECKING:
    from musubito.cli import context as shared
    from musubito.lineage.readers import formatting
else:  # Rich and the lineage, which `--version` and completion do not need
    shared, formatting = deferred_module("musubito.cli.context"), deferred_module("musubito.lineage.readers.formatting")

COMMANDS = (
    "run",
    "runs",
    "show",
    "why",
    "lineage",
    "impact",
    "plan",
    "rerun",
    "diff",
    "stats",
    "savings",
    "edit",
    "effects",
    "invalidate",
    "forget",
    "prune",
    "verify",
    "export",
    "import",
    "copy",
    "rekey",
    "doctor",
    "ui",
    "completion",
)
"""The commands, in the order in which help shows them.

Each is a module of this package with a `command`. The module of `import` is `import_`, since the word is a keyword.
"""


PLACES: Final = {
    "db": "The SQLite file. Default: .musubito/musubito.db.",
    "url": "The store, such as sqlite:///path (MUSUBITO_URL).",
    "blobs": "Location of large outputs, if not next to the database, such as s3://bucket/prefix (MUSUBITO_BLOBS).",
}
"""The options that name the store, with their help. They stand before the command or after it."""


class _Whole(click.types.StringParamType):
    """A text that is one value in the environment, too, where Click would split it at blanks."""

    envvar_list_splitter = "\0"


WHOLE: Final = _Whole()


class Commands(click.Group):
    """A group that imports a command when it is asked for, and prints errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command: click.Command = import_module(f"musubito.cli.commands.{module}").command
        inner = command.commands.values() if isinstance(command, click.Group) else ()
        for known in (command, *inner):
            if not any(param.name == "db" for param in known.params):
                known.params += [
                    click.Option(
                        [f"--{name}"],
                        metavar=metavar,
                        help=PLACES[name],
                        multiple=True,
                        expose_value=False,
                        callback=_set_places,
                    )
                    for name, metavar in (("db", "PATH"), ("url", "URL"), ("blobs", "URL"))
                ]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command as Click does; the error for an unknown name suggests a similar one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            similar = difflib.get_close_matches(args[0], COMMANDS, 1)
            if not similar:
                raise
            text = f"{error.message.rstrip('.')}; did you mean {similar[0]!r}?"
            raise click.UsageError(text, error.ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke a command as Click does; errors of Musubito become errors of Click.

        A reader that is gone (`| head`) is no error.
        """
        try:
            return super().invoke(ctx)
        except musubito.MusubitoError as error:
            raise shared.CommandError(str(error)) from error
        except BrokenPipeError:
            shared.reader_gone()

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command as Click does, but print errors as `musubito: text` and nothing else."""
        options = {**extra, "standalone_mode": False}
        if not extra.get("standalone_mode", True):
            return super().main(*args, **options)
        try:
            status = super().main(*args, **options)
        except click.ClickException as error:
            _print_error(error)
            sys.exit(error.exit_code)
        except OSError as error:  # such as a full disk
            _print_error(click.ClickException(f"cannot write: {error.strerror or error}"))
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(2)
        except click.Abort:  # Ctrl-C
            sys.exit(130)
        sys.exit(status if isinstance(status, int) else 0)


def _set_places(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> None:
    for value in values:
        ctx.ensure_object(shared.CommandContext).set_place(option.opts[0].removeprefix("--"), value)


def _print_error(error: click.ClickException) -> None:
    text = formatting.one_line(error.format_message())
    if isinstance(error, click.UsageError):
        path = "musubito" if error.ctx is None else error.ctx.command_path
        ended = text if text.endswith("?") else f"{text.rstrip('.')}."
        text = f"{ended} See '{path} --help'."
    click.echo(f"musubito: {text}", err=True)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: musubito --db work.db show last",
)
@click.option("--db", metavar="PATH", multiple=True, help=PLACES["db"])
@click.option("--url", envvar="MUSUBITO_URL", metavar="URL", multiple=True, type=WHOLE, help=PLACES["url"])
@click.option("--blobs", envvar="MUSUBITO_BLOBS", metavar="URL", multiple=True, type=WHOLE, help=PLACES["blobs"])
@click.option("--json", "json_", is_flag=True, help="Print JSON (for commands that support it).")
@click.option("--no-inputs", "no_inputs", is_flag=True, help="Hide inputs and outputs (for commands that support it).")
@click.version_option(musubito.__version__, prog_name="musubito")
@click.pass_context
def root(ctx: click.Context, /, **options: Any) -> None:
    """Show what your workflows ran, why, and what was saved.

    Ids may be shortened to their first digits. These options may also stand after the command. Exit status: 0 fine, 1
    there is a finding, 2 wrong usage or nothing could be answered.
    """
    flags = [name for name in ("json_", "no_inputs") if options[name]]
    sources = {name: ctx.get_parameter_source(name) for name in PLACES if options[name]}
    environment = {name: options[name][0] for name, source in sources.items() if source is ParameterSource.ENVIRONMENT}
    context = ctx.obj = ctx.with_resource(shared.CommandContext(environment, flags))
    for name, source in sources.items():
        for value in options[name] if source is not ParameterSource.ENVIRONMENT else ():
            context.set_place(name, value)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        return
    command = ctx.command.get_command(ctx, ctx.invoked_subcommand) if isinstance(ctx.command, Commands) else None
    for param in ctx.command.params:
        if command is not None and param.name in flags and param.name not in {own.name for own in command.params}:
            raise click.UsageError(f"{ctx.invoked_subcommand} takes no {param.opts[0]}")
