"""Reading the parts of a dataset, as `split` writes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.files import read_array, read_json
from stages.lib.images import Images, read_images


@dataclass(frozen=True)
class Part:
    """One part of a dataset: `train`, `valid` or `test`.

    Attributes:
        images: uint8 [n, height, width, channels], on the disk.
        labels: uint8 [n], indexes of classes.
    """

    images: Images
    labels: np.ndarray


@dataclass(frozen=True)
class Unlabelled:
    """The images of a dataset that have no labels; many datasets have none.

    Attributes:
        images: uint8 [n, height, width, channels], on the disk.
        names: The names of their files without the ending, str [n].
        left_out: The names of those of which there is no image, str [m].
    """

    images: Images
    names: np.ndarray
    left_out: np.ndarray


def read_part(folder: Path, name: str) -> Part:
    """Reads the part `name` of the dataset whose splits are in `folder`."""
    images = read_images(folder / f"{name}_images.npy")
    return Part(images, read_array(folder / f"{name}_labels.npy"))


def read_unlabelled(folder: Path) -> Unlabelled:
    """Reads the unlabelled images of the dataset whose splits are in `folder`."""
    images = read_images(folder / "unlabelled_images.npy")
    names = (read_array(folder / f"unlabelled_{kind}.npy") for kind in ("names", "left_out"))
    return Unlabelled(images, *names)


def read_summary(folder: Path) -> dict[str, Any]:
    """Reads what `split` says about the dataset: origin, classes, counts, image shape."""
    summary: dict[str, Any] = read_json(folder / "summary.json")
    return summary
