"""What tells copies of a photograph, and how good it is: computed while it is decoded."""

import hashlib
from typing import NamedTuple

import cv2
import numpy as np

from stages.sources.arrays import Image

# `imagehash.phash`: the 8 x 8 lowest frequencies of the cosine transform of a 32 x 32 image. With
# cosines as whole numbers all sums are exact, so the hash is the same on every processor, and it
# takes 40 microseconds instead of 470. A test holds it to the library.
_SIZE, _LOW = 32, 8
_COSINES = np.rint(
    np.cos(np.pi * np.outer(np.arange(_LOW), 2 * np.arange(_SIZE) + 1) / (2 * _SIZE)) * 2**15
)
# Finds edges as Pillow's FIND_EDGES does.
_EDGES = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32)


class Fingerprint(NamedTuple):
    """What tells copies of a photograph, and how good it is.

    Attributes:
        digest: SHA-256 of the size and the pixels.
        phash: The perceptual hash, 64 bits.
        thumbnail: uint8 [16, 16], grey.
        width: In pixels.
        height: In pixels.
        darkest: The brightness below which 5% of the pixels are, 0 to 1.
        brightest: The brightness below which 99% of the pixels are, 0 to 1.
        entropy: Of the grey levels, in bits, 0 to 8.
        edges: The standard deviation of the edges of the photograph, reduced to 64 x 64 pixels.
    """

    digest: bytes
    phash: int
    thumbnail: Image
    width: int
    height: int
    darkest: float
    brightest: float
    entropy: float
    edges: float


def fingerprint(image: Image) -> Fingerprint:
    """Returns what tells copies of a photograph, and how good it is.

    Args:
        image: uint8 [height, width, 3], RGB, at its full size.
    """
    height, width = image.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}:".encode())
    digest.update(np.ascontiguousarray(image))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # Halving is quick; reducing to any other size costs as much as all else here.
    while min(grey.shape) >= 256:
        rows, columns = (side // 2 for side in grey.shape)
        halved = grey[: 2 * rows, : 2 * columns]
        grey = cv2.resize(halved, (columns, rows), interpolation=cv2.INTER_AREA)
    levels = np.bincount(grey.ravel(), minlength=256)
    below = np.cumsum(levels) / grey.size
    shares = levels[levels > 0] / grey.size
    reduced = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA)
    small = cv2.resize(reduced, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    return Fingerprint(
        digest.digest(),
        perceptual_hash(np.asarray(small, np.uint8)),
        np.asarray(cv2.resize(small, (16, 16), interpolation=cv2.INTER_AREA), np.uint8),
        width,
        height,
        float(np.searchsorted(below, 0.05)) / 255,
        float(np.searchsorted(below, 0.99)) / 255,
        float(-(shares * np.log2(shares)).sum()),
        float(cv2.filter2D(reduced, cv2.CV_8U, _EDGES).std()),
    )


def perceptual_hash(image: Image) -> int:
    """Returns the perceptual hash of a grey image, uint8 [32, 32], as `imagehash.phash` does."""
    low = _COSINES @ image.astype(np.float64) @ _COSINES.T
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes())
