"""Secrets: a key goes to the hosts that it was given for, and nothing that is stored or printed holds one."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest
from corpus_layouts import write_corpus, zip_folder
from test_cli_endpoint import Model
from tiny_loop import tiny_profile

from assets.cli import run as main
from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.redaction import as_given, holds_secret_url, kept_apart, key_for, redacted
from josh_pipeline.environments.toolwoz.sample import sample_corpus
from josh_pipeline.policies.endpoint import EndpointPolicy
from josh_pipeline.settings import load_settings
from josh_pipeline.stages.registry import open_home
from josh_pipeline.store.schema import columns

KEY, PASSWORD, TOKEN = "sk-planted-key-1", "planted-password-2", "planted-token-3"
PLANTED = (KEY, PASSWORD, TOKEN)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("JOSH_KEY_HOSTS", raising=False)


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://api.openai.com/v1", True),
        ("http://api.openai.com/v1", False),
        ("https://api.openai.com:8443/v1", False),
        ("https://api.openai.com.evil.example/v1", False),
        ("https://gpu-box/v1", True),
        ("http://gpu-box:8000/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.0.0.1:9000/v1", False),
        ("http://evil.example/gpu-box", False),
        ("http://evil.example#gpu-box", False),
    ],
)
def test_a_key_goes_only_where_it_was_given_for(url: str, sent: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JOSH_KEY_HOSTS", "gpu-box, 127.0.0.1:8000")
    assert key_for(url) == (KEY if sent else "")
    policy = EndpointPolicy(url.split("#")[0], "m", 1)
    assert policy._client.headers.get("authorization") == (f"Bearer {KEY}" if sent else None)


class Echo(Model, BaseHTTPRequestHandler):
    """Repeats the key that it was sent in every seventh answer, and gives a corpus to whoever has the password."""

    corpus = b""
    asked = 0
    closed = False

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        if place.path.endswith("/models"):
            self.fail(401) if self.closed else super().do_GET()
        elif f"token={TOKEN}" == place.query and self.headers.get("Authorization", "").startswith("Basic "):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.corpus)))
            self.end_headers()
            self.wfile.write(self.corpus)
        else:
            self.fail(403)

    def do_POST(self) -> None:
        type(self).asked += 1
        trial = int(self.headers["Content-Length"]) < 300  # what is asked once before the work starts
        if trial or self.asked % 7:
            super().do_POST()
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        self.fail(418)

    def fail(self, status: int) -> None:
        body = f"Incorrect API key provided: {self.headers.get('Authorization')}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[str]:
    write_corpus(sample_corpus(120, 0), tmp_path / "corpus")
    Echo.corpus = zip_folder(tmp_path / "corpus", tmp_path / "corpus.zip", "MultiWOZ_2.1/").read_bytes()
    Echo.closed = False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_server_that_wants_a_key_is_told_with_what_to_set(
    echo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    Echo.closed = True
    asked = ["iterate", "--profile", str(tiny_profile(tmp_path)), "--endpoint", f"http://{echo}/v1", "--model", "m"]
    assert main([*asked, "--home", str(tmp_path / "home")]) == 1
    said = capsys.readouterr().err
    assert f"set JOSH_KEY_HOSTS={echo} to send it there" in said and KEY not in said


def test_no_planted_secret_is_in_a_home_its_exports_or_what_is_printed(
    echo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    home = tmp_path / "home"
    monkeypatch.setenv("JOSH_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("JOSH_KEY_HOSTS", echo)
    corpus = f"http://me:{PASSWORD}@{echo}/MultiWOZ_2.1.zip?token={TOKEN}"
    profile = str(tiny_profile(tmp_path, search={"goals": 8, "beam_size": 4, "max_rounds": 3, "max_failed_share": 1}))
    asked = ["iterate", "--profile", profile, "--endpoint", f"http://{echo}/v1", "--model", "m"]
    wrong = corpus.replace(f"token={TOKEN}", f"no={TOKEN}")
    assert main([*asked, "--corpus", wrong]) == 1, "a run that fails"
    assert main([*asked, "--corpus", corpus]) == 0
    for url in (f"http://me:{PASSWORD}@{echo}/v1", f"http://{echo}/v1?key={TOKEN}"):
        assert main(["iterate", "--endpoint", url, "--model", "m"]) == 1, "a setting that is refused"
    assert main(["report"]) == main(["export", "--out", str(tmp_path / "out")]) == 0

    warehouse = open_home().warehouse()
    failures = warehouse.rows("SELECT failure_message FROM nodes WHERE failure_message IS NOT NULL")
    assert failures and all("Incorrect API key provided: Bearer [redacted]" in str(one) for one in failures)
    texts = {table: json.dumps(warehouse.rows(f"SELECT * FROM {table}"), default=str) for table in columns()}
    for path in [*home.rglob("*"), *(tmp_path / "out").rglob("*")]:
        if path.suffix == ".parquet":
            texts[str(path)] = str(pl.read_parquet(path).to_dicts())
        elif path.is_file() and path.suffix != ".zip":
            texts[str(path)] = path.read_bytes().decode(errors="replace")
    open_to_others = [path for path in (home, *home.rglob("*")) if path.lstat().st_mode & 0o077]
    assert open_to_others == [], "homes are 0700, files 0600"
    texts["printed"] = str(capfd.readouterr())
    assert any("event" in name or "runs" in name for name in texts), "Dagster's records are among them"
    assert [(name, secret) for name, text in texts.items() for secret in PLANTED if secret in text] == []


def test_a_url_is_shown_without_what_is_secret_in_it_and_known_whole_to_the_process_alone():
    given = f"https://me:{PASSWORD}@host:81/a/b.zip?file=b&raw=true&api-version=2024-02-01#x"
    shown = kept_apart(given)
    assert shown.startswith("https://host:81/a/b.zip?file=redacted-") and "raw=true&api-version=2024-02-01" in shown
    assert kept_apart(shown) == shown and as_given(shown) == given
    assert kept_apart(given.replace("file=b", "file=c")) != shown, "two files stay two"
    for plain in ("sample", "/a/b.zip", "https://host/a.zip?raw=true", "http://[::1", "https://host:81/a@b"):
        assert kept_apart(plain) == plain and not holds_secret_url(plain)
    assert holds_secret_url(json.dumps([{"source": given}]))


@pytest.mark.parametrize(
    "secret", [f"http://me:{PASSWORD}@host/v1", f"http://host/v1?key={TOKEN}", f"http://host/v1#{KEY}"]
)
@pytest.mark.parametrize("section", ["policy", "user"])
def test_an_endpoint_with_a_secret_in_its_url_is_refused_and_not_repeated(secret: str, section: str):
    with pytest.raises(UserError, match="OPENAI_API_KEY in the environment, and JOSH_KEY_HOSTS") as fault:
        load_settings("quickstart", {section: {"endpoint": secret}})
    assert not any(one in str(fault.value) for one in PLANTED)
    assert load_settings("quickstart", {section: {"endpoint": "http://host/v1?api-version=2024-02-01"}})


def test_the_query_of_a_base_url_stays_behind_the_places_below_it():
    policy = EndpointPolicy("https://host/v1/?api-version=2024-02-01", "m", 1)
    assert str(policy._place("chat/completions")) == "https://host/v1/chat/completions?api-version=2024-02-01"


def test_errors_repeat_no_secret_of_this_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_planted_4")
    monkeypatch.setenv("SHORT_KEY", "EMPTY")
    assert str(UserError(f"no {KEY}, hf_planted_4")) == "no [redacted], [redacted]"
    fault = RolloutError("endpoint", f"no {KEY}")
    assert fault.message == str(fault) == "no [redacted]"
    assert redacted("EMPTY") == "EMPTY", "what stands for no key is left in words"
