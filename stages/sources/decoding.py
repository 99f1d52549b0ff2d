"""Decoding and resizing images with OpenCV, many at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

import cv2
import numpy as np
from cv2.utils import logging
from numpy.typing import NDArray

from stages.sources.arrays import Image

Interpolation = Literal[
    "nearest", "linear", "cubic", "area", "lanczos4", "linear_exact", "nearest_exact"
]

# The first bytes of PNG and WebP, which may be transparent; and of JPEG and BMP.
TRANSPARENT = (b"\x89PNG", b"RIFF")
MAGIC = (*TRANSPARENT, b"\xff\xd8\xff", b"BM")
# The number of images read ahead: enough for any number of workers, and little memory.
READ_AHEAD = 64

T = TypeVar("T")
Content = TypeVar("Content")
Decoded = TypeVar("Decoded")


class Resized(NamedTuple):
    """A resized image, and the size of the original.

    Attributes:
        image: uint8 [height, width, 3], RGB.
        width: Of the original, in pixels.
        height: Of the original, in pixels.
    """

    image: Image
    width: int
    height: int


def decode_ahead(
    contents: Iterable[tuple[T, Content]],
    decode: Callable[[Content], Decoded],
    workers: int | None = None,
) -> Iterator[tuple[T, Decoded]]:
    """Decodes files in the order given, many at a time but with few in memory.

    Threads are as fast as processes here: OpenCV and zlib work outside Python's lock.

    Args:
        contents: Each file's name (or what stands for it) and content. This thread reads them.
        decode: Turns a content into an image, or into the reason why there is none.
        workers: The number of threads; None leaves it to `ThreadPoolExecutor`.

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
    # The stage itself reports what is wrong with a file.
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        logging.setLogLevel(level)


def decode_and_resize(
    content: bytes | None, size: int, interpolation: Interpolation
) -> Resized | str:
    """Decodes an image and resizes it to a square: see `decode_image` and `resize`."""
    image = decode_image(content)
    if isinstance(image, str):
        return image
    height, width = image.shape[:2]
    return Resized(resize(image, size, size, interpolation), width, height)


def decode_image(content: bytes | None) -> Image | str:
    """Decodes an image, turned as its EXIF data say, on white where it is transparent.

    OpenCV refuses a file that is cut off. It cannot notice a wrong byte within a JPEG's picture
    data: it repairs what it can, and such an image is kept.

    Args:
        content: The file's bytes; None if its archive does not give them.

    Returns:
        uint8 [height, width, 3], RGB; or the reason why there is no image.
    """
    if content is None:
        return "damaged in its archive"
    if not content:
        return "empty"
    data = np.frombuffer(content, np.uint8)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        if image is not None and content.startswith(TRANSPARENT):
            image = _put_on_white(image, cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
    except cv2.error:  # for example, more pixels than OpenCV allows
        image = None
    if image is None:
        return "does not decode" if content.startswith(MAGIC) else "not an image"
    return np.asarray(image, np.uint8)


def _put_on_white(image: NDArray[Any], stored: NDArray[Any] | None) -> NDArray[Any]:
    """Returns `image` on a white ground, if the image as `stored` in the file has transparency."""
    if stored is None or stored.ndim != 3 or stored.shape[2] != 4:
        return image
    opacity = stored[..., 3:].astype(np.float32) / np.iinfo(stored.dtype).max
    # OpenCV turns `image` as the EXIF data say, but not `stored`: then the two do not match.
    if opacity.shape[:2] != image.shape[:2]:
        return image
    return np.rint(255 - opacity * (255 - image.astype(np.float32))).astype(np.uint8)


def resize(image: Image, height: int, width: int, interpolation: Interpolation) -> Image:
    """Resizes an image to `height` and `width` pixels; this may change its proportions."""
    flag = getattr(cv2, f"INTER_{interpolation.upper()}")
    return np.asarray(cv2.resize(image, (width, height), interpolation=flag), np.uint8)
