"""Tables over all models and datasets: rows, and how their numbers are written."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from stages.lib.params import Section
from stages.results.history import trained_for
from stages.results.reading import Results
from stages.results.statistics import wilson_interval

ORIGINS = {
    "drawn": "drawn",
    "sample": "sample of the real data",
    "real": "real",
}

Row = dict[str, Any]


class Published(Section):
    """`models.M.published`: what others reached with this network, for tables and pages only."""

    valid_accuracy: float | None = Field(None, ge=0, le=1)
    test_accuracy: float | None = Field(None, ge=0, le=1)
    training_images: PositiveInt | None = None


class Model(Section):
    """`models.M` as far as the tables show it; `train` checks the rest."""

    dataset: str
    network: Any
    training: Any
    published: Published = Published()


def accuracy_row(model: Model, dataset: dict[str, Any], results: Results) -> Row:
    """Returns a model's row of the accuracy table.

    Differences to published figures are given for real data only: drawn pictures and small samples
    say nothing about a figure that was reached on the whole of the real data.

    Args:
        model: The model's section of `params.yaml`, or that of an ensemble.
        dataset: The summary that `split` wrote.
        results: The results of either.
    """
    published, metrics = model.published, results.metrics
    interval = wilson_interval(int(results.right.sum()), len(results.right))
    row = {
        "model": results.model,
        "dataset": model.dataset,
        "data": ORIGINS[dataset["origin"]],
        "classes": len(dataset["classes"]),
        "training_images": sum(dataset["images"]["train"].values()),
        "published_training_images": published.training_images,
        "parameters": metrics["parameters"],
        "multiply_adds": metrics["multiply_adds"],
        "trained_for": _trained_for(results),
        "test_loss": metrics["test_loss"],
        "test_accuracy_low": round(interval.low, 4),
        "test_accuracy_high": round(interval.high, 4),
        "test_time": describe_views(results.summary.get("test_time")),
        "test_accuracy_plain": metrics.get("test_accuracy_plain"),
    }
    for part in ("valid", "test"):
        accuracy, figure = metrics[f"{part}_accuracy"], getattr(published, f"{part}_accuracy")
        comparable = figure is not None and dataset["origin"] == "real"
        row[f"{part}_accuracy"] = accuracy
        row[f"published_{part}_accuracy"] = figure
        row[f"{part}_difference"] = round(accuracy - figure, 4) if comparable else None
    return row


def _trained_for(results: Results) -> str:
    if len(results.history):
        return trained_for(results.history)
    return f"mean of {results.metrics['members']}"  # an ensemble is not trained


def describe_views(views: dict[str, Any] | None) -> str | None:
    """Writes the views of an image that were averaged (`evaluation.test_time`): `flip`."""
    if views is None:
        return None
    shift = views["shift"]
    return ", ".join(["flip"] * bool(views["flip"]) + [f"shifts by {shift}"] * bool(shift))


def rank(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Returns the accuracy rows of each dataset, the highest test accuracy first."""
    ranked: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["dataset"], -row["test_accuracy"])):
        ranked.setdefault(row["dataset"], []).append(row)
    return ranked


def dataset_row(name: str, dataset: dict[str, Any]) -> Row:
    """Returns a dataset's row of the table of datasets, from the summary that `split` wrote."""
    counts = {part: sum(classes.values()) for part, classes in dataset["images"].items()}
    height, width, channels = dataset["image_shape"]
    return {
        "dataset": name,
        "data": ORIGINS[dataset["origin"]],
        "classes": len(dataset["classes"]),
        "image": f"{height}x{width}x{channels}",
        **counts,
        "unlabelled": dataset["unlabelled"],
        "left_out": dataset["left_out"],
    }


