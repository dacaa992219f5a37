"""Guard the page: who may ask, and what a browser may do with the answer.

The page shows prompts and answers, so no other page, user or machine may read it. A browser gets in with a secret that
the command prints. It is good for one use, and is exchanged for a cookie.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""What a page may load: what this server has, and nothing else. Neither scripts nor styles inside a page are run."""
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
OWN: Final = frozenset({"", "none", "same-origin"})
"""Values of `Sec-Fetch-Site` of requests that no other site has made."""
READING: Final = frozenset({"GET", "HEAD"})
ANOTHER: Final = (
    "This address was used already, or the page is from an earlier 'musubito ui'. Open the address that stands last in "
    "its terminal.\n"
)


class Guard:
    """ASGI middleware that answers only requests of the user's own browser.

    - `hosts`: the names under which the page may be asked for, with their port; any name, if there are none.
    - `announce`: is told each new secret.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], announce: Callable[[str], None]) -> None:
        self._app = app
        self._hosts = frozenset(name.lower() for name in hosts)
        self._announce = announce
        self._cookie = f"musubito-{secrets.token_hex(4)}"
        self._session = secrets.token_urlsafe(32)
        self._secret = ""
        self._renew()

    def _renew(self) -> None:
        self._secret = secrets.token_urlsafe(24)
        self._announce(self._secret)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self._refusal(scope) or self._admission(scope) or self._app
        await answer(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self._hosts and host not in self._hosts:
            # Another name may lead here, too: a page that has it would read this one (DNS rebinding).
            return PlainTextResponse("This page is not served under that name.\n", 400)
        origin = headers.get("origin")
        if headers.get("sec-fetch-site", "") not in OWN or (origin is not None and origin != f"http://{host}"):
            return PlainTextResponse("This page answers no other site.\n", 403)
        if scope["method"] not in READING:
            return PlainTextResponse("This page changes nothing.\n", 405, {"allow": ", ".join(sorted(READING))})
        return None

    def _admission(self, scope: Scope) -> Response | None:
        """Let a browser in that has the secret, and refuse one that has no cookie either."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("secret", [""])[-1]
        if scope["method"] == "GET" and secrets.compare_digest(given.encode(), self._secret.encode()):
            self._renew()
            response = RedirectResponse("/" + scope["path"].lstrip("/"), 303)
            response.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", path="/")
            return response
        # Other programs on this machine set cookies, too, of whatever form.
        shown = cookie_parser(Headers(scope=scope).get("cookie", "")).get(self._cookie, "")
        if not secrets.compare_digest(shown.encode(), self._session.encode()):
            return PlainTextResponse(ANOTHER, 403)
        return None
