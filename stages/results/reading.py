"""Reading what the stages wrote: a model's results, and the facts of a dataset."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.command import UserError
from stages.lib.files import read_array, read_arrays, read_json, whole
from stages.lib.splits import Part, read_part, read_summary

NAMED_FILES = 5  # that the page names for each reason
SHOWN_PAIRS = 8  # of near copies
SHOWN_CHECKED = 5  # photographs for each check
PAIR = ("first", "second")
# Checks that find large values; the others find small ones.
LARGE = ("bright",)
# The columns of text of each table; all others hold numbers.
TEXTS = {
    "checks": ("check", "file", "part"),
    "confusion_matrix": ("true class",),
    "duplicates": ("file", "copy_of", "reason"),
    "layers": ("name", "type", "output_shape", "inputs"),
    "left_out": ("file", "reason"),
    "near_copies": (
        *("first", "second", "first_class", "second_class", "first_part", "second_part"),
    ),
    "notes": ("file", "note"),
    "per_class": ("class",),
    "submission": ("id", "label"),
}
# What `ensemble` writes for every ensemble, and `evaluate` for every model; the rest depends on the
# network.
ALWAYS = (
    *("metrics.json", "summary.json", "test_labels.npy", "test_probabilities.npy"),
    *("confusion_matrix.csv", "per_class.csv"),
)
ALWAYS_OF_MODELS = (*ALWAYS, "layers.csv")


@dataclass(frozen=True)
class Results:
    """A model's results, as `train` and `evaluate` wrote them, or an ensemble's.

    Attributes:
        model: The model's name.
        metrics: Accuracies, losses and sizes: `data/predictions/M/metrics.json`.
        history: Loss and accuracy of training, a row an epoch or every so many steps; an ensemble
            has no rows.
        summary: The classes and other single values: `data/predictions/M/summary.json`.
        files: The arrays and tables of `data/predictions/M/` by their names without the ending.
    """

    model: str
    metrics: dict[str, Any]
    history: pd.DataFrame
    summary: dict[str, Any]
    files: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        names: list[str] = self.summary["classes"]
        return names

    @cached_property
    def right(self) -> np.ndarray:
        """Which of the test images the model gets right, bool [n]."""
        right: np.ndarray = self.files["test_labels"] == self.files["test_probabilities"].argmax(1)
        return right


@dataclass(frozen=True)
class Shown:
    """Images of photographs that are worth a look, uint8 [n, height, width, channels].

    Attributes:
        near_copies: Two for each of the first `SHOWN_PAIRS` pairs.
        checked: One for each row of `checked_rows`.
        checked_rows: The first `SHOWN_CHECKED` rows of each check.
    """

    near_copies: np.ndarray
    checked: np.ndarray
    checked_rows: pd.DataFrame


@dataclass(frozen=True)
class Dataset:
    """The facts of a dataset, as `prepare` and `split` wrote them.

    Attributes:
        summary: Origin, classes, image shape and counts.
        training: The training images and their labels.
        sizes: How many `images` had which `width` and `height` before resizing, in pixels.
        left_out: For each reason, how many files were left out, and the first ones.
        notes: For each note, how many files it is about, and the first ones.
        duplicates: For each reason, how many exact copies there are, and the first ones.
        near_copies: Pairs of photographs that show the same picture, those of two classes first.
        checks: Photographs that a check found, by check, the worst ones first.
        shown: The images of the first near copies and of the worst photographs of each check.
    """

    summary: dict[str, Any]
    training: Part
    sizes: pd.DataFrame
    left_out: list[dict[str, Any]]
    notes: list[dict[str, Any]]
    duplicates: list[dict[str, Any]]
    near_copies: list[dict[str, Any]]
    checks: pd.DataFrame
    shown: Shown


def read_results(model: str) -> Results:
    """Reads the results of the model named `model`.

    Raises:
        UserError: A file is missing or damaged.
    """
    history = existing(Path(f"data/history/{model}.csv"))
    folder = Path(f"data/predictions/{model}")
    return _read_folder(model, folder, ALWAYS_OF_MODELS, read_table(history))


def read_ensemble(name: str) -> Results:
    """Reads the results of the ensemble named `name`, as `read_results` does."""
    return _read_folder(name, Path(f"data/ensembles/{name}"), ALWAYS, pd.DataFrame())


def _read_folder(name: str, folder: Path, always: Iterable[str], history: pd.DataFrame) -> Results:
    for file in always:
        existing(folder / file)
    tables = {path.stem: read_table(path) for path in folder.glob("*.csv")}
    arrays: dict[str, Any] = {path.stem: read_array(path) for path in folder.glob("*.npy")}
    arrays |= {path.stem: read_arrays(path) for path in folder.glob("*.npz")}
    return Results(
        name,
        read_json(folder / "metrics.json"),
        history,
        read_json(folder / "summary.json"),
        tables | arrays,
    )


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table that a stage wrote; texts stay as they are, be they `NA`, `null` or `001`.

    Without this, pandas would take such names of classes, layers and files for numbers or gaps.
    """
    with whole(path), path.open(encoding="utf-8", newline="") as file:
        columns = next(csv.reader(file), [])
        if "\0" in "".join(columns):  # what a file system leaves of a file after a power cut
            raise ValueError("zeros in place of its header")
    # By their places: a class may have the name of a column.
    places = range(len(columns))
    texts = [columns.index(name) for name in TEXTS.get(path.stem, ()) if name in columns]
    gaps: Any = {place: [""] for place in places if place not in texts}
    with whole(path):
        table = pd.read_csv(
            path,
            header=0,
            names=list(places),
            dtype=dict.fromkeys(texts, "str"),
            keep_default_na=False,
            na_values=gaps,
        )
    table.columns = pd.Index(columns)
    return table


