"""What a file or a folder holds, in a few digits: data that has moved is the same, replaced data is not."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

#: So much of an image is read, at its start and in its middle. A mask is read whole: masks are mended voxel by voxel.
_SAMPLE = 2**20


def digest(path: Path, whole: bool = False) -> str:
    """Twelve hexadecimal digits of a file's size and content, and of the data file that a MetaImage header names.

    Of an image two samples count, which no two scans share; ``whole`` reads everything.
    """
    found = hashlib.sha256()
    for part in (path, *_data_files(path)):
        size = part.stat().st_size
        found.update(str(size).encode())
        with part.open("rb") as file:
            if whole:
                found.update(file.read())
                continue
            for start in (0, size // 2):
                file.seek(start)
                found.update(file.read(_SAMPLE))
    return found.hexdigest()[:12]


def listing(folder: Path) -> str:
    """Twelve hexadecimal digits of the names and sizes of all files below a folder, none of which is read."""
    files = sorted((str(file.relative_to(folder)), file.stat().st_size) for file in folder.rglob("*") if file.is_file())
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:12]


def _data_files(path: Path) -> Iterator[Path]:
    """The file beside an .mhd header that holds the voxels."""
    if path.suffix.lower() != ".mhd":
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "ElementDataFile" and (path.parent / value.strip()).is_file():
            yield path.parent / value.strip()
