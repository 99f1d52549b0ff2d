"""Photographs of digits, made to look as MNIST's images do."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.sources.arrays import Image

# MNIST's digits fit a box of 20 pixels in an image of 28: http://yann.lecun.com/exdb/mnist/
BOX = 20 / 28
# The longer side of a photograph while the digit is looked for. Every length below is in its pixels.
SIDE = 400
# Wider than any stroke (MNIST's boldest in a digit that fills the photograph: 57) and narrower than
# a shadow or a table.
WIDEST_STROKE = 81
# How much darker than the paper ink is at least, of 255. Noise and the grain of paper stay below.
FAINTEST_INK = 40
# A printed line is at most this thick, and this long without a gap.
LINE_THICKNESS, LINE_LENGTH = 6, 80
# MNIST's strokes are this wide, in a digit of 20 pixels.
STROKE = 2.0

Plane = NDArray[np.uint8]
# Where ink is: 255, and 0 elsewhere.
Mask = NDArray[np.uint8]


class Part(NamedTuple):
    """A connected piece of ink: its number in the labels, its box and its area."""

    label: int
    left: int
    top: int
    width: int
    height: int
    area: int

    @property
    def right(self) -> int:
        """The first column after it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row after it."""
        return self.top + self.height


def to_digit(image: Image, height: int, width: int) -> Image | str:
    """Turns a photograph of one digit into an image like MNIST's: centred, bright on black.

    An image of the size asked for is left alone, or inverted if it is dark on bright paper.

    Args:
        image: uint8 [any height, any width, 3], RGB.
        height: The result's height in pixels.
        width: The result's width in pixels.

    Returns:
        uint8 [height, width, 1]; or the reason why no digit is seen.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    if grey.shape == (height, width):
        return (255 - grey if is_paper(grey) else grey)[..., np.newaxis]
    grey = scale(grey)
    chalk = is_bright_on_dark(grey)
    answer: Image | str = "no digit"
    for inverted in (chalk, not chalk):
        ink = remove_light(255 - grey if inverted else grey)
        mask = find_ink(ink)
        found = choose_parts(mask)
        if isinstance(found, str):  # lines join the digit to the edge, or cut it
            ink, mask = remove_lines(ink, mask)
            found = choose_parts(mask)
        if not isinstance(found, str):
            return put_in_box(cv2.bitwise_and(ink, ink, mask=found), found, height, width)
        if inverted == chalk:
            answer = found
    return answer


def is_paper(grey: Plane) -> bool:
    """Tells whether an image is dark on bright paper: its edge is bright, most of it is as bright."""
    edge = np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    darkest, brightest = int(grey.min()), int(grey.max())
    near = np.abs(grey - edge) <= (brightest - darkest) / 6
    return bool(edge > (darkest + brightest) / 2 and near.mean() > 0.55)


def scale(grey: Plane) -> Plane:
    """Returns a photograph with its longer side of `SIDE` pixels, without grain."""
    factor = SIDE / max(grey.shape)
    size = tuple(max(round(factor * length), 1) for length in grey.shape[::-1])
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.GaussianBlur(cv2.resize(grey, size, interpolation=way), (5, 5), 0), np.uint8)


def remove_light(grey: Plane) -> Plane:
    """Returns how much darker than the paper around it each pixel is, whatever the light on it.

    The paper is what is left when dark strokes are closed. A shadow and a table are wider than a
    stroke, so they count as paper.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (WIDEST_STROKE, WIDEST_STROKE))
    paper = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, kernel)
    return np.asarray(255 - cv2.divide(grey, paper, scale=255), np.uint8)


def is_bright_on_dark(grey: Plane) -> bool:
    """Tells chalk from ink: strokes are thin, so they are the rare side of what differs.

    The edge of a shadow or of a table has as much on both sides. Of 20 such measures this was
    wrong least often: for 9 of 1,200 photographs, where the square root of the logarithm's place was wrong for 26.
    """
    level = np.log(grey.astype(np.float32) + 8)
    differs = level - cv2.GaussianBlur(level, (0, 0), 16)
    margin = SIDE // 12
    return bool((differs[margin:-margin, margin:-margin] ** 3).sum() > 0)


def find_ink(ink: Plane) -> Mask:
    """Returns where the ink is"""
    near = np.ones((WIDEST_STROKE, WIDEST_STROKE), np.uint8)
    full = cv2.blur(cv2.dilate(ink, near), near.shape)
    mask = (ink > np.maximum(full / 2, FAINTEST_INK)).astype(np.uint8) * 255
    return mask


def remove_lines(ink: Plane, mask: Mask) -> tuple[Plane, Mask]:
    """Turns the photograph so that the lines of its paper are level, and removes them.

    As for staves in sheet music: where a long line crosses a stroke, the run of ink across the line
    is longer than the line is thick, so the stroke stays whole.
    """
    angle = measure_tilt(mask)
    if angle is None:
        return ink, mask
    ink, mask = turn(ink, angle), turn(mask, angle)
    for level in (True, False):
        # Upright lines are level ones once rows and columns are swapped. The level ones are gone by
        # then: crossings belong to the upright ones alone.
        rows = mask if level else np.ascontiguousarray(mask.T)
        closed = cv2.morphologyEx(rows, cv2.MORPH_CLOSE, np.ones((1, 9), np.uint8))
        long = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((1, LINE_LENGTH), np.uint8))
        near = cv2.dilate(long, np.ones((5, 1), np.uint8))
        thick = cv2.morphologyEx(rows, cv2.MORPH_OPEN, np.ones((LINE_THICKNESS + 1, 1), np.uint8))
        rows = rows & (~near | thick)
        mask = rows if level else np.ascontiguousarray(rows.T)
    return ink, mask


def measure_tilt(mask: Mask) -> float | None:
    """Returns the angle in degrees by which the paper's lines are turned; None without lines."""
    small = cv2.resize(mask, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)

    def share(angle: float) -> float:
        """Returns how much of the fullest row or column is ink, once turned."""
        turned = turn(small, angle)
        return max(float(turned.mean(axis).max()) / 255 for axis in (0, 1))

    coarse = max(np.arange(-15, 15.5, 1.0), key=share)
    tilt = float(max(np.arange(coarse - 1, coarse + 1.25, 0.25), key=share))
    return tilt if share(tilt) > 0.35 else None


