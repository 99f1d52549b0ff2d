"""Turns a dataset's downloaded files into arrays.

Reads `data/raw/D/`: the four files of MNIST (`format: idx`), or zip archives of photographs
(`format: photos`), which stay packed: `test1.zip` holds unlabelled ones, all others labelled ones.

Writes to `data/arrays/D/` (what a dataset lacks is an empty array):

    images.npy, labels.npy                      uint8 [n, height, width, channels], uint8 [n]
    test_images.npy, test_labels.npy            the test set that the dataset brings itself
    unlabelled_images.npy, unlabelled_names.npy in the natural order of the names
    sizes.csv                                   how many images had which width and height before
    left_out.csv                                files that give no image, each with the reason
    summary.json                                origin, classes and numbers of images

A label is the index of its class in the summary's `classes`. Photographs come by class and name.
Kaggle's 25,000 cats and dogs take about 15 seconds on two cores.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, RootModel
from tqdm import tqdm

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import read_json, write_atomically, write_json
from stages.lib.params import Section
from stages.sources.idx import read_idx
from stages.sources.photographs import Image, Interpolation, Photograph, find, read, write_rows

FILES = (
    *("images.npy", "labels.npy", "test_images.npy", "test_labels.npy"),
    *("unlabelled_images.npy", "unlabelled_names.npy", "sizes.csv", "left_out.csv"),
    "summary.json",
)
UNLABELLED = "test1.zip"
# Labels are uint8.
MAX_CLASSES = 256


class Idx(Section):
    """MNIST's four files: a training part and a test part, images and labels each."""

    format: Literal["idx"]


class Photos(Section):
    """Zip archives of photographs, the class of each in its name or that of its folder."""

    format: Literal["photos"]
    image_size: Annotated[int, Field(ge=1)] = 50
    interpolation: Interpolation = "area"
    max_broken: Annotated[float, Field(ge=0, le=1)] = 0.1


class Options(RootModel[Annotated[Idx | Photos, Field(discriminator="format")]]):
    """One kind of options for each format: a new format is a `Section` and a function."""


Files = Mapping[str, Path]
# A file and the reason why it gives no image.
LeftOut = tuple[str, str]
# Numbers of images by their width and height in pixels.
Sizes = Counter[tuple[int, int]]


def prepare(raw: Path, options: Idx | Photos, files: Files) -> None:
    """Makes a dataset's arrays and their summary.

    Args:
        raw: The folder of downloaded files.
        options: How to read them.
        files: Where to write each of `FILES`.

    Raises:
        UserError: A file is missing or damaged, or the dataset cannot train a classifier.
    """
    if not (raw / "origin.txt").is_file():
        raise UserError(f"there is no {raw}/origin.txt: `dvc repro` downloads the dataset first")
    if isinstance(options, Idx):
        classes, sizes, left_out = prepare_idx(raw, files)
    else:
        classes, sizes, left_out = prepare_photos(raw, options, files)

    write_csv(files["left_out.csv"], ("file", "reason"), sorted(left_out))
    rows = [(*size, count) for size, count in sorted(sizes.items())]
    write_csv(files["sizes.csv"], ("width", "height", "images"), rows)
    images, labels, test_images, _, unlabelled, _ = (
        np.load(files[name], mmap_mode="r") for name in FILES if name.endswith(".npy")
    )
    if not len(images):
        raise UserError(f"{raw}: no labelled image in it ({len(left_out)} files left out)")
    if len(classes) < 2:
        raise UserError(
            f"{raw}: all {len(images)} labelled images are of the class '{classes[0]}', "
            "expected two classes or more"
        )
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    summary = {
        "origin": (raw / "origin.txt").read_text(encoding="utf-8").strip(),
        "classes": classes,
        "image_shape": list(images.shape[1:]),
        "images": {
            "labelled": len(images),
            "test": len(test_images),
            "unlabelled": len(unlabelled),
            "left_out": len(left_out),
        },
        "images_per_class": dict(zip(classes, counts, strict=True)),
    }
    write_json(files["summary.json"], summary)


def prepare_idx(raw: Path, files: Files) -> tuple[list[str], Sizes, list[LeftOut]]:
    """Makes arrays of the four files that MNIST and its relatives come in."""
    images, labels = read_part(raw, "train")
    test_images, test_labels = read_part(raw, "t10k")
    (height, width), (test_height, test_width) = images.shape[1:3], test_images.shape[1:3]
    if (height, width) != (test_height, test_width):
        raise UserError(
            f"{raw}: training images are {height} pixels high and {width} wide, "
            f"test images {test_height} and {test_width}; expected the same"
        )
    digits = np.unique(np.concatenate([labels, test_labels]))
    save(files["images.npy"], images)
    save(files["labels.npy"], np.searchsorted(digits, labels).astype(np.uint8))
    save(files["test_images.npy"], test_images)
    save(files["test_labels.npy"], np.searchsorted(digits, test_labels).astype(np.uint8))
    save(files["unlabelled_images.npy"], images[:0])
    save(files["unlabelled_names.npy"], np.array([], np.str_))
    sizes = Counter({(width, height): len(images) + len(test_images)})
    return [str(digit) for digit in digits], sizes, []


