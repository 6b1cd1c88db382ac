"""What the UI's server refuses: other sites' pages, other names for this machine, on a network whoever has no token.

Dagster's server asks nobody who they are, and runs a mutation whatever site or method it comes by: a page that
somebody has open beside the UI could start runs, with the keys in this environment.
"""

import ipaddress
import os
import secrets
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

TOKEN = "JOSH_UI_TOKEN"
"""What ``josh ui`` tells its server by where it listens beyond this machine."""
HOSTS = "JOSH_UI_HOSTS"
"""Names, with their ports where they have one, by which a proxy with a login of its own is reached; commas between."""

HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin"}
POLICY = "frame-ancestors 'none'; base-uri 'none'; object-src 'none'; form-action 'self'"
"""Beside the policies of Dagster's page and of ours: a browser holds a page to all that it is sent."""
REFUSED_WEBSOCKET = 1008


def loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, which no other machine reaches."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(32)


class Guard:
    """Lets through what the person at this machine asks, and gives every answer the headers of ``HEADERS``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._token = os.environ.get(TOKEN, "")
        self._proxies = frozenset(filter(None, os.environ.get(HOSTS, "").replace(" ", "").split(",")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        asked = HTTPConnection(scope)
        refusal = self._refusal(asked)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await WebSocketClose(REFUSED_WEBSOCKET)(scope, receive, send)
        else:
            await refusal(scope, receive, _with_headers(send))

    def _refusal(self, asked: HTTPConnection) -> Response | None:
        """Return what is answered instead; None where nothing is wrong."""
        host, origin = asked.headers.get("host", ""), asked.headers.get("origin")
        if not (self._token or host in self._proxies or loopback(_name(host))):
            # A name of somebody else's that leads here: its pages would count as this server's own.
            said = f"This server is not {host!r}: open http://127.0.0.1 at its port, or name a proxy in {HOSTS}."
            return PlainTextResponse(said, 421)
        if origin is not None and urlsplit(origin).netloc not in {host, *self._proxies}:
            return PlainTextResponse("Pages of other sites may not ask this server.", 403)
        if self._token and not self._known(asked):
            return self._welcome(asked)
        if asked.scope["path"].endswith("/graphql") and asked.scope.get("method", "POST") != "POST":
            return PlainTextResponse("Ask by POST: by GET any page could.", 405)
        return None

    def _known(self, asked: HTTPConnection) -> bool:
        return self._is_token(asked.cookies.get(_cookie(asked), ""))

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())

    def _welcome(self, asked: HTTPConnection) -> Response:
        """Change the token of an address into a cookie, so that it is in no further address."""
        if asked.scope["type"] != "http" or not self._is_token(asked.query_params.get("token", "")):
            return PlainTextResponse("Open the address that josh ui printed: it holds the token.", 401)
        rest = urlencode([(name, value) for name, value in parse_qsl(asked.url.query) if name != "token"])
        answer = RedirectResponse(f"/{asked.scope['path'].lstrip('/')}{'?' if rest else ''}{rest}", 303)
        answer.set_cookie(_cookie(asked), self._token, httponly=True, samesite="lax")
        return answer


def _cookie(asked: HTTPConnection) -> str:
    """Name the cookie by the port: a machine's servers share its cookies."""
    return f"josh_{asked.scope['server'][1]}"


def _name(host: str) -> str:
    """Return a host without its port; empty where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            headers.append("Content-Security-Policy", POLICY)
        await send(message)

    return sending
