"""Refusals, before any code of the server runs: other sites, other hosts, strangers, and bodies that do not fit.

A page in another tab can send requests to a server on this machine. It cannot set a header of ours, its browser says where
it comes from, and a name that points here from outside is not one of the allowed hosts.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from contextlib import suppress
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY = 1 << 20  # bytes
LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "vng_token"
SAFE = ("GET", "HEAD")
POLICY = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; connect-src 'self'"
HEADERS = {
    "content-security-policy": f"{POLICY}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """Wraps an application.

    Args:
        app: the application.
        hosts: names under which it may be asked; () allows any, which needs a token.
        token: what a browser must bring, as `?token=` once and as a cookie then; "" needs none.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = LOOPBACK, token: str = "") -> None:
        self.app, self.hosts, self.token = app, frozenset(hosts), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, _Bounded(receive).receive, guarded)
        else:
            await refusal(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, name = headers.get("host", ""), ""
        with suppress(ValueError):
            name = urlsplit(f"//{host}").hostname or ""
        if self.hosts and name not in self.hosts:
            return PlainTextResponse("this server is not known by that name", 421)
        if (stranger := self._stranger(scope, headers)) is not None:
            return stranger
        site, navigates = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode") == "navigate"
        origin = headers.get("origin")
        if (origin is not None and origin.partition("//")[2] != host) or (
            site not in ("none", "same-origin") and not (navigates and scope["method"] in SAFE)
        ):
            return _error("requests from other sites are refused", 403)
        if scope["method"] in SAFE:
            return None
        if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return _error("send JSON: content-type application/json", 415)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 12 or int(length) > MOST_BODY:
            return _error(f"at most {MOST_BODY:,} bytes are taken", 413)
        return None

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a browser without the token; one that brings it by address gets a cookie."""
        if not self.token:
            return None
        cookies = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except Exception:  # a cookie of somebody else that is no cookie
            cookies = SimpleCookie()
        brought = (
            cookies[COOKIE].value if COOKIE in cookies else headers.get("authorization", "").removeprefix("Bearer ")
        )
        if _same(brought, self.token):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["method"] == "GET" and _same(query.get("token", [""])[0], self.token):
            response = RedirectResponse(scope["path"], 303)
            response.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
            return response
        return PlainTextResponse("open the address that `vng` printed, with its token", 401)


class _Bounded:
    """Stops a body that is longer than it said."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._seen = receive, 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > MOST_BODY:
            return {"type": "http.disconnect"}
        return message


def _same(first: str, second: str) -> bool:
    return hmac.compare_digest(first.encode(), second.encode())


def _error(text: str, status: int) -> JSONResponse:
    return JSONResponse({"error": text}, status)
