"""Photographs in zip archives: finding, naming and reading them without unpacking anything."""

import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from stages.lib.command import UserError
from stages.lib.files import natural_key
from stages.sources.archives import UNLABELLED, open_zip, read_entry
from stages.sources.arrays import (
    MAX_CLASSES,
    Files,
    Image,
    LeftOut,
    Prepared,
    Sizes,
    label_dtype,
    save,
    write_rows,
)
from stages.sources.decoding import Interpolation, Resized, decode_ahead, decode_and_resize
from stages.sources.formats import Photos

SUFFIXES = (".jpg", ".jpeg", ".png")
# In Kaggle's names, the class comes first: cat.0.jpg, dog.12499.jpg.
KAGGLE_NAME = re.compile(r"([^.]+)\.\d+\.\w+")


@dataclass(frozen=True)
class Photograph:
    """A photograph in a zip archive."""

    archive: Path
    entry: zipfile.ZipInfo

    @property
    def file(self) -> str:
        """The name by which a person finds it: `train.zip/train/cat.0.jpg`."""
        return f"{self.archive.name}/{self.entry.filename}"

    @property
    def stem(self) -> str:
        """The name without folder and suffix: `cat.0`."""
        return PurePosixPath(self.entry.filename).stem

    @property
    def label(self) -> str | None:
        """The class, from the name or else the folder.

        `cat` for `train/cat.0.jpg` and for `PetImages/Cat/0.jpg`, None for `0.jpg`.
        """
        path = PurePosixPath(self.entry.filename)
        kaggle = KAGGLE_NAME.fullmatch(path.name)
        return (kaggle[1] if kaggle else path.parent.name).strip().lower() or None


def prepare_photos(
    raw: Path, options: Photos, files: Files, workers: int | None = None
) -> Prepared:
    """Writes the arrays of the zip archives in the folder `raw`.

    Args:
        raw: Holds `test1.zip` with unlabelled photographs, if any, and others with labelled ones.
        options: How to resize, and how many broken photographs to allow.
        files: Where to write each array.
        workers: The number of threads; it changes the speed and no byte.

    Raises:
        UserError: No archive has labelled photographs, an archive is damaged, or there are too
            many broken photographs or classes.
    """
    archives = sorted(raw.glob("*.zip"))
    if not any(archive.name != UNLABELLED for archive in archives):
        raise UserError(f"{raw}: no zip archive of labelled photographs in it, such as train.zip")
    found, others = find_photographs(path for path in archives if path.name != UNLABELLED)
    unlabelled, more = find_photographs(path for path in archives if path.name == UNLABELLED)
    labelled = [photograph for photograph in found if photograph.label]
    broken = [(p.file, "no class in its name or folder") for p in found if not p.label]
    kept: dict[str, list[Photograph]] = {"labelled": [], "unlabelled": []}
    sizes: Sizes = Counter()

    def read_images(photographs: list[Photograph], kind: str) -> Iterator[Image]:
        progress = tqdm(photographs, kind, unit=" photographs", mininterval=1)
        images = read_photographs(progress, options.image_size, options.interpolation, workers)
        for photograph, resized in images:
            if isinstance(resized, str):
                broken.append((photograph.file, resized))
            else:
                kept[kind].append(photograph)
                sizes[resized.width, resized.height] += 1
                yield resized.image

    shape = (options.image_size, options.image_size, 3)
    write_rows(files["images.npy"], read_images(labelled, "labelled"), shape)
    write_rows(files["unlabelled_images.npy"], read_images(unlabelled, "unlabelled"), shape)
    check_broken(raw, sorted(broken), len(found) + len(unlabelled), options.max_broken)

    labels = [str(photograph.label) for photograph in kept["labelled"]]
    classes = sorted(set(labels))
    if len(classes) > MAX_CLASSES:
        raise UserError(
            f"{raw}: {len(classes)} classes ({', '.join(classes[:3])}, ...), "
            f"expected {MAX_CLASSES} at most"
        )
    index = {name: number for number, name in enumerate(classes)}
    dtype = label_dtype(len(classes))
    save(files["labels.npy"], np.array([index[label] for label in labels], dtype))
    for part in ("valid", "test"):
        write_rows(files[f"{part}_images.npy"], [], shape)
        save(files[f"{part}_labels.npy"], np.array([], dtype))
    names = [photograph.stem for photograph in kept["unlabelled"]]
    save(files["unlabelled_names.npy"], np.array(names, np.str_))
    left_out = broken + [(file, "not named as a photograph") for file in others + more]
    return Prepared(classes, sizes, left_out)


def check_broken(raw: Path, broken: list[LeftOut], photographs: int, max_broken: float) -> None:
    """Raises a `UserError` if more than the share `max_broken` of the photographs is broken."""
    share = len(broken) / max(photographs, 1)
    if share > max_broken:
        examples = ", ".join(f"{file} ({reason})" for file, reason in broken[:3])
        raise UserError(
            f"{raw}: {len(broken)} of {photographs} photographs are broken "
            f"({share:.1%}, max_broken allows {max_broken:.1%}): {examples}"
        )


def find_photographs(archives: Iterable[Path]) -> tuple[list[Photograph], list[str]]:
    """Lists the files in zip archives.

    Returns:
        The photographs, and the other files as `archive/path`. Photographs are those whose names
        end in .jpg, .jpeg or .png. They are sorted by class, then by name with numbers in their
        natural order, then by content, so that neither the order in an archive nor the way they
        are spread over archives matters.

    Raises:
        UserError: An archive is no zip.
    """
    photographs, others = [], []
    for path in archives:
        with open_zip(path) as archive:
            for entry in archive.infolist():
                photograph = Photograph(path, entry)
                if is_photograph(entry.filename):
                    photographs.append(photograph)
                elif not entry.is_dir():
                    others.append(photograph.file)
    return sorted(photographs, key=_sort_key), sorted(others)


def is_photograph(name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Tells whether a path in an archive or a folder is a photograph's, by its name.

    Hidden files and the files that macOS adds to archives are none.
    """
    path = PurePosixPath(name)
    hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    return path.suffix.lower() in suffixes and not name.endswith("/") and not hidden


def _sort_key(photograph: Photograph) -> tuple[Any, ...]:
    entry, path = photograph.entry, photograph.entry.filename
    name = (photograph.label or "", natural_key(PurePosixPath(path).name), natural_key(path), path)
    return (*name, entry.CRC, entry.file_size, photograph.archive.name)


def read_photographs(
    photographs: Iterable[Photograph],
    size: int,
    interpolation: Interpolation,
    workers: int | None = None,
) -> Iterator[tuple[Photograph, Resized | str]]:
    """Reads photographs in the order given, many at a time but with few in memory.

    Args:
        photographs: The photographs to read.
        size: Height and width of the resized images in pixels.
        interpolation: OpenCV's name for the method of resizing.
        workers: The number of threads; None leaves it to `ThreadPoolExecutor`.

    Yields:
        Each photograph with its image, or with the reason why there is none.
    """
    with ExitStack() as stack:
        archives: dict[Path, zipfile.ZipFile] = {}

        def read_contents() -> Iterator[tuple[Photograph, bytes | None]]:
            for photograph in photographs:
                path = photograph.archive
                if path not in archives:
                    archives[path] = stack.enter_context(open_zip(path))
                yield photograph, read_entry(archives[path], photograph.entry)

        yield from decode_ahead(
            read_contents(),
            lambda content: decode_and_resize(content, size, interpolation),
            workers,
        )
