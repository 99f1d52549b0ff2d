"""Finds the ink in a photograph of paper or of a board, whatever the light, lines and table.

Every mask is uint8 [height, width] of 0 and 255.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

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

# Grey values, uint8 [height, width]; a mask has only 0 and 255.
Plane = NDArray[Any]


def shrink(grey: Plane) -> Plane:
    """Returns a photograph with its longer side of `SIDE` pixels, without grain."""
    factor = SIDE / max(grey.shape)
    size = [max(round(factor * length), 1) for length in grey.shape[::-1]]
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(
        cv2.GaussianBlur(cv2.resize(grey, size, interpolation=way), (5, 5), 0), np.uint8
    )


def has_ground(grey: Plane, *, bright: bool) -> bool:
    """Tells an even ground: the edge is bright (or dark), and most of the image is like it.

    The edge of a shadow crosses the edge of the image; what is not paper is not even.
    """
    edges = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).astype(np.float32)
    ground, span = np.median(edges), float(grey.max()) - float(grey.min())
    even = [float((np.abs(values - ground) <= span / 6).mean()) for values in (edges, grey)]
    is_bright = ground > float(grey.min()) + span / 2
    return bool(is_bright == bright and even[0] > 0.9 and even[1] > 0.55)


def is_bright_on_dark(grey: Plane) -> bool:
    """Tells chalk from ink: strokes are thin, so they are the rare side of what differs.

    The edge of a shadow or of a table has as much on both sides. Of 40 such measures this one was
    wrong least often: for 12 of 640 photographs, most of them of a paper on a table.
    """
    if has_ground(grey, bright=True) or has_ground(grey, bright=False):
        return not has_ground(grey, bright=True)
    inner = grey[grey.shape[0] // 5 : -(grey.shape[0] // 5) or None]
    inner = inner[:, grey.shape[1] // 5 : -(grey.shape[1] // 5) or None]
    if np.median(inner) > (float(grey.min()) + float(grey.max())) / 2:
        return False  # paper in the middle, whatever lies around it
    size = [max(length // 2, 1) for length in grey.shape[::-1]]
    half = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    level = cv2.log(half.astype(np.float32) + 8)
    differs = level - cv2.GaussianBlur(level, (0, 0), 8)
    margin = min(half.shape) // 12
    inner = differs[margin : half.shape[0] - margin, margin : half.shape[1] - margin]
    return bool((inner * inner * inner).sum() > 0)


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


def remove_table(mask: Plane) -> Plane:
    """Removes what is thick and touches the edge: once turned, it would not touch it any more."""
    thick = np.pad(mask, 1, constant_values=255)
    thick = cv2.morphologyEx(thick, cv2.MORPH_OPEN, np.ones((15, 15), np.uint8))
    cv2.rectangle(thick, (0, 0), (thick.shape[1] - 1, thick.shape[0] - 1), 255)
    _, labels = cv2.connectedComponents(thick)
    table = np.where(labels[1:-1, 1:-1] == labels[0, 0], 255, 0).astype(np.uint8)
    return np.asarray(cv2.subtract(mask, cv2.dilate(table, np.ones((9, 9), np.uint8))), np.uint8)


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
