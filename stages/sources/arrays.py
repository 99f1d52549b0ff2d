"""A dataset's arrays: the files that every format writes, and how they are written."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Images are uint8 [n, height, width, channels], labels `label_dtype` [n], names str [n].
ARRAYS = (
    *("images.npy", "labels.npy", "valid_images.npy", "valid_labels.npy"),
    *("test_images.npy", "test_labels.npy", "unlabelled_images.npy", "unlabelled_names.npy"),
)
MAX_CLASSES = 1 << 16

Image = NDArray[np.uint8]
# Where to write each of a dataset's files, by its name.
Files = Mapping[str, Path]
# A file that gives no image, and the reason.
LeftOut = tuple[str, str]
# The number of images by their width and height in pixels.
Sizes = Counter[tuple[int, int]]


class Prepared(NamedTuple):
    """The facts about a dataset that its arrays do not hold.

    Attributes:
        classes: The names of the classes; a label is an index into them.
        sizes: The sizes of the images before they were resized.
        left_out: The files that give no image.
    """

    classes: list[str]
    sizes: Sizes
    left_out: list[LeftOut]


def label_dtype(classes: int) -> type[np.uint8 | np.uint16]:
    """Returns the type of the labels of so many classes: a byte where it suffices."""
    return np.uint8 if classes <= 256 else np.uint16


def save(path: Path, array: NDArray[Any]) -> None:
    """Writes an `.npy` file under exactly this name."""
    with path.open("wb") as file:  # given a path, NumPy would add the suffix .npy
        np.save(file, array)


def write_rows(path: Path, rows: Iterable[Image], row_shape: tuple[int, ...]) -> None:
    """Writes uint8 rows as one `.npy` array [rows, *row_shape], one row in memory at a time."""
    with path.open("wb") as file:
        _write_header(file, (0, *row_shape))
        count = 0
        for row in rows:
            file.write(row.tobytes())
            count += 1
        # Overwrite the header: NumPy pads it so that a larger first dimension fits.
        file.seek(0)
        _write_header(file, (count, *row_shape))


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
