"""One door to every corpus: the built-in sample, a folder, a zip or a URL."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import Progress
from josh_pipeline.environments.toolwoz.archive import open_archive
from josh_pipeline.environments.toolwoz.reader import Report, read_contents
from josh_pipeline.environments.toolwoz.records import Corpus
from josh_pipeline.environments.toolwoz.sample import sample_corpus


class Bars:
    """Shows the corpus reader's reports, (what is done, amount, whole amount), as tasks of a ``Progress``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done: dict[str, int] = {}

    def __call__(self, what: str, done: int, whole: int | None) -> None:
        """Move the bar of ``what`` to ``done``."""
        if what not in self._done:
            self._progress.start(what, whole)
            self._done[what] = 0
        self._progress.advance(what, done - self._done[what])
        self._done[what] = done

    def close(self) -> None:
        """End all bars."""
        for what in self._done:
            self._progress.finish(what)


@contextmanager
def shown_as_bars(progress: Progress) -> Iterator[Bars]:
    """Give what ``load_corpus`` reports to."""
    bars = Bars(progress)
    yield bars
    bars.close()


def load_corpus(
    source: str,
    cache: Path,
    *,
    sample_dialogues: int = 700,
    sample_seed: int = 0,
    progress: Report | None = None,
) -> Corpus:
    """Load a corpus.

    Args:
        source: ``sample`` (built in), or a folder, zip or http(s) URL of MultiWOZ 2.0, 2.1, 2.3 or 2.4,
            in the official layout or in ConvLab's.
        cache: folder where downloads are kept.
        sample_dialogues: size of the built-in corpus.
        sample_seed: seed of the built-in corpus.
        progress: called with (what is done, amount done, whole amount or None).

    Raises:
        UserError: there is no such corpus, or it is damaged, incomplete or of a release without goals.
    """
    if source == "sample":
        return sample_corpus(sample_dialogues, sample_seed)
    if source.startswith(("http://", "https://")):
        # Imported where it is used: every command loads this module, and few fetch anything.
        from josh_pipeline.environments.toolwoz.download import download, public_url

        path, shown = download(source, cache, progress), public_url(source)
        if not zipfile.is_zipfile(path):
            path.unlink()
            raise UserError(
                f"{shown} is not a zip file: give the URL of the archive itself, not of its page."
            )
    else:
        path = Path(source).expanduser().resolve()
        shown = str(path)
    contents = read_contents(open_archive(path), progress)
    return Corpus(
        name=path.stem if path.suffix == ".zip" else path.name,
        digest=contents.digest,
        source=shown,
        licence=contents.licence,
        dialogues=contents.dialogues,
        databases=contents.databases,
    )
