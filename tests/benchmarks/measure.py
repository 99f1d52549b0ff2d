"""Timing whole processes against each other."""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

ROUNDS = 5


class Run(NamedTuple):
    """What a process took: seconds of the clock, and of all cores."""

    seconds: float
    cpu: float


Row = tuple[str, ...]  # of a table: what is measured, what it was, what it should be


def run(command: Iterable[str], folder: Path, environment: dict[str, str] | None = None) -> Run:
    """Runs a command to its end, which has to be good; what it prints is thrown away."""
    started = perf_counter()
    process = subprocess.Popen(
        [*command],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # else Popen would wait for it again
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    seconds = perf_counter() - started
    return Run(seconds, usage.ru_utime + usage.ru_stime)


def peak_memory(command: Iterable[str], folder: Path) -> int:
    """Runs a command to its end, which has to be good, and returns the most bytes it had."""
    # Linux counts what the starting process has, too: so a small one starts it.
    program = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""
    return int(subprocess.check_output([sys.executable, "-c", program, *command], cwd=folder))


def alternate(
    first: Callable[[], float], second: Callable[[], float], rounds: int = ROUNDS
) -> tuple[list[float], list[float]]:
    """Calls two measurements in turn, after each once that does not count.

    A shared machine's speed drifts: what stands side by side can be compared.
    """
    first(), second()
    pairs = [(first(), second()) for _ in range(rounds)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def ratio(values: list[float], others: list[float]) -> str:
    """Writes the median of the ratios, pair by pair, and their range."""
    ratios = sorted(one / other for one, other in zip(values, others, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
