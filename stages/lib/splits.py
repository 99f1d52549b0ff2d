"""A dataset's splits, as `split` writes them and training and evaluation read them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.files import read_json


@dataclass(frozen=True)
class Part:
    """One part of a dataset.

    Attributes:
        images: uint8 [n, height, width, channels], mapped from the disk.
        labels: uint8 [n], indexes of classes.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Unlabelled:
    """A dataset's images without labels, often none.

    Attributes:
        images: uint8 [n, height, width, channels], mapped from the disk.
        names: The names of their files without the ending, str [n].
    """

    images: np.ndarray
    names: np.ndarray


def read_part(folder: Path, name: str) -> Part:
    """Returns the part `name` (`train`, `valid` or `test`) of the dataset split into `folder`."""
    images = np.load(folder / f"{name}_images.npy", mmap_mode="r")
    return Part(images, np.load(folder / f"{name}_labels.npy"))


def read_unlabelled(folder: Path) -> Unlabelled:
    """Returns the unlabelled images of the dataset split into `folder`."""
    images = np.load(folder / "unlabelled_images.npy", mmap_mode="r")
    return Unlabelled(images, np.load(folder / "unlabelled_names.npy"))


def read_summary(folder: Path) -> dict[str, Any]:
    """Returns what `split` says of the dataset: origin, classes, counts, image shape."""
    summary: dict[str, Any] = read_json(folder / "summary.json")
    return summary
