"""Files: writing them whole or not at all, and sorting their names."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
    """Returns the JSON value in the file `path`."""
    return json.loads(path.read_text(encoding="utf-8"))


def natural_key(name: str) -> list[Any]:
    """Returns a key that sorts names with numbers as people do: 1, 2, 10."""
    text_and_digits = re.split("([0-9]+)", name)
    # Compare digits as text, the shorter number first: `int` refuses more than 4,300 of them.
    text_and_digits[1::2] = [
        (len(digits), digits) for digits in (d.lstrip("0") for d in text_and_digits[1::2])
    ]
    return text_and_digits
