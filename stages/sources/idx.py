"""The IDX format of MNIST's files, described at https://yann.lecun.com/exdb/mnist/.

Two zero bytes, one byte for the type of the values, one for the number of dimensions; then each
dimension as a big-endian 32-bit number; then the values, the last dimension running fastest.
"""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from stages.lib.command import UserError
from stages.sources.stored import Stored, reading

# The four files of MNIST, and of the datasets that are laid out like it.
IDX_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
UINT8 = 0x08
TYPES = {UINT8: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"


def open_idx(path: Path, name: str = "") -> Stored:
    """Opens an IDX file, compressed with gzip or plain, whatever its name.

    Args:
        path: The file.
        name: What messages call it; its path if empty.

    Raises:
        UserError: The file is no IDX, or its head is damaged.
    """
    name = name or str(path)
    with open_gzip_or_plain(path) as file, reading(name):
        head = file.read(4)
        dimensions = head[3] if len(head) == 4 else 0
        sizes = file.read(4 * dimensions)
    if len(head) < 4:
        raise UserError(f"{name}: {len(head)} bytes, expected an IDX file: fetch it again")
    if head[:2] != b"\0\0" or head[2] not in TYPES:
        raise UserError(
            f"{name}: starts with the bytes {head.hex(' ')}, no IDX file "
            f"(expected 00 00 {UINT8:02x} and the number of dimensions)"
        )
    if len(sizes) < 4 * dimensions:
        raise UserError(f"{name}: ends within its {dimensions} dimensions: fetch the file again")

    @contextmanager
    def open_values() -> Iterator[IO[bytes]]:
        with open_gzip_or_plain(path) as file:
            with reading(name):
                file.read(4 + 4 * dimensions)
            yield file

    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    return Stored(name, shape, np.dtype(TYPES[head[2]]), False, open_values)


def read_idx(path: Path) -> NDArray[Any]:
    """Reads an IDX file, in the type and the shape that it states: see `open_idx`."""
    return open_idx(path).load()


@contextmanager
def open_gzip_or_plain(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file, and unpacks it while it is read if it is compressed with gzip."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        if compressed:
            with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                yield cast("IO[bytes]", unpacked)
        else:
            yield file


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """Writes `array` as IDX, compressed with gzip: the same array gives the same bytes.

    Raises:
        ValueError: The array is not uint8.
    """
    if array.dtype != np.uint8:
        raise ValueError(f"IDX is written for uint8 arrays, found {array.dtype}")
    header = bytes([0, 0, UINT8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    with compress(path) as stream:
        stream.write(header + array.tobytes())


@contextmanager
def compress(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file that is compressed with gzip: the same content gives the same bytes."""
    # An empty name and mtime=0 keep the file's name and the clock out of the bytes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as stream:
        yield cast("IO[bytes]", stream)
