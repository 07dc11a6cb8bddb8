"""Trainings on the GPUs of one machine: how many at a time, and which card each of them gets."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from sshsnet_core import gpus


def cards(monkeypatch: pytest.MonkeyPatch, gib: tuple[int, ...], visible: str = "") -> None:
    """A machine with GPUs of so much memory."""
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(gib))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda gpu: SimpleNamespace(total_memory=gib[gpu] * 2**30))


@pytest.mark.parametrize(
    ("gib", "visible", "places"),
    [
        ((), "", []),
        ((11,), "", ["0"]),
        ((80,), "", ["0"] * 5),
        ((24, 24), "", ["0", "1"]),
        # The larger card takes more of them, and one that drives a screen none.
        ((24, 80, 4), "", ["0", "1", "1", "1", "1", "1"]),
        # Of several that are all small each takes one.
        ((8, 11), "", ["0", "1"]),
        ((48, 48), "2,5", ["2", "5"] * 3),
    ],
)
def test_a_card_takes_as_many_trainings_as_its_memory_holds(
    gib: tuple[int, ...], visible: str, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards(monkeypatch, gib, visible)
    assert gpus.places() == places
    assert gpus.at_a_time() == (len(places) or 7)


def test_a_job_gets_the_card_whose_job_has_ended_and_not_the_next_in_turn(tmp_path: Path) -> None:
    among = ["0", "1"]
    with gpus.place(tmp_path, among) as first:
        with gpus.place(tmp_path, among) as second:
            assert (first, second) == ("0", "1")
        with gpus.place(tmp_path, among) as third:
            assert third == "1"


def test_where_every_card_is_taken_a_job_waits_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_SECONDS_BETWEEN", 0.01)
    got: list[str] = []

    def wait() -> None:
        with gpus.place(tmp_path, ["3"]) as gpu:
            got.append(gpu)

    waiting = threading.Thread(target=wait)
    with gpus.place(tmp_path, ["3"]):
        waiting.start()
        waiting.join(timeout=0.1)
        assert got == []
    waiting.join(timeout=10)
    assert got == ["3"]


def run(locks: Path, source: str) -> subprocess.Popen[str]:
    """A Python program on one of two cards."""
    command = [sys.executable, "-m", "sshsnet_core.gpus", str(locks), "5,6", sys.executable, "-u", "-c", source]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_command_is_told_its_card_and_its_exit_status_passed_on(tmp_path: Path) -> None:
    job = run(tmp_path, "import os; print(os.environ['CUDA_VISIBLE_DEVICES']); raise SystemExit(3)")
    assert job.communicate()[0] == "5\n"
    assert job.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_told_to_end_has_its_time_to_do_so(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C reaches the command by itself; what ends the one that waits is passed on."""
    source = (
        "import os, signal, sys, time\n"
        "def end(*_):\n    time.sleep(0.5)\n    print('ended')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGINT, end), signal.signal(signal.SIGTERM, end)\n"
        "print(os.getpid())\nwhile True:\n    time.sleep(0.01)"
    )
    job = run(tmp_path, source)
    assert job.stdout is not None
    command = int(job.stdout.readline())
    job.send_signal(number)
    if number == signal.SIGINT:
        os.kill(command, number)
    assert job.communicate(timeout=20)[0] == "ended\n"
    assert job.returncode == 0


@pytest.mark.parametrize(
    ("cores", "at_once", "threads"),
    [(2, 0, 1), (1, 0, 1), (16, 0, 8), (16, 5, 3), (32, 1, 12), (32, 4, 8), (2, 8, 2)],
)
def test_trainings_share_the_cores(cores: int, at_once: int, threads: int) -> None:
    assert gpus.threads(cores, at_once) == threads


def test_only_where_there_are_several_cards_a_job_is_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for gib in ((), (80,)):
        cards(monkeypatch, gib)
        assert gpus.prefix(Path("locks")) == ""
    cards(monkeypatch, (24, 24), "0, 1")
    assert gpus.prefix(Path("my locks")) == f"{sys.executable} -m sshsnet_core.gpus 'my locks' 0,1 "
