"""Who may ask: this page alone, on this machine unless a token says more; and what an answer may do in a browser."""

import hmac
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "foveate_token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware.

    Args:
        hosts: names by which the page may be asked for, against pages that rebind their name to this machine; empty:
            any, where there is a token.
        token: that the first request must bring as ?token=…; it is then kept in a cookie. "": none is needed.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], token: str = "") -> None:
        self.app, self.hosts, self.token = app, frozenset(hosts), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            status, text = refusal
            await PlainTextResponse(f"{text}\n", status, headers=HEADERS)(scope, receive, send)
            return
        brought = QueryParams(scope["query_string"]).get("token", "")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                set_ = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    set_[name] = value
                set_.setdefault("Content-Security-Policy", POLICY)
                if self.token and brought:
                    set_.append("Set-Cookie", f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/")
            await send(message)

        await self.app(scope, receive, answer)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.hosts and _name(host) not in self.hosts:
            return 421, f"wanted a request to {' or '.join(sorted(self.hosts))}"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "a page of another origin may not ask"
        if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site") and (
            scope["method"] != "GET" or headers.get("sec-fetch-mode") != "navigate"
        ):
            return 403, "a page of another origin may not ask"
        if self.token and not self._knows(scope, headers):
            return 401, "wanted the address with its token, as the command printed it"
        return None

    def _knows(self, scope: Scope, headers: Headers) -> bool:
        given = QueryParams(scope["query_string"]).get("token") or cookie_parser(headers.get("cookie", "")).get(COOKIE)
        return hmac.compare_digest((given or "").encode(), self.token.encode())


def _name(host: str) -> str:
    """Of "127.0.0.1:8000" the name; of "[::1]:8000" the brackets with it."""
    return host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
