"""Evaluates one model: `python -m stages.evaluate MODEL`.

Reads `data/models/M.keras` and its dataset's `data/splits/D/`. Writes `reports/metrics/M.json`
(accuracy and cross-entropy on the validation and the test images, parameters, multiply-adds) and
`data/predictions/M/`, everything that the pictures need, so that drawing them needs no TensorFlow:

    summary.json           classes, expected calibration error, what Grad-CAM looked at
    test_*.npy             true labels and predicted probabilities
    confusion_matrix.csv   test images by true class (rows) and predicted class (columns)
    per_class.csv          of each class: precision, recall, F1, areas under its curves
    roc.csv                of each class: the curve's points; precision_recall.csv likewise
    calibration.csv        confidence and accuracy of the test images in ten bins of confidence
    mistakes_*.npy         the images most surely taken for what they are not
    shown_*.npy            a hundred unlabelled images, or test images of a dataset that has none
    submission.csv         the class of each unlabelled image, if there are two: Kaggle's format
    layers.csv             the network's layers
    weights.npy, class_images.npy, filters.npy, feature_maps.npz, grad_cam.npy, examples_*.npy
                           what is inside the network, as far as it makes sense: see `inspection`
                           and `weights`
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    log_loss,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from stages.lib import params
from stages.lib.command import run
from stages.lib.files import write_atomically, write_json
from stages.lib.params import Section
from stages.lib.splits import Part, Unlabelled, read_part, read_summary, read_unlabelled
from stages.networks import inspection, weights
from stages.networks.runtime import Device, keras, set_up

SHOWN = 100
MISTAKES = 24
UNITS = 225
BINS = 10
CURVES = {
    "roc": (roc_curve, ["false_positive_rate", "true_positive_rate"]),
    "precision_recall": (
        partial(precision_recall_curve, drop_intermediate=True),
        ["precision", "recall"],
    ),
}


class Options(Section):
    """`evaluation`: how all models are evaluated.

    `seed` is of which images and which hidden units the pictures show.
    """

    device: Device
    threads: PositiveInt
    batch_size: PositiveInt
    seed: int = Field(ge=0)


def predict(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns probabilities, float32 [n, classes], for uint8 [n, height, width, channels]."""
    starts = range(0, len(images), batch_size)
    return np.concatenate([model.predict_on_batch(images[s : s + batch_size]) for s in starts])


def measure(part: Part, probabilities: np.ndarray) -> dict[str, float]:
    """Returns the accuracy and the cross-entropy (in nats, an image) of predictions for `part`.

    Args:
        part: The images and their true labels.
        probabilities: float32 [n, classes].
    """
    classes = range(probabilities.shape[1])
    return {
        "accuracy": round(float(accuracy_score(part.labels, probabilities.argmax(1))), 4),
        "loss": round(float(log_loss(part.labels, probabilities, labels=classes)), 4),
    }


def measure_classes(
    labels: np.ndarray, probabilities: np.ndarray, classes: list[str]
) -> pd.DataFrame:
    """Returns a row a class: precision, recall and F1, and areas under its curves.

    The areas are of telling the class from the rest by its probability, and empty for a class that
    none or all of the images have.

    Args:
        labels: uint8 [n].
        probabilities: float32 [n, classes].
        classes: Their names.
    """
    indexes = range(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, probabilities.argmax(1), labels=indexes, zero_division=0
    )
    columns = {"class": classes, "images": support}
    columns |= {"precision": precision, "recall": recall, "f1": f1}
    for name, area in (
        ("roc_auc", roc_auc_score),
        ("average_precision", average_precision_score),
    ):
        columns[name] = [
            area(labels == index, probabilities[:, index])
            if 0 < support[index] < len(labels)
            else np.nan
            for index in indexes
        ]
    return pd.DataFrame(columns)


