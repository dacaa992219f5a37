"""Leave out settings of packages' clients and models that say how something is asked, and not what.

- How often and how long it is tried (`timeout`, `max_retries`) shows only if the attempts fail. So these settings count
  where the reached code may show a failure: with a fallback, a retry or an `except`.
- The way to the service (`proxy`, `port`, `http_client`) and headers that number a request never count.
- An address counts without its scheme, its port and the version at its end; all addresses of this machine are one.

The same holds for the fields of pydantic-settings, and for the variables that fill them: they differ between machines.
What the user names in `ignore_settings` is left out as well. Where a call makes an object of a package, such settings
do not count in the lines that made the object either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from musubito.code.live import ABSENT, ATOMS
from musubito.code.made import Lines
from musubito.code.ownership import Owner
from musubito.code.syntax.client_keywords import pruned
from musubito.code.syntax.name_usage import FAILURES_SHOWN
from musubito.code.syntax.statements import Made

if TYPE_CHECKING:
    from musubito.code.policies import Reach
    from musubito.code.walk import Walk

ATTEMPTS: Final = re.compile(r"(?:^|_)(?:timeouts?|retries|retry_delay)(?:_m?s|_sec(?:ond)?s)?$")
"""Names of settings that say how often or how long something is tried."""
WAY: Final = re.compile(
    r"(?:^|_)(?:http_client|http_async_client|http_socket_options|proxy|proxies|max_connections|pool_maxsize"
    r"|max_keepalive_connections|max_pool_connections|keepalive_expiry|port)$"
)
"""Names of settings that say by which connection a service is reached."""
ADDRESS: Final = re.compile(r"(?:^|_)(?:base_url|api_base|api_url|endpoint)$")
"""Names of settings that say where a service is."""
HEADERS: Final = re.compile(r"(?:^|_)headers$")
NUMBER: Final = re.compile(
    r"(?:x-)?(?:client-)?(?:request|trace|correlation|span)-?id|traceparent|tracestate", re.IGNORECASE
)
"""Headers that number a request for those who watch."""
LOOPBACK: Final = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1|0\.0\.0\.0")
VERSION: Final = re.compile(r"/v\d+\w*/?$|/$")


def counts(walk: Reach, *names: str) -> bool:
    """Return whether a setting of a package's object counts, which has one of these names or all."""
    if not walk.ignored.isdisjoint(names) or any(map(WAY.search, names)):
        return False
    return not any(map(ATTEMPTS.search, names)) or bool(walk.mentions(FAILURES_SHOWN))


def counted(name: str, value: Any) -> Any:
    """Return what counts of the value of a setting: of an address less, of headers those that number nothing."""
    if type(value) is str and ADDRESS.search(name) and "://" in value:
        with suppress(ValueError):
            url = urlsplit(value)
            host = "this machine" if LOOPBACK.fullmatch(url.hostname or "") else url.hostname
            return f"{host}{VERSION.sub('', url.path)}?{url.query}"
    if isinstance(value, Mapping) and HEADERS.search(name):
        return {key: each for key, each in value.items() if not NUMBER.fullmatch(str(key))} or None
    return value


def lines_that_count(walk: Walk, lines: Lines) -> Lines:
    """Return the lines that made an object of a package without the settings that do not count."""
    look = Look(walk, lines.names)
    made = [
        Made(node, statement.around) for statement in lines.made if (node := pruned(statement.node, look)) is not None
    ]
    return lines._replace(made=tuple(made))


def is_settings(cls: type) -> bool:
    """Return whether a class is derived from `pydantic_settings.BaseSettings`."""
    return any(map(is_base_settings, cls.__mro__[1:]))


def is_base_settings(cls: type) -> bool:
    """Return whether a class is `pydantic_settings.BaseSettings` itself."""
    return cls.__name__ == "BaseSettings" and cls.__module__.partition(".")[0] == "pydantic_settings"


class Look:
    """Tells what the settings in lines are, and what the names in these lines lead to."""

    def __init__(self, walk: Walk, names: dict[str, Any]) -> None:
        self._walk = walk
        self._names = names

    def is_setting(self, name: str) -> bool:
        """Return whether a setting of this name may count less than others."""
        return name in self._walk.ignored or any(known.search(name) for known in (ATTEMPTS, WAY, ADDRESS, HEADERS))

    def counts(self, name: str) -> bool:
        """Return whether a setting of this name counts, whatever its value is."""
        return counts(self._walk, name)

    def is_way(self, name: str) -> bool:
        """Return whether a setting does not count only if nothing in its value is the user's.

        What the user wrote may answer in place of the service, or change what is asked.
        """
        return WAY.search(name) is not None and name not in self._walk.ignored

    def counted(self, setting: str, value: Any) -> Any:
        """Return what counts of the value of a setting."""
        return counted(setting, value)

    def address_in(self, setting: str, variable: str) -> str | None:
        """Return what counts of an address that is kept in a global; None for anything else."""
        value = self._names.get(variable)
        if type(value) is not str or not ADDRESS.search(setting):
            return None
        self._walk.guard.item(self._names, variable, value)
        return str(counted(setting, value))

    def is_of_package(self, name: str, attributes: tuple[str, ...]) -> bool:
        """Return whether a name leads to a class of a package."""
        cls = self._named(name, attributes)
        return isinstance(cls, type) and self._walk.origins.of_class(cls) is Owner.OTHER

    def may_be_the_users(self, name: str, attributes: tuple[str, ...]) -> bool:
        """Return whether a name may lead to what the user wrote."""
        value = self._named(name, attributes)
        if isinstance(value, type):
            return self._walk.origins.of_class(value) is Owner.USER
        return type(value) not in ATOMS and not isinstance(value, ModuleType)

    def _named(self, name: str, attributes: tuple[str, ...]) -> Any:
        value = self._names.get(name, ABSENT)
        for attribute in attributes:
            if not isinstance(value, ModuleType):
                break
            value = vars(value).get(attribute, ABSENT)
        return value
