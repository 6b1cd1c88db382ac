"""One door to every corpus: the built-in sample, a folder, a zip or a URL."""

import zipfile
from pathlib import Path

from josh_pipeline.corpus.archive import open_archive
from josh_pipeline.corpus.reader import Progress, read_contents
from josh_pipeline.corpus.records import Corpus
from josh_pipeline.corpus.sample import sample_corpus
from josh_pipeline.errors import UserError


def load_corpus(
    source: str,
    cache: Path,
    *,
    sample_dialogues: int = 700,
    sample_seed: int = 0,
    progress: Progress | None = None,
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
        from josh_pipeline.corpus.download import download, public_url

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