def trace_curves(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, pd.DataFrame]:
    """Returns the curves of telling each class from the rest by its probability.

    Args:
        labels: uint8 [n].
        probabilities: float32 [n, classes].

    Returns:
        `roc` and `precision_recall`, a row a point: the index of its `class` and the two rates. A
        class that none or all of the images have has no curve.
    """
    classes = range(probabilities.shape[1])
    known = [index for index in classes if 0 < (labels == index).sum() < len(labels)]
    return {
        name: pd.DataFrame(
            [
                (index, *point)
                for index in known
                for point in zip(*trace(labels == index, probabilities[:, index])[:2], strict=True)
            ],
            columns=["class", *rates],
        )
        for name, (trace, rates) in CURVES.items()
    }


def calibrate(labels: np.ndarray, probabilities: np.ndarray) -> tuple[pd.DataFrame, float]:
    """Compares how sure the predictions are with how often they are right.

    Args:
        labels: uint8 [n].
        probabilities: float32 [n, classes].

    Returns:
        A row for each of ten equal bins of confidence, the probability of the predicted class:
        `from`, `to`, number of `images`, mean `confidence` and `accuracy`, both empty in an empty
        bin; and the expected calibration error, the mean of their difference over all images
        (equation 3 of https://arxiv.org/abs/1706.04599).
    """
    edges = np.linspace(0, 1, BINS + 1).round(1)
    sure = probabilities.max(1).astype(np.float64)
    frame = pd.DataFrame({"confidence": sure, "accuracy": probabilities.argmax(1) == labels})
    bins = frame.groupby(np.digitize(sure, edges[1:-1], right=True))
    table = bins.mean().reindex(range(BINS))
    table.insert(0, "images", bins.size().reindex(range(BINS), fill_value=0))
    table.insert(0, "to", edges[1:])
    table.insert(0, "from", edges[:-1])
    gaps = (table["confidence"] - table["accuracy"]).abs() * table["images"]
    return table, float(gaps.sum() / len(labels))


def find_mistakes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the indexes of the images taken for another class, the surest mistakes first."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")]


def choose(count: int, most: int, seed: int) -> np.ndarray:
    """Returns at most `most` of the indexes below `count`, in their order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def choose_pair(labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns the indexes of two images, of different classes if there are such."""
    order = np.random.default_rng(seed).permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    return order[np.sort(first)[:2]]


