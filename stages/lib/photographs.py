"""Photographs in zip archives: finding, naming and decoding them without unpacking anything."""

import re
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import cv2
import numpy as np
from cv2.utils import logging
from numpy.typing import NDArray

from stages.lib.command import UserError

Image = NDArray[np.uint8]
Interpolation = Literal[
    "nearest", "linear", "cubic", "area", "lanczos4", "linear_exact", "nearest_exact"
]

SUFFIXES = (".jpg", ".jpeg", ".png")
# How files of these kinds begin: JPEG and PNG.
MAGIC = (b"\xff\xd8\xff", b"\x89PNG")
# Kaggle's names carry the class: cat.0.jpg, dog.12499.jpg.
KAGGLE_NAME = re.compile(r"([^.]+)\.\d+\.\w+")
# So many photographs are read ahead: enough for any number of workers, little for the memory.
READ_AHEAD = 64


@dataclass(frozen=True)
class Photograph:
    """A photograph's place and, where its name or its folder tells it, its class."""

    archive: Path
    entry: zipfile.ZipInfo

    @property
    def file(self) -> str:
        """The name that a person finds it by: `train.zip/train/cat.0.jpg`."""
        return f"{self.archive.name}/{self.entry.filename}"

    @property
    def stem(self) -> str:
        """The name without folder and suffix: `cat.0`."""
        return PurePosixPath(self.entry.filename).stem

    @property
    def label(self) -> str | None:
        """The class: `cat` for `train/cat.0.jpg` and for `PetImages/Cat/0.jpg`."""
        path = PurePosixPath(self.entry.filename)
        kaggle = KAGGLE_NAME.fullmatch(path.name)
        return (kaggle[1] if kaggle else path.parent.name).strip().lower() or None


def find(archives: Iterable[Path]) -> tuple[list[Photograph], list[str]]:
    """Lists what the zip archives hold.

    Returns:
        All photographs, by their names (anything that ends in .jpg, .jpeg or .png), sorted by class
        and then by name with numbers in their natural order; equal names by their content. Neither
        the order in an archive nor the way they are spread over archives changes the order.
        And all other files, as `archive/path`.

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
    return sorted(photographs, key=_order), sorted(others)


def open_zip(path: Path) -> zipfile.ZipFile:
    """Opens an archive for reading; raises a `UserError` that names it if it is no zip."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(
            f"{path}: no zip archive, or a damaged one ({error}): fetch it again"
        ) from None


def is_photograph(name: str) -> bool:
    """Tells whether a name is a photograph's; hidden files and macOS's additions are not."""
    path = PurePosixPath(name)
    hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    return path.suffix.lower() in SUFFIXES and not name.endswith("/") and not hidden


def natural(name: str) -> list[Any]:
    """Returns a key that sorts names with numbers as people do: 1, 2, 10."""
    text_and_digits = re.split("([0-9]+)", name)
    # Digits stay text, the shorter number first: a name may hold more of them than `int` reads.
    text_and_digits[1::2] = [
        (len(digits), digits) for digits in (d.lstrip("0") for d in text_and_digits[1::2])
    ]
    return text_and_digits


def _order(photograph: Photograph) -> tuple[Any, ...]:
    entry, path = photograph.entry, photograph.entry.filename
    name = (photograph.label or "", natural(PurePosixPath(path).name), natural(path), path)
    return (*name, entry.CRC, entry.file_size, photograph.archive.name)


def read(
    photographs: Iterable[Photograph],
    size: int,
    interpolation: Interpolation,
    workers: int | None = None,
) -> Iterator[tuple[Photograph, Image | str]]:
    """Reads photographs in the order given, many at a time.

    Threads are as fast as processes here, since OpenCV and zlib work outside Python's lock. Few
    photographs are in memory at any time, however many there are.

    Args:
        photographs: What to read.
        size: Width and height of the resulting images in pixels.
        interpolation: OpenCV's name for the way of resizing.
        workers: Number of threads; by default what `ThreadPoolExecutor` takes for this machine.

    Yields:
        Each photograph with its image, uint8 [size, size, 3] RGB, or the reason why there is none.
    """
    reading: deque[tuple[Photograph, Future[Image | str]]] = deque()
    with ExitStack() as stack:
        stack.enter_context(quiet_opencv())
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        archives: dict[Path, zipfile.ZipFile] = {}
        for photograph in photographs:
            path = photograph.archive
            if path not in archives:
                archives[path] = stack.enter_context(open_zip(path))
            content = read_entry(archives[path], photograph.entry)
            reading.append((photograph, pool.submit(decode, content, size, interpolation)))
            if len(reading) == READ_AHEAD:
                first, image = reading.popleft()
                yield first, image.result()
        for photograph, image in reading:
            yield photograph, image.result()


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keeps OpenCV from starting threads of its own and from writing to standard error."""
    threads, level = cv2.getNumThreads(), logging.getLogLevel()
    cv2.setNumThreads(1)
    # What is wrong with a file is told once, as the reason for leaving it out.
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        logging.setLogLevel(level)


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | None:
    """Returns an entry's content; None if it is damaged, encrypted or packed in a rare way."""
    try:
        return archive.read(entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
        return None


def decode(content: bytes | None, size: int, interpolation: Interpolation) -> Image | str:
    """Decodes a photograph in full, turned as its EXIF data say, and resizes it.

    OpenCV refuses a file that is cut off. A wrong byte within a JPEG's picture data is found by
    nobody: the decoder mends it as well as it can and the photograph is kept.

    Args:
        content: The file's bytes; None where the archive does not give them.
        size: Width and height of the result in pixels; the proportions are not kept.
        interpolation: OpenCV's name for the way of resizing.

    Returns:
        uint8 [size, size, 3] RGB; or the reason why there is no image.
    """
    if content is None:
        return "damaged in its archive"
    if not content:
        return "empty"
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:  # such as more pixels than OpenCV allows
        image = None
    if image is None:
        return "does not decode" if content.startswith(MAGIC) else "not an image"
    flag = getattr(cv2, f"INTER_{interpolation.upper()}")
    return np.asarray(cv2.resize(image, (size, size), interpolation=flag), np.uint8)


def write_rows(path: Path, rows: Iterable[Image], row_shape: tuple[int, ...]) -> None:
    """Writes uint8 rows as one `.npy` array [rows, *row_shape], holding one of them at a time."""
    with path.open("wb") as file:
        _write_header(file, (0, *row_shape))
        count = 0
        for row in rows:
            file.write(row.tobytes())
            count += 1
        # NumPy pads a header so that it does not get longer when the first dimension grows.
        file.seek(0)
        _write_header(file, (count, *row_shape))


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
