"""`musubito ui`: show what was recorded as a page in the browser."""

from __future__ import annotations

import json

import click

from musubito.cli.context import CommandContext, CommandError, missing_package

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command(
    "ui", short_help="A page in the browser: runs, results, why, what was saved.", epilog="Example: musubito ui"
)
@click.argument("target", required=False)
@click.option("--input", "input_", metavar="JSON", help="What the graph of TARGET is invoked with.")
@click.option("--config", metavar="JSON", help="The config of that graph.")
@click.option("--context", "context_", metavar="JSON", help="The context of that graph.")
@click.option("--args", "arguments", metavar="JSON", help="What the step of TARGET is called with.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve at.")
@click.option(
    "--port", default=8778, show_default=True, type=click.IntRange(0, 65535), help="The port to serve at; 0 is any."
)
@click.option(
    "--open/--no-open", "opens", default=True, help="Open the page in the browser, or only print its address."
)
@click.pass_obj
def command(
    context: CommandContext,
    target: str | None,
    input_: str | None,
    config: str | None,
    context_: str | None,
    arguments: str | None,
    host: str,
    port: int,
    opens: bool,
) -> None:
    """Show what was recorded as a page in the browser, live while programs run. Ctrl-C ends it.

    The page changes nothing. It is served to this machine alone, and to a browser that opens the printed address, which
    is good for one use. TARGET, such as app.py:graph, adds its plan: what would run with the code as it is now.
    """
    try:
        from musubito.web.server import PortTaken, serve  # noqa: PLC0415 - needs packages of its own
        from musubito.web.watched_plan import WatchedPlan  # noqa: PLC0415 - likewise
    except ImportError as error:
        raise CommandError(f"the page needs {missing_package(error)}: pip install 'musubito[web]'") from error
    values = {"--input": input_, "--config": config, "--context": context_, "--args": arguments}
    given = [text for option, value in values.items() for text in _given(option, value)]
    if target is None and given:
        raise click.UsageError(f"{given[0]} belongs to a TARGET, such as app.py:graph")
    lineage, place = context.lineage, context.place_options()
    plan = None if target is None else WatchedPlan(target, given, place, context.place_variables())
    if host not in LOOPBACK:
        click.echo(f"Whoever can reach {host} and knows the address can read all that was recorded.", err=True)
    try:
        serve(lineage, host=host, port=port, opens=opens, tell=_tell, plan=plan, place=place)
    except PortTaken as error:
        raise CommandError(f"{host}:{port}: {error}. Choose another with --port; --port 0 takes any.") from error
    finally:
        if plan is not None:
            plan.close()


def _given(option: str, value: str | None) -> list[str]:
    if value is None:
        return []
    try:
        json.loads(value)
    except ValueError as error:
        raise click.UsageError(f"{option} is no JSON: {error}") from error
    return [option, value]


def _tell(address: str) -> None:
    click.echo(f"Open {address}")
