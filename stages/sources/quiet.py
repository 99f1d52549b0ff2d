"""Decoders that keep silent: the stage itself reports what is wrong with a file."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
from cv2.utils import logging as opencv

STANDARD_ERROR = 2
# How many threads keep standard error closed now, and where it led before.
_lock, _closed_by, _kept = threading.Lock(), 0, -1


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keeps OpenCV from starting threads, and OpenCV and Pillow from writing to standard error."""
    threads, level = cv2.getNumThreads(), opencv.getLogLevel()
    log = logging.getLogger("PIL")
    disabled = log.level
    cv2.setNumThreads(1)
    opencv.setLogLevel(opencv.LOG_LEVEL_SILENT)
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        cv2.setNumThreads(threads)
        opencv.setLogLevel(level)
        log.setLevel(disabled)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Leads standard error nowhere: libtiff and libpng write to it of each damaged file.

    Nothing but the progress bar is written meanwhile.
    """
    global _closed_by, _kept
    with _lock:
        if not _closed_by:
            _kept = os.dup(STANDARD_ERROR)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, STANDARD_ERROR)
            os.close(nowhere)
        _closed_by += 1
    try:
        yield
    finally:
        with _lock:
            _closed_by -= 1
            if not _closed_by:
                os.dup2(_kept, STANDARD_ERROR)
                os.close(_kept)
