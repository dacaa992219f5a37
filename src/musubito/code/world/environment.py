"""Count the environment variables that code reads by a known name, with a digest of their value.

Every way to `os.environ` or `os.getenv`, under any name, is recognised by the object that it leads to. The value itself
is neither kept nor shown. A variable with the name of a secret does not count, so that a rotated key costs nothing. A
name that is computed cannot be followed: `explain` lists it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from hashlib import sha256
from types import FunctionType, MethodType
from typing import Any, Final

from musubito.code.client_settings import is_base_settings
from musubito.code.guard import Guard
from musubito.code.syntax.function_text import FunctionText
from musubito.code.syntax.name_usage import NameRead
from musubito.code.syntax.resolution import resolve
from musubito.code.syntax.same_code import codes

READERS: Final = frozenset({"get", "getenv", "getenvb", "__getitem__", "__contains__", "setdefault", "pop"})
"""Methods that look at one variable, and functions that do."""
WRITERS: Final = frozenset({"setdefault", "pop", "__setitem__", "__delitem__", "update"})
"""Methods that set variables."""
ONLY_WRITERS: Final = frozenset({"__setitem__", "__delitem__", "update"})
UNSEEN: Final = ("env_nested_delimiter", "secrets_dir", "cli_parse_args", "json_file", "toml_file", "yaml_file")
"""Options of settings that fill fields from elsewhere than variables of the fields' names.

An `env_file` is not among them: the step reads it as a file.
"""


def is_environment(value: Any) -> bool:
    """Return whether a value is the environment, or a method of it: both count by the names that are read with them."""
    if type(value) is MethodType:
        value = value.__self__
    return value is os.environ or value is getattr(os, "environb", os.environ)


def variables_read(function: FunctionType, text: FunctionText) -> tuple[set[str | None], set[str | None]]:
    """Return the variables that a function reads and those that it sets; None among them is a computed name."""
    read: set[str | None] = {None for default in _defaults_of(function) if _is_accessor(default)}
    written: set[str | None] = set()
    if text.source is None and any(_is_accessor(resolve(function, each).value) for each in text.scan.reads):
        # The instructions do not tell by which key the code looks: any of its texts may be one.
        constants = (const for code in codes(function.__code__) for const in code.co_consts)
        return {None, *(constant for constant in constants if isinstance(constant, str) and constant.isidentifier())}, {
            None
        }
    for lookup in text.scan.lookups:
        value, rest = resolve(function, lookup.read)
        if not _is_accessor(value):
            continue
        name = _text_of([resolve(function, part).value if isinstance(part, NameRead) else part for part in lookup.key])
        method = rest[0] if rest else getattr(value, "__name__", "")
        if method in WRITERS:
            written.add(name)
        if method not in ONLY_WRITERS:
            read.add(name if method in READERS else None)
    return read, written


def value_of(name: str) -> object:
    """Return the value of a variable as the environment keeps it, the same object until it is set again."""
    return raw_environment().get(_key(name))


def digest_of(name: str) -> bytes | None:
    """Return the digest of a variable's value; None if the variable is not set."""
    value = value_of(name)
    return None if value is None else sha256(_bytes(value)).digest()


def guard_variable(guard: Guard, name: str) -> None:
    """Require that a variable has the value that it has now."""
    raw, key = raw_environment(), _key(name)
    if key in raw:
        guard.item(raw, key, raw[key])
    else:
        guard.same(lambda: key in raw, False)


def settings_variables(cls: type, counts: Callable[[str], bool]) -> tuple[set[str], list[str]]:
    """Return the variables that fill the fields of a settings class, and the options that fill fields otherwise.

    A field of which `counts` is false is left out.
    """
    config, names = getattr(cls, "model_config", {}), set[str]()
    for field, info in getattr(cls, "__pydantic_fields__", {}).items():
        if not counts(field):
            continue
        # An alias stands in place of the prefix and the name.
        alias = getattr(info, "validation_alias", None) or getattr(info, "alias", None)
        choices = getattr(alias, "choices", [alias])
        aliases = [getattr(choice, "path", [choice])[0] for choice in choices if choice is not None]
        names.update(alias_text for alias_text in aliases if isinstance(alias_text, str))
        if not aliases or config.get("populate_by_name") or config.get("validate_by_name"):
            names.add(f"{config.get('env_prefix', '')}{field}")
    defining = next(base for base in cls.__mro__ if "settings_customise_sources" in vars(base))
    customised = not is_base_settings(defining)
    unseen = [option for option in UNSEEN if config.get(option)] + ["settings_customise_sources"] * customised
    if not config.get("case_sensitive"):
        wanted = {variable.lower() for variable in names}
        present = {variable for variable in os.environ if variable.lower() in wanted}
        names = {*wanted, *(variable.upper() for variable in wanted), *present}
    return names, unseen


def raw_environment() -> Any:
    """Return the mapping in which the environment keeps the same objects until they are set again."""
    return getattr(os.environ, "_data", os.environ)


def _key(name: str) -> Any:
    encoded = getattr(os.environ, "encodekey", None)
    return name if encoded is None else encoded(name)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def _defaults_of(function: FunctionType) -> tuple[Any, ...]:
    return *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()


def _text_of(parts: Iterable[object]) -> str | None:
    texts = [os.fsdecode(part) if isinstance(part, str | bytes) else None for part in parts]
    return None if None in texts else "".join(text for text in texts if text is not None)


def _is_accessor(value: Any) -> bool:
    return is_environment(value) or value is os.getenv or value is getattr(os, "getenvb", os.getenv)
