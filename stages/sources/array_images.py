"""Checks and conversions: what arrays as people save them say about images and labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.lib.command import UserError
from stages.sources.arrays import Image
from stages.sources.stored import Stored

CHANNELS = (1, 3)
# How far a float pixel may be from a whole number: float32 divided by 255 is 3e-5 off at most.
TOLERANCE = 0.001


class Layout(NamedTuple):
    """How the images of an array lie in it: [height, width, channels]."""

    height: int
    width: int
    channels: int

    @property
    def pixels(self) -> int:
        """The number of values of an image."""
        return self.height * self.width * self.channels


@dataclass(frozen=True)
class Images:
    """The images of one part of a dataset.

    Attributes:
        name: The array or the file, for messages.
        layout: How an image lies in it.
        read: Reads them, uint8 [height, width, channels].
        labels: The number of the class of each, int64 [n]; None if they have none.
        names: What stands for a file's name where there are no labels.
    """

    name: str
    layout: Layout
    read: Callable[[], Iterator[Image]]
    labels: NDArray[np.int64] | None
    names: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """The number of images."""
        return len(self.names) if self.labels is None else len(self.labels)


def find_layout(name: str, shape: Sequence[int], wanted: Sequence[int] | None) -> Layout:
    """Returns how images lie in an array of the shape [n, ...].

    Args:
        name: The array, for messages.
        shape: Of the array.
        wanted: Height, width and perhaps channels of images that come as one row each; None for
            squares.

    Raises:
        UserError: The array holds no images of one or three channels.
    """
    found = ["n", *shape[1:]]
    if 0 in shape[1:]:
        raise UserError(f"{name}: found the shape {_flow(found)}: images without a pixel")
    if len(shape) == 2:
        layout = flat_layout(shape[1], wanted)
        if layout is None:
            raise UserError(
                f"{name}: {shape[1]} values an image, expected a square of them, or "
                "`shape: [height, width]` with so many"
            )
        return layout
    if len(shape) == 3:
        return Layout(shape[1], shape[2], 1)
    if len(shape) == 4 and shape[3] in CHANNELS:
        return Layout(*shape[1:])
    if len(shape) == 4 and shape[1] in CHANNELS:
        raise UserError(
            f"{name}: found the shape {_flow(found)}, channels first: expected "
            f"[n, {shape[2]}, {shape[3]}, {shape[1]}] (numpy.moveaxis(images, 1, -1) makes it)"
        )
    volume = ": volumes are no images" if len(shape) > 3 else ""
    raise UserError(
        f"{name}: {len(shape)} dimensions {_flow(found)}{volume}, expected 3 (number, height, "
        "width) or 4 (and 1 or 3 channels)"
    )


def flat_layout(values: int, wanted: Sequence[int] | None) -> Layout | None:
    """Returns the layout of images that come as rows of so many values; None if they have none."""
    if wanted is not None:
        layout = Layout(wanted[0], wanted[1], wanted[2] if len(wanted) > 2 else 1)
        return layout if layout.pixels == values and layout.channels in CHANNELS else None
    side = round(values**0.5)
    return Layout(side, side, 1) if side**2 == values else None


def _flow(values: Sequence[Any]) -> str:
    return "[" + ", ".join(str(value) for value in values) + "]"


def find_scales(parts: Sequence[Stored]) -> list[int]:
    """Returns what the values of each part of a dataset are multiplied by, to be from 0 to 255.

    Numbers from 0 to 255 of any type are taken as they are, floats from 0 to 1 times 255.

    Raises:
        UserError: An array holds no numbers; or whether its 1 is white cannot be told.
    """
    found = [_find_scale(stored) for stored in parts]
    as_they_are = next(
        (stored for stored, (by, _) in zip(parts, found, strict=True) if by == 1), None
    )
    for stored, (_, doubtful) in zip(parts, found, strict=True):
        if doubtful and as_they_are:
            raise UserError(
                f"{stored.name}: holds 0 and 1 alone, as {stored.dtype}, and {as_they_are.name} "
                f"{as_they_are.dtype} values that are taken as they are: whether 1 is white cannot "
                "be told: save both as uint8 from 0 to 255"
            )
    return [by for by, _ in found]


def _find_scale(stored: Stored) -> tuple[int, bool]:
    """Returns what an array is multiplied by, and whether that is a guess."""
    if stored.dtype.kind not in "uifO":
        raise UserError(
            f"{stored.name}: holds {stored.dtype} values, expected numbers from 0 to 255: "
            "save it as uint8"
        )
    if stored.dtype.kind != "f":
        return 1, False
    largest, whole = 0.0, True
    for chunk in stored.chunks():
        values = chunk[np.isfinite(chunk)]
        largest = max(largest, float(values.max(initial=0)))
        whole = whole and not (values % 1).any()
    return (255, whole and largest == 1) if largest <= 1 else (1, False)


def read_images(stored: Stored, layout: Layout, scale: int, transpose: bool) -> Iterator[Image]:
    """Yields an array's images, uint8 [height, width, channels].

    Args:
        stored: The array.
        layout: How an image lies in it.
        scale: See `find_scales`.
        transpose: Whether to swap rows and columns.

    Raises:
        UserError: A value is outside the range or between two whole numbers.
    """
    row = 0
    for chunk in stored.chunks():
        images = _to_bytes(stored.name, chunk, scale, row).reshape(-1, *layout)
        yield from np.ascontiguousarray(images.swapaxes(1, 2)) if transpose else images
        row += len(chunk)


def _to_bytes(name: str, values: NDArray[Any], scale: int, row: int) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    scaled = whole = values
    tolerance = 0.0
    if values.dtype.kind == "f":
        scaled = values.astype(np.float64) * scale
        whole = np.rint(scaled)
        tolerance = max(TOLERANCE, 255 * float(np.finfo(values.dtype).eps))
    wrong = ~((scaled >= 0) & (scaled <= 255))  # and whatever is no number
    with np.errstate(invalid="ignore"):  # infinity less infinity; it is outside the range already
        wrong |= np.abs(scaled - whole) > tolerance
    if wrong.any():
        place = np.argwhere(wrong)[0]
        raise UserError(
            f"{name}: holds the {values.dtype} {values[tuple(place)]} in image {row + place[0]}, "
            "expected whole numbers from 0 to 255, or those divided by 255"
        )
    return whole.astype(np.uint8)


def read_labels(stored: Stored) -> NDArray[np.int64]:
    """Reads an array's labels, one for each image: whole numbers from 0 on, int64 [n].

    The labels of QMNIST come in int32 with more columns; the first is the class, see
    https://github.com/facebookresearch/qmnist.

    Raises:
        UserError: The array has several labels an image, or other values.
    """
    shape = stored.shape
    qmnist = len(shape) == 2 and shape[1] == 8 and stored.dtype == np.dtype(">i4")
    if not qmnist and len(shape) != 1 and shape[1:] != (1,):
        raise UserError(
            f"{stored.name}: the labels have {len(shape)} dimensions {_flow(['n', *shape[1:]])}, "
            "expected one label an image, [n] or [n, 1]: these networks do not answer several, and "
            "numpy.argmax(labels, 1) turns a 1 among zeros into a number"
        )
    if stored.dtype.kind not in "uifO":
        raise UserError(
            f"{stored.name}: holds {stored.dtype} values, expected labels: whole numbers from 0 on"
        )
    values = stored.load()
    values = values if len(shape) == 1 else values[:, 0]
    wrong = ~((values >= 0) & (values <= np.iinfo(np.int32).max) & (values == np.rint(values)))
    if wrong.any():
        row = wrong.argmax()
        raise UserError(
            f"{stored.name}: holds the label {values[row]} in row {row}, expected whole numbers "
            "from 0 on"
        )
    return values.astype(np.int64)
