"""Choose the text that is stored with a part, for readers: secrets are left out."""

from __future__ import annotations

from typing import Any

from musubito.code.describers.object_settings import is_secret_field, url_text, without_secrets
from musubito.code.graph_record import ATOMS, fields_of
from musubito.code.portable_paths import portable
from musubito.values.redaction import is_secret

LONGEST_SHOWN = 1_000_000
"""Characters of a text above which it is not stored with a part."""
LONGEST_FIELD = 500
"""Characters of a field above which the field is not stored with a part."""
SECRET = ("secret", "password", "passwd", "api_key", "apikey", "token", "credential", "private_key")
"""Words in a name or a text that mark a secret."""


def storable(text: str | None) -> str | None:
    """Return the text with escapes for surrogates, so that it can be stored."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def prompt_text(value: Any) -> str | None:
    """Return the texts that an object holds for a model, in fields with such names; no other field is shown."""
    contents = fields_of(value) or {}
    texts = [
        each for name, each in contents.items() if type(each) is str and type(name) is str and _is_for_models(name)
    ]
    return "\n".join(text for text in texts if constant_text("", text)) or None


def fields_text(value: Any) -> str | None:
    """Return the short plain fields of an object, one a line, without empty ones and those that may hold a secret."""
    lines: list[str] = []
    for name, each in (fields_of(value) or {}).items():
        shown = each if type(each) in ATOMS else url_text(each)
        if type(name) is not str or shown is None or is_secret(name) or is_secret_field(name, shown):
            continue
        text = constant_text(name, shown)
        if text is not None and len(text) <= LONGEST_FIELD and without_secrets(shown) is shown:
            lines.append(f"{name} = {shown!r}")
    return "\n".join(sorted(lines)) or None


def _is_for_models(name: str) -> bool:
    return name in ("content", "template") or "prompt" in name or "instruction" in name


def constant_text(name: str, value: Any) -> str | None:
    """Return the text of a constant, or None if its name or its text looks like a secret.

    The default of a parameter has no text: the parameter's name, which might be that of a secret, is not known here.
    """
    if any(word in name.lower() for word in SECRET) or "(default " in name:
        return None
    counted = portable(value)
    try:
        shown = counted if isinstance(counted, str) else repr(value) if counted is value else counted[1]
    except ValueError:  # an integer of more digits than are converted
        return None
    if len(shown) > LONGEST_SHOWN or (not isinstance(value, str) and any(word in shown.lower() for word in SECRET)):
        return None
    return shown
