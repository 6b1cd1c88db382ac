"""Archives for the corpus tests."""

import zipfile
from pathlib import Path


def zip_folder(folder: Path, target: Path, prefix: str = "") -> Path:
    """Zip a folder's files under a prefix."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return target
