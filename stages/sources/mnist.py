"""MNIST's four files, and those of datasets that are laid out like it."""

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.lib.command import UserError
from stages.sources.arrays import Files, Image, Prepared, save, write_csv
from stages.sources.copies import group_equal_rows, write_no_tables
from stages.sources.idx import read_idx


def prepare_idx(raw: Path, files: Files) -> Prepared:
    """Writes the arrays of the four IDX files in the folder `raw`.

    Raises:
        UserError: A file is missing or damaged, or the four do not fit each other.
    """
    images, labels = read_part(raw, "train")
    test_images, test_labels = read_part(raw, "t10k")
    (height, width), (test_height, test_width) = images.shape[1:3], test_images.shape[1:3]
    if (height, width) != (test_height, test_width):
        raise UserError(
            f"{raw}: training images are {height} pixels high and {width} wide, "
            f"test images {test_height} and {test_width}; expected the same"
        )
    # The classes are the labels that occur; some datasets leave numbers out.
    digits = np.unique(np.concatenate([labels, test_labels]))
    save(files["images.npy"], images)
    save(files["labels.npy"], np.searchsorted(digits, labels).astype(np.uint8))
    save(files["groups.npy"], group_equal_rows(images))
    save(files["valid_images.npy"], images[:0])
    save(files["valid_labels.npy"], labels[:0])
    save(files["test_images.npy"], test_images)
    save(files["test_labels.npy"], np.searchsorted(digits, test_labels).astype(np.uint8))
    save(files["unlabelled_images.npy"], images[:0])
    save(files["unlabelled_names.npy"], np.array([], np.str_))
    save(files["unlabelled_left_out.npy"], np.array([], np.str_))
    write_no_tables(files)
    write_csv(files["notes.csv"], ("file", "note"), [])
    sizes = Counter({(width, height): len(images) + len(test_images)})
    return Prepared([str(digit) for digit in digits], sizes, [])


def read_part(raw: Path, part: str) -> tuple[Image, NDArray[np.uint8]]:
    """Reads one part of MNIST.

    Args:
        raw: The folder with the files, compressed or not.
        part: `train` or `t10k`.

    Returns:
        Images, uint8 [n, height, width, 1], and labels, uint8 [n].

    Raises:
        UserError: A file is missing or damaged, or the two do not fit each other.
    """
    images, labels = (
        read_idx(find_file(raw / f"{part}-{content}-ubyte"))
        for content in ("images-idx3", "labels-idx1")
    )
    if images.ndim != 3 or labels.ndim != 1:
        raise UserError(
            f"{raw}: the {part} images have {images.ndim} dimensions and the labels {labels.ndim}, "
            "expected 3 (number, height, width) and 1"
        )
    if len(images) != len(labels):
        raise UserError(
            f"{raw}: {len(images)} {part} images but {len(labels)} {part} labels: "
            "the files do not belong together"
        )
    return images[..., np.newaxis], labels


def find_file(path: Path) -> Path:
    """Returns the path with `.gz` added if that file exists, else `path` itself.

    Raises:
        UserError: Neither file exists.
    """
    compressed = path.with_name(f"{path.name}.gz")
    for candidate in (compressed, path):
        if candidate.is_file():
            return candidate
    raise UserError(f"there is neither {compressed} nor {path.name} beside it")
