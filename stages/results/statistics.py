"""What the accuracies of models on the same test images say, and what may be chance."""

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
SIGNIFICANT = 1 - CONFIDENCE


class Interval(NamedTuple):
    """The values between which an accuracy lies with 95% confidence."""

    low: float
    high: float


class Comparison(NamedTuple):
    """McNemar's exact test of two models.

    Attributes:
        only_first: Images that only the first model gets right.
        only_second: Images that only the second model gets right.
        p: How likely a difference at least as large would be if both were equally good.
    """

    only_first: int
    only_second: int
    p: float

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance easily explains."""
        return self.p < SIGNIFICANT


def round_accuracy(share: float) -> float:
    """Rounds a share of images to four digits; 1 stays what it says, that all of them are right."""
    return min(round(share, 4), 0.9999) if share < 1 else 1.0


def wilson_interval(right: int, count: int) -> Interval:
    """Returns Wilson's score interval of the share `right` of `count` images.

    Unlike the one from the normal distribution, it stays between 0 and 1 and holds for few images
    and for accuracies near 1: https://doi.org/10.1080/01621459.1927.10502953
    """
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    share, width = right / count, z * z / count
    middle = (share + width / 2) / (1 + width)
    half = sqrt(share * (1 - share) * width + width * width / 4) / (1 + width)
    return Interval(max(middle - half, 0.0), min(middle + half, 1.0))


def mcnemar(first: np.ndarray, second: np.ndarray) -> Comparison:
    """Compares two models by the images on which they differ.

    Args:
        first: Which images the first model gets right, bool [n].
        second: Which of the same images the second model gets right, bool [n].
    """
    # Imported here: SciPy takes a second, and the stage `plot` needs the interval alone.
    from scipy.stats import binomtest

    only_first = int(np.count_nonzero(first & ~second))
    only_second = int(np.count_nonzero(second & ~first))
    differ = only_first + only_second
    p = binomtest(only_first, differ).pvalue if differ else 1.0
    return Comparison(only_first, only_second, float(p))
