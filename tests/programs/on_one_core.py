"""Runs `python` with the given arguments, on one core."""

import os
import sys

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606
