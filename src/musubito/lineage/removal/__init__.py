"""Remove what is stored: old results, single contents, whole namespaces, contents under an old key."""

from __future__ import annotations
