"""The IDX format of MNIST's files, described at https://yann.lecun.com/exdb/mnist/.

Two zero bytes, one byte for the type of the values, one for the number of dimensions; then each
dimension as a big-endian 32-bit number; then the values, the last dimension running fastest.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.lib.command import UserError

# The four files of MNIST, and of the datasets that are laid out like it.
IDX_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
UINT8 = 0x08
# The format's other types; no dataset of pictures uses them.
OTHER_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes, compressed with gzip or plain, whatever its name.

    Returns:
        uint8, in the shape that the file states.

    Raises:
        UserError: The file is not gzip, not IDX, holds another type, or is too short or too long.
    """
    content = path.read_bytes()
    if content.startswith(GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(
                f"{path}: the gzip stream is cut off or damaged ({error}): fetch the file again"
            ) from None
    if len(content) < 4:
        raise UserError(f"{path}: {len(content)} bytes, expected an IDX file: fetch it again")
    zeros, kind, dimensions = content[:2], content[2], content[3]
    if zeros != b"\0\0" or kind not in (UINT8, *OTHER_TYPES):
        raise UserError(
            f"{path}: starts with the bytes {content[:4].hex(' ')}, no IDX file "
            f"(expected 00 00 {UINT8:02x} and the number of dimensions)"
        )
    if kind != UINT8:
        raise UserError(f"{path}: holds {OTHER_TYPES[kind]} values, expected uint8")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise UserError(f"{path}: ends within its {dimensions} dimensions: fetch the file again")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, offset=4).tolist())
    found, expected = len(content) - start, math.prod(shape)
    if found != expected:
        raise UserError(
            f"{path}: {found} bytes of values, expected {expected} for the shape {list(shape)}: "
            "fetch the file again"
        )
    try:
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
    except ValueError as error:
        raise UserError(f"{path}: no array can have the shape {list(shape)}: {error}") from None


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """Writes `array` as IDX, compressed with gzip: the same array gives the same bytes.

    Raises:
        ValueError: The array is not uint8.
    """
    if array.dtype != np.uint8:
        raise ValueError(f"IDX is written for uint8 arrays, found {array.dtype}")
    header = bytes([0, 0, UINT8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    # An empty name and mtime=0 keep the file's name and the clock out of the bytes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as stream:
        stream.write(header + array.tobytes())
