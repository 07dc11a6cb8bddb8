"""Progress lines: what they say, and that quick work does not flood a log."""

import time

import pytest

from sshsnet_core.progress import Progress, duration


class Clock:
    """A clock that moves when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (17.6, "18 s"), (59.7, "1 min 00 s"), (100, "1 min 40 s"), (3600, "1 h 00 min"), (7530, "2 h 05 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_says_what_how_far_how_long_and_how_much_longer(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("stage 1 CPS, fold 0", total=20, unit="epoch", done=2) as progress:
        clock.now += 6
        progress.advance("loss 1.23")
    assert capsys.readouterr().out == "stage 1 CPS, fold 0: epoch 3/20  loss 1.23  6 s, 1 min 42 s left\n"


def test_quick_items_share_lines_but_the_first_and_the_last_are_there(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("preprocessing", total=100) as progress:
        for number in range(100):
            clock.now += 0.1
            progress.advance(f"case{number}")
    lines = capsys.readouterr().out.splitlines()
    assert "1/100" in lines[0]
    assert lines[-1] == "preprocessing: 100/100  case99  10 s"
    assert 4 <= len(lines) <= 8


def test_an_error_leaves_a_line_and_passes_on(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with Progress("preprocessing", total=3) as progress:
            clock.now += 1
            progress.advance("case1")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert capsys.readouterr().out.splitlines()[-1].startswith("preprocessing: 1/3  stopped")
