"""One line a step while an export or a benchmark runs."""

import contextlib
import sys
import time


class Progress:
    """One line a step on standard error: what, and how many seconds it took."""

    def __init__(self, shown, command="export"):
        self._shown, self._command = shown, command

    @contextlib.contextmanager
    def step(self, name):
        """Time the block and say so when it is done. Yields a function that adds to the line."""
        details = []
        start = time.perf_counter()
        if self._shown:
            print(f"{self._command}  {name:<28}", end="", file=sys.stderr, flush=True)
        try:
            yield details.append
        except BaseException:
            if self._shown:
                print("failed", file=sys.stderr, flush=True)
            raise
        if self._shown:
            seconds = time.perf_counter() - start
            print(f"{seconds:7.1f} s  {'  '.join(details)}", file=sys.stderr, flush=True)
