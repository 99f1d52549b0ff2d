"""Turns a dataset's downloaded files into arrays.

Reads `data/raw/D/`: arrays (`format: idx`, `npz` or `csv`), or zip archives of photographs
(`format: photos`), which stay packed: `test1.zip` holds unlabelled ones, all others labelled ones.

Writes to `data/arrays/D/` (what a dataset lacks is an empty array):

    images.npy, labels.npy                      uint8 [n, height, width, channels]; uint8 [n],
                                                uint16 where there are more than 256 classes
    groups.npy                                  int32 [n]: images of a group are copies
    valid_images.npy, valid_labels.npy          the validation set that the dataset brings itself
    test_images.npy, test_labels.npy            the test set that the dataset brings itself
    unlabelled_images.npy, unlabelled_names.npy in the natural order of the names
    unlabelled_left_out.npy                     the names of those that give no image
    sizes.csv                                   numbers of images by their original size
    left_out.csv                                files that give no image, each with the reason
    notes.csv                                   files that give one, but not as they are
    duplicates.csv                              exact copies, and what became of them
    near_copies.csv                             pairs of photographs that show the same picture
    checks.csv                                  dark, blurred, ... photographs
    summary.json                                origin, classes and numbers of images

A label is an index into the summary's `classes`. Photographs are sorted by class and name.
4,000 of Kaggle's photographs take 3 seconds on two cores.
"""

from pathlib import Path

import numpy as np

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import read_json, write_atomically, write_json
from stages.sources.array_datasets import prepare_arrays
from stages.sources.arrays import ARRAYS, Files, write_csv
from stages.sources.formats import Csv, Format, Idx, Npz, Photos, check_format
from stages.sources.photograph_arrays import prepare_photos

TABLES = ("left_out", "notes", "duplicates", "near_copies", "checks", "sizes")
FILES = (*ARRAYS, *(f"{name}.csv" for name in TABLES), "summary.json")


def prepare(raw: Path, options: Idx | Npz | Csv | Photos, files: Files) -> None:
    """Writes a dataset's arrays, tables and summary.

    Args:
        raw: The folder of downloaded files.
        options: The format of the files.
        files: Where to write each of `FILES`.

    Raises:
        UserError: A file is missing or damaged, or the dataset cannot train a classifier.
    """
    if not (raw / "origin.txt").is_file():
        raise UserError(f"there is no {raw}/origin.txt: `dvc repro` downloads the dataset first")
    check_format(raw, options.format)
    if isinstance(options, Photos):
        classes, sizes, left_out = prepare_photos(raw, options, files)
    else:
        classes, sizes, left_out = prepare_arrays(raw, options, files)

    write_csv(files["left_out.csv"], ("file", "reason"), sorted(left_out))
    rows = [(*size, count) for size, count in sorted(sizes.items())]
    write_csv(files["sizes.csv"], ("width", "height", "images"), rows)
    images, labels, valid_images, test_images, unlabelled = (
        np.load(files[f"{name}.npy"], mmap_mode="r")
        for name in ("images", "labels", "valid_images", "test_images", "unlabelled_images")
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
            **({"valid": len(valid_images)} if len(valid_images) else {}),
            "test": len(test_images),
            "unlabelled": len(unlabelled),
            "left_out": len(left_out),
        },
        "images_per_class": dict(zip(classes, counts, strict=True)),
    }
    write_json(files["summary.json"], summary)


def main(dataset: str) -> None:
    """Prepares one dataset of `params.yaml`."""
    options = params.read(f"datasets.{dataset}.prepare", Format).root
    arrays = Path("data/arrays", dataset)
    with write_atomically(*(arrays / name for name in FILES)) as parts:
        prepare(Path("data/raw", dataset), options, dict(zip(FILES, parts, strict=True)))
    summary = read_json(arrays / "summary.json")
    print(f"{summary['images']} images, labelled {summary['images_per_class']}")


if __name__ == "__main__":
    run(main)
