"""Tags of runs. A run is in no namespace, so sealed tags name the namespace of their key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from musubito.errors import ArtifactUnreadable
from musubito.payloads.codec import Contents

TAGS: Final = b"tags"
"""The label of sealed tags."""


def sealed_tags(contents: Contents, tags: str) -> str:
    """Return the tags as they are stored."""
    sealed = contents.sealed_text(TAGS, tags)
    return tags if sealed is tags else f"{sealed}:{contents.namespace}"


def opened_tags(tags: str, contents_of: Callable[[str], Contents]) -> str | None:
    """Return the tags that were stored; None if they cannot be read here."""
    if tags[:1] in '{["':  # JSON
        return tags
    label, _, rest = tags.partition(":")
    body, _, namespace = rest.partition(":")
    try:
        return contents_of(namespace).opened_text(TAGS, f"{label}:{body}")
    except ArtifactUnreadable:
        return None


def resealed_tags(contents: Contents, tags: str) -> str | None:
    """Return sealed tags as the newest key seals them; None if they are so already, or are of another namespace."""
    label, _, rest = tags.partition(":")
    body, _, namespace = rest.partition(":")
    sealed = contents.resealed_text(TAGS, f"{label}:{body}") if namespace == contents.namespace else None
    return None if sealed is None else f"{sealed}:{namespace}"
