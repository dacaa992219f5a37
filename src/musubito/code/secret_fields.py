"""Leave out secrets of what code holds, the version in which a library names itself, and the number of its process.

A secret is recognised by its name (`api_key`, the header `Authorization`) or by its looks (`Bearer ...`, the password
in a URL). It never counts: a rotated key asks the same question of the same service.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from musubito.deferred import deferred_pattern
from musubito.values.redaction import HIDDEN, SECRETS

_WORDS: Final = deferred_pattern(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
"""Matches a word within a name."""
_MARKS: Final = frozenset(
    ["pad", "eos", "bos", "unk", "sep", "cls", "mask", "stop", "start", "end", "special", "prefix", "suffix"]
)
"""The words before `token` in the names of a tokenizer's marks."""
_KEY: Final = deferred_pattern(
    r"(?:sk|pk|rk|gh[opsur]|github_pat|glpat|xox[abeprs]|hf|lsv2|gsk|xai|pplx|nvapi|tvly)[-_][A-Za-z0-9_-]{16,}"
    r"|(?:AKIA|ASIA|AIza|GOCSPX-|npm_)[A-Za-z0-9_-]{16,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}"
    r"|eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"
    r"|Bearer [\w.~+/=-]{12,}"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]{0,20000}-----END [A-Z ]{0,30}-----|[^-]{0,20000})"
)
"""Matches the key of a service. The identities of calls depend on it; readers see more keys hidden."""
_SCHEME: Final = deferred_pattern(r"(?:basic|bearer|token|digest|apikey) \S+", re.IGNORECASE)
"""Matches credentials after a scheme of authorization."""
_CREDENTIALS: Final = deferred_pattern(r"(?<=://)[^\s/@?#]{1,500}@")
"""Matches the credentials in a URL."""
_AGENT: Final = "user-agent"
"""The header, or field, in which a library states its own version."""
_PROCESS: Final = "pid"
"""The field in which a pool of connections keeps the number of its process."""
MAX_DEPTH: Final = 20
"""Levels of nested containers that are entered."""


@lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)][-2:]
    if words[-1:] == ["token"] and words[0] in _MARKS:
        return False
    text = " ".join(words)
    return any(match.end() in (len(text), len(text) - 1) for match in SECRETS.finditer(text))


def is_secret_field(name: object, value: object) -> bool:
    """Return whether a field of this name is a secret, or states the version of the library or its process."""
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if name == _PROCESS:
        return True
    if value is None or isinstance(value, bool | int | float) or type(name) is not str:
        return False
    return name.lower().replace("_", "-") == _AGENT or _is_secret_name(name)


def without_secrets(value: Any, depth: int = 0) -> Any:
    """Return the value without the secrets in it, or `value` itself if there are none; objects are not entered."""
    kind = type(value)
    if kind is str:
        return _cleaned(value)
    if depth > MAX_DEPTH or not (kind in (list, tuple) or isinstance(value, dict)):
        return value
    if isinstance(value, dict):
        pairs = {
            key: HIDDEN if is_secret_field(key, each) else without_secrets(each, depth + 1)
            for key, each in value.items()
        }
        return value if all(pairs[key] is each for key, each in value.items()) else pairs
    items = [without_secrets(item, depth + 1) for item in value]
    if kind is tuple and len(items) > 1 and isinstance(items[0], str | bytes) and is_secret_field(items[0], items[-1]):
        items[1:] = [HIDDEN]
    return value if all(map(lambda a, b: a is b, items, value)) else kind(items)


def _cleaned(text: str) -> str:
    if _KEY.fullmatch(text) or _SCHEME.fullmatch(text):
        return HIDDEN
    return _CREDENTIALS.sub("", text) if "://" in text and "@" in text and " " not in text else text
