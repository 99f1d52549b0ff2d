"""Checks of each photograph: odd sizes, dark, bright, blurred, of little content.

The checks and their limits are those of CleanVision 0.3.6 (cleanlab/cleanvision on GitHub,
`issue_managers/image_property_issue_manager.py`), on the grey photograph reduced as `fingerprint`
says. CleanVision itself takes 12 milliseconds a photograph, more than all else that `prepare` does.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.sources.fingerprints import Fingerprint

MIN_ASPECT = 0.35  # the shorter side by the longer
MAX_SIZE = 10  # times as large, or as small, as the median; the root of the area
DARK = 0.32  # 99% of the pixels are darker
BRIGHT = 0.95  # 95% of the pixels are brighter
MIN_SHARPNESS = 0.29  # 1 - exp(-edges / 100)
MIN_ENTROPY = 3.0  # bits


def check_photographs(
    fingerprints: Sequence[Fingerprint],
) -> list[tuple[str, int, float]]:
    """Returns each check that a photograph does not pass, its place and the value found."""
    if not fingerprints:
        return []

    def values(name: str) -> NDArray[np.float64]:
        return np.array([getattr(print_, name) for print_ in fingerprints], np.float64)

    width, height = values("width"), values("height")
    size = np.sqrt(width * height)
    relative = size / np.median(size)
    aspect = np.minimum(width / height, height / width)
    sharpness = 1 - np.exp(-values("edges") / 100)
    brightest, darkest, entropy = values("brightest"), values("darkest"), values("entropy")
    empty, dark, bright = entropy < MIN_ENTROPY, brightest < DARK, darkest > BRIGHT
    # What is dark, bright or empty has no sharp edges either: the other check says more.
    blurred = (sharpness < MIN_SHARPNESS) & ~empty & ~dark & ~bright
    checks = {
        "odd shape": (aspect < MIN_ASPECT, aspect),
        "odd size": ((relative > MAX_SIZE) | (relative < 1 / MAX_SIZE), relative),
        "dark": (dark, brightest),
        "bright": (bright, darkest),
        "blurred": (blurred, sharpness),
        "little content": (empty, entropy),
    }
    return [
        (check, int(at), round(float(value[at]), 3))
        for check, (failed, value) in checks.items()
        for at in np.flatnonzero(failed)
    ]
