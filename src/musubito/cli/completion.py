"""`musubito completion`: the script that makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["command"]


@click.command("completion", epilog='Example: eval "$(musubito completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """The script that makes SHELL complete commands and options.

    Put the example into ~/.bashrc or ~/.zshrc; for fish: musubito completion fish | source
    """
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"nothing is known of {shell}")
    click.echo(made(ctx.find_root().command, {}, "musubito", "_MUSUBITO_COMPLETE").source())