def all_histories(results: Iterable[Results]) -> pd.DataFrame:
    """Returns all histories as one long table: model, at (epoch or step), then the metrics."""
    tables = []
    for each in results:
        if each.history.empty:  # of an ensemble
            continue
        table = each.history.rename(columns={"epoch": "at", "step": "at"})
        table.insert(0, "model", each.model)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def all_confusion_matrices(results: Iterable[Results]) -> pd.DataFrame:
    """Returns all confusion matrices as one long table: model, actual, predicted, images."""
    rows = []
    for each in results:
        names = each.classes
        rows += [
            {"model": each.model, "actual": names[true], "predicted": names[said], "images": count}
            for (true, said), count in np.ndenumerate(confusion_matrix(each))
        ]
    return pd.DataFrame(rows)


def confusion_matrix(results: Results) -> np.ndarray:
    """Returns the test images by true class (rows) and predicted class, int [classes, classes]."""
    counts: np.ndarray = results.files["confusion_matrix"].iloc[:, 1:].to_numpy()
    return counts


def to_markdown(rows: Iterable[Row], caveat: str) -> str:
    """Returns the accuracy table for people, with `caveat` below it."""
    rows = list(rows)
    columns: list[tuple[str, Callable[[Row], str]]] = [
        # What is no model has spaces in its name.
        ("Model", lambda row: row["model"] if " " in row["model"] else f"`{row['model']}`"),
        ("Data", lambda row: f"{row['dataset']} ({row['classes']} classes), {row['data']}"),
        ("Training images", training_images),
        ("Parameters", lambda row: _written(row, "parameters", ",")),
        ("Trained for", lambda row: row["trained_for"]),
        ("Valid accuracy", lambda row: f"{row['valid_accuracy']:.2%}"),
        ("Published", lambda row: published(row, "valid")),
        ("Test accuracy", accuracy_and_views),
        ("95% interval", interval),
        ("Published", lambda row: published(row, "test")),
        ("Test loss", lambda row: _written(row, "test_loss", ".3f")),
    ]
    if any("seeds" in row for row in rows):
        columns.insert(9, ("Over seeds", lambda row: ", ".join(over_seeds(row))))
    lines = [
        [name for name, _ in columns],
        ["---", "---", *["---:"] * (len(columns) - 2)],
        *([write(row) for _, write in columns] for row in rows),
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{caveat}\n"


def _written(row: Row, key: str, form: str) -> str:
    return "" if row[key] is None else format(row[key], form)


def accuracy_and_views(row: Mapping[str, Any]) -> str:
    """Writes the test accuracy and, where views of each image were averaged, that without them."""
    views = row["test_time"]
    without = f" ({views}; {row['test_accuracy_plain']:.2%} without)" if views else ""
    return f"{row['test_accuracy']:.2%}{without}"


def training_images(row: Mapping[str, Any]) -> str:
    """Writes how many images a model learned from, and how many the published one did."""
    others = row["published_training_images"]
    return f"{row['training_images']:,}" + (f" (published: {others:,})" if others else "")


def published(row: Mapping[str, Any], part: str) -> str:
    """Writes the published accuracy and, for real data, the difference in percentage points."""
    figure, difference = row[f"published_{part}_accuracy"], row[f"{part}_difference"]
    if figure is None:
        return ""
    return f"{figure:.2%}" + (f" ({difference * 100:+.2f})" if difference is not None else "")


def interval(row: Mapping[str, Any]) -> str:
    """Writes the percentages between which the test accuracy lies with 95% confidence."""
    return f"{row['test_accuracy_low'] * 100:.2f} to {row['test_accuracy_high'] * 100:.2f}"


def over_seeds(row: Mapping[str, Any]) -> list[str]:
    """Writes a repeated model's seeds, mean and standard deviation, then the range, in percent.

    Nothing of a model that is not repeated.
    """
    count = row.get("seeds")
    if not count:
        return []
    mean, sd, low, high = (row[f"test_accuracy_{name}"] for name in ("mean", "sd", "min", "max"))
    if count == 1:
        return [f"1 seed: {mean:.2%}"]
    return [f"{count} seeds: {mean:.2%} ± {sd * 100:.2f}", f"{low * 100:.2f} to {high * 100:.2f}"]
