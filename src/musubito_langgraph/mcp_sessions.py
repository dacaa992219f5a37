"""Let a session with an MCP server count by the command that it was made of, and its files.

A session itself holds only streams. Its server has loaded its files when it started. So their content at that time
counts, and nothing is replayed once a file has changed: the session then speaks for code that is gone.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from musubito.adapter import BodyFiles, digests_since, note_command, register_policy, warn
from musubito.code.audit_hook import listen
from musubito.code.secret_fields import without_secrets
from musubito_langgraph import _compat


class _Server(NamedTuple):
    made_of: dict[str, Any]
    """Its command, with what belongs to it, without secrets."""
    files: BodyFiles
    """The files that its command named when it started."""


_SERVERS: Final[WeakKeyDictionary[Any, _Server]] = WeakKeyDictionary()
"""The server at the other end of each stream, where it is a process that was started here."""
_WARNED: Final[set[str]] = set()


def _process_starts(args: tuple[Any, ...]) -> None:
    started = _compat.server_that_starts()
    if started is not None:
        stream, parameters = started
        files = BodyFiles(None)
        note_command(files, args[1], args[2])
        _SERVERS[stream] = _Server(without_secrets(parameters), files)


def _server_of(session: Any) -> _Server | None:
    stream = _compat.stream_of(session)
    return None if stream is None else _SERVERS.get(stream)


def has_unknown_server(tool: Any) -> bool:
    """Tell whether a tool belongs to an MCP session whose server is not known, and warn of it once."""
    session = _compat.session_of(tool)
    if session is None or _server_of(session) is not None:
        return False
    if tool.name not in _WARNED:
        _WARNED.add(tool.name)
        warn(
            f"the tool {tool.name!r} runs each time, although replay_tools names it: the server of its MCP session is "
            "not known. Take client.get_tools(), or import musubito_langgraph before a local server is started."
        )
    return True


def watch_sessions() -> None:
    """Note the servers of sessions from now on, and let sessions count by them."""
    listen({"subprocess.Popen": _process_starts})
    # What the user's own functions answer to the server counts, too.
    register_policy(
        ("mcp.client.session", "ClientSession"),
        lambda session, _: {name for name in vars(session) if not name.endswith("_callback")},
        lambda session: (server := _server_of(session)) and [server.made_of, digests_since(server.files)],
        # It is older than its files.
        lambda session: (server := _server_of(session)) is not None and digests_since(server.files) is None,
    )
