"""What a file or a folder holds, in short, wherever it lies: data that has moved is the same, replaced data is not."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path


def contents(path: Path) -> str:
    """A digest of a file's bytes, or of the names and sizes of all files below a folder; of nothing where it is not."""
    if path.is_file():
        stat = path.stat()
        return _digest_of_file(path, stat.st_mtime_ns, stat.st_size)
    files = sorted((str(file.relative_to(path)), file.stat().st_size) for file in path.rglob("*") if file.is_file())
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


@lru_cache
def _digest_of_file(path: Path, mtime_ns: int, size: int) -> str:
    """Read once, as long as the file is the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
