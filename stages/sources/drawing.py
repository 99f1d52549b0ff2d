"""Drawing cats and dogs: the pipeline's default data, which needs no network.

Each picture shows one animal, facing the viewer, before a random background. Colours, coat
patterns, backgrounds, light, size and place come from the same distributions for both kinds, so
that only the anatomy (head, ears, eyes, muzzle, nose, whiskers, tail) tells a cat from a dog.

An animal is described in its own coordinates: the centre of the head is (0, 0), the head reaches
about 1 unit to either side, x points to the side and y points down. An `Easel` turns them into
pixels.
"""

# Coordinates are NumPy arrays: `+` moves them. RUF005 takes them for lists.
# ruff: noqa: RUF005

import colorsys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Image = NDArray[np.uint8]
Points = NDArray[np.float64]
Colour = NDArray[np.float64]

JPEG_QUALITY = 90
# Pictures are painted this many times larger and then reduced, which smooths every edge.
OVERSAMPLING = 2
# OpenCV takes corners of polygons as fixed-point numbers with this many fractional bits.
FRACTION_BITS = 4
SIDES = (-1, 1)
EDGE_WIDTH = 0.035

BLACK = np.array([22.0, 18.0, 20.0])
WHITE = np.array([252.0, 250.0, 246.0])
PINK = np.array([228.0, 152.0, 150.0])
RED = np.array([226.0, 100.0, 112.0])
FURS = np.array(
    [
        [216.0, 138.0, 66.0],  # ginger
        [232.0, 204.0, 160.0],  # cream
        [146.0, 146.0, 152.0],  # grey
        [66.0, 60.0, 62.0],  # black
        [134.0, 94.0, 62.0],  # brown
        [96.0, 68.0, 52.0],  # chocolate
        [240.0, 236.0, 228.0],  # white
        [196.0, 160.0, 112.0],  # tan
    ]
)
IRISES = np.array(
    [
        [214.0, 168.0, 56.0],  # amber
        [140.0, 176.0, 82.0],  # green
        [128.0, 180.0, 212.0],  # blue
        [166.0, 110.0, 52.0],  # hazel
    ]
)
PATTERNS = ("plain", "tabby", "patch", "spots", "blaze")
SCENES = ("plain", "furniture", "lights", "grass")

# Outlines of a dog's ear, on the side where x is positive.
UPRIGHT_EAR = np.array(
    [[0.3, -0.7], [0.42, -1.2], [0.66, -1.48], [0.92, -1.42], [1.02, -1.0], [0.88, -0.4]]
)
FLOPPY_EAR = np.array(
    [[0.5, -0.82], [0.85, -0.74], [1.12, -0.3], [1.2, 0.3], [1.02, 0.66], [0.78, 0.3]]
)
FOLDED_EAR = np.array(
    [[0.34, -0.8], [0.55, -1.12], [0.92, -1.08], [1.22, -0.6], [1.16, -0.36], [0.86, -0.5]]
)


def draw(kind: str, rng: np.random.Generator) -> Image:
    """Draws one animal.

    Args:
        kind: "cat" or "dog".
        rng: The only source of randomness; the same state gives the same bytes.

    Returns:
        uint8 [height, width, 3], RGB, each side 120 to 320 pixels.

    Raises:
        ValueError: The kind is unknown.
    """
    if kind not in PAINTERS:
        raise ValueError(f"unknown kind {kind!r}; known kinds: {', '.join(PAINTERS)}")
    longer = rng.uniform(160, 320)
    shorter = longer * rng.uniform(0.75, 1)
    height, width = (round(side) * OVERSAMPLING for side in rng.permutation([longer, shorter]))
    easel = Easel(paint_background(height, width, rng), rng)
    PAINTERS[kind](easel, Coat.random(rng), rng)
    if rng.random() < 0.3:  # a disc in front hides a part of the animal
        place = np.array([rng.choice([0.1, 0.9]), rng.uniform(0.2, 1)])
        paint_disc(easel.image, place, rng.uniform(0.15, 0.28), rng)
    return photograph(easel.image, rng)


def to_jpeg(image: Image) -> bytes:
    """Encodes a picture.

    Args:
        image: uint8 [height, width, 3], RGB.

    Returns:
        The content of a JPEG file.
    """
    blue_first = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


