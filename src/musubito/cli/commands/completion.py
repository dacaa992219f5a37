"""`musubito completion`: the script that makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(
    "completion",
    short_help="The script that completes commands in a shell.",
    epilog='Example: eval "$(musubito completion bash)"',
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands and options in bash, zsh or fish.

    Put the example into ~/.bashrc or ~/.zshrc; for fish: musubito completion fish | source
    """
    shell_class = get_completion_class(shell)
    if shell_class is None:
        raise click.UsageError(f"{shell} is not supported")
    click.echo(shell_class(ctx.find_root().command, {}, "musubito", "_MUSUBITO_COMPLETE").source())
