"""Datasets that come as arrays: MNIST's four files, NumPy's files, and CSV files of pixels."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.lib.command import UserError
from stages.sources.array_images import (
    Images,
    find_layout,
    find_scales,
    read_images,
    read_labels,
)
from stages.sources.array_names import PARTS, parse_name
from stages.sources.arrays import (
    MAX_CLASSES,
    Files,
    Prepared,
    label_dtype,
    save,
    write_csv,
    write_rows,
)
from stages.sources.copies import group_equal_rows, write_no_tables
from stages.sources.csv_datasets import find_csv
from stages.sources.formats import ArrayFormat, Csv, Idx, Npz
from stages.sources.idx import open_idx
from stages.sources.npz import open_npz
from stages.sources.stored import Stored

# The files of each array in the outputs, by the part of the dataset.
OUTPUTS = {
    "train": ("images.npy", "labels.npy"),
    "valid": ("valid_images.npy", "valid_labels.npy"),
    "test": ("test_images.npy", "test_labels.npy"),
    "unlabelled": ("unlabelled_images.npy", "unlabelled_names.npy"),
}
# In the names of MNIST's files, this is the part.
IDX_PARTS = {"train": "train", "valid": "valid", "test": "t10k"}


def prepare_arrays(raw: Path, options: ArrayFormat, files: Files) -> Prepared:
    """Writes the arrays of the files in the folder `raw`.

    Raises:
        UserError: A file is missing or damaged, holds something else, or does not fit the others.
    """
    if isinstance(options, Idx):
        parts = find_idx(raw, options)
    elif isinstance(options, Npz):
        parts = find_npz(raw, options)
    else:
        assert isinstance(options, Csv)  # noqa: S101
        parts = find_csv(raw, options)
    layout = parts["train"].layout
    for part, images in parts.items():
        if images.layout != layout:
            (height, width, channels), others = layout, images.layout
            raise UserError(
                f"{raw}: training images are {height} pixels high and {width} wide with {channels} "
                f"channels, {part} images {others.height} and {others.width} with "
                f"{others.channels}; expected the same"
            )
    # The classes are the labels that occur; some datasets leave numbers out.
    labelled = [images.labels for images in parts.values() if images.labels is not None]
    numbers = np.unique(np.concatenate(labelled))
    classes = name_classes(raw, numbers, options.classes)
    height, width = layout[1::-1] if options.transpose else layout[:2]
    for part, (images_name, labels_name) in OUTPUTS.items():
        given = parts.get(part)
        shape = (height, width, layout.channels)
        write_rows(files[images_name], given.read() if given else (), shape)
        if part == "unlabelled":
            save(files[labels_name], np.array(given.names if given else (), np.str_))
        else:
            labels = given.labels if given and given.labels is not None else numbers[:0]
            indexes = np.searchsorted(numbers, labels)
            save(files[labels_name], indexes.astype(label_dtype(len(classes))))
    save(files["groups.npy"], group_equal_rows(np.load(files["images.npy"], mmap_mode="r")))
    save(files["unlabelled_left_out.npy"], np.array([], np.str_))
    write_no_tables(files)
    write_csv(files["notes.csv"], ("file", "note"), [])
    count = sum(images.count for images in parts.values())
    return Prepared(classes, Counter({(width, height): count}), [])


def name_classes(raw: Path, numbers: NDArray[np.int64], names: list[str] | None) -> list[str]:
    """Returns the names of the classes, of the labels that occur: the numbers, if none are given.

    Raises:
        UserError: There are too many labels, or not as many as names.
    """
    if len(numbers) > MAX_CLASSES:
        raise UserError(
            f"{raw}: {len(numbers)} classes ({', '.join(map(str, numbers[:3]))}, ...), "
            f"expected {MAX_CLASSES} at most"
        )
    if names is None:
        return [str(number) for number in numbers]
    if len(names) != len(numbers):
        raise UserError(
            f"{raw}: {len(numbers)} labels occur ({_range(numbers)}), but `classes` has "
            f"{len(names)} names: expected one for each, in the order of the numbers"
        )
    return names


def _range(numbers: NDArray[np.int64]) -> str:
    if len(numbers) <= 6:
        return ", ".join(map(str, numbers.tolist()))
    return f"{numbers[0]}, {numbers[1]} .. {numbers[-1]}"


def _of_arrays(arrays: dict[str, tuple[Stored, Stored]], options: ArrayFormat) -> dict[str, Images]:
    """Returns the parts whose images and labels are given."""
    scales = find_scales([images for images, _ in arrays.values()])
    return {
        part: _of_array(*pair, part, scale, options)
        for (part, pair), scale in zip(arrays.items(), scales, strict=True)
    }


def _of_array(
    stored: Stored, labels: Stored, part: str, scale: int, options: ArrayFormat
) -> Images:
    layout = find_layout(stored.name, stored.shape, options.shape)
    found = read_labels(labels)
    if stored.shape[0] != len(found):
        raise UserError(
            f"{stored.name}: {stored.shape[0]} {part} images but {len(found)} {part} labels in "
            f"{labels.name}: the files do not belong together"
        )
    read = partial(read_images, stored, layout, scale, options.transpose)
    return Images(stored.name, layout, read, found)


def find_idx(raw: Path, options: ArrayFormat) -> dict[str, Images]:
    """Finds the parts in MNIST's files; those for validating and testing may be missing."""
    parts = {}
    for part, prefix in IDX_PARTS.items():
        images, labels = (
            raw / f"{prefix}-{content}-ubyte" for content in ("images-idx3", "labels-idx1")
        )
        if part == "train" or any(_exists(path) for path in (images, labels)):
            parts[part] = (open_idx(find_file(images)), open_idx(find_file(labels)))
    return _of_arrays(parts, options)


def _exists(path: Path) -> bool:
    return path.is_file() or path.with_name(f"{path.name}.gz").is_file()


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


def find_npz(raw: Path, options: ArrayFormat) -> dict[str, Images]:
    """Finds the parts in NumPy's files, by the names of the files and of the arrays in them."""
    found: dict[tuple[str, str], Stored] = {}
    names = []
    for path in sorted([*raw.glob("*.npz"), *raw.glob("*.npy")]):
        for key, stored in open_npz(path).items():
            name = parse_name(f"{key} {path.stem}")  # its own name says more than the file's
            names.append(key or path.name)
            if name.content is None:
                continue
            place = (name.part or "train", name.content)
            if place in found:
                raise UserError(
                    f"{found[place].name} and {stored.name} are both the {place[0]} {place[1]}: "
                    "expected one array"
                )
            found[place] = stored
    parts: dict[str, tuple[Stored, Stored]] = {}
    for part in dict.fromkeys(PARTS.values()):
        given = {content: found.get((part, content)) for content in ("images", "labels")}
        images, labels = given.values()
        if images is not None and labels is not None:
            parts[part] = (images, labels)
        elif part == "train" or images is not labels:
            missing = " and ".join(content for content in given if given[content] is None)
            raise UserError(
                f"{raw}: no {part} {missing} among the arrays {', '.join(names)}, expected names "
                "such as x_train, y_train, x_test, y_test or train_images, train_labels"
            )
    return _of_arrays(parts, options)
