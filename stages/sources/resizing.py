"""Resizing images by OpenCV."""

from typing import Literal

import cv2
import numpy as np

from stages.sources.arrays import Image

Interpolation = Literal[
    "nearest", "linear", "cubic", "area", "lanczos4", "linear_exact", "nearest_exact"
]


def resize(image: Image, height: int, width: int, interpolation: Interpolation) -> Image:
    """Resizes an image to `height` and `width` pixels; this may change its proportions.

    Args:
        image: uint8 [rows, columns] or [rows, columns, channels].
        height: In pixels.
        width: In pixels.
        interpolation: The name of one of OpenCV's.
    """
    flag = getattr(cv2, f"INTER_{interpolation.upper()}")
    if interpolation == "area":
        # Where one side grows, OpenCV takes single pixels along the other instead of their mean:
        # so what shrinks does so first. Where both do, or both grow, this changes nothing.
        rows, columns = image.shape[:2]
        image = np.asarray(
            cv2.resize(image, (min(width, columns), min(height, rows)), interpolation=flag)
        )
    return np.asarray(cv2.resize(image, (width, height), interpolation=flag), np.uint8)
