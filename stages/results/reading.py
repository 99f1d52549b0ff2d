"""Reading what the stages wrote: a model's results, and the facts of a dataset."""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.command import UserError
from stages.lib.files import read_json
from stages.lib.splits import Part, read_part, read_summary

LEFT_OUT_FILES = 5  # files that the page names for each reason
# The columns of text of each table; all others hold numbers.
TEXTS = {
    "confusion_matrix": ("true class",),
    "layers": ("name", "type", "output_shape", "inputs"),
    "left_out": ("file", "reason"),
    "per_class": ("class",),
    "submission": ("id", "label"),
}
# What `evaluate` writes for every model; the rest depends on the network.
ALWAYS = (
    *("summary.json", "test_labels.npy", "test_probabilities.npy"),
    *("confusion_matrix.csv", "per_class.csv", "layers.csv"),
)


@dataclass(frozen=True)
class Results:
    """A model's results, as `train` and `evaluate` wrote them.

    Attributes:
        model: The model's name.
        metrics: Accuracies, losses and sizes: `reports/metrics/M.json`.
        history: Loss and accuracy of training, a row an epoch or every so many steps.
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
class Dataset:
    """The facts of a dataset, as `prepare` and `split` wrote them.

    Attributes:
        summary: Origin, classes, image shape and counts.
        training: The training images and their labels.
        sizes: How many `images` had which `width` and `height` before resizing, in pixels.
        left_out: For each reason, how many files were left out, and the first ones.
    """

    summary: dict[str, Any]
    training: Part
    sizes: pd.DataFrame
    left_out: list[dict[str, Any]]


def read_results(model: str) -> Results:
    """Reads the results of the model named `model`.

    Raises:
        UserError: A file is missing.
    """
    metrics = existing(Path(f"reports/metrics/{model}.json"))
    history = existing(Path(f"data/history/{model}.csv"))
    predictions = Path(f"data/predictions/{model}")
    for name in ALWAYS:
        existing(predictions / name)
    tables = {path.stem: read_table(path) for path in predictions.glob("*.csv")}
    arrays = {path.stem: np.load(path) for path in predictions.glob("*.np[yz]")}
    return Results(
        model,
        read_json(metrics),
        read_table(history),
        read_json(predictions / "summary.json"),
        tables | arrays,
    )


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table that a stage wrote; texts stay as they are, be they `NA`, `null` or `001`.

    Without this, pandas would take such names of classes, layers and files for numbers or gaps.
    """
    with path.open(encoding="utf-8", newline="") as file:
        columns = next(csv.reader(file))
    # By their places: a class may have the name of a column.
    places = range(len(columns))
    texts = [columns.index(name) for name in TEXTS.get(path.stem, ()) if name in columns]
    gaps: Any = {place: [""] for place in places if place not in texts}
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
    return Dataset(
        read_dataset_summary(name),
        read_part(Path(f"data/splits/{name}"), "train"),
        read_table(existing(arrays / "sizes.csv")),
        _read_left_out(existing(arrays / "left_out.csv")),
    )


def read_dataset_summary(name: str) -> dict[str, Any]:
    """Reads what `split` says of the dataset named `name`."""
    return read_summary(existing(Path(f"data/splits/{name}/summary.json")).parent)


def existing(path: Path) -> Path:
    """Returns `path`; raises a `UserError` if there is no such file."""
    if not path.exists():
        raise UserError(f"{path} is missing: `dvc repro` makes it, `dvc pull` brings it")
    return path


def _read_left_out(path: Path) -> list[dict[str, Any]]:
    table = read_table(path)
    return [
        {"reason": reason, "count": len(files), "files": list(files[:LEFT_OUT_FILES])}
        for reason, files in table.groupby("reason")["file"]
    ]
