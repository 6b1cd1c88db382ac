"""MultiWOZ archives, as released, become a corpus."""

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from josh_pipeline.core.content import content_id, storable_value
from josh_pipeline.core.environment import ROLES
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import Progress, SilentProgress
from josh_pipeline.core.redaction import kept_apart
from josh_pipeline.environments.toolwoz.archive import Archive, ZipArchive, open_archive
from josh_pipeline.environments.toolwoz.corpus import Corpus, Dialogue, Split
from josh_pipeline.environments.toolwoz.goal import DOMAINS

Rows = tuple[Mapping[str, Any], ...]

OFFICIAL_LICENCE = "MultiWOZ: MIT licence, as released in budzianowski/multiwoz."
CONVLAB_LICENCE = (
    "MultiWOZ dialogues as ConvLab redistributes them: Apache-2.0; databases of budzianowski/multiwoz: MIT."
)


def read_corpus(source: str, cache: Path, progress: Progress | None = None) -> Corpus:
    """Read a corpus from a folder, a zip or a URL.

    Args:
        source: MultiWOZ 2.0, 2.1, 2.3 or 2.4, in the official layout (``data.json`` and lists) or in
            ConvLab's (``val.json.zip`` ...); its files may lie one folder deep.
        cache: folder where downloads are kept.
        progress: told of the download and of each file read.

    Raises:
        UserError: there is no such corpus, or it is damaged, incomplete, ambiguous or without goals.
    """
    progress = progress or SilentProgress()
    if source.startswith(("http://", "https://")):
        # Imported where it is used: every command loads this module, and few fetch anything.
        from josh_pipeline.environments.toolwoz.download import download

        shown = kept_apart(source)
        path = download(shown, cache, progress)
        if not zipfile.is_zipfile(path):
            path.unlink()
            raise UserError(f"{shown} is not a zip file: give the URL of the archive itself, not of its page.")
    else:
        path = Path(source).expanduser().resolve()
        shown = str(path)
    reading = _Reading(open_archive(path), progress)
    data = reading.find("data.json")
    if data is not None:
        databases = _databases(reading, data)
        dialogues = _official(reading, data)
    else:
        found = {split: reading.find(f"{split}.json.zip", f"{split}.json") for split in ROLES}
        parts = {split: path for split, path in found.items() if path is not None}
        if not parts:
            raise _nothing_found(reading.archive)
        databases = _databases(reading, next(iter(parts.values())))
        dialogues = _convlab(reading, parts)
    if not dialogues:
        raise UserError(f"{reading.archive.label} holds no dialogues: fetch the corpus again.")
    return Corpus(
        name=path.stem if path.suffix == ".zip" else path.name,
        # Of the files read alone: the same for a folder and a zip of it.
        digest=content_id("multiwoz", reading.hashes),
        source=shown,
        licence=OFFICIAL_LICENCE if data is not None else CONVLAB_LICENCE,
        dialogues=tuple(dialogues[key] for key in sorted(dialogues)),
        databases=databases,
    )


class _Reading:
    """One pass over an archive: finds files, reads each once, remembers their hashes."""

    def __init__(self, archive: Archive, progress: Progress) -> None:
        self.archive = archive
        self.names = archive.names
        self.progress = progress
        self.hashes: dict[str, str] = {}

    def find(self, *filenames: str, beside: str | None = None) -> str | None:
        """Return the path of a file: beside another one if it lies there, else nearest the top.

        Raises:
            UserError: two folders hold one at the same depth.
        """
        order = {name.lower(): rank for rank, name in enumerate(filenames)}
        paths = [path for path in map(PurePosixPath, self.names) if path.name.lower() in order]
        if beside is not None:
            paths = [p for p in paths if p.parent == PurePosixPath(beside).parent] or paths
        if not paths:
            return None
        ranked = sorted(paths, key=lambda p: (len(p.parts), order[p.name.lower()], str(p)))
        best = ranked[0]
        for other in ranked[1:]:
            if len(other.parts) == len(best.parts) and other.parent != best.parent:
                raise UserError(f"{self.archive.label} holds both {best} and {other}: name the one folder to be read.")
        return str(best)

    def read(self, path: str, role: str) -> bytes:
        """Read a file for a role (``data``, ``val``, ``hotel_db``, ...); unpack one that is zipped."""
        task = f"read {PurePosixPath(path).name}"
        self.progress.start(task, 1)
        data = self.archive.read(path)
        if path.lower().endswith(".zip"):
            inner = ZipArchive(f"{self.archive.label}/{path}", data)
            wanted = [n for n in inner.names if PurePosixPath(n).name.lower() == f"{role}.json"]
            if not wanted:
                raise UserError(f"{inner.label} holds no {role}.json: fetch the archive again.")
            data = inner.read(wanted[0])
        self.hashes[role] = hashlib.blake2b(data, digest_size=16).hexdigest()
        self.progress.advance(task)
        self.progress.finish(task)
        return data

    def read_json(self, path: str, role: str) -> Any:
        """Read and parse a JSON file; what the store cannot hold is mended here, once.

        Raises:
            UserError: it is not JSON.
        """
        data = self.read(path, role)
        try:
            return storable_value(json.loads(data))
        except (ValueError, RecursionError) as fault:
            raise UserError(
                f"{path} in {self.archive.label} is not valid JSON ({fault}): fetch the corpus again."
            ) from None


