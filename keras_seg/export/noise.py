"""The converters print hundreds of lines. They are kept back, and told only when a step fails."""

import contextlib
import io
import os
import sys
import tempfile
import time
import warnings


@contextlib.contextmanager
def silence():
    """Keep what Python and C++ code print from the terminal; yields a function that returns it.

    Works on the process's own output and error streams, so other threads are silent too.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file, contextlib.ExitStack() as stack:
        for stream in (1, 2):
            kept = os.dup(stream)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, stream)
            os.dup2(file.fileno(), stream)
        printed = io.StringIO()
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(contextlib.redirect_stderr(printed))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")

        def text():
            file.seek(0)
            return file.read().decode(errors="replace") + printed.getvalue()

        yield text


class Progress:
    """One line a step on standard error: what, and how many seconds it took."""

    def __init__(self, shown):
        self._shown = shown

    @contextlib.contextmanager
    def step(self, name):
        """Time the block and say so when it is done. Yields a function that adds to the line."""
        details = []
        start = time.perf_counter()
        if self._shown:
            print(f"export  {name:<28}", end="", file=sys.stderr, flush=True)
        try:
            yield details.append
        except BaseException:
            if self._shown:
                print("failed", file=sys.stderr, flush=True)
            raise
        if self._shown:
            seconds = time.perf_counter() - start
            print(f"{seconds:7.1f} s  {'  '.join(details)}", file=sys.stderr, flush=True)
