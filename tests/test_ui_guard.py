"""The UI's server: what another site's page, another name for this machine and a stranger on the network get."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from assets.guard import HOSTS, TOKEN, Guard, loopback
from assets.ui import admission

HERE = "127.0.0.1:3000"


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("in")


async def _accept(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


def ask(
    method: str, path: str, host: str = HERE, kind: str = "http", **headers: str
) -> tuple[int | str, Mapping[str, str]]:
    """Ask a guarded server; return the status of its answer, or the first thing that a websocket is told."""
    routes = [WebSocketRoute("/graphql", _accept), Route("/{path:path}", _answer, methods=["GET", "POST"])]
    app = Starlette(routes=routes, middleware=[Middleware(Guard)])
    path, _, query = path.partition("?")
    named = {"host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope: dict[str, Any] = {
        "type": kind, "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "server": ("127.0.0.1", 3000), "scheme": "http" if kind == "http" else "ws", "root_path": "",
    }  # fmt: skip
    if kind == "websocket":
        del scope["method"]
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""} if kind == "http" else {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    first = sent[0]
    if kind == "websocket":
        return first["type"], {}
    # Of several policies a browser holds a page to all.
    told: dict[str, str] = {}
    for name, value in first["headers"]:
        told[name.decode()] = ", ".join(filter(None, [told.get(name.decode()), value.decode()]))
    return first["status"], told


def status(*asked: Any, **headers: str) -> int | str:
    return ask(*asked, **headers)[0]


@pytest.fixture(autouse=True)
def _on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    monkeypatch.delenv(HOSTS, raising=False)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
def test_graphql_is_asked_by_post_alone(method: str):
    assert status(method, "/graphql?query=mutation{launchRun}") == 405
    assert status("POST", "/graphql") == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "https://localhost"])
def test_a_page_of_another_origin_gets_nothing(origin: str):
    assert status("POST", "/graphql", origin=origin) == 403
    assert status("POST", "/report_asset_materialization/policy", origin=origin) == 403
    assert status("GET", "/graphql", HERE, "websocket", origin=origin) == "websocket.close"


def test_the_page_of_this_server_asks_it():
    for host in (HERE, "localhost:4000", "[::1]:3000"):
        assert status("POST", "/graphql", host, origin=f"http://{host}") == 200
        assert status("GET", "/graphql", host, "websocket", origin=f"http://{host}") == "websocket.accept"


@pytest.mark.parametrize("host", ["evil.example:3000", "localhost.evil.example", "", "[::1", "169.254.169.254"])
def test_a_name_that_somebody_else_lets_lead_here_is_refused(host: str):
    assert status("GET", "/", host) == 421
    assert status("POST", "/graphql", host, origin=f"http://{host}") in (421, 403)


def test_a_proxy_that_is_named_is_let_through(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(HOSTS, "josh.example.org, other.example")
    assert status("POST", "/graphql", "josh.example.org", origin="https://josh.example.org") == 200
    assert status("POST", "/graphql", HERE, origin="https://josh.example.org") == 200, "a proxy that renames the host"
    assert status("POST", "/graphql", HERE, origin="https://evil.example") == 403


def test_over_a_network_the_token_is_needed_once_and_then_is_in_no_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(TOKEN, "t0ken")
    host = "gpu-box:3000"
    assert status("GET", "/", host) == status("POST", "/graphql", host) == status("GET", "/?token=no", host) == 401
    assert status("GET", "/graphql", host, "websocket", origin=f"http://{host}") == "websocket.close"
    code, told = ask("GET", "/runs?a=b&token=t0ken", host)
    assert (code, told["location"]) == (303, "/runs?a=b")
    assert told["set-cookie"].startswith("josh_3000=t0ken; HttpOnly")
    assert status("POST", "/graphql", host, cookie="josh_3000=t0ken") == 200
    assert status("POST", "/graphql", host, cookie="josh_3000=t0ken", origin="http://evil.example") == 403
    assert ask("GET", "//evil.example/?token=t0ken", host)[1]["location"] == "/evil.example/"


def test_every_answer_says_what_a_browser_may_do_with_it():
    for asked in (("GET", "/"), ("GET", "/graphql"), ("GET", "/", "evil.example")):
        told = ask(*asked)[1]
        assert told["x-content-type-options"] == "nosniff" and told["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in told["content-security-policy"]


def test_a_token_is_made_and_told_only_where_other_machines_reach(capsys: pytest.CaptureFixture[str]):
    assert admission("127.0.0.1") == admission("localhost") == admission("::1") == ()
    assert capsys.readouterr().err == ""
    (token,) = admission("0.0.0.0")
    assert len(token) > 30 and (token,) != admission("0.0.0.0")
    assert "0.0.0.0 is reached from other machines" in capsys.readouterr().err
    assert not loopback("localhost.evil.example")