def read_part(raw: Path, part: str) -> tuple[Image, Image]:
    """Reads one part of MNIST.

    Args:
        raw: The folder with the files, compressed or not.
        part: `train` or `t10k`.

    Returns:
        Images, uint8 [n, height, width, 1], and labels, uint8 [n].
    """
    images, labels = (
        read_idx(existing(raw / f"{part}-{content}-ubyte"))
        for content in ("images-idx3", "labels-idx1")
    )
    if images.ndim != 3 or labels.ndim != 1:
        raise UserError(
            f"{raw}: the {part} images have {images.ndim} dimensions and the labels {labels.ndim}, "
            "expected 3 (number, height, width) and 1"
        )
    if len(images) != len(labels):
        raise UserError(
            f"{raw}: {len(images)} {part} images but {len(labels)} {part} labels: "
            "the files do not belong together"
        )
    return images[..., np.newaxis], labels


def existing(path: Path) -> Path:
    """Returns the path under which the file exists: the name with `.gz`, or as it is."""
    compressed = path.with_name(f"{path.name}.gz")
    for candidate in (compressed, path):
        if candidate.is_file():
            return candidate
    raise UserError(f"there is neither {compressed} nor {path.name} beside it")


def prepare_photos(
    raw: Path, options: Photos, files: Files, workers: int | None = None
) -> tuple[list[str], Sizes, list[LeftOut]]:
    """Makes arrays of all photographs; `workers` changes the speed and nothing else."""
    archives = sorted(raw.glob("*.zip"))
    if not any(archive.name != UNLABELLED for archive in archives):
        raise UserError(f"{raw}: no zip archive of labelled photographs in it, such as train.zip")
    named, others = find(archive for archive in archives if archive.name != UNLABELLED)
    labelled = [photograph for photograph in named if photograph.label]
    unlabelled, more = find(archive for archive in archives if archive.name == UNLABELLED)
    classless = [photograph.file for photograph in named if not photograph.label]
    broken = [(file, "no class in its name or folder") for file in classless]

    def images(photographs: list[Photograph], what: str) -> Iterator[Image]:
        size, interpolation = options.image_size, options.interpolation
        progress = tqdm(photographs, what, unit=" photographs", mininterval=1)
        for photograph, found in read(progress, size, interpolation, workers):
            if isinstance(found, str):
                broken.append((photograph.file, found))
            else:
                kept[what].append(photograph)
                sizes[found.width, found.height] += 1
                yield found.image

    sizes: Sizes = Counter()
    kept: dict[str, list[Photograph]] = {"labelled": [], "unlabelled": []}
    shape = (options.image_size, options.image_size, 3)
    write_rows(files["images.npy"], images(labelled, "labelled"), shape)
    write_rows(files["unlabelled_images.npy"], images(unlabelled, "unlabelled"), shape)
    check_share(raw, sorted(broken), len(named) + len(unlabelled), options.max_broken)

    labels = [str(photograph.label) for photograph in kept["labelled"]]
    classes = sorted(set(labels))
    if len(classes) > MAX_CLASSES:
        raise UserError(
            f"{raw}: {len(classes)} classes ({', '.join(classes[:3])}, ...), "
            f"expected {MAX_CLASSES} at most"
        )
    index = {name: number for number, name in enumerate(classes)}
    save(files["labels.npy"], np.array([index[label] for label in labels], np.uint8))
    write_rows(files["test_images.npy"], [], shape)
    save(files["test_labels.npy"], np.array([], np.uint8))
    names = [photograph.stem for photograph in kept["unlabelled"]]
    save(files["unlabelled_names.npy"], np.array(names, np.str_))
    left_out = broken + [(file, "not named as a photograph") for file in others + more]
    return classes, sizes, left_out


def check_share(raw: Path, broken: list[LeftOut], photographs: int, max_broken: float) -> None:
    """Raises a `UserError` when more than the share `max_broken` of the photographs is broken."""
    share = len(broken) / max(photographs, 1)
    if share > max_broken:
        examples = ", ".join(f"{file} ({reason})" for file, reason in broken[:3])
        raise UserError(
            f"{raw}: {len(broken)} of {photographs} photographs are broken "
            f"({share:.1%}, max_broken allows {max_broken:.1%}): {examples}"
        )


def write_csv(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    """Writes a table, the same bytes on every system."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def save(path: Path, array: NDArray[Any]) -> None:
    """Writes a `.npy` file under exactly this name."""
    with path.open("wb") as file:
        np.save(file, array)


def main(dataset: str) -> None:
    """Prepares one dataset of `params.yaml`."""
    options = params.read(f"datasets.{dataset}.prepare", Options).root
    arrays = Path("data/arrays", dataset)
    with write_atomically(*(arrays / name for name in FILES)) as parts:
        prepare(Path("data/raw", dataset), options, dict(zip(FILES, parts, strict=True)))
    summary = read_json(arrays / "summary.json")
    print(f"{summary['images']} images, labelled {summary['images_per_class']}")


if __name__ == "__main__":
    run(main)
