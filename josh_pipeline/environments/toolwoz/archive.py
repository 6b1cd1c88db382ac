"""A folder and a zip look alike here: a label for people, a list of file names, and a way to read one.

Names are relative paths with forward slashes, sorted; hidden files and macOS leftovers are left out. What
cannot be read, because it is damaged or closed to us, is a ``UserError``.
"""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from josh_pipeline.core.errors import UserError

FOLDER_DEPTH = 2
"""Folders are searched this deep: the files, or one folder of them. A home folder stays cheap."""


@dataclass(frozen=True)
class FolderArchive:
    """A folder of files."""

    root: Path

    @property
    def label(self) -> str:
        """The folder's path."""
        return str(self.root)

    @property
    def names(self) -> tuple[str, ...]:
        """Files in the folder and in its direct subfolders."""
        found: list[str] = []
        try:
            next(self.root.iterdir(), None)  # glob finds nothing in a folder that is closed to us, and says nothing
            for depth in range(FOLDER_DEPTH):
                pattern = "/".join(["*"] * (depth + 1))
                found += [p.relative_to(self.root).as_posix() for p in self.root.glob(pattern) if p.is_file()]
        except OSError as fault:
            raise UserError(
                f"The folder {self.root} cannot be read ({fault.strerror}): mend its permissions."
            ) from None
        return tuple(sorted(name for name in found if wanted(name)))

    def read(self, name: str) -> bytes:
        """Return one file's bytes."""
        try:
            return (self.root / name).read_bytes()
        except OSError as fault:
            raise UserError(f"The file {self.root / name} cannot be read: {fault.strerror}.") from None


@dataclass(frozen=True)
class ZipArchive:
    """A zip file, on disk or held in memory."""

    label: str
    content: Path | bytes

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.content if isinstance(self.content, Path) else io.BytesIO(self.content))
        except OSError as fault:
            raise UserError(f"The file {self.label} cannot be read: {fault.strerror}.") from None
        except zipfile.BadZipFile:
            raise UserError(
                f"{self.label} is not a whole zip file: fetch it again, or give the folder of its files."
            ) from None

    @property
    def names(self) -> tuple[str, ...]:
        """Files in the zip."""
        with self._open() as archive:
            return tuple(sorted(i.filename for i in archive.infolist() if not i.is_dir() and wanted(i.filename)))

    def read(self, name: str) -> bytes:
        """Return one file's bytes, checked against the zip's checksum."""
        with self._open() as archive:
            try:
                return archive.read(name)
            # An encrypted file, or one packed in a way that zipfile does not know, is a RuntimeError.
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as fault:
                raise UserError(
                    f"{name} in {self.label} cannot be unpacked ({fault}): fetch the archive again."
                ) from None


Archive = FolderArchive | ZipArchive


def wanted(name: str) -> bool:
    """True unless the path holds a hidden file or folder, or the macOS folder of resource forks."""
    return not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def open_archive(path: Path) -> Archive:
    """Open a folder or a zip file.

    Raises:
        UserError: there is no such folder or zip file.
    """
    if path.is_dir():
        return FolderArchive(path)
    if not path.is_file():
        raise UserError(f"There is no corpus at {path}: give 'sample', or a folder, zip or URL of MultiWOZ.")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not a zip file: give the folder or the zip of MultiWOZ.")
    return ZipArchive(str(path), path)
