"""Photographs of digits, made to look as MNIST's images do.

Measured with a convolutional network that recognises 98.4% of MNIST's test digits, on the
photographs that tests/digit_photographs.py draws of 250 of them, of which it recognises 97.2%:
96.0% (thin pen) to 98.4% of each kind with shadow, lines, a frame, a table and so on; 80% with
everything at once. Black on white, enlarged 5 to 20 times and off centre: 98.2% of 1,000, and
98.4% of their originals.
"""

from typing import NamedTuple

import cv2
import numpy as np

from stages.sources.arrays import Image
from stages.sources.ink import (
    LINE_THICKNESS,
    Plane,
    find_ink,
    has_ground,
    is_bright_on_dark,
    measure_tilt,
    remove_light,
    remove_lines,
    remove_table,
    shrink,
    turn,
)

# MNIST's digits fit a box of 20 pixels in an image of 28: http://yann.lecun.com/exdb/mnist/
BOX = 20 / 28
# A digit is at least this high or wide: an eighth of the smallest side.
SMALLEST_DIGIT = 20
# The largest circle in the ink has this radius, as a share of the digit's longer side: MNIST has
# 0.17 in 1% of its digits, and 0.25 at most. A corner of a shadow has 0.2 to 0.3.
MOST_SOLID = 0.22
# The width of a stroke that is widened to this, in a digit of 20 pixels. MNIST's thin ones have it.
STROKE = 2.0


class Part(NamedTuple):
    """A connected piece of ink, in pixels of the photograph; right and bottom are outside it."""

    label: int
    left: int
    top: int
    right: int
    bottom: int
    area: int

    @property
    def height(self) -> int:
        """Its height in pixels."""
        return self.bottom - self.top

    @property
    def side(self) -> int:
        """Its longer side in pixels."""
        return max(self.right - self.left, self.height)

    def surrounds(self, other: "Part") -> bool:
        """Tells whether its box has the other's in it."""
        return (
            self.left < other.left
            and self.top < other.top
            and self.right > other.right
            and self.bottom > other.bottom
        )

    def is_near(self, other: "Part", gap: int) -> bool:
        """Tells whether there are at most `gap` pixels between its box and the other's."""
        return (
            other.left - self.right <= gap
            and self.left - other.right <= gap
            and other.top - self.bottom <= gap
            and self.top - other.bottom <= gap
        )


class Found(NamedTuple):
    """What may be a digit: its ink, its largest part, whether it is alone."""

    ink: Plane
    main: Part
    alone: bool

    @property
    def filled(self) -> float:
        """The ink's share of a square around it: little for a stroke, much for a shadow."""
        return self.main.area / self.main.side**2