@dataclass(frozen=True)
class Coat:
    """The colours and the pattern of an animal; they do not depend on its kind."""

    base: Colour
    accent: Colour
    stripes: Colour
    pale: Colour
    ears: Colour
    line: Colour
    nose: Colour
    iris: Colour
    whiskers: Colour
    pattern: str

    @classmethod
    def random(cls, rng: np.random.Generator) -> Self:
        """Chooses a coat."""
        base, accent = rng.choice(FURS, size=2, replace=False) + rng.normal(0, 8, size=(2, 1))
        return cls(
            base=base,
            accent=accent,
            stripes=mix(base, BLACK, 0.45),
            pale=mix(base, WHITE, rng.uniform(0.25, 0.9)),
            ears=accent if rng.random() < 0.35 else mix(base, BLACK, 0.15),
            line=mix(base, BLACK, 0.7),
            nose=mix(PINK, BLACK, rng.choice([0.1, 0.5, 0.9, 0.95])),
            iris=rng.choice(IRISES) + rng.normal(0, 10),
            whiskers=WHITE if rng.random() < 0.7 else BLACK,
            pattern=PATTERNS[rng.integers(len(PATTERNS))],
        )


class Easel:
    """A picture in the making, with the place, size and angle of its animal."""

    def __init__(self, image: Image, rng: np.random.Generator) -> None:
        self.image = image
        height, width = image.shape[:2]
        self.unit = min(height, width) * rng.uniform(0.2, 0.3)
        self.centre = np.array([width, height]) * rng.uniform([0.4, 0.38], [0.6, 0.52])
        angle = np.deg2rad(rng.normal(0, 8))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self.axes = np.array([[rng.choice(SIDES)], [1]]) * turn * self.unit

    def fill(self, outline: Points, colour: Colour, edge: Colour | None = None) -> None:
        """Fills an outline, [points, 2], and draws its edge if that has a colour."""
        corners = [self._pixels(outline)]
        cv2.fillPoly(self.image, corners, colour.tolist(), cv2.LINE_AA, FRACTION_BITS)
        if edge is not None:
            self.stroke([outline], edge, EDGE_WIDTH, closed=True)

    def stroke(
        self, lines: Sequence[Points], colour: Colour, width: float, closed: bool = False
    ) -> None:
        """Draws lines, [points, 2]; the width is in units of the animal."""
        corners = [self._pixels(line) for line in lines]
        thickness = max(1, round(width * self.unit))
        cv2.polylines(
            self.image, corners, closed, colour.tolist(), thickness, cv2.LINE_AA, FRACTION_BITS
        )

    @contextmanager
    def inside(self, outline: Points) -> Iterator[None]:
        """Confines what is painted in this context to the inside of the outline."""
        before = self.image.copy()
        yield
        outside = np.full(before.shape[:2], 255, np.uint8)
        cv2.fillPoly(outside, [self._pixels(outline)], 0, cv2.LINE_8, FRACTION_BITS)
        cv2.copyTo(before, outside, self.image)

    def _pixels(self, points: Points) -> NDArray[np.int32]:
        placed: Points = points @ self.axes + self.centre
        fixed: NDArray[np.int32] = np.rint(placed * 2**FRACTION_BITS).astype(np.int32)
        return fixed


def paint_cat(easel: Easel, coat: Coat, rng: np.random.Generator) -> None:
    """Paints pointed ears, a wide head, almond eyes, a small nose, whiskers and a long tail."""
    tail = [[0.7, 2.6], [1.5, 2.5], [1.75, 1.7], [1.55, 1.1], [1.85, 0.75]]
    paint_body(easel, coat, rng, shoulders=0.66, tail=curve(tail))

    tip = rng.uniform([0.68, -1.62], [0.95, -1.38])
    ear = np.array([[1, -0.1], tip + [0.06, 0.06], tip - [0.06, 0], [0.18, -0.72]])
    paint_ears(easel, ear, coat, hollow=True)

    cheek = rng.uniform(0.98, 1.12)
    head = [[0, -0.82], [0.5, -0.8], [0.9, -0.4], [cheek, 0.2], [0.74, 0.66], [0.3, 0.86]]
    paint_head(easel, symmetric(head), coat, rng)

    gaze = rng.uniform([-0.1, -0.06], [0.1, 0.06])
    opening, slit = rng.uniform(0.75, 1.1), rng.choice([0.05, 0.08, 0.14])
    almond = [[-0.24, 0.06], [-0.08, -0.17], [0.14, -0.19], [0.27, -0.1], [0.1, 0.17]]
    for side in SIDES:
        eye = gaze + [0.43 * side, -0.08]
        easel.fill(eye + closed_curve(almond) * [side, opening], coat.iris, BLACK)
        easel.fill(oval(eye, slit, 0.17 * opening), BLACK)
        easel.fill(oval(eye - [0.06, 0.07], 0.045, 0.045), WHITE)

    mouth = gaze * 1.4 + [0, 0.44]
    easel.fill(oval(mouth + [0, 0.2], 0.16, 0.13), coat.pale)
    for side in SIDES:
        easel.fill(oval(mouth + [0.19 * side, 0.03], 0.25, 0.19), coat.pale)
    lips = [[-0.3, 0.1], [-0.16, 0.16], [0, 0.04], [0.16, 0.16], [0.3, 0.1]]
    easel.stroke([mouth + curve(lips)], coat.line, EDGE_WIDTH)
    nose = [[-0.13, -0.13], [0, -0.16], [0.13, -0.13], [0, 0.01]]
    easel.fill(mouth + closed_curve(nose), coat.nose, coat.line)

    length, droop = rng.uniform([0.85, -0.1], [1.15, 0.2])
    strands = [
        curve([[0.26, y], [0.26 + length / 2, 2 * y - 0.05], [0.26 + length, 4 * y + droop]])
        for y in (-0.06, 0.01, 0.08)
    ]
    whiskers = [mouth + strand * [side, 1] for strand in strands for side in SIDES]
    easel.stroke(whiskers, coat.whiskers, 0.022)


