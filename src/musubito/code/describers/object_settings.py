"""Tell which fields of other packages' objects are settings, which are secrets, and which say nothing of the answer.

A secret is recognised by its name (`api_key`, the header `Authorization`) or by its looks (`Bearer ...`, the password
in a URL). It never counts: a rotated key asks the same question of the same service.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from musubito.code.graph_record import fields_of
from musubito.code.ownership import module_name
from musubito.code.state.access_reader import slots_of
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
"""Matches the key of a service.

The identities of calls depend on it, so it never changes. Readers see more keys hidden (`values.redaction`).
"""
_SCHEME: Final = deferred_pattern(r"(?:basic|bearer|token|digest|apikey) \S+", re.IGNORECASE)
"""Matches credentials after a scheme of authorization."""
_CREDENTIALS: Final = deferred_pattern(r"(?<=://)[^\s/@?#]{1,500}@")
"""Matches the credentials in a URL."""
_CLASS: Final = deferred_pattern(r"\\.|\[((?:\\\W|[^\\\]\[^-])+)\]", re.DOTALL)
"""Matches an escaped character, or a class of single characters in a pattern."""
_CHARACTER: Final = deferred_pattern(r"\\?.", re.DOTALL)
"""Matches one character of such a class."""
_AGENT: Final = "user-agent"
"""The header, or field, in which a library states its own version."""
FIXED_URLS: Final = frozenset({"httpx", "httpx2", "yarl", "pydantic", "pydantic_core", "starlette"})
"""Packages whose URL objects never change."""
LEAST_ADDRESS: Final = 1 << 16
"""The least number that may be an address: smaller ones are none, and equal a hash only by chance."""
DEPTH: Final = 20
"""Levels of nested containers that are entered."""
STATED: Final = frozenset({"_attributes_set", "_original_assignment", "_original_annotation", "_complete", "_final"})
"""Fields in which a field of a pydantic model keeps how it was stated."""
CONTAINERS: Final = (dict, list, tuple)
"""Types of containers in which secrets are looked for."""


@lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)][-2:]
    if words[-1:] == ["token"] and words[0] in _MARKS:
        return False
    text = " ".join(words)
    return any(match.end() in (len(text), len(text) - 1) for match in SECRETS.finditer(text))


def is_secret_field(name: object, value: object) -> bool:
    """Return whether a field of this name is a secret, or states the version of the library itself."""
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if value is None or isinstance(value, bool | int | float) or type(name) is not str:
        return False
    return name.lower().replace("_", "-") == _AGENT or _is_secret_name(name)


def without_secrets(value: Any, depth: int = 0) -> Any:
    """Return the value without the secrets in it, or `value` itself if there are none; objects are not entered.

    Patterns get the characters of each class in one order: packages join a set of characters, which has none.
    """
    kind = type(value)
    if kind is str:
        return _cleaned(value)
    if kind is re.Pattern and type(value.pattern) is str:
        text = _CLASS.sub(_in_one_order, value.pattern)
        return value if text == value.pattern else re.compile(text, value.flags)
    if (kind not in CONTAINERS and not isinstance(value, dict)) or depth > DEPTH:
        return value
    if isinstance(value, dict):
        # requests keeps a pair for each header: the name as it was written, and the value.
        pairs = {
            key: HIDDEN if is_secret_field(key, each) else without_secrets(each, depth + 1)
            for key, each in value.items()
        }
        return value if all(pairs[key] is each for key, each in value.items()) else pairs
    items = [without_secrets(item, depth + 1) for item in value]
    if kind is tuple and len(items) > 1 and isinstance(items[0], str | bytes) and is_secret_field(items[0], items[-1]):
        items[1:] = [HIDDEN]
    same = len(items) == len(value) and all(map(lambda a, b: a is b, items, value))
    return value if same else kind(items)


def _cleaned(text: str) -> str:
    if _KEY.fullmatch(text) or _SCHEME.fullmatch(text):
        return HIDDEN
    return _CREDENTIALS.sub("", text) if "://" in text and "@" in text and " " not in text else text


def _in_one_order(match: re.Match[str]) -> str:
    return match[0] if match[1] is None else f"[{''.join(sorted(_CHARACTER.findall(match[1])))}]"


def url_text(value: Any) -> str | None:
    """Return the text of an object of a package that is a URL, without the credentials in it, or None."""
    if not type(value).__name__.endswith(("URL", "Url")):
        return None
    try:
        text = str(value)
    except Exception:
        return None
    return None if text.startswith("<") else _CREDENTIALS.sub("", text)


def is_setting(cls: type, name: object) -> bool:
    """Return whether a field of an object was set up when the object was made.

    Public fields were, and so were fields with the name of a parameter of the constructor. The object came to hold its
    other fields later.
    """
    return type(name) is str and (not name.startswith("_") or name.lstrip("_") in _parameters(cls))


@lru_cache(maxsize=1024)
def _parameters(cls: type) -> frozenset[str]:
    names: set[str] = set()
    for base in cls.__mro__:
        constructor = vars(base).get("__init__")
        code = getattr(inspect.unwrap(constructor) if callable(constructor) else None, "__code__", None)
        if code is not None:
            rest = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
            names.update(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + rest])
    return frozenset(names)


def is_type_adapter(value: object) -> bool:
    """Return whether a value is pydantic's `TypeAdapter`."""
    library = sys.modules.get("pydantic.type_adapter")
    return library is not None and isinstance(value, library.TypeAdapter)


