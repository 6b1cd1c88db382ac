"""MultiWOZ archives, as released, become dialogues and databases."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.ids import content_id
from josh_pipeline.core.storable import storable_value
from josh_pipeline.environments.toolwoz.archive import Archive, ZipArchive
from josh_pipeline.environments.toolwoz.records import DATABASE_DOMAINS, SPLITS, Dialogue, Split

Report = Callable[[str, int, int | None], None]
"""Called with (what is done, amount done, whole amount or None)."""

Rows = tuple[Mapping[str, Any], ...]

OFFICIAL_LICENCE = "MultiWOZ: MIT licence, as released in budzianowski/multiwoz."
CONVLAB_LICENCE = (
    "MultiWOZ dialogues as ConvLab redistributes them: Apache-2.0; databases of budzianowski/multiwoz: MIT."
)


@dataclass(frozen=True)
class Contents:
    """What an archive held.

    Attributes:
        digest: content hash of the files read, the same for a folder and a zip of it.
        licence: one sentence.
        dialogues: sorted by id.
        databases: domain to rows, in file order.
    """

    digest: str
    licence: str
    dialogues: tuple[Dialogue, ...]
    databases: Mapping[str, Rows]


class _Reading:
    """One pass over an archive: finds files, reads each once, remembers their hashes."""

    def __init__(self, archive: Archive, progress: Report | None) -> None:
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
        paths = [PurePosixPath(n) for n in self.names if PurePosixPath(n).name.lower() in order]
        if beside is not None:
            paths = [p for p in paths if p.parent == PurePosixPath(beside).parent] or paths
        if not paths:
            return None
        ranked = sorted(paths, key=lambda p: (len(p.parts), order[p.name.lower()], str(p)))
        best = ranked[0]
        for other in ranked[1:]:
            if len(other.parts) == len(best.parts) and other.parent != best.parent:
                raise UserError(
                    f"{self.archive.label} holds both {best} and {other}: name the one folder to be read."
                )
        return str(best)

    def read(self, path: str, role: str) -> bytes:
        """Read a file for a role (``data``, ``val``, ``hotel_db``, ...); unpack one that is zipped."""
        data = self.archive.read(path)
        if path.lower().endswith(".zip"):
            inner = ZipArchive(f"{self.archive.label}/{path}", data)
            wanted = [n for n in inner.names if PurePosixPath(n).name.lower() == f"{role}.json"]
            if not wanted:
                raise UserError(f"{inner.label} holds no {role}.json: fetch the archive again.")
            data = inner.read(wanted[0])
        self.hashes[role] = hashlib.blake2b(data, digest_size=16).hexdigest()
        if self.progress is not None:
            self.progress(f"read {PurePosixPath(path).name}", len(self.hashes), None)
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


def read_contents(archive: Archive, progress: Report | None = None) -> Contents:
    """Read the official layout (``data.json`` and lists) or ConvLab's (``val.json.zip`` ...).

    Args:
        archive: a folder or a zip; its files may lie one folder deep.
        progress: told of each file read.

    Raises:
        UserError: files are missing, damaged, ambiguous or of MultiWOZ 2.2.
    """
    reading = _Reading(archive, progress)
    data = reading.find("data.json")
    if data is not None:
        databases = _databases(reading, data)
        dialogues = _official(reading, data)
    else:
        found = {split: reading.find(f"{split}.json.zip", f"{split}.json") for split in SPLITS}
        parts = {split: path for split, path in found.items() if path is not None}
        if not parts:
            raise _nothing_found(archive, reading.names)
        databases = _databases(reading, next(iter(parts.values())))
        dialogues = _convlab(reading, parts)
    if not dialogues:
        raise UserError(f"{archive.label} holds no dialogues: fetch the corpus again.")
    return Contents(
        digest=content_id("multiwoz", reading.hashes),
        licence=OFFICIAL_LICENCE if data is not None else CONVLAB_LICENCE,
        dialogues=tuple(dialogues[key] for key in sorted(dialogues)),
        databases=databases,
    )


def _nothing_found(archive: Archive, names: tuple[str, ...]) -> UserError:
    if any(re.fullmatch(r"dialogues(_\d+)?\.json", PurePosixPath(name).name) for name in names):
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
    paths = {d: reading.find(f"{d}_db.json", beside=beside) for d in DATABASE_DOMAINS}
    missing = [f"{d}_db.json" for d, path in paths.items() if path is None]
    if missing:
        raise UserError(
            f"{reading.archive.label} lacks {', '.join(missing)}: put the databases of MultiWOZ 2.1 "
            f"beside {PurePosixPath(beside).name}."
        )
    databases: dict[str, Rows] = {}
    for domain, path in paths.items():
        assert path is not None  # the missing ones were reported above
        rows = reading.read_json(path, f"{domain}_db")
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise UserError(
                f"{path} in {reading.archive.label} must be a list of objects: fetch the corpus again."
            )
        databases[domain] = tuple(rows)
    return databases


def _official(reading: _Reading, data: str) -> dict[str, Dialogue]:
    """``data.json`` holds all dialogues; what neither list names is training data."""
    listed: dict[str, Split] = {}
    lists: tuple[tuple[str, Split], ...] = (("valListFile", "val"), ("testListFile", "test"))
    for name, split in lists:
        path = reading.find(name, f"{name}.txt", f"{name}.json", beside=data)
        if path is None:
            raise UserError(
                f"{reading.archive.label} lacks {name}: put valListFile and testListFile of MultiWOZ 2.1 "
                "beside data.json."
            )
        listed |= dict.fromkeys(_listed_ids(reading.read(path, name)), split)
    dialogues = {
        key: _dialogue(key, listed.get(key, "train"), record)
        for key, record in _records(reading, data, "data").items()
    }
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
