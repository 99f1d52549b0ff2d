"""From pixels as a file stores them to 8-bit RGB, in stripes: large ones are copied but once."""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from stages.sources.arrays import Image

# How many pixels are converted at once: their copies take a few megabytes.
STRIPE = 1 << 18
# A picture of 12 bits is stored as one of 16, and is nearly black if taken as such; so is one of 8.
# 10 and 14 bits are not told apart from these: a dark photograph of a series of 12 bits would be
# taken for one of 10 and be four times as bright as its neighbours. Of 12 bits, 10 are still seen.
DEPTHS = (8, 12)
# OpenCV's ways to turn a picture upright, by its EXIF orientation: https://exiftool.org/TagNames/EXIF.html
TURNS: dict[int, Callable[[Image], cv2.typing.MatLike]] = {
    2: lambda image: cv2.flip(image, 1),
    3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
    4: lambda image: cv2.flip(image, 0),
    5: cv2.transpose,
    6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    7: lambda image: cv2.rotate(cv2.transpose(image), cv2.ROTATE_180),
    8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
# The orientations that exchange width and height.
LYING = (5, 6, 7, 8)

Deep = NDArray[np.uint16]


def turn(image: Image, orientation: int) -> Image:
    """Turns an image upright, by its EXIF orientation."""
    return np.asarray(TURNS[orientation](image), np.uint8) if orientation in TURNS else image


def put_on_white(
    colours: NDArray[np.uint8], opacity: NDArray[np.generic], opaque: int
) -> NDArray[np.uint8]:
    """Puts pixels on a white ground.

    Args:
        colours: uint8 [rows, width, channels].
        opacity: [rows, width, 1], from 0 to `opaque`.
        opaque: The value of what is not transparent.
    """
    share = opacity.astype(np.float32) / opaque
    return np.rint(255 - share * (255 - colours.astype(np.float32))).astype(np.uint8)


def from_pillow(image: PIL.Image.Image) -> Image:
    """Returns the pixels of a picture of 8 bits or a palette, on white where it is transparent."""
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        image.putalpha(255)  # many programs leave the fourth byte empty: browsers pass over it too
    result = np.empty((image.height, image.width, 3), np.uint8)
    for rows in _stripes(image.height, image.width):
        stripe = image.crop((0, rows.start, image.width, rows.stop))
        if image.has_transparency_data:
            stored = np.asarray(stripe.convert("RGBA"))
            result[rows] = put_on_white(stored[..., :3], stored[..., 3:], 255)
        else:
            result[rows] = np.asarray(stripe.convert("RGB"))
    return result


def grey_from_pillow(image: PIL.Image.Image) -> Deep | None:
    """Returns uint16 [height, width, 1] of more than 8 bits; None if 16 are too few."""
    result = np.empty((image.height, image.width, 1), np.uint16)
    for rows in _stripes(image.height, image.width):
        stripe = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        if stripe.min() < 0 or stripe.max() > np.iinfo(np.uint16).max:
            return None
        result[rows, :, 0] = stripe
    return result


def from_deep(
    stored: Deep, clear: int | None, white_is_zero: bool = False
) -> tuple[Image, tuple[str, ...]]:
    """Reduces values of 16 bits to 8, by the bits that they use.

    Args:
        stored: [height, width, 1, 3 or 4]: grey, RGB or RGB with opacity.
        clear: The one value of grey that is transparent, if any.
        white_is_zero: Whether the largest value is black.

    Returns:
        The image, and a note if it uses fewer bits than 16.
    """
    height, width, channels = stored.shape
    stripes = list(_stripes(height, width))
    most = max(int(stored[rows, :, :3].max()) for rows in stripes)
    bits = next((bits for bits in DEPTHS if 0 < most < 1 << bits), 16)
    opaque = 65535
    if channels == 4 and bits < 16:  # the opacity mostly has as many bits as the colours
        most_opaque = max(int(stored[rows, :, 3].max()) for rows in stripes)
        opaque = (1 << bits) - 1 if most_opaque < 1 << bits else opaque
    result = np.empty((height, width, 3), np.uint8)
    for rows in stripes:
        colours = (stored[rows, :, :3] >> (bits - 8)).astype(np.uint8)
        colours = 255 - colours if white_is_zero else colours
        if channels == 4:
            colours = put_on_white(colours, stored[rows, :, 3:], opaque)
        elif clear is not None:
            colours = put_on_white(colours, stored[rows] != clear, 1)
        result[rows] = colours
    note = f"16-bit values up to {most:,}: read as {bits} bits"
    return result, (note,) if bits < 16 else ()


def from_inks(stored: NDArray[np.uint8]) -> Image:
    """Turns uint8 [height, width, 4] of a JPEG with inks (CMYK) into RGB, by OpenCV's formula.

    See `icvCvt_CMYK2RGB_8u_C4C3R` in OpenCV's `modules/imgcodecs/src/utils.cpp`.
    """
    height, width, _ = stored.shape
    result = np.empty((height, width, 3), np.uint8)
    for rows in _stripes(height, width):
        inks = stored[rows].astype(np.uint16)
        black = inks[..., 3:]
        result[rows] = black - ((255 - inks[..., :3]) * black >> 8)
    return result


def _stripes(height: int, width: int) -> Iterator[slice]:
    step = max(STRIPE // width, 1)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))