def paint_dog(easel: Easel, coat: Coat, rng: np.random.Generator) -> None:
    """Paints round ears, a long head, round eyes, a big nose on a snout and a short tail."""
    tail = [[0.7, 2.5], [1.2, 2.3], [1.5, 1.8], [1.55, 1.4]]
    paint_body(easel, coat, rng, shoulders=0.82, tail=curve(tail))

    shape = (FLOPPY_EAR, FLOPPY_EAR, FOLDED_EAR, UPRIGHT_EAR)[rng.integers(4)]
    upright = shape is UPRIGHT_EAR
    ear = closed_curve(shape * rng.uniform([0.94, 0.92], [1.04, 1.08]))
    skull, jaw = rng.uniform([0.76, 0.48], [0.9, 0.62])
    head = [[0, -0.86], [0.45, -0.84], [skull, -0.4], [skull - 0.04, 0.1], [jaw + 0.1, 0.62]]
    head += [[jaw - 0.06, 0.94], [0.22, 1.08]]
    if upright:
        paint_ears(easel, ear, coat, hollow=True)
    paint_head(easel, symmetric(head), coat, rng)
    if not upright:
        paint_ears(easel, ear, coat, hollow=False)

    gaze = rng.uniform([-0.1, -0.06], [0.1, 0.06])
    for side in SIDES:
        eye = gaze + [0.38 * side, -0.2]
        easel.fill(oval(eye, 0.16, 0.15), coat.iris, BLACK)
        easel.fill(oval(eye + [0, 0.01], 0.11, 0.11), BLACK)
        easel.fill(oval(eye - [0.05, 0.05], 0.04, 0.04), WHITE)

    snout = gaze * 1.8 + [0, 0.5]
    if rng.random() < 0.5:
        length = rng.uniform(0.25, 0.4)
        easel.fill(oval(snout + [0, 0.4], 0.32, 0.26), BLACK, coat.line)
        easel.fill(oval(snout + [0.04, 0.6], 0.2, length), RED, mix(RED, BLACK, 0.4))
    bridge = [[0, -0.5], [0.18, -0.44], [0.3, -0.1], [0.46, 0.16], [0.4, 0.4], [0.16, 0.42]]
    easel.fill(snout + symmetric([*bridge, [0, 0.36]]), coat.pale, coat.line)
    lips = [[-0.36, 0.3], [-0.18, 0.32], [0, 0.16], [0.18, 0.32], [0.36, 0.3]]
    easel.stroke([snout + curve(lips), snout + [[0, 0.0], [0, 0.16]]], coat.line, 0.04)
    breadth = rng.uniform(0.22, 0.29)
    nose = np.array([[0, -0.16], [0.7, -0.15], [1, -0.02], [0.6, 0.1], [0.2, 0.18]])
    easel.fill(snout + symmetric(nose * [breadth, 1]), coat.nose, BLACK)
    easel.fill(oval(snout + [-0.06, -0.08], 0.07, 0.03), mix(coat.nose, WHITE, 0.6))


