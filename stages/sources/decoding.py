"""Decoding and resizing images, many at a time, in little memory.

JPEG is decoded by libjpeg-turbo, which OpenCV uses too, other kinds by Pillow: both tell what is
damaged, where OpenCV repairs it and prints its warnings. A picture of several channels of 16 bits
is decoded by OpenCV: Pillow keeps 8 of them.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from stages.lib.command import UserError
from stages.sources.arrays import Image
from stages.sources.damage import (
    TOO_MUCH_MEMORY,
    UncheckedError,
    check_png,
    decode_jpeg,
    describe,
    is_cut_off,
)
from stages.sources.headers import (
    MOST_BYTES_PER_PIXEL,
    Header,
    open_image,
    read_header,
    read_orientation,
)
from stages.sources.kinds import READ, START, looks_like
from stages.sources.pixels import (
    LYING,
    from_deep,
    from_inks,
    from_pillow,
    grey_from_pillow,
    turn,
)
from stages.sources.quiet import quiet_decoders, quiet_libraries
from stages.sources.resizing import Interpolation, resize

MAX_PIXELS = 100_000_000
# How libjpeg-turbo reduces a JPEG while it decodes, rounding up; other numbers take longer.
REDUCTIONS = (8, 4, 2, 1)
# What is decoded at once, in bytes: with the next file, and with Python and OpenCV, the process
# stays below 1.5 GB.
READ_AHEAD_BYTES = 1_200_000_000
# Before the next file is read, there is room for it.
ROOM = 500_000_000
DECODER_BYTES = 32_000_000  # beside the picture, such as tables: more than any decoder needs
READ_AHEAD = 64  # files at once: enough for any number of workers
T = TypeVar("T")
Content = TypeVar("Content")
Result = TypeVar("Result")


class Decoded(NamedTuple):
    """A decoded image.

    Attributes:
        image: uint8 [rows, columns, 3], RGB, as it was decoded or resized: a JPEG may be reduced
            by 2, 4 or 8 while it is decoded.
        width: Of the original, in pixels.
        height: Of the original, in pixels.
        notes: What a person may want to know of it; mostly nothing.
    """

    image: Image
    width: int
    height: int
    notes: tuple[str, ...] = ()


def decode_ahead(
    contents: Iterable[tuple[T, Content]],
    decode: Callable[[Content], Result],
    workers: int | None = None,
) -> Iterator[tuple[T, Result]]:
    """Decodes files in the order given, many at a time but with few bytes in memory.

    Threads do it, as the decoders work outside Python's lock; processes were a seventh faster on
    two cores. An image that needs more than `READ_AHEAD_BYTES` is decoded alone.

    Args:
        contents: Each file's name (or what stands for it) and content. This thread reads them.
        decode: Turns a content into an image, or into the reason why there is none.
        workers: The number of threads; None is one for each core: six on two took 1.13 times as
            long, waiting for Python's lock.

    Yields:
        Each file's name and what `decode` returns.

    Raises:
        UserError: The machine has too little memory for an image.
    """
    ahead: deque[tuple[T, Future[Result], int]] = deque()
    total = 0

    def pop() -> tuple[T, Result]:
        nonlocal total
        name, future, memory = ahead.popleft()
        total -= memory
        with naming(name, memory):
            return name, future.result()

    with quiet_decoders(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        try:
            for name, content in contents:
                memory = estimate_memory(content)
                while ahead and total + memory > READ_AHEAD_BYTES:
                    yield pop()
                ahead.append((name, pool.submit(decode, content), memory))
                total += memory
                del content
                while ahead and (total > READ_AHEAD_BYTES - ROOM or len(ahead) == READ_AHEAD):
                    yield pop()
            while ahead:
                yield pop()
        finally:
            for _, future, _ in ahead:
                future.cancel()


@contextmanager
def naming(name: object, memory: int) -> Iterator[None]:
    """Turns short memory in the block into a `UserError` that names the image, and what it takes.

    Args:
        name: Of the image, or what stands for it.
        memory: In bytes.
    """
    try:
        yield
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
            raise
        raise UserError(
            f"{name}: too little memory to decode it (it takes up to {memory / 1e6:,.0f} MB): "
            "end other programs, or lower max_pixels to leave such images out"
        ) from None


def estimate_memory(content: object) -> int:
    """Returns the most bytes that decoding a file takes, from its header; 0 if it is no image."""
    if not isinstance(content, bytes):
        return 0
    header = _read_header(content, sys.maxsize)  # a dataset may have its own `max_pixels`
    return len(content) if isinstance(header, str) else header.memory


def to_square(decoded: Decoded, size: int, interpolation: Interpolation) -> Decoded:
    """Resizes a decoded image to a square of `size` pixels: see `resize`."""
    return decoded._replace(image=resize(decoded.image, size, size, interpolation))


def decode_image(
    content: bytes | None, max_pixels: int = MAX_PIXELS, enough: int | None = None
) -> Decoded | str:
    """Decodes an image, turned as its EXIF data say, on white where it is transparent.

    The kind is told by the content. Of several pictures in a file, the first is taken. A file that
    is cut off or damaged is refused where its decoder notices: a JPEG has no checksum, so wrong
    bytes that are a valid code of other colours cannot be found.

    Args:
        content: The file's bytes; None if its archive does not give them.
        max_pixels: An image with more is refused before it is decoded, and so is one that takes
            more than `MOST_BYTES_PER_PIXEL` bytes for each of these to decode.
        enough: A JPEG may be decoded at the smallest of a half, a quarter and an eighth that has
            so many pixels in height and width, which takes less than half the time.

    Returns:
        The image, or the reason why there is none.

    Raises:
        MemoryError: The machine has too little memory.
    """
    if content is None:
        return "damaged in its archive"
    if not content:
        return "empty"
    header = _read_header(content, max_pixels)
    if isinstance(header, str):
        return header
    kind = str(looks_like(content[:START]))
    decoded: Decoded | str = ""
    for _ in range(2):
        try:
            decoded = _decode(content, kind, header, enough)
        except MemoryError:
            decoded = TOO_MUCH_MEMORY
        except Exception as error:  # Pillow raises many kinds on a damaged file
            decoded = describe(str(error))
        if isinstance(decoded, str):
            # Some decoders do not tell short memory from a damaged file. This raises a MemoryError.
            np.empty(header.memory + DECODER_BYTES, np.uint8)
        if decoded != TOO_MUCH_MEMORY:
            break  # else another thread may have had the memory that is free now
    return decoded


def _read_header(content: bytes, max_pixels: int) -> Header | str:
    """Returns the header of an image that can be decoded, or the reason why it cannot."""
    kind = looks_like(content[:START])
    if kind not in READ:
        return f"{kind}, which is not read here" if kind else "not an image"
    if is_cut_off(content, kind):
        return "cut off"
    try:
        header = read_header(content, kind)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds on a damaged file
        return describe(str(error))
    width, height = header.width, header.height
    if not width or not height:
        return "damaged: no pixels"
    if header.in_planes:
        return "16-bit channels in planes of their own, which are not read here"
    if width * height > max_pixels:
        return f"{width}x{height} pixels, more than max_pixels ({max_pixels:,}) allows"
    if header.memory > max_pixels * MOST_BYTES_PER_PIXEL:
        return (
            f"{width}x{height} pixels take up to {header.memory / 1e9:.1f} GB to decode, more than "
            f"max_pixels ({max_pixels:,}) allows ({MOST_BYTES_PER_PIXEL} bytes for each)"
        )
    return header


def _decode(content: bytes, kind: str, header: Header, enough: int | None) -> Decoded | str:
    notes: tuple[str, ...] = ()
    if kind == "JPEG":
        try:
            least = _reduced_size(header, enough) if enough else None
            jpeg = decode_jpeg(content, "CMYK" if header.cmyk else "RGB", least)
            if isinstance(jpeg, str):
                return jpeg
            colours = from_inks(jpeg.image) if header.cmyk else jpeg.image
            width, height = header.width, header.height
            if header.orientation in LYING:
                width, height = height, width
            return Decoded(turn(colours, header.orientation), width, height, jpeg.notes)
        except UncheckedError as note:
            notes = (str(note),)
    elif kind == "PNG":
        checked = check_png(content, only_needed=header.deep)
        if isinstance(checked, str):
            return checked
        content, notes = checked
    image: Image | None = None
    opened = open_image(content, kind)
    with opened, quiet_libraries() if kind == "TIFF" else nullcontext():
        opened.load()  # this finds what is damaged, which OpenCV does not tell
        # Pillow and OpenCV turn a TIFF themselves. The tag may stand behind the picture.
        orientation = 1 if kind == "TIFF" else read_orientation(opened)
        if opened.mode == "F":
            return "values that are no whole numbers"
        if opened.mode.startswith("I"):
            grey = grey_from_pillow(opened)
            if grey is None:
                return "values below 0 or of more than 16 bits"
            image, more = from_deep(grey, opened.info.get("transparency"), header.white_is_zero)
            notes += more
        elif header.cmyk:  # Pillow turns Adobe's inks round
            image = from_inks(255 - np.asarray(opened))
        elif not header.deep:
            image = from_pillow(opened)
    del opened  # and its memory
    if image is None:
        with quiet_libraries():
            stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is None or stored.dtype != np.uint16:
            return "damaged: its 16-bit values cannot be read"
        channels = 3 if header.opaque else 4
        image, more = from_deep(stored[..., :channels].astype(np.uint16, copy=False), None)
        notes += more
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)  # OpenCV's order is blue, green, red
        del stored
    image = turn(image, orientation)
    return Decoded(image, image.shape[1], image.shape[0], notes)


def _reduced_size(header: Header, enough: int) -> tuple[int, int]:
    """Returns height and width of the smallest reduction that has `enough` pixels in both."""
    sizes = [(-(-header.height // by), -(-header.width // by)) for by in REDUCTIONS]
    return next((size for size in sizes if min(size) >= enough), sizes[-1])
