"""Several trainings on the GPUs of one machine: how many at a time, and each on a card that has room for it.

``python -m sshsnet_core.gpus LOCKS 0,1,0 COMMAND ...`` runs a command on one of these cards, which it keeps until the
command ends. ``notebooks/Snakefile`` starts its trainings so where a machine has several cards.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from filelock import FileLock, Timeout

#: Bytes of a GPU's memory that a training gets: SSHSNet-3D's whole volumes at paper size, the largest, take about 13 GB
#: by an estimate from what a patch takes.
SHARE = 16 * 2**30
_SECONDS_BETWEEN = 1.0


def places() -> list[str]:
    """The GPUs that this process may use, each as often as trainings fit into its memory; none without a GPU.

    Named as in ``CUDA_VISIBLE_DEVICES``; first one place of each, then the second ones. A card without room is left
    out, unless none has room: then each takes one training.
    """
    # Takes seconds to import, which a command that waits for its card need not.
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    fits = [torch.cuda.get_device_properties(gpu).total_memory // SHARE for gpu in range(count)]
    of_each = [
        [name.strip()] * (number if any(fits) else 1) for name, number in zip(visible.split(","), fits, strict=False)
    ]
    return [name for round_of_places in zip_longest(*of_each) for name in round_of_places if name is not None]


def at_a_time() -> int:
    """How many trainings run at a time; without a GPU memory is no limit."""
    return len(places()) or os.cpu_count() or 1


def threads(cores: int, at_once: int) -> int:
    """Cores of one training, where so many share a GPU or several; ``at_once`` 0: without one.

    Without, two jobs at a time have half of the cores each: much of a job is Python on one core, which the other job's
    work fills. Beside a GPU cores read data: three at least, and twelve, as nnU-Net takes, at most.
    """
    return min(cores, max(3, min(12, cores // at_once))) if at_once else max(1, cores // 2)


def prefix(locks: Path) -> str:
    """What to put before a command so that it runs on a card with room; nothing where there is one card, or none."""
    among = places()
    if len(set(among)) < 2:
        return ""
    return shlex.join([sys.executable, "-m", __name__, str(locks), ",".join(among)]) + " "


@contextmanager
def place(locks: Path, among: Sequence[str]) -> Iterator[str]:
    """One of these places that no other process holds, by lock files in a folder; waits for one where all are held."""
    locks.mkdir(parents=True, exist_ok=True)
    while True:
        for number, gpu in enumerate(among):
            held = FileLock(locks / f"place{number}.lock")
            try:
                held.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield gpu
            finally:
                held.release()
            return
        time.sleep(_SECONDS_BETWEEN)


def main() -> int:
    """Run a command on a card that has room; its exit status. Interrupted with it, or ended, it waits for its end."""
    locks, among, *command = sys.argv[1:]
    with place(Path(locks), among.split(",")) as gpu:
        job = subprocess.Popen(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu})
        # Ctrl-C reaches both; what is sent to this process alone is passed on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: job.send_signal(number))
        return job.wait()


if __name__ == "__main__":
    sys.exit(main())
