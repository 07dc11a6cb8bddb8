"""The benchmark of training steps: it runs, and takes its measures away for as long as it says, and no longer."""

import sys

import pytest
import torch

from sshsnet_core.benchmarks import training_step
from sshsnet_core.networks import sshsnet


def test_every_network_is_timed_with_and_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["training_step", "--profile", "smoke"])
    training_step.main()
    told = capsys.readouterr().out.splitlines()
    networks = ["stage 1, labels", "stage 2, CTAM", "SpineParseNet, coarse", "SpineParseNet, coarse"]
    assert [line.split(":")[0] for line in told[1:]] == networks


def test_the_other_memory_format_is_taken_for_a_while() -> None:
    formats, x = [], torch.randn(2, 3, 4, 5, 6)

    def step() -> None:
        formats.append(sshsnet.arranged(x).is_contiguous())

    training_step.in_turn(step, training_step._otherwise_arranged)
    assert formats == [False, True] * (1 + training_step._ROUNDS)
    assert not sshsnet.arranged(x).is_contiguous()