def turn(image: Plane, angle: float) -> Plane:
    """Turns an image by `angle` degrees around its middle."""
    height, width = image.shape
    move = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    return np.asarray(cv2.warpAffine(image, move, (width, height)), np.uint8)


def choose_parts(mask: Mask) -> Mask | str:
    """Returns the parts of the ink that are the digit, or why there is none."""
    height, width = mask.shape
    joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    parts = [Part(label, *map(int, row)) for label, row in enumerate(stats)][1:]
    parts = [part for part in parts if part.area >= 40 and max(part.width, part.height) >= 20]
    inside = [
        part
        for part in parts
        if part.left > 1 and part.top > 1 and part.right < width - 1 and part.bottom < height - 1
    ]
    parts = [part for part in inside if not any(frames(part, other) for other in inside)]
    if not parts:
        return "no digit"
    main = max(parts, key=lambda part: part.area)
    depth = cv2.distanceTransform((labels == main.label).astype(np.uint8), cv2.DIST_L2, 5).max()
    if depth > 0.22 * max(main.width, main.height):
        return "no digit"
    digit = [main]
    for part in parts:
        if part is main or part.area < 0.03 * main.area:
            continue
        if belongs(part, main):
            digit.append(part)
        elif part.area > 0.3 * main.area and part.height > 0.5 * main.height:
            return "more than one digit"
    chosen = np.isin(labels, [part.label for part in digit]).astype(np.uint8) * 255
    return np.asarray(cv2.bitwise_and(chosen, joined), np.uint8)


def frames(part: Part, other: Part) -> bool:
    """Tells whether `part` is a frame around another part that is large enough for a digit."""
    return (
        part.left < other.left
        and part.top < other.top
        and part.right > other.right
        and part.bottom > other.bottom
        and max(other.width, other.height) > 0.3 * min(part.width, part.height)
    )


def belongs(part: Part, main: Part) -> bool:
    """Tells whether a smaller part is a piece of the digit, such as the bar of a 5."""
    gap = main.height // 5
    apart = (
        part.left > main.right + gap
        or part.right < main.left - gap
        or part.top > main.bottom + gap
        or part.bottom < main.top - gap
    )
    beside = part.left >= main.right or part.right <= main.left
    return not apart and not (beside and part.height > 0.6 * main.height)


def put_in_box(ink: Plane, mask: Mask, height: int, width: int) -> Image:
    """Scales the digit to MNIST's box, its strokes as wide as MNIST's, its centre of mass in the middle."""
    left, top, box_width, box_height = cv2.boundingRect(mask)
    ink = np.asarray(cv2.copyMakeBorder(ink[top : top + box_height, left : left + box_width], *[20] * 4, cv2.BORDER_CONSTANT), np.uint8)
    solid = (ink > 0.5 * np.percentile(ink[ink > 0], 80)).astype(np.uint8)
    # A stroke's depth is a quarter of its width on average.
    stroke = 4 * cv2.distanceTransform(solid, cv2.DIST_L2, 5)[solid > 0].mean()
    missing = STROKE / 20 * max(box_width, box_height) - stroke
    if missing >= 1:
        size = min(2 * round(missing / 2) + 1, 41)
        ink = cv2.dilate(ink, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    digit = ink.astype(np.float32)
    digit = np.clip(digit * 255 / np.percentile(digit[digit > 0], 75), 0, 255)
    left, top, box_width, box_height = cv2.boundingRect((digit > 127).astype(np.uint8))
    digit = digit[top : top + box_height, left : left + box_width]
    scale = BOX * min(height / box_height, width / box_width)
    rows, columns = (max(round(scale * length), 1) for length in digit.shape)
    digit = cv2.resize(digit, (columns, rows), interpolation=cv2.INTER_AREA)
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
