"""Draw runs as a table: their hits, and what each took and saved."""

from __future__ import annotations

from collections.abc import Sequence

from musubito.cli.table_layout import Fitted, table_of
from musubito.lineage import RunSummary
from musubito.lineage.readers.cost_format import worth
from musubito.lineage.readers.formatting import WIDE, duration, hits, lately, one_line, short, tokens, when


def runs_table(runs: Sequence[RunSummary], width: int) -> Fitted:
    """Return runs as a table. In a narrow one, what was saved is money, tokens or compute, whichever is known first."""
    wide = width >= WIDE
    used = any((run.spent + run.saved).total_tokens for run in runs)
    columns = {
        "run": [short(run.run_id) for run in runs],
        "name": [one_line(run.name or "") for run in runs],
        "started": [when(run.started_at) if wide else lately(run.started_at) for run in runs],
        "status": [run.status for run in runs],
        "hits": [hits(run) for run in runs],
        "wall": ["" if run.wall_ms is None else duration(run.wall_ms) for run in runs],
    }
    saved_compute = [duration(run.saved_compute_ms) if run.replayed else "" for run in runs]
    if wide:
        columns["compute"] = [duration(run.compute_ms) for run in runs]
        if used:
            columns |= {"tokens": [tokens(run.spent) for run in runs], "saved": [worth(run.saved) for run in runs]}
        columns["compute saved"] = saved_compute
        columns["wall saved"] = [f"~{duration(run.saved_wall_ms)}" if run.replayed else "" for run in runs]
    else:
        columns["saved"] = [worth(run.saved) or compute for run, compute in zip(runs, saved_compute, strict=True)]
    return table_of([*columns], [*zip(*columns.values(), strict=True)], width, name=1, texts=(0, 2, 3, 4))
