"""Format numbers, times and ids as texts that are short enough for a column."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from musubito.lineage.readers.run_reader import JUDGES, RERUN, RERUN_OF
from musubito.lineage.readers.store_reader import short_id
from musubito.lineage.reports import Cost, EditReport, RunSummary

short: Final = short_id
MARKS: Final = {"replayed": ("●", "green"), "ran": ("○", "yellow"), "failed": ("✗", "red")}
"""The mark and the colour of each outcome; all others have "·". The mark alone tells outcomes apart."""
DAY: Final = 86_400.0
"""Seconds of a day."""
WIDE: Final = 110
"""Columns of a terminal with room for whole dates and for all counts."""
NO_CALLS: Final = "no calls: the body of an @entrypoint is no step and runs each time; give what costs much a @task"
"""What is said of a run that has ended and has called no step."""
CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Matches characters that a terminal would obey."""


def mark(outcome: str) -> str:
    """Return the mark of an outcome, without its colour."""
    return MARKS.get(outcome, ("·", ""))[0]


def short_ids(identities: Collection[str]) -> str:
    """Return the first of some ids in its short form, and a mark if there are others."""
    different = list(dict.fromkeys(identities))
    return short(different[0]) + (" …" if len(different) > 1 else "")


def clean(text: str) -> str:
    """Return a text without escape sequences, which a recorded text may hold."""
    return CONTROLS.sub(lambda control: repr(control[0])[1:-1], text)


def not_shown(value: object) -> str | None:
    """Return the reason why contents are not shown, if one stands in their place."""
    match value:
        case {"$type": "...", "value": str(why)}:
            return f"({clean(why)})"
    return None


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return clean(" ".join(text.split()))


def count(number: int) -> str:
    """Return a number with its thousands apart."""
    return f"{number:,}"


def times(number: int, one: str, many: str = "") -> str:
    """Return a number of things: 1 run, 2 runs."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def counted(number: int, kind: str) -> str:
    """Return a number of stored things of a kind, such as "nodes", in the words of users: 2 step results."""
    return times(number, "step result" if kind == "nodes" else kind.removesuffix("s"))


def duration(milliseconds: float) -> str:
    """Return a time in the unit that suits it: 0.2 ms, 35 ms, 1.2 s, 3 min 05 s, 2 h 10 min."""
    if milliseconds < 9.95:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"


def size(bytes_: int) -> str:
    """Return a number of bytes: 512 B, 12 kB, 3.4 MB."""
    if bytes_ < 1000:
        return f"{bytes_} B"
    amount, unit = next(
        (bytes_ / 10**power, unit) for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")) if bytes_ >= 10**power
    )
    return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:,.0f} {unit}"


def edited_by(edit: EditReport) -> str:
    """Return the sentence that says who corrected a result, when, and why."""
    done = "the edit was undone" if edit.undone else "edited"
    reason = f": {one_line(edit.reason)}" if edit.reason else ""
    return f"{done} by {one_line(edit.person)} at {when(edit.at)}{reason}"


def without_input_text(number: int) -> str:
    """Return the sentence that `forget --where` does not see this number of executions."""
    return (
        f"forget --where cannot see {times(number, 'execution')} without a stored input: its step has "
        "record_inputs=False, or its process was killed, or has yet to write the input."
    )


def words_of_tags(tags: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return what the tags that reruns set say in words, and all other tags."""
    words, rest = [], dict(tags)
    match tags:
        case {"rerun": {"target": target, "runs": int(runs)}}:
            words.append(f"rerun of {times(runs, 'run')} of {one_line(str(target))}")
            del rest[RERUN]
        case {"rerun_of": [*runs], "sample": sample}:
            words.append(f"makes run {short(str(runs[0]))} once more" if runs else "made by a rerun, of an input")
            words += [f"sample {sample}"] if sample else []
            del rest[RERUN_OF], rest["sample"]
        case {"judges": str(run)}:
            words.append(f"judges run {short(run)}")
            del rest[JUDGES]
    return words, rest


def hits(run: RunSummary) -> str:
    """Return how many calls of a run were replayed, of all, and how many failed."""
    return f"{run.replayed:,} of {run.calls:,}" + (f", {run.failed:,} failed" if run.failed else "")


def tokens(cost: Cost) -> str:
    """Return the number of all tokens of a cost, or an empty text for none."""
    return token_count(cost.total_tokens)


def token_count(total: int) -> str:
    """Return a number of tokens, or an empty text for none."""
    if total < 10_000:
        return count(total) if total else ""
    return f"{total / 1000:,.1f}k" if total < 999_950 else f"{total / 1_000_000:,.1f}M"


def tokens_by_model(cost: Cost) -> str:
    """Return the tokens of each model: gpt-4o 1,200 in, 80 out; and so on."""
    return "; ".join(
        f"{model or 'unnamed model'} {used.input:,} in, {used.output:,} out"
        for model, used in sorted(cost.tokens.items())
    )


def when(time: float | None) -> str:
    """Return a moment in local time, or an empty text for None."""
    if time is None:
        return ""
    moment = _local(time)
    return _no_moment(time) if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")


def lately(time: float) -> str:
    """Return a moment of today by its hour, an older one by its day."""
    then, now = _local(time), datetime.now(UTC).astimezone()
    if then is None:
        return _no_moment(time)
    return then.strftime("%H:%M:%S" if then.date() == now.date() else "%Y-%m-%d")


def _local(time: float) -> datetime | None:
    """Return a moment in local time, or None if no calendar has it: a clock may have counted milliseconds."""
    try:
        return datetime.fromtimestamp(time, UTC).astimezone()
    except (OverflowError, ValueError, OSError):
        return None


def _no_moment(time: float) -> str:
    return f"{time:g} s"


def ago(time: float, now: float) -> str:
    """Return how long ago a moment was."""
    return f"{duration(max(0.0, now - time) * 1000)} ago"
