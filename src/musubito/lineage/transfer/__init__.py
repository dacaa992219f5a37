"""Move what is stored: copies of stores, cassettes, and exports for other programs."""

from __future__ import annotations
