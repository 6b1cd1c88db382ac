"""A page of another site, open in a browser beside a running ``josh ui``, tries to spend the user's key."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from browser import chromium
from served_ui import LAUNCH, SELECTOR, Ui, served

KEY = "sk-planted-key-1"
RUNS = "{runsOrError{... on Runs{results{runId}}}}"
PAGE = """<!doctype html><title>working</title><img id="i"><iframe name="f"></iframe>
<form id="p" method="post" enctype="text/plain" target="f"></form><script>
const [ui, query, variables] = ARGUMENTS, written = new URLSearchParams({query, variables: JSON.stringify(variables)});
const body = JSON.stringify({query, variables}), json = {"Content-Type": "application/json"};
const tried = [];
const attempt = (name, how) => how().then(found => tried.push([name, found]), fault => tried.push([name, "" + fault]));
const socket = () => new Promise((done, failed) => {
  const opened = new WebSocket(ui.replace("http", "ws") + "/graphql", "graphql-ws");
  opened.onopen = () => done("open");
  opened.onerror = () => failed("refused");
});
document.getElementById("i").src = ui + "/graphql?" + written;
document.getElementById("p").action = ui + "/graphql?" + written;
document.getElementById("p").submit();
Promise.all([
  attempt("get", () => fetch(ui + "/graphql?" + written, {mode: "no-cors"}).then(a => a.type)),
  attempt("simple post", () => fetch(ui + "/graphql?" + written, {method: "POST", mode: "no-cors"}).then(a => a.type)),
  attempt("json post", () => fetch(ui + "/graphql", {method: "POST", headers: json, body}).then(a => a.text())),
  attempt("read", () => fetch(ui + "/josh/report.html").then(a => a.text())),
  attempt("websocket", socket),
]).then(() => { document.title = JSON.stringify(tried); });
</script>"""


class Site(BaseHTTPRequestHandler):
    """The attacker's: a page, and an endpoint that keeps what it is sent."""

    page = ""
    sent: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        if self.path.startswith("/v1"):
            self.sent.append(f"{self.path} {self.headers}")
        body = self.page.encode() if self.path.startswith("/page") else b"{}"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    Site.sent.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def runs(ui: Ui) -> list[str]:
    return sorted(one["runId"] for one in ui.ask(RUNS)["runsOrError"]["results"])


def test_a_page_of_another_site_starts_no_run_reads_nothing_and_gets_no_key(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    config = {"settings": {"policy": {"endpoint": f"http://{site}/v1", "model": "m"}}}
    params = {
        "selector": {**SELECTOR, "jobName": "baseline"},
        "runConfigData": {"resources": {"josh": {"config": config}}},
    }
    with served(tmp_path, monkeypatch) as ui, chromium() as browser:
        ui.wait_until_ready()
        # What an evaluation needs is there: a run that is started asks the site's endpoint.
        ready = params | {"selector": {**SELECTOR, "jobName": "prepare"}}
        assert ui.wait_for(ui.ask(LAUNCH, p=ready)["launchRun"]["run"]["runId"]) == "SUCCESS"
        Site.sent.clear()
        before = runs(ui)
        Site.page = PAGE.replace("ARGUMENTS", json.dumps([ui.url, LAUNCH, {"p": params}]))
        page = browser.new_page()
        for name in (site, site.replace("127.0.0.1", "localhost")):
            page.goto(f"http://{name}/page")
            page.wait_for_function("document.title != 'working'")
            tried = dict(json.loads(page.title()))
            assert tried["websocket"] == "refused"
            assert all("TypeError" in tried[what] for what in ("json post", "read"))
        time.sleep(3)  # a run that was started would be listed at once
        assert runs(ui) == before and Site.sent == []

        # Even what the person starts by mistake sends that server no key.
        own = ui.ask(LAUNCH, p=params)["launchRun"]["run"]["runId"]
        assert ui.wait_for(own) == "FAILURE"
        assert Site.sent and not any(KEY in one for one in Site.sent)
        config["settings"]["policy"]["endpoint"] = f"http://me:{KEY}@{site}/v1"
        told = ui.post(LAUNCH, p=params)
        assert "would be stored" in told["errors"][0]["message"]
        stored = b"".join(path.read_bytes() for path in ui.home.root.rglob("*") if path.is_file())
        assert KEY.encode() not in stored
