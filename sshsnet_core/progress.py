"""How far a long piece of work has come: plain, flushed lines that read alike in a terminal, a notebook and a log."""

import time
from types import TracebackType
from typing import Self

#: Quick items share a line: after the first and before the last, at most one line in so many seconds.
SECONDS_BETWEEN_LINES = 2.0


def duration(seconds: float) -> str:
    """``18 s``, ``1 min 40 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Counts items and says how long they took and how long the rest will take.

    >>> with Progress("stage 1 CPS, fold 0", total=20, unit="epoch") as progress:
    ...     progress.advance("loss 1.23")
    stage 1 CPS, fold 0: epoch 1/20  loss 1.23  18 s, 5 min 42 s left

    ``done`` is what an earlier run has finished already: counted, but left out of the estimate.
    """

    def __init__(self, what: str, total: int, unit: str = "", done: int = 0) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._done_before = done

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._last_line = -SECONDS_BETWEEN_LINES
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._say("stopped")

    def advance(self, note: str = "") -> None:
        """One more item is done; ``note`` says which, or how it went."""
        self.done += 1
        elapsed = time.monotonic() - self._start
        if self.done < self.total and elapsed - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = elapsed
        self._say(note)

    def _say(self, note: str) -> None:
        elapsed = time.monotonic() - self._start
        new = self.done - self._done_before
        count = f"{self.unit} {self.done}/{self.total}".strip()
        times = duration(elapsed)
        if new > 0 and self.done < self.total:
            times += f", {duration(elapsed / new * (self.total - self.done))} left"
        print(f"{self.what}: " + "  ".join(filter(None, (count, note, times))), flush=True)
