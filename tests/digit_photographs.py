"""Photographs of digits as people take them, drawn from MNIST's: paper, pen, light and camera.

Every number is a share of the photograph's side or of full light, drawn anew for each photograph.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# What is special in each kind of photograph. `all` has something of everything.
KINDS = (
    *("plain", "shadow", "gradient", "vignette", "lined", "squared", "frame", "table"),
    *("blackboard", "blue_pen", "thin_pen", "noise", "jpeg", "off_centre", "rotated"),
    *("small", "large", "all"),
)
Plane = NDArray[Any]
Chance = np.random.Generator


def photograph(digit: NDArray[np.uint8], kind: str, chance: Chance) -> NDArray[np.uint8]:
    """Draws a digit of MNIST, uint8 [28, 28], as a photograph, uint8 [height, width, 3], RGB."""
    has = {kind}
    if kind == "all":
        has |= {"shadow", "noise", "jpeg", "off_centre", "rotated"}
        for one_of in (
            ["vignette", "gradient"],
            ["lined", "squared", "frame"],
            ["blue_pen", "thin_pen", ""],
            ["table", ""],
        ):
            has.add(str(chance.choice(one_of)))
    height, width = choose_size(has, chance)
    side = min(height, width)
    length = side * chance.uniform(
        *((0.25, 0.4) if "all" in has else (0.18, 0.35) if "off_centre" in has else (0.35, 0.65))
    )
    angle = chance.uniform(4, 12) * chance.choice([-1, 1]) if "rotated" in has else 0
    away = side * (0.22 if "all" in has else 0.28 if "off_centre" in has else 0.06)
    if "table" in has:
        away *= 0.5
    centre = np.array([width, height]) / 2 + chance.uniform(-away, away, 2)

    stroke = write(digit, "thin_pen" in has)
    ink = place(stroke, length / stroke.shape[0] * 28 / 20, angle, centre, height, width)
    if "blackboard" in has:
        ink *= np.clip(0.85 + 0.35 * cloud(height, width, side / 150, chance), 0, 1)
        ground = np.array([35, 50, 42]) * chance.uniform(0.7, 1.5)
        pen = np.array([225, 225, 215]) * chance.uniform(0.8, 1)
        image = ground * (1 + 0.15 * cloud(height, width, side / 12, chance))[..., None]
    else:
        ground = np.array([240, 238, 228]) * chance.uniform(0.8, 1)
        pen = np.array([30, 50, 140] if "blue_pen" in has else [45, 45, 48])
        pen = pen * chance.uniform(0.6, 1.3)
        image = ground * (1 + 0.01 * cloud(height, width, side / 40, chance))[..., None]
    if has & {"lined", "squared"}:
        lines = rule("squared" in has, length, angle, height, width, chance)[..., None]
        colour = np.array([105, 125, 180]) * chance.uniform(0.5, 1)
        image = image * (1 - lines) + colour * lines
    if "frame" in has:
        ink = np.maximum(ink, frame(ink, length, chance))
    image = image * (1 - ink[..., None]) + pen * ink[..., None]
    if "table" in has:
        paper = sheet(height, width, angle, chance)[..., None]
        wood = np.array([110, 75, 45]) * chance.uniform(0.4, 1.2)
        image = image * paper + wood * (1 - paper)
    image = image.astype(np.float32) * light(has, height, width, centre, length, chance)[..., None]
    return expose(image, has, chance)


def choose_size(has: set[str], chance: Chance) -> tuple[int, int]:
    """Returns a height and a width in pixels."""
    sides = (120, 160) if "small" in has else (800, 1000) if "large" in has else (200, 480)
    height = int(chance.integers(*sides))
    return height, int(np.clip(height * chance.uniform(0.8, 1.25), 120, 1000))


def write(digit: NDArray[np.uint8], thin: bool) -> Plane:
    """Returns a digit's stroke with sharp edges, 8 times as large, 0 to 1."""
    size = (8 * 28, 8 * 28)
    if thin:
        line: Plane = thin_out(
            cv2.resize(digit, (4 * 28, 4 * 28), interpolation=cv2.INTER_CUBIC) > 100
        )
        line = cv2.dilate(line, np.ones((2, 2), np.uint8))
        soft: Plane = cv2.resize(line.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
        soft = cv2.GaussianBlur(soft, (0, 0), 1.5)
    else:
        soft = cv2.resize(digit.astype(np.float32) / 255, size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip((soft - 0.5) * 4 + 0.5, 0, 1), np.float32)


def thin_out(stroke: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Returns the line in a stroke's middle, by the algorithm of Zhang and Suen (1984)."""
    line = np.pad(stroke, 1)
    changed = True
    while changed:
        changed = False
        for sides in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            # The eight neighbours, clockwise from the one above.
            steps = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
            near = np.array([np.roll(line, (-y, -x), (0, 1)) for y, x in steps])
            begins = (~near & np.roll(near, -1, axis=0)).sum(0)
            end = line & (begins == 1) & (near.sum(0) >= 2) & (near.sum(0) <= 6)
            for three in sides:
                end &= ~near[list(three)].all(0)
            line = line & ~end
            changed |= bool(end.any())
    return line[1:-1, 1:-1].astype(np.uint8)


def place(
    stroke: Plane, scale: float, angle: float, centre: Plane, height: int, width: int
) -> Plane:
    """Puts a stroke on a sheet of `height` and `width`, turned by `angle` degrees."""
    middle = stroke.shape[0] / 2
    move = cv2.getRotationMatrix2D((middle, middle), angle, scale)
    move[:, 2] += centre - middle
    shrunk = cv2.GaussianBlur(stroke, (0, 0), max(0.45 / scale, 0.01))
    return np.asarray(cv2.warpAffine(shrunk, move, (width, height), flags=cv2.INTER_LINEAR))


def cloud(height: int, width: int, size: float, chance: Chance) -> Plane:
    """Returns random, smooth values of about -2 to 2 with spots of `size` pixels."""
    shape = (max(int(height / size), 2), max(int(width / size), 2))
    spots = chance.normal(0, 1, shape).astype(np.float32)
    return cv2.resize(spots, (width, height), interpolation=cv2.INTER_CUBIC)


def rule(
    squared: bool, length: float, angle: float, height: int, width: int, chance: Chance
) -> Plane:
    """Returns how strongly each pixel is printed with lines, or with squares."""
    y, x = np.ogrid[:height, :width]
    turn = np.deg2rad(angle + chance.uniform(-1.5, 1.5))
    across = y * np.cos(turn) + x * np.sin(turn)
    along = x * np.cos(turn) - y * np.sin(turn)
    step = length * (chance.uniform(0.25, 0.6) if squared else chance.uniform(0.4, 1.1))
    thick = max(min(height, width) * chance.uniform(0.003, 0.008), 1)
    printed = np.zeros((height, width), np.float32)
    for distance in (across, along) if squared else (across,):
        gap = np.abs((distance + chance.uniform(0, step)) % step - step / 2)
        printed = np.maximum(printed, np.clip(thick / 2 + 0.5 - gap, 0, 1))
    return np.asarray(printed * np.float32(chance.uniform(0.5, 1)), np.float32)


def frame(ink: Plane, length: float, chance: Chance) -> Plane:
    """Returns a box around the digit, drawn by hand with the same pen or printed."""
    points = cv2.findNonZero((ink > 0.5).astype(np.uint8))
    x, y, width, height = cv2.boundingRect(points)
    gap = length * chance.uniform(0.12, 0.4, 4)
    left, top, right, bottom = x - gap[0], y - gap[1], x + width + gap[2], y + height + gap[3]
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    corners += chance.normal(0, 0.02 * length, corners.shape)
    thick = max(round(length * chance.uniform(0.015, 0.06)), 1)
    box = np.zeros_like(ink)
    cv2.polylines(box, [np.rint(corners * 16).astype(np.int32)], True, 1.0, thick, cv2.LINE_AA, 4)
    return box


def sheet(height: int, width: int, angle: float, chance: Chance) -> Plane:
    """Returns where the paper lies on the table: 1 on paper, 0 beside it."""
    share = chance.uniform(0.72, 0.9)
    turned = (
        (width / 2, height / 2),
        (width * share, height * share),
        -angle - chance.uniform(-3, 3),
    )
    paper = np.zeros((height, width), np.float32)
    cv2.fillPoly(paper, [np.rint(cv2.boxPoints(turned)).astype(np.int32)], 1.0, cv2.LINE_AA)
    return cv2.GaussianBlur(paper, (0, 0), 0.8)


def light(
    has: set[str], height: int, width: int, centre: Plane, length: float, chance: Chance
) -> Plane:
    """Returns the light on each pixel, 0 to 1: shadow, falling off to a side and to the corners."""
    y, x = np.ogrid[:height, :width]
    side = min(height, width)
    result = np.ones((height, width), np.float32)
    turn = chance.uniform(0, 2 * np.pi)
    if "gradient" in has:
        along = ((x / width - 0.5) * np.cos(turn) + (y / height - 0.5) * np.sin(turn)).clip(
            -0.6, 0.6
        )
        result *= 0.65 + along * chance.uniform(0.5, 0.8) / 1.2
    if "vignette" in has:
        far = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) * 2
        result *= 1 - far * chance.uniform(0.4, 0.8)
    if "shadow" in has:  # its edge crosses the digit or lies near it
        turn = chance.uniform(0, 2 * np.pi)
        edge = centre + length * chance.uniform(-0.6, 0.6, 2)
        far = (x - edge[0]) * np.cos(turn) + (y - edge[1]) * np.sin(turn)
        softness = side * chance.uniform(0.004, 0.03)
        dark = 1 / (1 + np.exp(-(far / softness).clip(-30, 30)))
        result *= 1 - dark * chance.uniform(0.5, 0.75)
    return result


def expose(image: Plane, has: set[str], chance: Chance) -> NDArray[np.uint8]:
    """Returns what the camera makes of it: blur, noise and JPEG."""
    side = min(image.shape[:2])
    blur, noise, quality = side * 0.001, 2.0, 92
    if "noise" in has:
        blur, noise = side * chance.uniform(0.003, 0.009), chance.uniform(6, 16)
        if "all" in has:  # a person still reads nearly all of them
            blur, noise = blur / 2, noise / 2
    if "jpeg" in has:
        quality = int(chance.integers(15, 40))
    image = cv2.GaussianBlur(image, (0, 0), max(blur, 0.1))
    image = image + noise * chance.standard_normal(image.shape, np.float32)
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB), np.uint8)
