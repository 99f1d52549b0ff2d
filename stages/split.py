"""Splits a dataset's labelled images into training, validation and test images.

Reads `data/arrays/D/`. Writes to `data/splits/D/`:

    {train,valid,test}_images.npy, {train,valid,test}_labels.npy
    unlabelled_{images,names,left_out}.npy          as they were
    summary.json                                    origin, classes, numbers of images per class

The split is stratified: every part has the classes in the proportions of the whole, to within an
image. No image is in two parts. A test set that the dataset brings itself (MNIST) stays as it is,
in its own order.

The other parts are in random order, since photographs come sorted by class. Any stretch of a part
(a batch, the first hundred for a picture, what fits a shuffle buffer) is then a fair sample.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field
from sklearn.model_selection import train_test_split

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import read_json, write_atomically, write_json
from stages.lib.params import Section

PARTS = ("train", "valid", "test")
UNLABELLED = ("unlabelled_images.npy", "unlabelled_names.npy", "unlabelled_left_out.npy")
FILES = (
    *(f"{part}_{content}.npy" for part in PARTS for content in ("images", "labels")),
    *UNLABELLED,
    "summary.json",
)
CHUNK = 1024  # images in memory at a time while they are copied


def _check_size(value: Any) -> Any:
    count = type(value) is int and value >= 1
    share = type(value) is float and 0 < value < 1
    if not count and not share:
        raise ValueError("expected a count (1 or more) or a share (between 0 and 1)")
    return value


Size = Annotated[int | float, BeforeValidator(_check_size)]


class Options(Section):
    """The sizes of the parts, as counts or as shares of all labelled images.

    Attributes:
        valid: The size of the validation part.
        test: The size of the test part; None where the dataset brings a test set itself.
        seed: Seeds the choice of images and their order.
    """

    valid: Size
    test: Size | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)]  # scikit-learn's limit


def choose(
    labels: NDArray[np.uint8],
    classes: list[str],
    valid: int | float,
    test: int | float | None,
    seed: int,
    key: str,
) -> dict[str, NDArray[np.intp]]:
    """Chooses the images of each part at random, each class in proportion.

    Shares are of all labelled images, rounded to whole images: 0.1666667 of 60,000 is 10,000.

    Args:
        labels: uint8 [n], indexes into `classes`.
        classes: The names of the classes.
        valid: The number or the share of validation images.
        test: The number or the share of test images; None for no test part.
        seed: Seeds the choice and the order.
        key: The key of the sizes in `params.yaml`, for messages.

    Returns:
        The indexes of the images of `train`, `valid` and, if asked for, `test`: int64 [n], in
        random order.

    Raises:
        UserError: A part would be empty or would miss a class.
    """
    sizes = {"test": test, "valid": valid} if test is not None else {"valid": valid}
    counts = {
        part: size if isinstance(size, int) else round(size * len(labels))
        for part, size in sizes.items()
    }
    check_sizes(counts, labels, classes, key)
    chosen = {}
    rest = np.arange(len(labels))
    for part, count in counts.items():
        rest, chosen[part] = train_test_split(
            rest, test_size=count, random_state=seed, stratify=labels[rest]
        )
        parts_to_come = len(counts) + 1 - len(chosen)
        for indices, least in ((chosen[part], 1), (rest, parts_to_come)):
            members = np.bincount(labels[indices], minlength=len(classes))
            if members.min() < least:
                rare = members.argmin()
                raise UserError(
                    f"params.yaml: {key}.{part}: with {count} of {len(labels)} images, the class "
                    f"'{classes[rare]}' ({(labels == rare).sum()} images) is missing from a part: "
                    "change the size or get more images of the class"
                )
    return {"train": rest, **chosen}


def check_sizes(
    counts: dict[str, int], labels: NDArray[np.uint8], classes: list[str], key: str
) -> None:
    """Raises a `UserError` unless every part can have an image of every class."""
    for part, count in counts.items():
        if count < len(classes):
            raise UserError(
                f"params.yaml: {key}.{part}: {count} of {len(labels)} images, "
                f"expected one at least for each of the {len(classes)} classes"
            )
    if sum(counts.values()) + len(classes) > len(labels):
        asked = " and ".join(f"{count} {part}" for part, count in counts.items())
        raise UserError(
            f"params.yaml: {key}: {asked} images of {len(labels)} leave too few to train on, "
            f"expected one at least for each of the {len(classes)} classes"
        )
    members = np.bincount(labels, minlength=len(classes))
    if members.min() <= len(counts):
        parts = ", ".join(("train", *counts))
        raise UserError(
            f"params.yaml: {key}: the class '{classes[members.argmin()]}' has {members.min()} "
            f"images, expected one at least for each part ({parts})"
        )


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
    images, labels = read_pair(arrays / "images.npy", arrays / "labels.npy")
    own_test = read_pair(arrays / "test_images.npy", arrays / "test_labels.npy")
    if not len(images):
        raise UserError(f"{arrays}/images.npy holds no images: nothing to split")
    if len(own_test[0]) and options.test is not None:
        raise UserError(
            f"params.yaml: {key}.test: the dataset brings {len(own_test[0])} test images itself: "
            "remove this key"
        )
    if not len(own_test[0]) and options.test is None:
        raise UserError(
            f"params.yaml: {key}.test is missing: the dataset brings no test images, "
            "expected their number or their share"
        )

    chosen = choose(labels, classes, options.valid, options.test, options.seed, key)
    sources = {part: (images, labels, indices) for part, indices in chosen.items()}
    if options.test is None:
        sources["test"] = (*own_test, np.arange(len(own_test[0])))
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


def read_pair(images_path: Path, labels_path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns images, mapped from the disk, and their labels."""
    images, labels = np.load(images_path, mmap_mode="r"), np.load(labels_path)
    if len(images) != len(labels):
        raise UserError(
            f"{images_path} holds {len(images)} images but {labels_path.name} {len(labels)} "
            "labels: run `dvc repro` to prepare the dataset again"
        )
    return images, labels


def write_selection(path: Path, array: NDArray[np.uint8], indices: NDArray[np.intp]) -> None:
    """Writes `array[indices]` as an `.npy` file, `CHUNK` rows in memory at a time."""
    with path.open("wb") as file:
        description = np.lib.format.header_data_from_array_1_0(array[:0])
        description["shape"] = (len(indices), *array.shape[1:])
        np.lib.format.write_array_header_1_0(file, description)
        for start in range(0, len(indices), CHUNK):
            file.write(array[indices[start : start + CHUNK]].tobytes())


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
