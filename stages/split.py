"""Splits a dataset's labelled images into training, validation and test images.

Reads `data/arrays/D/`. Writes to `data/splits/D/`:

    {train,valid,test}_images.npy, {train,valid,test}_labels.npy
    unlabelled_{images,names,left_out}.npy          as they were
    summary.json                                    origin, classes, numbers of images per class

The split is stratified: every part has the classes in the proportions of the whole, to within an
image. No image is in two parts, and neither are copies of one image. A part that the dataset brings
itself (MNIST's test set) stays as it is, in its own order.

The other parts are in random order, since photographs come sorted by class. Any stretch of a part
(a batch, the first hundred for a picture, what fits a shuffle buffer) is then a fair sample.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import read_array, read_json, write_atomically, write_json
from stages.lib.images import Images, read_images
from stages.lib.params import Section
from stages.sources.arrays import write_selection
from stages.sources.partition import choose

PARTS = ("train", "valid", "test")
UNLABELLED = ("unlabelled_images.npy", "unlabelled_names.npy", "unlabelled_left_out.npy")
FILES = (
    *(f"{part}_{content}.npy" for part in PARTS for content in ("images", "labels")),
    *UNLABELLED,
    "summary.json",
)
SIZED = ("test", "valid")  # in the order in which they are taken from the labelled images


def _check_size(value: Any) -> Any:
    count = type(value) is int and value >= 1
    share = type(value) is float and 0 < value < 1
    if not count and not share:
        raise ValueError("expected a count (1 or more) or a share (between 0 and 1)")
    return value


Size = Annotated[int | float, BeforeValidator(_check_size)]


class Options(Section):
    """The sizes of the parts, as counts or as shares of all labelled images; or the word `given`.

    Attributes:
        valid: The size of the validation part; None where the dataset brings one itself.
        test: The size of the test part; None where the dataset brings one itself.
        seed: Seeds the choice of images and their order.
    """

    valid: Size | None = None
    test: Size | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)]  # scikit-learn's limit

    @model_validator(mode="before")
    @classmethod
    def _read_given(cls, value: Any) -> Any:
        if value == "given":
            return {"seed": 0}
        if isinstance(value, str):
            raise ValueError("expected the word `given`, or sizes such as {valid: 0.1, seed: 0}")
        return value


def split(arrays: Path, options: Options, files: Mapping[str, Path], key: str) -> None:
    """Writes a dataset's parts and their summary.

    Args:
        arrays: The folder that `prepare` wrote.
        options: The sizes and the seed.
        files: Where to write each of `FILES`.
        key: The key of the options in `params.yaml`, for messages.

    Raises:
        UserError: The dataset cannot be split in this way.
    """
    if not (arrays / "summary.json").is_file():
        raise UserError(
            f"there is no {arrays}/summary.json: `dvc repro` prepares the dataset first"
        )
    prepared = read_json(arrays / "summary.json")
    classes = prepared["classes"]
    images, labels = read_pair(arrays, "", len(classes))
    groups = read_array(arrays / "groups.npy")
    given = {part: read_pair(arrays, f"{part}_", len(classes)) for part in SIZED}
    if not len(images):
        raise UserError(f"{arrays}/images.npy holds no images: nothing to split")
    sizes: dict[str, int | float] = {}
    for part, (own, _) in given.items():
        size = getattr(options, part)
        if len(own) and size is not None:
            raise UserError(
                f"params.yaml: {key}.{part}: the dataset brings {len(own)} {part} images itself: "
                "remove this key"
            )
        if not len(own) and size is None:
            keys = [f"{name}: 0.1" for name in reversed(SIZED) if not len(given[name][0])]
            raise UserError(
                f"params.yaml: {key}.{part} is missing: the dataset brings no {part} images, "
                f"expected their number or their share: `split: {{{', '.join(keys)}, seed: 0}}`"
            )
        if size is not None:
            sizes[part] = size

    chosen = choose(labels, groups, classes, sizes, options.seed, key)
    sources = {part: (images, labels, indices) for part, indices in chosen.items()}
    sources |= {
        part: (*own, np.arange(len(own[0]))) for part, own in given.items() if part not in sizes
    }
    numbers = {}
    for part in PARTS:
        part_images, part_labels, indices = sources[part]
        write_selection(files[f"{part}_images.npy"], part_images, indices)
        write_selection(files[f"{part}_labels.npy"], part_labels, indices)
        counts = np.bincount(part_labels[indices], minlength=len(classes)).tolist()
        numbers[part] = dict(zip(classes, counts, strict=True))
    for name in UNLABELLED:
        shutil.copyfile(arrays / name, files[name])
    summary = {
        "origin": prepared["origin"],
        "classes": classes,
        "image_shape": prepared["image_shape"],
        "images": numbers,
        "unlabelled": prepared["images"]["unlabelled"],
        "left_out": prepared["images"]["left_out"],
    }
    write_json(files["summary.json"], summary)


def read_pair(arrays: Path, part: str, classes: int) -> tuple[Images, NDArray[Any]]:
    """Returns images and their labels, uint8 or uint16 below `classes`."""
    images_path, labels_path = arrays / f"{part}images.npy", arrays / f"{part}labels.npy"
    images, labels = read_images(images_path), read_array(labels_path)
    if len(images) != len(labels):
        raise UserError(
            f"{images_path} holds {len(images)} images but {labels_path.name} {len(labels)} "
            "labels: run `dvc repro` to prepare the dataset again"
        )
    if len(labels) and labels.max() >= classes:
        raise UserError(
            f"{labels_path} holds the label {labels.max()}, but the dataset has {classes} classes: "
            "run `dvc repro` to prepare the dataset again"
        )
    return images, labels


def main(dataset: str) -> None:
    """Splits one dataset of `params.yaml`."""
    key = f"datasets.{dataset}.split"
    options = params.read(key, Options)
    splits = Path("data/splits", dataset)
    with write_atomically(*(splits / name for name in FILES)) as parts:
        split(Path("data/arrays", dataset), options, dict(zip(FILES, parts, strict=True)), key)
    summary = read_json(splits / "summary.json")
    for part, counts in summary["images"].items():
        print(f"{part}: {sum(counts.values())} images {counts}")


if __name__ == "__main__":
    run(main)
