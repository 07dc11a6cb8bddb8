"""Trainings on the GPUs of one machine: how many at a time, and which card each of them gets."""

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


def test_where_every_card_is_taken_a_job_waits_for_one(tmp_path: Path) -> None:
    got: list[str] = []

    def wait() -> None:
        with gpus.place(tmp_path, ["3"], seconds_between=0.01) as gpu:
            got.append(gpu)

    waiting = threading.Thread(target=wait)
    with gpus.place(tmp_path, ["3"]):
        waiting.start()
        waiting.join(timeout=0.1)
        assert got == []
    waiting.join(timeout=10)
    assert got == ["3"]


def test_a_command_is_told_its_card_and_its_exit_status_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    source = f"import os, pathlib; pathlib.Path({str(told)!r}).write_text(os.environ['CUDA_VISIBLE_DEVICES']); exit(3)"
    monkeypatch.setattr(sys, "argv", ["gpus", str(tmp_path / "locks"), "5,6", sys.executable, "-c", source])
    assert gpus.main() == 3
    assert told.read_text() == "5"
