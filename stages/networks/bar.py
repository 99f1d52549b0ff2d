"""The progress of a training on a terminal."""

import sys
import time


class Bar:
    """A line with the steps done and the time left, on a terminal alone."""

    def __init__(self, steps: int):
        self._steps = steps
        self._first: tuple[int, float] | None = None

    def show(self, done: int) -> None:
        """Replaces the line, when so many steps of the phase are done."""
        if not sys.stdout.isatty():
            return
        now = time.perf_counter()
        self._first = self._first or (done, now)  # the first steps take the time of compiling
        steps, started = self._first
        left = (self._steps - done) * (now - started) / max(1, done - steps)
        filled = 30 * done // self._steps
        line = f"[{'#' * filled}{'.' * (30 - filled)}] step {done} of {self._steps}"
        if done > steps:
            line += f", {int(left // 60)}:{int(left % 60):02} left"
        # Clear what was there; what is printed next overwrites it.
        print(f"\r\033[K{line}\r", end="", flush=True)
