"""Choose the text that is stored with a part, for readers: secrets are left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from musubito.code.describers.object_policies import policy_of
from musubito.code.describers.object_settings import (
    is_field_of_model,
    is_secret_field,
    meaningless_fields,
    without_secrets,
)
from musubito.code.describers.sql_statements import is_statement, statement_parts
from musubito.code.graph_record import ATOMS, fields_of
from musubito.code.portable_paths import portable
from musubito.code.state.access_reader import slots_of
from musubito.deferred import deferred_pattern
from musubito.values.redaction import is_secret

LONGEST_SHOWN = 1_000_000
"""Characters of a text above which it is not stored with a part."""
LONGEST_FIELD = 500
"""Characters of a field above which the field is not stored with a part."""
_KEY: Final = deferred_pattern(
    r"(?:^|_)(?:key|pin|pw|otp|seed|phrase|oauth|session|code|signature|license)\d*$", re.IGNORECASE
)
"""Matches the names of fields whose texts may be keys, though the names tell other things, too."""
SETTINGS: Final = frozenset(
    [
        *("model", "model_name", "model_id", "model_version", "deployment", "deployment_name", "azure_deployment"),
        *("api_version", "reasoning_effort", "verbosity", "service_tier", "output_version", "truncation", "mode"),
        *("method", "name", "description", "title", "search_type", "strategy"),
    ]
)
"""Texts that are shown of a package's object: what a model is asked for by, and how it answers."""
SECRET = ("secret", "password", "passwd", "api_key", "apikey", "token", "credential", "private_key")
"""Words in a name or a text that mark a secret."""


def storable(text: str | None) -> str | None:
    """Return the text with escapes for surrogates, so that it can be stored."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode()


def object_text(value: Any, *, of_user: bool) -> str | None:
    """Return what is shown of an object or a class: the docstring, the texts for a model, or the plain fields.

    Of a package's object that an adapter knows, such as a model, only numbers are shown, and texts of a few names: any
    other text may be a key, whatever its name. Of other objects of packages no field is shown.
    """
    if isinstance(value, type):
        doc = vars(value).get("__doc__")
        # A dataclass without a docstring gets its signature as one.
        return doc if isinstance(doc, str) and not doc.startswith(f"{value.__name__}(") else None
    if is_statement(value):
        return _statement(value)
    contents = {**(fields_of(value) or {}), **dict(slots_of(value))}
    fields = {name: each for name, each in contents.items() if type(name) is str}
    is_shown = of_user or policy_of(value) is not None or is_field_of_model(value)
    if not is_shown and _prompts(fields) is None:
        return None  # most objects: the rest costs more
    left_out = meaningless_fields(value)
    fields = {name: each for name, each in fields.items() if name not in left_out}
    prompts = _prompts(fields)
    if prompts is not None or not is_shown:
        return prompts
    if not of_user:
        fields = {name: each for name, each in fields.items() if type(each) is not str or name in SETTINGS}
    return _fields(fields)


def _statement(value: Any) -> str | None:
    """Return the text of a statement of SQLAlchemy, and its plain parameters, one a line."""
    said = [(label, each) for label, each in statement_parts(value) or () if type(each) in ATOMS]
    lines = [
        text if label == "text" else f"{label} = {text}"
        for label, each in said
        if (text := constant_text(label, each)) is not None
    ]
    return "\n".join(lines) or None


def _prompts(fields: Mapping[str, Any]) -> str | None:
    """Return the texts that an object holds for a model, in fields with such names; no other field is shown."""
    texts = [each for name, each in fields.items() if type(each) is str and _is_for_models(name)]
    return "\n".join(text for text in texts if constant_text("", text)) or None


def _fields(fields: Mapping[str, Any]) -> str | None:
    """Return the short plain fields of an object, one a line, without empty ones and those that may hold a secret."""
    lines: list[str] = []
    for name, each in fields.items():
        is_plain = type(each) in ATOMS and each is not None
        if not is_plain or is_secret(name) or is_secret_field(name, each) or _may_be_key(name, each):
            continue
        text = constant_text(name, each)
        if text is not None and len(text) <= LONGEST_FIELD and without_secrets(each) is each:
            lines.append(f"{name} = {each!r}")
    return "\n".join(sorted(lines)) or None


def _may_be_key(name: str, value: Any) -> bool:
    return type(value) in (str, bytes) and _KEY.search(name) is not None


def _is_for_models(name: str) -> bool:
    return name in ("content", "template") or "prompt" in name or "instruction" in name


def constant_text(name: str, value: Any) -> str | None:
    """Return the text of a constant, or None if its name or its text looks like a secret.

    The default of a parameter has no text: the parameter's name, which might be that of a secret, is not known here.
    """
    is_number = type(value) in (int, float, bool)
    called = any(word in name.lower() for word in SECRET)
    if "(default " in name or is_secret(name.rpartition(".")[2]) or (called and not is_number):
        return None
    counted = portable(value)
    try:
        shown = counted if isinstance(counted, str) else repr(value) if counted is value else counted[1]
    except ValueError:  # an integer of more digits than are converted
        return None
    # Words of a list name nothing, as a key of a dict does.
    names = not isinstance(value, str) and not (
        type(value) in (list, tuple) and all(type(each) is str for each in value)
    )
    if len(shown) > LONGEST_SHOWN or (names and any(word in shown.lower() for word in SECRET)):
        return None
    return shown
