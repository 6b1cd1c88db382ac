"""Archives for the corpus tests."""

import json
import zipfile
from pathlib import Path

from josh_pipeline.environments.toolwoz.corpus import Corpus


def write_corpus(corpus: Corpus, folder: Path) -> None:
    """Write ``data.json``, ``valListFile``, ``testListFile`` and ``<domain>_db.json``.

    Reading the folder back gives the same dialogues and databases. Files of these names in it are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = {f"{d.dialogue_id}.json": {"goal": d.goal, "log": d.log} for d in corpus.dialogues}
    (folder / "data.json").write_text(json.dumps(records), encoding="utf-8")
    for name, split in (("valListFile", "val"), ("testListFile", "test")):
        ids = [f"{d.dialogue_id}.json\n" for d in corpus.dialogues if d.split == split]
        (folder / name).write_text("".join(ids), encoding="utf-8")
    for domain, rows in corpus.databases.items():
        (folder / f"{domain}_db.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def zip_folder(folder: Path, target: Path, prefix: str = "") -> Path:
    """Zip a folder's files under a prefix."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return target
