"""The benchmark of stage 2's samples: it runs, and what it times as sent is the smaller."""

import re
import sys

import pytest

from sshsnet_core.benchmarks import patch_sample


def test_it_tells_time_and_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["patch_sample", "--profile", "smoke"])
    patch_sample.main()
    title, told = capsys.readouterr().out.splitlines()
    assert title.startswith("profile smoke")
    found = re.fullmatch(r"as sent: .* ms, .* MB; doubled: .* ms, .* MB: .* times as long, (.*) times as large", told)
    # Twice as many pixels both ways, twice as many bytes each, less what the margin takes.
    assert found is not None
    assert 3 < float(found[1]) < 8
