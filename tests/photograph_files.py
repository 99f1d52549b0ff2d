"""Writes small photographs as people have them, and reads them by the real stages."""

import csv
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import TypeAdapter

from stages.download import download
from stages.lib.files import read_json
from stages.prepare import FILES, prepare
from stages.sources.formats import Format

# Files by their paths; a number stands for the photograph that `shade` draws.
Tree = Mapping[str, bytes | int]

# How a tree can come, by the name of what holds it.
CONTAINERS = ("pets", "pets.zip", "pets.tar", "pets.tar.gz", "pets.tar.bz2", "pets.tar.xz")


def shade(number: int) -> bytes:
    """A picture that tells its number, up to 127, in the red channel, with noise beside it."""
    image = np.random.default_rng(number).integers(0, 256, (16, 24, 3), np.uint8)
    image[:, :12] = (60, 60, 2 * number)
    return cv2.imencode(".png", image)[1].tobytes()


def numbers(images: np.ndarray) -> list[int]:
    """The numbers that `shade` put into pictures of 8 pixels."""
    return [round(red / 2) for red in images[:, 4, 1, 0].tolist()]


def contents(tree: Tree) -> dict[str, bytes]:
    return {
        path: shade(content) if isinstance(content, int) else content
        for path, content in tree.items()
    }


def write_tree(target: Path, tree: Tree) -> Path:
    """Writes a folder, or the archive that the name of `target` tells."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".zip":
        target.write_bytes(zip_of(tree))
    elif ".tar" in target.name:
        mode: Any = "w:" + target.name.rpartition(".tar")[2].removeprefix(".")
        with tarfile.open(target, mode) as archive:
            for path, content in contents(tree).items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    else:
        for path, content in contents(tree).items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(content)
    return target


def zip_of(tree: Tree, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for path, content in contents(tree).items():
            archive.writestr(path, content)
    return file.getvalue()


def of_classes(*classes: str, each: int = 3, name: str = "{number}.png") -> dict[str, int]:
    """So many photographs in a folder for each class, numbered from 0 on."""
    paths = [f"{folder}/{name}" for folder in classes for _ in range(each)]
    return {path.format(number=number): number for number, path in enumerate(paths)}


def read_dataset(
    folder: Path, source: Path | Sequence[Path], to_predict: Path | None = None, **prepare_: Any
) -> dict[str, Any]:
    """Downloads and prepares a dataset, and returns what `prepare` writes, by name."""
    raw, arrays = folder / "data/raw/pets", folder / "data/arrays/pets"
    for made in (raw, arrays):
        made.mkdir(parents=True)
    sources = [str(path) for path in ([source] if isinstance(source, Path) else source)]
    download("pets", raw, sources, None if to_predict is None else str(to_predict))
    options = {"format": "photos", "image_size": 8, "interpolation": "nearest", **prepare_}
    checked = TypeAdapter(Format).validate_python(options).root
    prepare(raw, checked, {name: arrays / name for name in FILES})
    found: dict[str, Any] = {path.stem: np.load(path) for path in arrays.glob("*.npy")}
    for path in arrays.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            found[path.stem] = list(csv.DictReader(file))
    found["summary"] = read_json(arrays / "summary.json")
    found["reasons"] = {row["file"]: row["reason"] for row in found["left_out"]}
    return found


def by_class(found: Mapping[str, Any], part: str = "") -> dict[str, list[int]]:
    """The numbers of the photographs of each class in a part, `valid_` or `test_` or the rest."""
    classes = found["summary"]["classes"]
    images, labels = found[f"{part}images"], found[f"{part}labels"]
    seen: dict[str, list[int]] = {}
    for number, label in zip(numbers(images), labels.tolist(), strict=True):
        seen.setdefault(classes[label], []).append(number)
    return seen
