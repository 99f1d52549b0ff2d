"""What tells copies of a photograph, and how good it is.

`fingerprint` runs for each photograph in the thread that decodes it, so it calls OpenCV and hashlib
only, which work outside Python's lock. What NumPy does follows for all photographs at once.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.sources.arrays import Image
from stages.sources.resizing import resize

BYTES = 2_000  # of a `Fingerprint`
SIDE = 32  # pixels of a thumbnail
REDUCED = 64  # pixels of the photograph that is checked; CleanVision looks for blur at this size
# `imagehash.phash`: the 8 x 8 lowest frequencies of the cosine transform of a 32 x 32 image. With
# cosines as whole numbers all sums are exact, so the hash is the same on every processor, and it
# takes 10 microseconds instead of 470. A test holds it to the library.
COSINES = np.rint(
    np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(SIDE) + 1) / (2 * SIDE)) * 2**15
)
# Finds edges as Pillow's FIND_EDGES does.
EDGES = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32)


class Fingerprint(NamedTuple):
    """What tells copies of a photograph, and how good it is, in `BYTES`.

    Attributes:
        digest: SHA-256 of the size and the pixels, as they were decoded.
        thumbnail: uint8 [32, 32], grey.
        width: In pixels.
        height: In pixels.
        levels: How many pixels have each grey level, of the photograph reduced to 64 x 64 pixels;
            uint16 [256].
        contrast: The standard deviation of these pixels.
        edges: The standard deviation of their edges.
    """

    digest: bytes
    thumbnail: Image
    width: int
    height: int
    levels: NDArray[np.uint16]
    contrast: float
    edges: float


def fingerprint(image: Image, width: int, height: int) -> Fingerprint:
    """Returns what tells copies of a photograph, and how good it is.

    Args:
        image: uint8 [rows, columns, 3], RGB, as it was decoded, which may be reduced.
        width: Of the original, in pixels.
        height: Of the original, in pixels.
    """
    digest = hashlib.sha256(b"%dx%d:" % (width, height))
    digest.update(np.ascontiguousarray(image).data)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # Halving is quick; reducing to any other size costs as much as all else here.
    while min(grey.shape) >= 4 * REDUCED:
        rows, columns = (side // 2 for side in grey.shape)
        halved = grey[: 2 * rows, : 2 * columns]
        grey = cv2.resize(halved, (columns, rows), interpolation=cv2.INTER_AREA)
    reduced = resize(np.asarray(grey, np.uint8), REDUCED, REDUCED, "area")
    thumbnail = cv2.resize(reduced, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    levels = cv2.calcHist([reduced], [0], None, [256], [0, 256])
    edges = cv2.filter2D(reduced, cv2.CV_8U, EDGES)
    return Fingerprint(
        digest.digest(),
        np.asarray(thumbnail, np.uint8),
        width,
        height,
        levels.astype(np.uint16).ravel(),
        float(cv2.meanStdDev(reduced)[1].item()),
        float(cv2.meanStdDev(edges)[1].item()),
    )


def perceptual_hashes(fingerprints: Sequence[Fingerprint]) -> NDArray[np.uint64]:
    """Returns the perceptual hash of each photograph, 64 bits, as `imagehash.phash` computes it."""
    hashes = np.zeros(len(fingerprints), np.uint64)
    for start in range(0, len(fingerprints), 1024):
        few = fingerprints[start : start + 1024]
        thumbnails = np.array([found.thumbnail for found in few], np.float64)
        low = (COSINES @ thumbnails @ COSINES.T).reshape(len(few), 64)
        bits = low > np.median(low, axis=1, keepdims=True)
        hashes[start : start + len(few)] = np.packbits(bits, axis=1).view(">u8").ravel()
    return hashes
