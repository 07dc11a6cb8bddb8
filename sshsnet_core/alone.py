"""One process at a time: notebooks that are open side by side, and the grid, share what they make."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Keep ``what`` for this process, by the file ``lock``. Another that wants the same waits, and then finds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        print(f"{what}: another process is at it; waiting until it has finished.", flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()
