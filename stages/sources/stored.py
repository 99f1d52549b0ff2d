"""An array in a file: its shape is known first, its values come a few rows at a time."""

import lzma
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stages.lib.command import UserError
from stages.sources.members import is_of_disk

# The values of one array, or one file after unpacking. What states or holds more is refused, so
# that a small file that unpacks to terabytes fills neither memory nor disk.
MAX_BYTES = 4 << 30
# An array in Fortran's order cannot be read in rows, so all of it is in memory.
MAX_BYTES_AT_ONCE = 1 << 29
CHUNK_BYTES = 1 << 24
MAX_DIMENSIONS = 8  # images have 4, and what has more is said with its shape


@dataclass(frozen=True)
class Stored:
    """An array in a file.

    Attributes:
        name: The file, for messages; in an archive with the name of the array in it.
        shape: As the file states it.
        dtype: As the file states it.
        fortran: Whether the first dimension runs fastest.
        open: Opens the file at the first value.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    open: Callable[[], AbstractContextManager[IO[bytes]]]

    @property
    def size(self) -> int:
        """The bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def load(self) -> NDArray[Any]:
        """Reads the whole array.

        Raises:
            UserError: The file is damaged, or holds fewer or more values than its shape says.
        """
        self._check(MAX_BYTES)
        with reading(self.name), self.open() as file:
            content = self._read(file, self.size, 0)
            self._check_end(file)
        try:
            array = np.frombuffer(content, self.dtype)
            if self.fortran:
                return array.reshape(self.shape[::-1]).T
            return array.reshape(self.shape)
        except ValueError as error:
            raise UserError(
                f"{self.name}: no array can have the shape {list(self.shape)}: {error}"
            ) from None

    def chunks(self) -> Iterator[NDArray[Any]]:
        """Yields the array in rows, so many that they take `CHUNK_BYTES`.

        Raises:
            UserError: See `load`; or the array is so large that it is to be in C's order.
        """
        self._check(MAX_BYTES_AT_ONCE if self.fortran else MAX_BYTES)
        if self.fortran or not self.shape:
            yield self.load()
            return
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        at_once = max(CHUNK_BYTES // max(row, 1), 1)
        with reading(self.name), self.open() as file:
            for start in range(0, self.shape[0], at_once):
                rows = min(at_once, self.shape[0] - start)
                content = self._read(file, rows * row, start * row)
                yield np.frombuffer(content, self.dtype).reshape(rows, *self.shape[1:])
            self._check_end(file)

    def _read(self, file: IO[bytes], size: int, before: int) -> bytearray:
        # Grow with what comes: a file may state gigabytes and end after a few bytes.
        content = bytearray()
        while len(content) < size:
            piece = file.read(min(size - len(content), CHUNK_BYTES))
            if not piece:
                raise UserError(
                    f"{self.name}: {before + len(content)} bytes of values, expected {self.size} "
                    f"for the shape {list(self.shape)}: fetch the file again"
                )
            content += piece
        return content

    def _check_end(self, file: IO[bytes]) -> None:
        if file.read(1):
            raise UserError(
                f"{self.name}: goes on after {self.size} bytes of values, expected no more for the "
                f"shape {list(self.shape)}: fetch the file again"
            )

    def _check(self, most: int) -> None:
        if len(self.shape) > MAX_DIMENSIONS:
            raise UserError(
                f"{self.name}: {len(self.shape)} dimensions, expected {MAX_DIMENSIONS} at most"
            )
        if self.dtype.hasobject:
            raise UserError(
                f"{self.name}: holds Python objects (pickle), which could run any program when "
                "they are read: save it as an array of numbers"
            )
        if self.size > most:
            order = " in Fortran's order (numpy.ascontiguousarray changes it)"
            raise UserError(
                f"{self.name}: states {self.size:,} bytes of values for the shape "
                f"{list(self.shape)}, expected {most:,} at most"
                f"{order if most < MAX_BYTES else ''}"
            )


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turns what a damaged gzip or zip raises while it is read into a `UserError`."""
    try:
        yield
    except (EOFError, OSError, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and is_of_disk(error):
            raise
        raise UserError(
            f"{name}: the compressed data are cut off or damaged ({error}): fetch the file again"
        ) from None
    except (NotImplementedError, RuntimeError) as error:  # zipfile's for what it cannot unpack
        raise UserError(f"{name}: cannot be unpacked ({error}): pack it anew") from None
