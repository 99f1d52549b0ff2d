"""NumPy's `.npz` and `.npy` files, read without pickle and a few rows at a time."""

import tokenize
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from stages.lib.command import UserError
from stages.sources.stored import Stored, reading

NPY_MAGIC = b"\x93NUMPY"


def open_npz(path: Path, name: str = "") -> dict[str, Stored]:
    """Opens the arrays of an `.npz` file, or the one of an `.npy` file, which is called ``.

    Args:
        path: The file.
        name: What messages call it; its path if empty.

    Returns:
        The arrays by their names in the file, sorted.

    Raises:
        UserError: The file is none of NumPy's, or is damaged.
    """
    name = name or str(path)
    with path.open("rb") as file:
        if file.read(len(NPY_MAGIC)) == NPY_MAGIC:
            return {"": _open_array(path, None, name)}
    with reading(name), zipfile.ZipFile(path) as archive:
        entries = sorted(archive.namelist())
    keys = {entry: entry.removesuffix(".npy") for entry in entries if entry.endswith(".npy")}
    if not keys:
        raise UserError(
            f"{name}: holds no array ({', '.join(entries[:5]) or 'it is empty'}), expected what "
            "numpy.savez writes"
        )
    return {key: _open_array(path, entry, f"{name}/{key}") for entry, key in keys.items()}


def _open_array(path: Path, entry: str | None, name: str) -> Stored:
    with reading(name), _open(path, entry) as file:
        shape, fortran, dtype, start = _read_header(file, name)

    @contextmanager
    def open_values() -> Iterator[IO[bytes]]:
        with _open(path, entry) as file:
            with reading(name):
                file.read(start)
            yield file

    return Stored(name, shape, dtype, fortran, open_values)


@contextmanager
def _open(path: Path, entry: str | None) -> Iterator[IO[bytes]]:
    if entry is None:
        with path.open("rb") as file:
            yield file
    else:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as member:
            yield member


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file)  # limits the header to 10,000 bytes by itself
        if min(shape, default=0) < 0:
            raise ValueError(f"the shape {shape}")
    except (KeyError, SyntaxError, TypeError, ValueError, tokenize.TokenError) as error:
        raise UserError(f"{name}: no array in NumPy's format ({error})") from None
    return shape, fortran, dtype, file.tell()