def read_dataset(name: str) -> Dataset:
    """Reads the facts of the dataset named `name`.

    Raises:
        UserError: A file is missing.
    """
    arrays = Path(f"data/arrays/{name}")
    near, checks = _read_near_copies(arrays), _read_checks(arrays)
    pairs, worst = near[:SHOWN_PAIRS], checks.groupby("check", sort=False).head(SHOWN_CHECKED)
    sides = [(row[f"{side}_part"], row[f"{side}_row"]) for row in pairs for side in PAIR]
    return Dataset(
        read_dataset_summary(name),
        read_part(Path(f"data/splits/{name}"), "train"),
        read_table(existing(arrays / "sizes.csv")),
        _count_files(existing(arrays / "left_out.csv"), "reason"),
        _count_files(existing(arrays / "notes.csv"), "note"),
        _count_files(existing(arrays / "duplicates.csv"), "reason"),
        near,
        checks,
        Shown(
            _read_images(arrays, sides),
            _read_images(arrays, zip(worst["part"], worst["row"], strict=True)),
            worst,
        ),
    )


def read_dataset_summary(name: str) -> dict[str, Any]:
    """Reads what `split` says of the dataset named `name`."""
    return read_summary(existing(Path(f"data/splits/{name}/summary.json")).parent)


def existing(path: Path) -> Path:
    """Returns `path`; raises a `UserError` if there is no such file."""
    if not path.exists():
        raise UserError(f"{path} is missing: `dvc repro` makes it, `dvc pull` brings it")
    return path


def _count_files(path: Path, column: str) -> list[dict[str, Any]]:
    table = read_table(path)
    return [
        {"reason": reason, "count": len(files), "files": list(files[:NAMED_FILES])}
        for reason, files in table.groupby(column)["file"]
    ]


def _read_near_copies(arrays: Path) -> list[dict[str, Any]]:
    table = read_table(existing(arrays / "near_copies.csv"))
    rows: list[Any] = table.to_dict("records")
    return sorted(rows, key=lambda row: row["first_class"] == row["second_class"])


def _read_checks(arrays: Path) -> pd.DataFrame:
    table = read_table(existing(arrays / "checks.csv"))
    value = table["value"].where(~table["check"].isin(LARGE), -table["value"])
    # So many times smaller than the others is as bad as so many times larger.
    value = value.where(table["check"] != "odd size", -np.maximum(value, 1 / value))
    order = table.assign(value=value).sort_values(["check", "value"], kind="stable").index
    return table.loc[order]


def _read_images(arrays: Path, places: Iterable[tuple[str, int]]) -> np.ndarray:
    """Reads images by their part and row, from what `prepare` wrote."""
    images = []
    for part, row in places:
        name = "images.npy" if part == "train" else f"{part}_images.npy"
        images.append(read_array(arrays / name, mmap_mode="r")[row])
    return np.array(images, np.uint8)
