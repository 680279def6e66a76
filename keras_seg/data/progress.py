"""A progress bar that leaves standard output to the results."""

import sys
import time

_WIDTH = 24


class Progress:
    """Count of done items on standard error: a line redrawn on a terminal, else one per tenth."""

    def __init__(self, total, title, *, show=True, stream=None):
        self.total, self.title, self.show = total, title, show
        self.stream = sys.stderr if stream is None else stream
        self.done = 0
        self._start = time.monotonic()
        self._terminal = self.stream.isatty()

    def step(self, note=""):
        """One more item is done; `note` is a few words to show behind the bar."""
        self.done += 1
        if not self.show:
            return
        last = self.done == self.total
        tenth = self.done * 10 // self.total > (self.done - 1) * 10 // self.total
        if self._terminal or tenth:
            filled = self.done * _WIDTH // self.total
            rate = (time.monotonic() - self._start) / self.done
            bar = "#" * filled + "." * (_WIDTH - filled)
            left = f"{rate * 1000:.0f} ms each, {rate * (self.total - self.done):.0f} s left"
            text = f"{self.title} [{bar}] {self.done}/{self.total}, {left}  {note}".rstrip()
            end = "\n" if last or not self._terminal else ""
            start = "\r\x1b[K" if self._terminal else ""
            print(f"{start}{text}", end=end, file=self.stream, flush=True)
