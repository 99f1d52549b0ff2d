"""Datasets that come as CSV files of pixels: where the labels are, and how the images lie."""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.lib.command import UserError
from stages.lib.files import natural_key
from stages.sources.array_images import Images, Layout, flat_layout
from stages.sources.array_names import PARTS
from stages.sources.arrays import Image
from stages.sources.formats import Csv
from stages.sources.pixel_csv import LABEL_NAMES, Table, open_table


def find_csv(raw: Path, options: Csv) -> dict[str, Images]:
    """Finds the parts in CSV files; a test file without labels has the images to predict."""
    parts: dict[str, Images] = {}
    first: Table | None = None
    for part in dict.fromkeys(PARTS.values()):
        path = raw / f"{part}.csv.gz"
        if not path.is_file():
            if part == "train":
                raise UserError(f"there is no {path}, expected a CSV file with labels to train on")
            continue
        table = open_table(path)
        # What the training file shows holds for another one like it.
        if not (first and (table.header, table.columns) == (first.header, first.columns)):
            label, layout = find_label(table, options)
        first = first or table
        if label is None and part != "test":
            raise UserError(
                f"{path}: {table.columns} columns and none of labels, expected one in the {part} "
                "file"
            )
        others = {column for column in (label, table.numbering) if column is not None}
        check_order([name for at, name in enumerate(table.header) if at not in others], str(path))
        labels, names = None, tuple[str, ...]()
        if label is not None:
            labels = table.read_column(label)
        elif table.numbering is not None and table.header[0].lower() not in ("", "index"):
            names = tuple(map(str, table.read_column(table.numbering).tolist()))
        else:
            # As Kaggle numbers the rows of its test.csv.
            names = tuple(str(row) for row in range(1, len(table.read_column(0)) + 1))
        read = partial(_read_table, table, others, layout, options.transpose)
        key = part if label is not None else "unlabelled"
        parts[key] = Images(str(path), layout, read, labels, names)
    return parts


def _read_table(
    table: Table, without: set[int], layout: Layout, transpose: bool
) -> Iterator[Image]:
    for rows in table.read_pixels(without):
        images = rows.reshape(-1, *layout)
        yield from np.ascontiguousarray(images.swapaxes(1, 2)) if transpose else images


def find_label(table: Table, options: Csv) -> tuple[int | None, Layout]:
    """Returns the column of a table's labels, None if there is none, and how its images lie.

    Raises:
        UserError: The columns are no images, or more than one may hold the labels.
    """
    names = [name.lower() for name in table.header]
    rest = table.columns - (table.numbering is not None)
    label: int | None = None
    wanted = options.label_column
    if isinstance(wanted, int):
        unlabelled = flat_layout(rest, options.shape) is not None
        label = None if unlabelled else wanted
        if not unlabelled and wanted >= table.columns:
            raise UserError(
                f"{table.name}: `label_column: {wanted}`, but the columns are 0 to "
                f"{table.columns - 1}"
            )
    elif wanted is not None:
        label = table.header.index(wanted) if wanted in table.header else None
    else:
        named = [column for column, name in enumerate(names) if name in LABEL_NAMES]
        if len(named) > 1:
            raise UserError(
                f"{table.name}: the columns {', '.join(table.header[column] for column in named)} "
                "may be the labels: choose one with `label_column`"
            )
        if named:
            label = named[0]
        elif flat_layout(rest, options.shape) is None:
            label = _first_column(table)
    others = {label, table.numbering} - {None}  # the same one, if params say so
    layout = flat_layout(table.columns - len(others), options.shape)
    if layout is None:
        raise UserError(
            f"{table.name}: {table.columns} columns, expected a label and the pixels of a square "
            "image: give `shape: [height, width]`, and `label_column` if it is not called label"
        )
    return label, layout


def check_order(names: list[str], where: str) -> None:
    """Raises a `UserError` if columns of pixels are numbered but not in the order of the numbers.

    A program may sort them as text: pixel0, pixel1, pixel10. Two numbers are the row and the
    column, or the column and the row. What is named in another way cannot be checked.
    """
    keys = [natural_key(name) for name in names]
    if len({tuple(key[::2]) for key in keys}) != 1:
        return
    numbers = [key[1::2] for key in keys]
    downwards = [number[::-1] for number in numbers]
    if numbers != sorted(numbers) and downwards != sorted(downwards):
        at = next(at for at, pair in enumerate(pairwise(numbers)) if pair[0] > pair[1])
        raise UserError(
            f"{where}: the column '{names[at]}' stands before '{names[at + 1]}', expected the "
            "pixels line by line: sort the columns by their numbers"
        )


def _first_column(table: Table) -> int:
    """Returns the first column that does not number the rows, unless the last may be the labels."""
    first = 0 if table.numbering is None else 1
    labels = table.read_column(first)
    try:
        last = table.read_column(table.columns - 1)
    except UserError:
        last = labels[:0]  # a value that is no number: reading the pixels tells the line
    if not _may_be_labels(labels) or _may_be_labels(last):
        raise UserError(
            f"{table.name}: whether the first or the last of {table.columns} columns holds the "
            "labels cannot be told: set `label_column: 0`, or another name or number"
        )
    return first


def _may_be_labels(values: NDArray[np.int64]) -> bool:
    """Tells whether a column may hold labels: two numbers or more, and few left out between."""
    numbers = np.unique(values)
    return len(numbers) >= 2 and int(numbers[-1] - numbers[0]) < 2 * len(numbers)
