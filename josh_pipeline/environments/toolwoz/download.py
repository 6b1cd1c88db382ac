"""Fetch an archive into the cache: resumed where it broke off, named only when it is whole."""

import fcntl
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx2

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import Progress
from josh_pipeline.core.redaction import as_given

ATTEMPTS = 5
"""Connections tried in one call; each goes on from the bytes that the last one left."""

TIMEOUT = httpx2.Timeout(30.0, connect=10.0)


class _CutOffError(Exception):
    """The connection ended before the file did."""


def download(url: str, cache: Path, progress: Progress) -> Path:
    """Return the cached copy of a URL; fetch what of it is missing.

    Args:
        url: http or https, without its secrets; see ``kept_apart``.
        cache: folder; made if need be. A broken download waits there as ``.part``.
        progress: counts the bytes of each connection, what the file already had included.

    Raises:
        UserError: the server refuses, or the connection broke ``ATTEMPTS`` times.
    """
    name = PurePosixPath(urlsplit(url).path).name or "corpus.zip"
    folder = cache / "downloads" / content_id(url)
    target = folder / name
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two processes appending to one part would spoil it
            if not target.is_file():  # another process may have finished it while this one waited
                part = target.with_name(name + ".part")
                _fetch(url, part, progress)
                part.replace(target)
    except OSError as fault:
        raise UserError(f"The cache {folder} cannot be written: {fault.strerror}.") from None
    return target


def _fetch(url: str, part: Path, progress: Progress) -> None:
    """Complete ``part``, over several connections if need be."""
    fault = ""
    for _ in range(ATTEMPTS):
        try:
            with httpx2.Client(timeout=TIMEOUT, follow_redirects=True) as client:
                _fetch_once(client, url, part, progress)
            return
        except (httpx2.TransportError, _CutOffError) as cut:
            fault = str(cut) or type(cut).__name__
        except (httpx2.InvalidURL, httpx2.TooManyRedirects) as wrong:
            raise UserError(f"{url} cannot be fetched ({wrong}): check the URL.") from None
    raise UserError(
        f"{url} could not be fetched in {ATTEMPTS} attempts ({fault.rstrip('.')}): "
        "run the command again to go on from where it stopped, or give a folder or zip instead."
    )


def _fetch_once(client: httpx2.Client, url: str, part: Path, progress: Progress) -> None:
    version = part.with_name(part.name + ".version")
    have = part.stat().st_size if part.is_file() else 0
    known = version.read_text() if version.is_file() else ""
    headers = {"Accept-Encoding": "identity"}  # offsets count bytes of the file itself
    if have and known:
        # If-Range: a file that changed since comes whole, instead of being glued to an old half
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    with client.stream("GET", as_given(url), headers=headers) as answer:
        if answer.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:
            part.unlink()
            raise _CutOffError("the server no longer has the rest of the file")
        if answer.status_code >= 500:
            raise _CutOffError(f"status {answer.status_code}")
        if answer.status_code not in (httpx2.codes.OK, httpx2.codes.PARTIAL_CONTENT):
            raise UserError(
                f"{url} answered with status {answer.status_code}: check the URL (what is secret in it is not kept, "
                "and has to be given again), or give a folder or zip instead."
            )
        resumed = answer.status_code == httpx2.codes.PARTIAL_CONTENT
        start = have if resumed else 0
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise _CutOffError("the server sent another range than was asked for")
        version.write_text(_strong_version(answer))
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        done = start
        progress.start("download", total)
        progress.advance("download", start)
        try:
            with part.open("ab" if resumed else "wb") as file:
                for block in answer.iter_raw():  # as it comes: what was received before a cut is kept
                    done += file.write(block)
                    progress.advance("download", len(block))
        finally:
            progress.finish("download")
        if total is not None and done != total:
            raise _CutOffError(f"{done} of {total} bytes came")


def _strong_version(answer: httpx2.Response) -> str:
    """What names these very bytes in If-Range: a strong ETag, else the date of the last change."""
    etag: str = answer.headers.get("ETag", "")
    changed: str = answer.headers.get("Last-Modified", "")
    return etag if etag and not etag.startswith("W/") else changed
