"""Read what was recorded: runs, calls, reasons, costs, files, and plans of what would run."""

from __future__ import annotations
