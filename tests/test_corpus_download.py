"""Downloads go on where they broke off, and a file gets its name only when it is whole."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from corpus_layouts import write_corpus, zip_folder

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import Progress, SilentProgress, TaskState, ThrottledProgress
from josh_pipeline.core.redaction import kept_apart
from josh_pipeline.environments.toolwoz import download as downloads
from josh_pipeline.environments.toolwoz.download import ATTEMPTS
from josh_pipeline.environments.toolwoz.reader import read_corpus
from josh_pipeline.environments.toolwoz.sample import sample_corpus

QUIET = SilentProgress()


def download(url: str, cache: Path, progress: Progress = QUIET) -> Path:
    return downloads.download(url, cache, progress)


CONTENT = bytes(range(256)) * 2000


@dataclass
class FileServer:
    """What a file server holds, and the byte ranges that it was asked for."""

    content: bytes = CONTENT
    etag: str = '"one"'
    cuts: list[int] = field(default_factory=list)  # bytes sent before each of the next connections breaks
    status: int = 200
    ranges: list[str] = field(default_factory=list)
    before_answer: Callable[[], None] = lambda: None
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range", "")
        self.ranges.append(asked)
        self.before_answer()
        if self.status != 200:
            request.send_error(self.status)
            return
        start = 0
        if asked and request.headers.get("If-Range") == self.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(self.content):
                request.send_error(416)
                return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        request.send_header("Content-Length", str(len(self.content) - start))
        if self.etag:
            request.send_header("ETag", self.etag)
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else len(self.content)
        request.wfile.write(self.content[start : start + cut])


@pytest.fixture
def server() -> Iterator[FileServer]:
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}/data/MultiWOZ_2.1.zip"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_file_is_fetched_once_and_then_kept(server: FileServer, tmp_path: Path) -> None:
    seen: list[TaskState] = []
    path = download(server.url, tmp_path, ThrottledProgress(seen.append, print))
    assert path.read_bytes() == CONTENT and path.name == "MultiWOZ_2.1.zip"
    assert [(one.task, one.done, one.total) for one in seen] == [("download", len(CONTENT), len(CONTENT))]
    assert download(server.url, tmp_path) == path
    assert server.ranges == [""]


def test_a_cut_connection_is_resumed_in_the_same_call(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    seen: list[TaskState] = []
    path = download(server.url, tmp_path, ThrottledProgress(seen.append, print))
    assert path.read_bytes() == CONTENT
    assert [one.done for one in seen] == [100_000, 150_000, len(CONTENT)]
    assert server.ranges == ["", "bytes=100000-", "bytes=150000-"]


def test_a_later_call_goes_on_with_what_an_earlier_one_left(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [1000] * ATTEMPTS
    with pytest.raises(UserError, match="run the command again to go on"):
        download(server.url, tmp_path)
    assert not list(tmp_path.rglob("*.zip"))
    assert download(server.url, tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={1000 * ATTEMPTS}-"


def test_a_file_that_changed_meanwhile_is_fetched_afresh(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [1000] * ATTEMPTS
    with pytest.raises(UserError):
        download(server.url, tmp_path)
    server.content, server.etag = CONTENT[::-1], '"two"'
    assert download(server.url, tmp_path).read_bytes() == CONTENT[::-1]


def test_without_a_version_of_the_file_nothing_is_glued_together(server: FileServer, tmp_path: Path) -> None:
    server.etag, server.cuts = "", [1000]
    assert download(server.url, tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["", ""]


def test_a_part_that_was_complete_but_not_named_does_not_block(server: FileServer, tmp_path: Path) -> None:
    path = download(server.url, tmp_path)
    path.rename(path.with_name(path.name + ".part"))
    assert download(server.url, tmp_path).read_bytes() == CONTENT


def test_two_downloads_at_once_fetch_one_file(server: FileServer, tmp_path: Path) -> None:
    release = threading.Event()
    server.before_answer = lambda: assert_set(release)
    threads = [threading.Thread(target=download, args=(server.url, tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join()
    assert next(tmp_path.rglob("*.zip")).read_bytes() == CONTENT
    assert server.ranges == [""]


def assert_set(event: threading.Event) -> None:
    assert event.wait(5)


def test_a_refusal_names_the_status(server: FileServer, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(UserError, match="answered with status 404: check the URL"):
        download(server.url, tmp_path)
    assert server.ranges == [""]


def test_no_server_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"could not be fetched in .* give a folder or zip instead\.$"):
        download("http://127.0.0.1:9/x.zip", tmp_path)


def test_a_url_gives_the_corpus_of_its_zip(server: FileServer, tmp_path: Path) -> None:
    sample = sample_corpus(30, 0)
    write_corpus(sample, tmp_path / "folder")
    server.content = zip_folder(tmp_path / "folder", tmp_path / "x.zip", "MultiWOZ_2.1/").read_bytes()
    corpus = read_corpus(server.url + "?token=secret", tmp_path / "cache")
    assert corpus.dialogues == sample.dialogues
    assert (corpus.name, corpus.source) == ("MultiWOZ_2.1", kept_apart(server.url + "?token=secret"))
    assert "secret" not in corpus.source


def test_a_page_instead_of_an_archive_is_refused_and_forgotten(server: FileServer, tmp_path: Path) -> None:
    server.content = b"<html>not here</html>"
    with pytest.raises(UserError, match="is not a zip file: give the URL of the archive itself"):
        read_corpus(server.url, tmp_path)
    assert not list(tmp_path.rglob("*.zip"))