def submit(names: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Returns Kaggle's table, columns `id` and `label` (the predicted class), by number of `id`."""
    table = pd.DataFrame({"id": names, "label": probabilities.argmax(1)})
    return table.sort_values("id", key=lambda ids: pd.to_numeric(ids, "coerce"), kind="stable")


def inspect(model: keras.Model, images: np.ndarray, seed: int) -> dict[str, Any]:
    """Returns what is inside the network, as far as it makes sense for it.

    Args:
        model: The network.
        images: Examples to look at, uint8 [n, height, width, channels].
        seed: Of the choice among many hidden units.

    Returns:
        Arrays by name; `feature_maps` is a mapping of arrays, and `grad_cam_layer` is a name.
    """
    probabilities = predict(model, images, len(images))
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    units = weights.first_weights(model)
    layer, heat = inspection.grad_cam(model, images, likeliest) or (None, None)
    return {
        "weights": None if units is None else units[choose(len(units), UNITS, seed)],
        "class_images": weights.class_images(model),
        "filters": weights.first_filters(model),
        "feature_maps": inspection.feature_maps(model, images),
        "grad_cam": heat,
        "grad_cam_layer": layer,
        "examples_images": images,
        "examples_probabilities": probabilities,
    }


@dataclass(frozen=True)
class Evaluation:
    """What there is to say of a model.

    Attributes:
        metrics: Single numbers, for `dvc metrics`.
        summary: What else is a single value.
        arrays: By the names of their files, as `feature_maps` is.
        feature_maps: By the names of their layers.
        tables: By the names of their files.
    """

    metrics: dict[str, float]
    summary: dict[str, Any]
    arrays: dict[str, np.ndarray]
    feature_maps: dict[str, np.ndarray]
    tables: dict[str, pd.DataFrame]


def evaluate(
    model: keras.Model,
    valid: Part,
    test: Part,
    unlabelled: Unlabelled,
    classes: list[str],
    options: Options,
) -> Evaluation:
    """Evaluates `model`, which takes uint8 images to probabilities.

    Args:
        model: The network.
        valid: What it was validated on.
        test: What it has never seen.
        unlabelled: What to submit and to show; if there is none, test images are shown.
        classes: The names of the classes.
        options: Of the evaluation.
    """
    on_valid = predict(model, valid.images, options.batch_size)
    said = predict(model, test.images, options.batch_size)
    metrics = {f"valid_{metric}": value for metric, value in measure(valid, on_valid).items()}
    metrics |= {f"test_{metric}": value for metric, value in measure(test, said).items()}
    metrics["parameters"] = model.count_params()
    metrics["multiply_adds"] = inspection.count_multiply_adds(model)

    calibration, calibration_error = calibrate(test.labels, said)
    counts = confusion_matrix(test.labels, said.argmax(1), labels=range(len(classes)))
    tables = {
        "confusion_matrix": pd.DataFrame(
            counts, pd.Index(classes, name="true class"), classes
        ).reset_index(),
        "per_class": measure_classes(test.labels, said, classes),
        "calibration": calibration,
        "layers": inspection.layer_table(model),
        **trace_curves(test.labels, said),
    }
    images, shown, source = test.images, said, "test"
    if len(unlabelled.images):
        images, source = unlabelled.images, "unlabelled"
        shown = predict(model, images, options.batch_size)
        if len(classes) == 2:
            tables["submission"] = submit(unlabelled.names, shown)

    mistakes = find_mistakes(test.labels, said)[:MISTAKES]
    examples = choose_pair(test.labels, options.seed)
    inside = inspect(model, test.images[examples], options.seed)
    chosen = choose(len(images), SHOWN, options.seed)
    arrays = {
        "test_labels": test.labels,
        "test_probabilities": said,
        "mistakes_images": test.images[mistakes],
        "mistakes_labels": test.labels[mistakes],
        "mistakes_probabilities": said[mistakes],
        "examples_labels": test.labels[examples],
        "shown_images": images[chosen],
        "shown_probabilities": shown[chosen],
    } | {name: value for name, value in inside.items() if isinstance(value, np.ndarray)}
    summary = {
        "classes": classes,
        "expected_calibration_error": round(calibration_error, 4),
        "shown": source,
        "grad_cam_layer": inside["grad_cam_layer"],
    }
    return Evaluation(metrics, summary, arrays, inside["feature_maps"], tables)


def main(model: str) -> None:
    """Evaluates the model named `model` in `params.yaml`."""
    options = params.read("evaluation", Options)
    folder = Path("data/splits") / params.read(f"models.{model}.dataset", str)
    set_up(options.device, options.threads)
    trained = keras.models.load_model(Path("data/models") / f"{model}.keras", compile=False)
    valid, test = read_part(folder, "valid"), read_part(folder, "test")
    classes = read_summary(folder)["classes"]
    found = evaluate(trained, valid, test, read_unlabelled(folder), classes, options)

    outputs = (Path("data/predictions") / model, Path("reports/metrics") / f"{model}.json")
    with write_atomically(*outputs) as (predictions, metrics_file):
        predictions.mkdir()
        write_json(metrics_file, found.metrics)
        write_json(predictions / "summary.json", found.summary)
        for name, array in found.arrays.items():
            np.save(predictions / f"{name}.npy", array)
        if found.feature_maps:
            maps: dict[str, Any] = found.feature_maps
            np.savez_compressed(predictions / "feature_maps.npz", **maps)
        for name, table in found.tables.items():
            table.to_csv(predictions / f"{name}.csv", index=False, float_format="%.4f")


if __name__ == "__main__":
    run(main)
