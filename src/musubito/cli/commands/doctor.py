"""`musubito doctor`: check whether the store is sound, and show how large it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import click
from rich.text import Text

from musubito.cli.context import Here, json_option, says_what_is_wrong
from musubito.cli.cost_format import worth
from musubito.cli.formatting import ago, clean, duration, short, size, times
from musubito.errors import StoreError
from musubito.lineage import Lineage, LineageError
from musubito.lineage.blobs import blobs
from musubito.lineage.never_replayed import Unreplayed, unreplayed
from musubito.lineage.store_stats import sizes
from musubito.lineage.unknown_effects import REMEDY, unknown_effects
from musubito.lineage.unrepeatable import unrepeatable_of_operations
from musubito.store.protocol import ServerCondition
from musubito.store.sqlite.storage import Condition

__all__ = ["command"]

DAY: Final = 86_400.0
"""Seconds of a day."""
SHOWN: Final = 5
"""Findings that are named at most. JSON names all."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. `which` names the findings, where there may be several."""

    name: str
    fine: bool
    says: str
    which: tuple[str, ...] = ()


@click.command("doctor", short_help="Whether the store is sound.", epilog="Example: musubito doctor")
@json_option
@click.pass_context
@says_what_is_wrong
def command(ctx: click.Context, json_: bool) -> None:
    """Tell whether the store is sound: schema, integrity, size, permissions, what was left behind.

    Whether all artifacts and inputs are what was stored is for 'musubito verify', which reads them all. Exit status 1
    if something is not as it should be.
    """
    here: Here = ctx.obj
    lineage = here.lineage
    storage = lineage.engine.storage
    condition: Condition | ServerCondition = storage.condition()  # type: ignore[attr-defined]
    checks = list(_file(condition) if isinstance(condition, Condition) else _server(condition))
    counts: dict[str, int] = {}
    never: list[Unreplayed] = []
    try:
        checks += _left_behind(lineage)
        checks += _blobs(lineage)
        checks += _unrepeatable(lineage)
        never += unreplayed(lineage)
        counts |= sizes(lineage)
    except (StoreError, LineageError) as fault:
        if all(check.fine for check in checks):
            raise
        checks.append(Check("contents", False, str(fault)))
    if json_:
        here.json({"checks": checks, "counts": counts, "never_replayed": never})
    else:
        for check in checks:
            mark = ("✓ ", "green") if check.fine else ("✗ ", "red")
            here.say(clean(check.says), after=Text.assemble(mark, (f"{check.name:<12}", "bold")))
            for each in check.which[:SHOWN]:
                here.say(clean(each), after="    ")
            if len(check.which) > SHOWN:
                here.say(f"and {len(check.which) - SHOWN:,} more", after="    ")
        if counts:
            held = ", ".join(times(number, kind[:-1]) for kind, number in counts.items())
            here.say(held, after=Text.assemble("  ", (f"{'contents':<12}", "bold")))
        _tell_of_never_replayed(here, never)
    if not all(check.fine for check in checks):
        ctx.exit(1)


def _tell_of_never_replayed(here: Here, never: list[Unreplayed]) -> None:
    if never:
        here.say(Text("\nnever replayed", style="bold"))
    for each in never[:SHOWN]:
        took = ", ".join(filter(None, (duration(each.cost.milliseconds), worth(each.cost))))
        here.say(f"{clean(each.operation)}: {times(each.executions, 'execution')}, {took}", after="  ")
        told = [part for part in each.parts if part not in each.says]
        more = f": {', '.join(told[:SHOWN])}" if told else ""
        here.say(clean(f"{each.says}{more}"), after="    ")
        if each.remedy:
            here.say(Text(clean(each.remedy), style="dim"), after="    ")
    if len(never) > SHOWN:
        here.say(f"and {len(never) - SHOWN:,} more; --json shows all", after="  ")


def _file(state: Condition) -> Iterator[Check]:
    yield Check("database", True, state.path)
    yield Check("schema", state.schema == state.newest_schema, f"version {state.schema} of {state.newest_schema}")
    problems = "; ".join(state.problems)
    remedy = "Move the file away to begin anew, or restore a copy."
    yield Check(
        "integrity",
        not problems,
        f"{problems}. {remedy}" if problems else "quick_check found nothing; 'musubito verify' looks at the contents",
    )
    free = f", {100 * state.free_pages // max(1, state.pages)} % of its pages are free" if state.free_pages else ""
    yield Check("size", True, f"{size(state.size)}, log {size(state.log_size)}{free}")
    private = not state.mode & 0o077
    remedy = "" if private else f": others can read what was recorded; chmod 600 {state.path}"
    yield Check("permissions", private, f"{state.mode:04o}{remedy}")


def _server(state: ServerCondition) -> Iterator[Check]:
    yield Check("database", True, state.where)
    yield Check("server", True, f"PostgreSQL {state.server}")
    yield Check("schema", state.schema == state.newest_schema, f"version {state.schema} of {state.newest_schema}")
    yield Check("size", True, size(state.size))
    some = ", ".join(state.not_allowed[:3]) + (", ..." if len(state.not_allowed) > 3 else "")
    remedy = "Let the owner GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA musubito to it."
    gap = f"this role may not read and write {some}. {remedy}"
    yield Check("rights", not state.not_allowed, gap if state.not_allowed else "all tables can be read and written")


def _left_behind(lineage: Lineage) -> Iterator[Check]:
    now = time.time()
    leases = [
        f"{operation} (pid {pid} on {host.partition(' ')[0]}, {ago(until, now)})"
        for operation, host, pid, until in lineage.rows("expired_leases", now=now)
    ]
    yield _none_of(
        "leases",
        leases,
        "ran out",
        "Their processes died, and whoever asks next takes them over; 'musubito prune' clears those of this host.",
    )
    runs = [
        f"{short(run.hex())} {name or ''} ({ago(at, now)})"
        for run, name, at in lineage.rows("runs_without_end", before=now - DAY)
    ]
    yield _none_of("runs", runs, "in progress for over a day", "If no process does them any more, it died.")
    effects = [
        f"{each.operation} {short(each.node_id) or f'effect {short(each.effect_key)}'} ({ago(each.began_at, now)})"
        for each in unknown_effects(lineage)
    ]
    yield _none_of(
        "effects",
        effects,
        "with unknown outcome",
        REMEDY,
    )


def _blobs(lineage: Lineage) -> Iterator[Check]:
    found, orphans, _ = blobs(lineage)
    if found:
        left = sum(file.size for file in orphans)
        more = f"; {len(orphans):,} of them ({size(left)}) left behind, prune removes them" if orphans else ""
        said = f"{times(len(found), 'large output')}, {size(sum(file.size for file in found))}{more}"
        yield Check("blobs", True, said)


def _unrepeatable(lineage: Lineage) -> Iterator[Check]:
    asked: dict[str, list[str]] = {}
    for each in unrepeatable_of_operations(lineage):
        asked.setdefault(f"{each.operation} ({each.step_type})", []).append(str(each.asked))
    if asked:
        remedy = (
            "A replay returns the answer of that moment, however old it is. If it may not be older than some time, say "
            "ttl_seconds=... in the step's StepConfiguration."
        )
        says = f"{times(len(asked), 'operation')} asked for what is another each time. {remedy}"
        which = tuple(f"{operation}: {'; '.join(things)}" for operation, things in asked.items())
        yield Check("repeatable", True, says, which)


def _none_of(name: str, found: list[str], how: str, remedy: str) -> Check:
    if not found:
        return Check(name, True, f"none {how}")
    return Check(name, False, f"{len(found):,} {how}. {remedy}", tuple(found))