def type_adapter_parts(value: Any) -> list[tuple[str, Any]]:
    """Return the type and the configuration of a `TypeAdapter`; its own schema names classes by their addresses."""
    fields = fields_of(value) or {}
    return [("type", fields.get("_type")), ("configuration", fields.get("_config"))]


def is_field_of_model(value: object) -> bool:
    """Return whether a value is a field of a pydantic model."""
    return type(value).__module__ == "pydantic.fields" and type(value).__name__ == "FieldInfo"


def _is_progress(value: object) -> bool:
    return isinstance(value, Enum) and type(value).__name__.endswith(("State", "Status"))


def meaningless_fields(value: Any) -> frozenset[str]:
    """Return the names of the fields of an object that do not determine its answers.

    - The progress of the object, such as the `_state` of an httpx client.
    - The version of its library.
    - Numbers of this process alone: its process id, the address of an object, and a hash.
    - What a field of a pydantic model keeps of how it was stated: its other fields say the same.
    """
    if is_field_of_model(value):
        return STATED
    cls: type = type(value)
    package = sys.modules.get(module_name(cls).partition(".")[0])
    version, parameters = getattr(package, "__version__", None), _parameters(cls)
    contents = {**(fields_of(value) or {}), **dict(slots_of(value))}
    result = {"pid"} if contents.get("pid") == os.getpid() else set()
    for name, each in contents.items():
        if type(name) is not str or not name.startswith("_") or name.lstrip("_") in parameters:
            continue
        if _is_of_process(value, contents, name) or _is_progress(each) or (type(each) is str and each == version):
            result.add(name)
    return frozenset(result)


def is_hash_of_its_name(number: int) -> bool:
    """Return whether a number of a derived class is the hash of a text that it holds, as SQLAlchemy's symbols are."""
    texts = (value for value in (fields_of(number) or {}).values() if type(value) is str)
    return abs(number) >= LEAST_ADDRESS and any(hash(text) == int(number) for text in texts)


def _is_of_process(value: Any, contents: Mapping[Any, Any], name: str) -> bool:
    """Return whether a field holds a number that only this process gives.

    The number is the address of the object or of a thing that the object holds. Or the field is called a hash, and the
    number is the hash of the object.
    """
    number = contents[name]
    if type(number) is not int or abs(number) < LEAST_ADDRESS:
        return False
    if number in {id(value), *map(id, contents.values())}:
        return True
    try:
        return "hash" in name and number == hash(value)
    except Exception:  # the `__hash__` of a package may raise anything: then the number is no hash
        return False