def _nothing_found(archive: Archive) -> UserError:
    if any(re.fullmatch(r"dialogues(_\d+)?\.json", PurePosixPath(name).name) for name in archive.names):
        return _without_goals(archive)
    return UserError(
        f"{archive.label} holds neither data.json nor train.json.zip, val.json.zip or test.json.zip: "
        "give the folder or the zip of MultiWOZ 2.0, 2.1, 2.3 or 2.4."
    )


def _without_goals(archive: Archive) -> UserError:
    return UserError(
        f"{archive.label} is MultiWOZ 2.2 or a later schema, which carries no goals: "
        "give MultiWOZ 2.0, 2.1, 2.3 or 2.4."
    )


def _databases(reading: _Reading, beside: str) -> dict[str, Rows]:
    found = {d: reading.find(f"{d}_db.json", beside=beside) for d in DOMAINS}
    paths = {domain: path for domain, path in found.items() if path is not None}
    missing = [f"{domain}_db.json" for domain in DOMAINS if domain not in paths]
    if missing:
        raise UserError(
            f"{reading.archive.label} lacks {', '.join(missing)}: put the databases of MultiWOZ 2.1 "
            f"beside {PurePosixPath(beside).name}."
        )
    databases: dict[str, Rows] = {}
    for domain, path in paths.items():
        rows = reading.read_json(path, f"{domain}_db")
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{path} in {reading.archive.label} must be a list of objects: fetch the corpus again.")
        databases[domain] = tuple(rows)
    return databases


def _official(reading: _Reading, data: str) -> dict[str, Dialogue]:
    """``data.json`` holds all dialogues; what neither list names is training data."""
    listed: dict[str, Split] = {}
    lists: dict[str, Split] = {"valListFile": "val", "testListFile": "test"}
    for name, split in lists.items():
        path = reading.find(name, f"{name}.txt", f"{name}.json", beside=data)
        if path is None:
            raise UserError(
                f"{reading.archive.label} lacks {name}: put valListFile and testListFile of MultiWOZ 2.1 "
                "beside data.json."
            )
        listed |= dict.fromkeys(_listed_ids(reading.read(path, name)), split)
    records = _records(reading, data, "data")
    dialogues = {key: _dialogue(key, listed.get(key, "train"), record) for key, record in records.items()}
    if listed and dialogues and not listed.keys() & dialogues.keys():
        raise UserError(
            f"{reading.archive.label} has lists that name none of its dialogues: "
            "take data.json, valListFile and testListFile from one release."
        )
    return dialogues


def _listed_ids(data: bytes) -> list[str]:
    """Ids a line, or a JSON list of ids whatever the suffix; with or without ``.json``."""
    words = re.split(r"[\s,\[\]\"]+", data.decode("utf-8-sig", errors="replace"))
    return [word.removesuffix(".json") for word in words if word]


def _convlab(reading: _Reading, parts: Mapping[Split, str]) -> dict[str, Dialogue]:
    """One file a split; the splits that are not there are empty."""
    dialogues: dict[str, Dialogue] = {}
    for split, path in parts.items():
        for key, record in _records(reading, path, split).items():
            if key in dialogues:
                raise UserError(
                    f"{reading.archive.label} has dialogue {key} in both {dialogues[key].split} and {split}: "
                    "fetch the corpus again."
                )
            dialogues[key] = _dialogue(key, split, record)
    return dialogues


def _records(reading: _Reading, path: str, role: str) -> dict[str, Any]:
    """Parse a file of dialogues by id, ids without ``.json``."""
    records = reading.read_json(path, role)
    if isinstance(records, list):
        raise _without_goals(reading.archive)
    if not isinstance(records, dict):
        raise UserError(
            f"{path} in {reading.archive.label} must be an object of dialogues by id: fetch the corpus again."
        )
    if records and not any(isinstance(r, dict) and "goal" in r for r in records.values()):
        raise _without_goals(reading.archive)
    return {key.removesuffix(".json"): record for key, record in records.items()}


def _dialogue(dialogue_id: str, split: Split, record: Any) -> Dialogue:
    """Keep every record, odd ones too: what is no mapping becomes an empty one, to be judged later."""
    record = record if isinstance(record, dict) else {}
    goal = record.get("goal")
    log = record.get("log")
    return Dialogue(
        dialogue_id=dialogue_id,
        split=split,
        goal=goal if isinstance(goal, dict) else {},
        log=tuple(turn if isinstance(turn, dict) else {} for turn in log) if isinstance(log, list) else (),
    )
