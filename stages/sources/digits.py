"""Photographs of digits, made to look as MNIST's images do.

Measured with a convolutional network that recognises 98.4% of MNIST's test digits, on photographs
that tests/digit_photographs.py draws of them: see `to_digit`.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.sources.arrays import Image

# MNIST's digits fit a box of 20 pixels in an image of 28: http://yann.lecun.com/exdb/mnist/
BOX = 20 / 28
# The longer side of a photograph while the digit is looked for. Lengths below are in its pixels.
SIDE = 400
# Wider than any stroke (MNIST's boldest are 60 in a digit that fills half of the photograph) and
# narrower than a shadow or a table.
WIDEST_STROKE = 81
# Ink is darker than the paper by this share of it at least, in 255ths, and by so many grey values;
# noise and grain are not.
FAINTEST_INK, NOISE = 40, 14
# A printed line is at most this thick, and at least this long without a gap.
LINE_THICKNESS, LINE_LENGTH = 6, 80
# A digit is at least this high or wide: an eighth of the smallest side.
SMALLEST_DIGIT = 20
# The largest circle in the ink has this radius, as a share of the digit's longer side: MNIST has
# 0.17 in 1% of its digits, and 0.25 at most. A corner of a shadow has 0.2 to 0.3.
SOLID, MOST_SOLID = 0.13, 0.22
# The width of a stroke that is widened to this, in a digit of 20 pixels. MNIST's thin ones have it.
STROKE = 2.0

# Grey values, uint8 [height, width]; a mask has only 0 and 255.
Plane = NDArray[Any]


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


class Found(NamedTuple):
    """What may be a digit: its ink, its largest part, how solid it is, and if it is alone."""

    ink: Plane
    main: Part
    solidity: float
    alone: bool


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
        return (255 - grey if is_paper(grey) else grey)[..., np.newaxis]
    grey = shrink(grey)
    if is_bright_on_dark(grey):
        grey = 255 - grey
    found = find_digit(grey)
    if found is None or found.solidity > SOLID:
        # Nothing, or rather a corner of a shadow than a stroke: perhaps the ink is the bright side.
        other = find_digit(255 - grey)
        if found is None or (
            other
            and other.solidity < found.solidity / 2
            and not other.main.surrounds(found.main)  # as the paper between a digit and its frame
        ):
            found = other
    return put_in_box(found.ink, height, width) if found and found.alone else None


def is_paper(grey: Plane) -> bool:
    """Tells dark on bright paper: the edge is bright, and most of the image is as bright."""
    edge = np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    darkest, brightest = int(grey.min()), int(grey.max())
    even = np.abs(grey - edge) <= (brightest - darkest) / 6
    return bool(edge > (darkest + brightest) / 2 and even.mean() > 0.55)


def shrink(grey: Plane) -> Plane:
    """Returns a photograph with its longer side of `SIDE` pixels, without grain."""
    factor = SIDE / max(grey.shape)
    size = [max(round(factor * length), 1) for length in grey.shape[::-1]]
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(
        cv2.GaussianBlur(cv2.resize(grey, size, interpolation=way), (5, 5), 0), np.uint8
    )


def is_bright_on_dark(grey: Plane) -> bool:
    """Tells chalk from ink: strokes are thin, so they are the rare side of what differs.

    The edge of a shadow or of a table has as much on both sides. Of 40 such measures this one was
    wrong least often: for 12 of 640 photographs, most of them of a paper on a table.
    """
    size = [max(length // 2, 1) for length in grey.shape[::-1]]
    half = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    level = cv2.log(half.astype(np.float32) + 8)
    differs = level - cv2.GaussianBlur(level, (0, 0), 8)
    margin = min(half.shape) // 12
    inner = differs[margin : half.shape[0] - margin, margin : half.shape[1] - margin]
    return bool((inner * inner * inner).sum() > 0)


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
    ink, mask = turn(ink, tilt), turn(mask, tilt)
    return choose_parts(ink, remove_lines(mask))


def remove_light(grey: Plane) -> Plane:
    """Returns how much darker than the paper around it each pixel is, whatever the light on it.

    The paper is what is left when dark strokes are closed. A shadow and a table are wider than a
    stroke, so they count as paper.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (WIDEST_STROKE, WIDEST_STROKE))
    paper = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, kernel)
    darker = 255 - cv2.divide(grey, np.maximum(paper, 1), scale=255)
    # In the dark, a few grey values of noise are a large share.
    return np.where(cv2.subtract(paper, grey) >= NOISE, darker, 0).astype(np.uint8)


