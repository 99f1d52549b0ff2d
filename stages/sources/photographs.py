"""Photographs: finding and naming those in zip archives without unpacking anything; decoding."""

import re
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeVar

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
# How files of these kinds begin: those that may be transparent, PNG and WebP; JPEG and BMP.
TRANSPARENT = (b"\x89PNG", b"RIFF")
MAGIC = (*TRANSPARENT, b"\xff\xd8\xff", b"BM")
# Kaggle's names carry the class: cat.0.jpg, dog.12499.jpg.
KAGGLE_NAME = re.compile(r"([^.]+)\.\d+\.\w+")
# So many photographs are read ahead: enough for any number of workers, little for the memory.
READ_AHEAD = 64

T = TypeVar("T")
Content = TypeVar("Content")
Decoded = TypeVar("Decoded")


class Resized(NamedTuple):
    """An image, uint8 [size, size, 3] RGB, and the size that it had, in pixels."""

    image: Image
    width: int
    height: int


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


def is_photograph(name: str, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Tells whether a name is a photograph's; hidden files and macOS's additions are not."""
    path = PurePosixPath(name)
    hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    return path.suffix.lower() in suffixes and not name.endswith("/") and not hidden


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
) -> Iterator[tuple[Photograph, Resized | str]]:
    """Reads photographs in the order given, many at a time.

    Threads are as fast as processes here, since OpenCV and zlib work outside Python's lock. Few
    photographs are in memory at any time, however many there are.

    Args:
        photographs: What to read.
        size: Width and height of the resulting images in pixels.
        interpolation: OpenCV's name for the way of resizing.
        workers: Number of threads; by default what `ThreadPoolExecutor` takes for this machine.

    Yields:
        Each photograph with its image, or the reason why there is none.
    """
    with ExitStack() as stack:
        archives: dict[Path, zipfile.ZipFile] = {}

        def contents() -> Iterator[tuple[Photograph, bytes | None]]:
            for photograph in photographs:
                path = photograph.archive
                if path not in archives:
                    archives[path] = stack.enter_context(open_zip(path))
                yield photograph, read_entry(archives[path], photograph.entry)

        yield from decode_ahead(
            contents(), lambda content: decode(content, size, interpolation), workers
        )


def decode_ahead(
    contents: Iterable[tuple[T, Content]],
    decode: Callable[[Content], Decoded],
    workers: int | None = None,
) -> Iterator[tuple[T, Decoded]]:
    """Decodes files' contents in the order given, many at a time but few of them in memory.

    Args:
        contents: Each file's name, or what stands for it, and its content; read in this thread.
        decode: Makes an image of a content, or says why there is none.
        workers: Number of threads; by default what `ThreadPoolExecutor` takes for this machine.

    Yields:
        Each file's name and what `decode` returns.
    """
    decoding: deque[tuple[T, Future[Decoded]]] = deque()
    with quiet_opencv(), ThreadPoolExecutor(workers) as pool:
        for name, content in contents:
            decoding.append((name, pool.submit(decode, content)))
            if len(decoding) == READ_AHEAD:
                first, image = decoding.popleft()
                yield first, image.result()
        for name, image in decoding:
            yield name, image.result()


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


def decode(content: bytes | None, size: int, interpolation: Interpolation) -> Resized | str:
    """Decodes a photograph and resizes it: see `open_image` and `resize`."""
    image = open_image(content)
    if isinstance(image, str):
        return image
    height, width = image.shape[:2]
    return Resized(resize(image, size, size, interpolation), width, height)


def open_image(content: bytes | None) -> Image | str:
    """Decodes a photograph in full, turned as its EXIF data say, on white where it is transparent.

    OpenCV refuses a file that is cut off. A wrong byte within a JPEG's picture data is found by
    nobody: the decoder mends it as well as it can and the photograph is kept.

    Args:
        content: The file's bytes; None where the archive does not give them.

    Returns:
        uint8 [height, width, 3] RGB; or the reason why there is no image.
    """
    if content is None:
        return "damaged in its archive"
    if not content:
        return "empty"
    data = np.frombuffer(content, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        if image is not None and content.startswith(TRANSPARENT):
            image = _on_white(image, cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
    except cv2.error:  # such as more pixels than OpenCV allows
        image = None
    if image is None:
        return "does not decode" if content.startswith(MAGIC) else "not an image"
    return np.asarray(image, np.uint8)


def _on_white(image: NDArray[Any], stored: NDArray[Any] | None) -> NDArray[Any]:
    """Returns `image` on a white ground, by the transparency that the file has `stored` if any."""
    if stored is None or stored.ndim != 3 or stored.shape[2] != 4:
        return image
    opacity = stored[..., 3:].astype(np.float32) / np.iinfo(stored.dtype).max
    if opacity.shape[:2] != image.shape[:2]:  # on its side: OpenCV turns all but what is `stored`
        return image
    return np.rint(255 - opacity * (255 - image.astype(np.float32))).astype(np.uint8)


def resize(image: Image, height: int, width: int, interpolation: Interpolation) -> Image:
    """Resizes an image; the proportions are not kept.

    Args:
        image: uint8 [any height, any width, ...].
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        interpolation: OpenCV's name for the way of resizing.
    """
    flag = getattr(cv2, f"INTER_{interpolation.upper()}")
    return np.asarray(cv2.resize(image, (width, height), interpolation=flag), np.uint8)


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
