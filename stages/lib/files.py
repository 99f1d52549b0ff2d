"""Files: writing them whole or not at all, and sorting their names."""

import errno
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stages.lib.command import UserError


@contextmanager
def write_atomically(*paths: Path) -> Iterator[list[Path]]:
    """Yields one `.part` path for each of `paths`; the block writes a file or a folder to each.

    When the block ends well, all parts are renamed to their final names; when it raises, all are
    deleted. The names are fixed, so that what a killed process leaves is replaced by the next run.
    """
    parts = [path.with_name(f"{path.stem}.part{path.suffix}") for path in paths]
    for part in parts:
        _delete(part)
        part.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield parts
        for part, path in zip(parts, paths, strict=True):
            if part.is_dir():
                _delete(path)
            part.replace(path)
    except BaseException:
        for part in parts:
            _delete(part)
        raise


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON: indented, keys in the order given, a newline at the end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Returns the JSON value in the file `path`; raises a `UserError` if it is damaged."""
    with whole(path):
        return json.loads(path.read_text(encoding="utf-8"))


def read_array(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """Returns the array in the `.npy` file `path`, which with `mmap_mode` stays on the disk.

    Raises:
        UserError: The file is damaged, or holds Python objects, which could run a program.
    """
    with whole(path):
        array: np.ndarray = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
        return array


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays in the `.npz` file `path` by their names, as `read_array` does."""
    with whole(path), np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turns what reading a damaged file raises into a `UserError` with what mends it."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except (
        *(OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        if getattr(error, "errno", None) == errno.ENOMEM:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path} cannot be read, so it is damaged: `make mend reproduce` restores it, or makes "
            f"it again ({reason})"
        ) from None


def natural_key(name: str) -> list[Any]:
    """Returns a key that sorts names with numbers as people do: 1, 2, 10."""
    text_and_digits = re.split("([0-9]+)", name)
    # Compare digits as text, the shorter number first: `int` refuses more than 4,300 of them.
    text_and_digits[1::2] = [
        (len(digits), digits) for digits in (d.lstrip("0") for d in text_and_digits[1::2])
    ]
    return text_and_digits