def find_ink(ink: Plane) -> Plane:
    """Returns the mask of what has half of the strongest ink near it, so that pens may differ."""
    near = (WIDEST_STROKE, WIDEST_STROKE)
    strongest = cv2.blur(cv2.dilate(ink, np.ones(near, np.uint8)), near)
    return np.where(ink > np.maximum(strongest / 2, FAINTEST_INK), 255, 0).astype(np.uint8)


def measure_tilt(mask: Plane) -> float | None:
    """Returns the angle in degrees that makes the paper's lines level; None without lines."""
    size = [max(length // 2, 1) for length in mask.shape[::-1]]
    small = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), np.uint8)

    def fullest(angle: float) -> float:
        """Returns the share of ink in the fullest row or column, once turned."""
        turned = turn(small, angle)
        return max(float(turned.mean(axis).max()) / 255 for axis in (0, 1))

    coarse = max(range(-15, 16), key=fullest)
    tilt = max((coarse + quarter / 4 for quarter in range(-4, 5)), key=fullest)
    # A digit's own strokes fill less of a row.
    return tilt if fullest(tilt) > 0.35 else None


def turn(image: Plane, angle: float) -> Plane:
    """Turns an image by `angle` degrees around its middle."""
    height, width = image.shape
    move = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    return np.asarray(cv2.warpAffine(image, move, (width, height)), np.uint8)


def remove_lines(mask: Plane) -> Plane:
    """Removes level and upright lines, and keeps the strokes that they cross.

    As staves are removed from sheet music: a pixel goes if it lies on a long line and the run of
    ink across the line is no longer than a line is thick.
    """
    for _ in ("level", "upright"):
        closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((1, 9), np.uint8))
        lines = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((1, LINE_LENGTH), np.uint8))
        near = cv2.dilate(lines, np.ones((5, 1), np.uint8))
        thick = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((LINE_THICKNESS + 1, 1), np.uint8))
        # Upright lines are level once rows and columns change places; a crossing of two lines has
        # only its upright one left by then.
        gone = cv2.subtract(near, thick)
        mask = np.ascontiguousarray(cv2.subtract(mask, gone).T)
    return mask


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
    if not parts:
        return None
    main = max(parts, key=lambda part: part.area)
    depth = cv2.distanceTransform((labels == main.label).astype(np.uint8), cv2.DIST_L2, 5).max()
    solidity = float(depth) / main.side
    if solidity > MOST_SOLID:
        return None
    pieces = [part for part in parts if part.area > 0.03 * main.area and belongs(part, main)]
    chosen = np.isin(labels, [part.label for part in pieces]).astype(np.uint8) * 255
    alone = all(
        part in pieces or part.area < 0.3 * main.area or part.height < 0.5 * main.height
        for part in parts
    )
    shown = cv2.bitwise_and(ink, joined, mask=chosen)
    return Found(np.asarray(shown, np.uint8), main, solidity, alone)


def belongs(part: Part, main: Part) -> bool:
    """Tells whether a part is a piece of the digit, as the bar of a 5, and no digit beside it."""
    gap = main.height // 5
    around = Part(0, main.left - gap, main.top - gap, main.right + gap, main.bottom + gap, 0)
    apart = (
        part.left > around.right
        or part.right < around.left
        or part.top > around.bottom
        or part.bottom < around.top
    )
    beside = part.left >= main.right or part.right <= main.left
    return not apart and not (beside and part.height > 0.6 * main.height)


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
