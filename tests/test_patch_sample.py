"""The benchmark of stage 2's samples: both ways give the same maps, and it runs."""

import re
import sys

import pytest
import torch

from sshsnet_core.benchmarks import patch_sample
from sshsnet_core.data.coarse import doubled
from sshsnet_core.settings import load_settings


def test_it_tells_time_and_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["patch_sample", "--profile", "smoke"])
    patch_sample.main()
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("profile smoke")
    assert re.fullmatch(r"as sent: .* MB; doubled: .* MB: .* times as long, .* times as large", told[1])


def test_both_ways_are_of_the_same_patch() -> None:
    settings = load_settings("smoke")
    maps = patch_sample.random_maps(settings)
    for sent, whole in zip(maps.window((1, 8, 8), settings.patch), maps.crop((1, 8, 8), settings.patch), strict=True):
        assert torch.equal(doubled(sent), whole)