def paint_body(
    easel: Easel, coat: Coat, rng: np.random.Generator, shoulders: float, tail: Points
) -> None:
    """Paints a sitting animal up to its neck; `shoulders` is half their breadth."""
    easel.stroke([tail], coat.line, 0.29)
    easel.stroke([tail], coat.base, 0.22)
    hips = shoulders + rng.uniform(0.15, 0.4)
    flank = [[0.0, 0.3], [shoulders - 0.2, 0.5], [shoulders, 1.2], [hips, 2.2], [hips, 2.9]]
    body = symmetric([*flank, [0.5, 3.0]])
    easel.fill(body, mix(coat.base, BLACK, 0.12), coat.line)
    with easel.inside(body):
        if coat.pattern == "tabby":
            bars = [([0.5, y], [1.2, y - 0.15]) for y in (1.1, 1.5, 1.9, 2.3)]
            paint_stripes(easel, bars, coat)
        elif coat.pattern in ("patch", "spots"):
            easel.fill(oval(rng.uniform([0.5, 1], [1, 2.4]), 0.4, 0.5), coat.accent)
        easel.fill(oval(np.array([0, 1.25]), 0.42, 0.65), coat.pale)
    for side in SIDES:
        leg = np.array([[0.3, 1.7], [0.3, 2.95]]) * [side, 1]
        easel.stroke([leg], coat.line, 0.45)
        easel.stroke([leg], coat.base, 0.38)
        toes = [leg[1] + [[x, 0.02], [x, 0.17]] for x in (-0.07, 0.07)]
        easel.stroke(toes, coat.line, 0.03)


def paint_ears(easel: Easel, ear: Points, coat: Coat, hollow: bool) -> None:
    """Paints the ear and its mirror image; a hollow ear shows its inside."""
    middle = ear.mean(axis=0)
    for side in SIDES:
        easel.fill(ear * [side, 1], coat.ears, coat.line)
        if hollow:
            inner = middle + 0.6 * (ear - middle)
            easel.fill(inner * [side, 1], mix(PINK, coat.ears, 0.35))


def paint_head(easel: Easel, head: Points, coat: Coat, rng: np.random.Generator) -> None:
    """Paints a furry head without ears and without a face."""
    easel.fill(head, coat.base)
    with easel.inside(head):
        if coat.pattern == "tabby":
            brow = [([x, -1], [0.75 * x, -0.45]) for x in (0.14, 0.4)]
            cheek = [([1.1, y], [0.68, y + 0.08]) for y in (0.05, 0.3)]
            paint_stripes(easel, brow + cheek, coat)
        elif coat.pattern == "patch":
            easel.fill(oval(rng.uniform([0.3, -0.5], [0.7, -0.1]), 0.55, 0.6), coat.accent)
        elif coat.pattern == "spots":
            for place in rng.uniform([-0.9, -0.8], [0.9, 0.7], size=(9, 2)):
                easel.fill(oval(place, rng.uniform(0.05, 0.13), 0.09), coat.accent)
        elif coat.pattern == "blaze":
            easel.fill(symmetric([[0.0, -1.0], [0.12, -0.8], [0.16, -0.1], [0.6, 0.9]]), coat.pale)
        # Hairs lean outwards from the middle of the face.
        roots = rng.uniform(-1, 1, size=(2, 45, 2))
        for side, tone in zip(roots, (BLACK, WHITE), strict=True):
            hairs = [np.array([root, root * 1.12]) for root in side]
            easel.stroke(hairs, mix(coat.base, tone, 0.25), 0.02)
    easel.stroke([head], coat.line, EDGE_WIDTH, closed=True)


def paint_stripes(easel: Easel, bars: Sequence[ArrayLike], coat: Coat) -> None:
    """Paints straight stripes and their mirror images."""
    stripes = [np.asarray(bar) * [side, 1] for bar in bars for side in SIDES]
    easel.stroke(stripes, coat.stripes, 0.11)


PAINTERS = {"cat": paint_cat, "dog": paint_dog}


