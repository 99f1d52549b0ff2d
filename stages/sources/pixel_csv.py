"""Images as rows of a CSV file: the label and then each pixel, 0 to 255, line by line.

With a header or without, separated by commas, semicolons or tabs, compressed with gzip or plain.
"""

import csv
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from stages.lib.command import UserError
from stages.sources.idx import GZIP_MAGIC, open_gzip_or_plain
from stages.sources.stored import MAX_BYTES, reading

DELIMITERS = (",", ";", "\t")
LABEL_NAMES = ("label", "labels", "class", "target", "y")
# A first column of one of these names numbers the rows; pandas writes the empty one.
ID_NAMES = ("id", "imageid", "image_id", "index", "", "unnamed: 0")
WHOLE = re.compile(r"\s*\d+(\.0*)?\s*")
# Bytes: a photograph of 1,000 x 1,000 pixels in three colours has less.
MAX_LINE = 1 << 24
VALUES = 2_000_000  # in memory at a time
LOOK = 1 << 20  # bytes to tell a CSV of images by


@dataclass(frozen=True)
class Table:
    """A CSV file, after a look at its first line.

    Attributes:
        path: The file.
        name: What messages call it.
        delimiter: What stands between two values.
        columns: The number of values in a line.
        header: The names of the columns; empty if the first line has values.
    """

    path: Path
    name: str
    delimiter: str
    columns: int
    header: tuple[str, ...]

    @property
    def numbering(self) -> int | None:
        """The column that numbers the rows, the first one, if its name says so."""
        return 0 if self.header and self.header[0].lower() in ID_NAMES else None

    def read_column(self, column: int) -> NDArray[np.int64]:
        """Reads one column of whole numbers from 0 on, int64 [rows].

        Raises:
            UserError: A line has another number of values, or no such number in this column.
        """
        found = []
        for number, line in self._lines():
            if column == 0:
                text = line.partition(self.delimiter)[0]
            elif column == self.columns - 1:
                text = line.rpartition(self.delimiter)[2]
            else:
                text = line.split(self.delimiter)[column]
            text = text.strip().strip('"')
            if not WHOLE.fullmatch(text) or float(text) > np.iinfo(np.int32).max:
                raise UserError(
                    f"{self.name}, line {number}: {text[:40]!r} in column {column + 1}, expected a "
                    "label: a whole number from 0 on"
                )
            found.append(int(float(text)))
        return np.array(found, np.int64)

    def read_pixels(self, without: set[int]) -> Iterator[NDArray[np.uint8]]:
        """Reads all columns but some, a number of rows at a time.

        Args:
            without: The columns that are no pixels.

        Yields:
            uint8 [rows, pixels].

        Raises:
            UserError: A line has another number of values, or a value that is no pixel's.
        """
        pixels = [column for column in range(self.columns) if column not in without]
        lines = self._lines()
        while batch := list(islice(lines, max(VALUES // self.columns, 1))):
            texts = [line for _, line in batch]
            try:
                values = np.loadtxt(
                    texts, np.float64, None, self.delimiter, ndmin=2, quotechar='"', usecols=pixels
                )
                correct = (values >= 0) & (values <= 255) & (values == np.rint(values))
            except ValueError:
                correct = np.zeros(0, bool)
            if not correct.size or not correct.all():
                raise self._explain(batch, pixels)
            yield values.astype(np.uint8)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Yields the lines with values and their numbers from 1 on; all have as many values."""
        header = bool(self.header)
        for number, line in read_lines(self.path, self.name):
            if header:
                header = False
                continue
            found = line.count(self.delimiter) + 1
            if found != self.columns:
                raise UserError(
                    f"{self.name}, line {number}: {found} values, expected {self.columns} as in "
                    "the first line"
                )
            yield number, line

    def _explain(self, batch: list[tuple[int, str]], pixels: list[int]) -> UserError:
        for number, line in batch:
            texts = next(csv.reader([line], delimiter=self.delimiter))
            for column in pixels:
                text = texts[column].strip() if column < len(texts) else ""
                if not WHOLE.fullmatch(text) or float(text) > 255:
                    return UserError(
                        f"{self.name}, line {number}: {text[:40]!r} in column {column + 1}, "
                        "expected a pixel: a whole number from 0 to 255"
                    )
        line_numbers = f"{batch[0][0]} to {batch[-1][0]}"
        return UserError(f"{self.name}, lines {line_numbers}: expected whole numbers from 0 to 255")


def open_table(path: Path, name: str = "") -> Table:
    """Finds out how a CSV file is written.

    Args:
        path: The file.
        name: What messages call it; its path if empty.

    Raises:
        UserError: The file has no lines, or not one of the delimiters.
    """
    name = name or str(path)
    first = next((line for _, line in read_lines(path, name)), "")
    if not first:
        raise UserError(f"{name}: no line in it, expected a CSV file with a line for each image")
    header, delimiter = _read_header(first)
    if not delimiter:
        raise UserError(
            f"{name}: starts with {first[:40]!r}, expected a CSV file: values separated by one of "
            "comma, semicolon and tab"
        )
    fields = next(csv.reader([first], delimiter=delimiter))
    return Table(path, name, delimiter, len(fields), header)


def is_pixel_csv(file: IO[bytes]) -> bool:
    """Tells whether a file is a CSV of images: five numbers or more in its second line.

    The labels of photographs come as CSV files too, of names and a few columns.
    """
    start = file.read(LOOK)
    if start.startswith(GZIP_MAGIC):
        try:
            start = zlib.decompressobj(wbits=31).decompress(start, LOOK)
        except zlib.error:
            return False
    lines = [line for line in start.decode("utf-8-sig", "replace").splitlines() if line.strip()]
    delimiter = _read_header(lines[0])[1] if lines else ""
    if not delimiter:
        return False
    fields = next(csv.reader([lines[:2][-1]], delimiter=delimiter))
    numbers = sum(WHOLE.fullmatch(field) is not None for field in fields)
    return len(fields) >= 5 and numbers >= 0.9 * len(fields)


def read_lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not empty, and their numbers from 1 on.

    Raises:
        UserError: The file is no text, or has more in it than a table of images can have.
    """
    total = 0
    with reading(name), open_gzip_or_plain(path) as file:
        number = 0
        while content := file.readline(MAX_LINE + 1):
            number += 1
            total += len(content)
            if len(content) > MAX_LINE or total > MAX_BYTES:
                raise UserError(
                    f"{name}, line {number}: {total:,} bytes up to here, expected a CSV file of "
                    f"{MAX_BYTES:,} bytes at most, {MAX_LINE:,} in a line"
                )
            try:
                line = content.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
                if "\0" in line:
                    raise ValueError
            except ValueError:
                raise UserError(
                    f"{name}, line {number}: no text in UTF-8, expected a CSV file"
                ) from None
            if line.strip():
                yield number, line


def _read_header(first: str) -> tuple[tuple[str, ...], str]:
    """Returns the names of the columns, if the first line has names, and the delimiter."""
    found = [delimiter for delimiter in DELIMITERS if delimiter in first]
    if len(found) != 1:
        return (), ""
    [delimiter] = found
    fields = tuple(field.strip() for field in next(csv.reader([first], delimiter=delimiter)))
    # Most names are no numbers: label, pixel0, 1x1. A file of handwritten letters that many use has
    # 0, 0.1, 0.2: what pandas makes of a row of zeros that it takes for names.
    names = [field for field in fields if not WHOLE.fullmatch(field)]
    rest = [field for field in fields if field not in names]
    counts = ([str(start + i) for i in range(len(rest))] for start in (0, 1))
    numbered = len(rest) > 1 and rest in counts
    known = all(name.lower() in (*LABEL_NAMES, *ID_NAMES) for name in names)
    # Pandas numbers columns that have no names: beyond 255, these are no pixels.
    if 2 * len(names) > len(fields) or (numbered and known and (names or len(rest) > 256)):
        return fields, delimiter
    return (), delimiter