def to_digit(image: Image, height: int, width: int) -> Image | None:
    """Turns a photograph of one digit into an image like MNIST's: centred, bright on black.

    An image of the size asked for is left alone, or inverted if it is dark on bright paper.

    Args:
        image: uint8 [any height, any width, 3], RGB.
        height: The result's height in pixels.
        width: The result's width in pixels.

    Returns:
        uint8 [height, width, 1]; None if there is no digit, or more than one.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    if grey.shape == (height, width):
        return (255 - grey if has_ground(grey, bright=True) else grey)[..., np.newaxis]
    grey = shrink(grey)
    found, chalk = find_digit(grey), find_digit(255 - grey)
    if found is None or (chalk and is_bright_on_dark(grey) and not is_ink(found, chalk)):
        found = chalk
    return put_in_box(found.ink, height, width) if found and found.alone else None


def is_ink(found: Found, chalk: Found) -> bool:
    """Tells a stroke of ink on paper, in a photograph taken for one of a board.

    What seems to be chalk is then the paper inside the digit, a strip of paper at its edge, or a
    lit piece of it with far more in it than in the stroke. Measured on 240 photographs.
    """
    lit = found.main.area > 500 and found.filled < 0.45 * chalk.filled
    inside = found.main.surrounds(chalk.main)
    return lit or inside or chalk.main.area < found.main.area / 10


def find_digit(grey: Plane) -> Found | None:
    """Finds a digit in dark ink on brighter paper; returns None if there is none."""
    ink = remove_light(grey)
    mask = find_ink(ink)
    found = choose_parts(ink, mask)
    if found and found.alone:
        return found
    # Lines join the digit to the edge of the photograph, or the squares beside it to each other.
    tilt = measure_tilt(mask)
    if tilt is None:
        return found
    return choose_parts(turn(ink, tilt), remove_lines(turn(remove_table(mask), tilt)))


def choose_parts(ink: Plane, mask: Plane) -> Found | None:
    """Chooses the largest piece of ink and what belongs to it; returns None if none is a digit.

    What touches the edge is a line, a table or a shadow; what surrounds a digit is a frame.
    """
    height, width = mask.shape
    joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, labels, table, _ = cv2.connectedComponentsWithStats(joined)
    boxes = [(label, *map(int, row)) for label, row in enumerate(table)][1:]
    parts = [Part(label, x, y, x + w, y + h, area) for label, x, y, w, h, area in boxes]
    sheet = Part(0, 1, 1, width - 1, height - 1, 0)
    parts = [part for part in parts if part.side >= SMALLEST_DIGIT and sheet.surrounds(part)]
    parts = [
        part
        for part in parts
        if not any(part.surrounds(other) and other.side > 0.3 * part.side for other in parts)
    ]
    depth = cv2.distanceTransform(joined, cv2.DIST_L2, 5)
    parts = [part for part in parts if depth[labels == part.label].max() <= MOST_SOLID * part.side]
    # A digit is not flat: what is three times as wide as high is the rest of a line.
    upright = [part for part in parts if 3 * part.height > part.right - part.left]
    if not upright:
        return None
    main = max(upright, key=lambda part: part.area)
    pieces = [part for part in parts if part is main or belongs(part, main)]
    chosen = np.isin(labels, [part.label for part in pieces]).astype(np.uint8) * 255
    alone = not any(
        main.is_near(part, 2 * main.side)
        and part.area > 0.3 * main.area
        and part.height > 0.5 * main.height
        for part in parts
        if part not in pieces
    )
    shown = cv2.bitwise_and(ink, joined, mask=chosen)
    return Found(np.asarray(shown, np.uint8), main, alone)


def belongs(part: Part, main: Part) -> bool:
    """Tells whether a part is a piece of the digit, as the bar of a 5, and no digit beside it."""
    beside = part.left >= main.right or part.right <= main.left
    return (
        main.is_near(part, main.height // 5)
        and part.area > 0.03 * main.area
        and min(part.right - part.left, part.height) > LINE_THICKNESS  # no rest of a line
        and not (beside and part.height > 0.6 * main.height)
    )


def put_in_box(ink: Plane, height: int, width: int) -> Image:
    """Scales ink to MNIST's box, with strokes as wide, its centre of mass in the middle."""
    digit = even_out(widen(ink)).astype(np.float32)
    left, top, box_width, box_height = cv2.boundingRect((digit > 127).astype(np.uint8))
    digit = digit[top : top + box_height, left : left + box_width]
    scale = BOX * min(height / box_height, width / box_width)
    rows, columns = (max(round(scale * length), 1) for length in digit.shape)
    digit = np.asarray(cv2.resize(digit, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
    # Move the centre of mass to the middle, or as near to it as the image's edge allows.
    mass = digit.sum()
    top, left = (
        int(np.clip(round(side / 2 - float(along @ np.arange(len(along))) / mass), 0, most))
        for side, along, most in (
            (height, digit.sum(1), height - rows),
            (width, digit.sum(0), width - columns),
        )
    )
    result = np.zeros((height, width), np.float32)
    result[top : top + rows, left : left + columns] = digit
    return np.rint(result).astype(np.uint8)[..., np.newaxis]


def widen(ink: Plane) -> Plane:
    """Widens the strokes of a thin pen to those of MNIST."""
    solid = (ink > np.percentile(ink[ink > 0], 80) / 2).astype(np.uint8)
    _, _, box_width, box_height = cv2.boundingRect(solid)
    # Pixels lie a quarter of the stroke's width from its edge on average.
    stroke = 4 * cv2.distanceTransform(solid, cv2.DIST_L2, 5)[solid > 0].mean()
    missing = STROKE / 20 * max(box_width, box_height) - stroke
    if missing < 1:
        return ink
    size = 2 * round(missing / 2) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(ink, kernel), np.uint8)


def even_out(ink: Plane) -> Plane:
    """Makes three quarters of the ink or more as strong as a pixel can be."""
    return np.asarray(
        cv2.convertScaleAbs(ink, alpha=255 / np.percentile(ink[ink > 0], 25)), np.uint8
    )
