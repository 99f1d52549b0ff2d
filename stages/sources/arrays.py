"""A dataset's arrays: the files that every format writes, and how they are written."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.lib.images import Images

# Images are uint8 [n, height, width, channels], labels `label_dtype` [n], groups int32 [n], names
# str [n].
ARRAYS = (
    *("images.npy", "labels.npy", "groups.npy", "valid_images.npy", "valid_labels.npy"),
    *("test_images.npy", "test_labels.npy", "unlabelled_images.npy", "unlabelled_names.npy"),
    "unlabelled_left_out.npy",
)
MAX_CLASSES = 1 << 16
CHUNK = 1024  # images in memory at a time while they are copied

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


def write_selection(path: Path, array: Images | NDArray[Any], indices: NDArray[np.int64]) -> None:
    """Writes `array[indices]` as an `.npy` file, `CHUNK` rows in memory at a time."""
    with path.open("wb") as file:
        description = np.lib.format.header_data_from_array_1_0(array[:0])
        description["shape"] = (len(indices), *array.shape[1:])
        np.lib.format.write_array_header_1_0(file, description)
        for start in range(0, len(indices), CHUNK):
            file.write(array[indices[start : start + CHUNK]].tobytes())


def write_csv(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    """Writes a table, with the same bytes on every system."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
