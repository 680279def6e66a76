"""A bar that says how far a long loop is."""

import sys


class Bar:
    """A progress bar on stderr; on no terminal, a line each tenth. `verb` is what is being done."""

    def __init__(self, total, verb):
        self.total, self.verb, self.done = total, verb, 0

    def step(self):
        self.done += 1
        tenth = 10 * self.done // self.total
        if sys.stderr.isatty():
            bar = ("#" * (3 * tenth)).ljust(30)
            end = "\n" if self.done == self.total else ""
            sys.stderr.write(f"\r{self.verb} [{bar}] {self.done}/{self.total}{end}")
        elif tenth != 10 * (self.done - 1) // self.total:
            sys.stderr.write(f"{self.verb} {self.done}/{self.total}\n")
        sys.stderr.flush()