def paint_background(height: int, width: int, rng: np.random.Generator) -> Image:
    """Paints a scene without an animal, uint8 [height, width, 3]."""
    rows, columns = rng.integers(3, 30, size=2)
    share = np.linspace(0, 1, rows)[:, None, None]
    coarse = mix(random_colour(rng), random_colour(rng), share).repeat(columns, axis=1)
    coarse += rng.normal(0, rng.uniform(2, 20), size=(rows, columns, 1))
    backdrop = np.clip(coarse, 0, 255).astype(np.uint8)
    image = np.asarray(cv2.resize(backdrop, (width, height)), dtype=np.uint8)

    size = np.array([width, height])
    scene = SCENES[rng.integers(len(SCENES))]
    if scene == "furniture":
        image[int(height * rng.uniform(0.55, 0.85)) :] = random_colour(rng)
        for _ in range(rng.integers(1, 4)):
            near = rng.uniform([-0.2, 0.1], [0.9, 0.7])
            far = near + rng.uniform(0.2, 0.6, size=2)
            start, end = ((corner * size).astype(int).tolist() for corner in (near, far))
            colour = random_colour(rng)
            cv2.rectangle(image, start, end, colour.tolist(), cv2.FILLED)
            cv2.rectangle(image, start, end, mix(colour, BLACK, 0.4).tolist(), 3)
    elif scene == "lights":
        for _ in range(rng.integers(4, 12)):
            paint_disc(image, rng.uniform(0, 1, size=2), rng.uniform(0.04, 0.2), rng)
    elif scene == "grass":
        roots = rng.uniform([0, 0.5], [1, 1.1], size=(120, 2))
        tips = roots - rng.uniform([-0.03, 0.05], [0.03, 0.2], size=(120, 2))
        blades = (np.stack([roots, tips], axis=1) * size).astype(np.int32)
        cv2.polylines(image, list(blades), False, random_colour(rng).tolist(), 3)
    return image


def paint_disc(image: Image, place: Points, radius: float, rng: np.random.Generator) -> None:
    """Paints a disc; `place` is a share of the sides and `radius` one of the shorter side."""
    height, width = image.shape[:2]
    centre = (int(place[0] * width), int(place[1] * height))
    pixels = int(radius * min(height, width))
    cv2.circle(image, centre, pixels, random_colour(rng).tolist(), cv2.FILLED, cv2.LINE_AA)


def photograph(painting: Image, rng: np.random.Generator) -> Image:
    """Reduces a painting to its final size, with uneven light, blur and noise."""
    height, width = (side // OVERSAMPLING for side in painting.shape[:2])
    picture = cv2.resize(painting, (width, height), interpolation=cv2.INTER_AREA)
    corners = rng.uniform(0.8, 1.15, size=(2, 2, 1)) * rng.uniform(0.94, 1.06, size=3)
    light = cv2.resize(corners.astype(np.float32), (width, height))
    blurred = cv2.GaussianBlur(picture * light, (0, 0), rng.uniform(0.3, 1.2))
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * rng.uniform(1, 8)
    return np.clip(blurred + noise, 0, 255).astype(np.uint8)


def random_colour(rng: np.random.Generator) -> Colour:
    """Chooses a colour for things around the animal."""
    hue, saturation, value = rng.uniform([0, 0.05, 0.3], [1, 0.45, 0.95])
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255


def mix(first: Colour, second: Colour, share: float | Points) -> Colour:
    """Blends two colours; `share` is the part of the second one."""
    return (1 - share) * first + share * second


def oval(centre: Points, across: float, down: float) -> Points:
    """Returns the outline of an ellipse with the half axes `across` and `down`."""
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return centre + np.stack([across * np.cos(angles), down * np.sin(angles)], axis=1)


def symmetric(right_half: ArrayLike) -> Points:
    """Returns a smooth outline through points, from top to bottom, and their mirror images."""
    right = np.asarray(right_half, dtype=float)
    left = right[::-1] * [-1, 1]
    return closed_curve(np.concatenate([right, left[left[:, 0] < 0]]))


def closed_curve(points: ArrayLike) -> Points:
    """Returns a smooth outline (a Catmull-Rom spline) through the points."""
    knots = np.asarray(points, dtype=float)
    return _spline(*(np.roll(knots, shift, axis=0) for shift in (1, 0, -1, -2)))


def curve(points: ArrayLike) -> Points:
    """Returns a smooth line (a Catmull-Rom spline) through the points."""
    knots = np.asarray(points, dtype=float)
    padded = np.concatenate([knots[:1], knots, knots[-1:]])
    return _spline(padded[:-3], padded[1:-2], padded[2:-1], padded[3:])


def _spline(before: Points, start: Points, end: Points, after: Points) -> Points:
    steps = np.linspace(0, 1, 9)[:, None]
    pieces = 0.5 * (
        2 * start[:, None]
        + (end - before)[:, None] * steps
        + (2 * before - 5 * start + 4 * end - after)[:, None] * steps**2
        + (3 * start - before - 3 * end + after)[:, None] * steps**3
    )
    return pieces.reshape(-1, 2)
