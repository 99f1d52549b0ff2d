"""Trains the model `m` on a disk that is full when its second state is written."""

import errno
from typing import Any, BinaryIO
from unittest import mock

import numpy as np

from stages import train

savez = np.savez
saved: list[BinaryIO] = []


def fill_disk(file: BinaryIO, **arrays: Any) -> None:
    if saved:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")
    savez(file, **arrays)
    saved.append(file)


with mock.patch("numpy.savez", fill_disk):
    train.main("m")
