"""Images that stay on the disk: a batch of them is read when it is used, however many there are."""

import math
import os
import sys
from pathlib import Path

import numpy as np

from stages.lib.files import read_array

# The largest file that is mapped, in bytes. The pages of a map count as the process's own memory:
# so a larger file is read row by row, which takes 3 microseconds for 7,500 bytes instead of one.
MAPPED = 1 << 28


class Images:
    """Images of a file, or of an array in memory: `images[rows]` is a copy of these.

    Args:
        array: uint8 [n, height, width, channels].
        rows: Which of them, int [m]; None is all.

    Attributes:
        shape: Their number, height, width, channels.
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray | None = None):
        self._array = array
        self._rows = np.arange(len(array)) if rows is None else rows
        self._file, self._start = None, 0
        if isinstance(array, np.memmap) and array.nbytes > MAPPED:
            self._file = Path(str(array.filename)).open("rb", buffering=0)  # noqa: SIM115
            self._start = array.offset
        self.shape = (len(self._rows), *array.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        chosen = self._rows[rows]
        if self._file is None:
            copied: np.ndarray = self._array[chosen]
            return copied
        return self._read(self._file.fileno(), chosen)

    def choose(self, rows: np.ndarray) -> "Images":
        """Returns the images in `rows`, int [m], without reading them."""
        return Images(self._array, self._rows[rows])

    def _read(self, file: int, rows: np.ndarray) -> np.ndarray:
        size = math.prod(self.shape[1:])
        places = (self._start + rows * size).tolist()
        if sys.platform != "darwin":  # which has no such call
            # The disk looks for all of them at once: this reads a file that is not in the system's
            # cache four times as fast.
            for place in places:
                os.posix_fadvise(file, place, size, os.POSIX_FADV_WILLNEED)
        read = b"".join([os.pread(file, size, place) for place in places])
        return np.frombuffer(read, np.uint8).reshape(-1, *self.shape[1:])


def read_images(path: Path) -> Images:
    """Returns the images in the `.npy` file `path`; raises a `UserError` if it is damaged."""
    return Images(read_array(path, mmap_mode="r"))
