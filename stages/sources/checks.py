"""Checks of each photograph: odd sizes, dark, bright, blurred, of little content.

The checks and their limits are those of CleanVision (cleanlab/cleanvision on GitHub,
`issue_managers/image_property.py`), on the grey photograph reduced to 64 x 64 pixels; but for odd
sizes, which have a limit of our own. CleanVision itself takes 12 milliseconds a photograph, more
than all else that `prepare` does.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.sources.fingerprints import Fingerprint

MIN_ASPECT = 0.35  # the shorter side by the longer
MAX_SIZE = 10  # times as large, or as small, as the median; the root of the area
DARK = 0.32  # 99% of the pixels are darker
BRIGHT = 0.95  # 95% of the pixels are brighter
MIN_SHARPNESS = 0.29  # of 1 - exp(-edges / 100)
MIN_SPREAD = 0.18  # of 1 - exp(-contrast / 100): what has more is not called blurred
MIN_ENTROPY = 3.0  # bits


def check_photographs(fingerprints: Sequence[Fingerprint]) -> list[tuple[str, int, float]]:
    """Returns each check that a photograph does not pass, its place and the value found."""
    if not fingerprints:
        return []
    width, height, contrast, edges = (
        np.array([getattr(found, name) for found in fingerprints], np.float64)
        for name in ("width", "height", "contrast", "edges")
    )
    size = np.sqrt(width * height)
    relative = size / np.median(size)
    aspect = np.minimum(width, height) / np.maximum(width, height)
    darkest, brightest, entropy = np.array([_describe(found.levels) for found in fingerprints]).T
    spread = 1 - np.exp(-contrast / 100)
    sharpness = 1 - np.exp(-edges / 100) + np.where(spread > MIN_SPREAD, spread, 0)
    empty, dark, bright = entropy < MIN_ENTROPY, brightest < DARK, darkest > BRIGHT
    checks: dict[str, tuple[NDArray[np.bool_], NDArray[np.float64]]] = {
        "odd shape": (aspect < MIN_ASPECT, aspect),
        "odd size": ((relative > MAX_SIZE) | (relative < 1 / MAX_SIZE), relative),
        "dark": (dark, brightest),
        "bright": (bright, darkest),
        # What is dark, bright or empty has no sharp edges either: its own check says more.
        "blurred": ((sharpness < MIN_SHARPNESS) & ~empty & ~dark & ~bright, sharpness),
        "little content": (empty, entropy),
    }
    return [
        (check, int(at), round(float(value[at]), 3))
        for check, (failed, value) in checks.items()
        for at in np.flatnonzero(failed)
    ]


def _describe(levels: NDArray[np.uint16]) -> tuple[float, float, float]:
    """Returns the brightness below which 5% and 99% of the pixels are, 0 to 1, and the entropy."""
    shares = levels / levels.sum()
    darkest, brightest = np.searchsorted(shares.cumsum(), (0.05, 0.99)) / 255
    present = shares[shares > 0]
    return darkest, brightest, float((present * np.log2(1 / present)).sum())
