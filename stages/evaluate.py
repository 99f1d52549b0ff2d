"""Evaluates one model: `python -m stages.evaluate MODEL`.

Reads `data/models/M.keras` and its dataset's `data/splits/D/`. Writes `reports/metrics/M.json`
(accuracy and cross-entropy on the validation and the test images, parameters, multiply-adds) and
`data/predictions/M/`, all that the pictures need, so that drawing them needs no TensorFlow:

    metrics.json           the same bytes as `reports/metrics/M.json`: see dvc.yaml
    summary.json           classes, expected calibration error, the layer that Grad-CAM looked at
    test_*.npy             true labels and predicted probabilities
    confusion_matrix.csv   test images by true class (rows) and predicted class (columns)
    per_class.csv          precision, recall, F1 and areas under the curves, a row a class
    roc.csv                the points of each class's curve; precision_recall.csv likewise
    calibration.csv        confidence and accuracy of the test images in ten bins of confidence
    mistakes_*.npy         the wrong predictions that are surest
    shown_*.npy            a hundred unlabelled images, or test images of a dataset that has none
    submission.csv         the class of each photograph without a label, in Kaggle's format; if it
                           gave no image, the most frequent class. Standard error names these
    layers.csv             the network's layers
    weights.npy, class_images.npy, filters.npy, feature_maps.npz, grad_cam.npy, examples_*.npy
                           what is inside the network, as far as it makes sense: see `inspection`
                           and `weights` in stages/networks/
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt

from stages.lib import params
from stages.lib.command import run
from stages.lib.files import write_atomically, write_json
from stages.lib.params import Section
from stages.lib.splits import Part, Unlabelled, read_part, read_summary, read_unlabelled
from stages.networks import feed, inspection, weights
from stages.networks.keras_file import load_model
from stages.networks.runtime import Device, Processor, keras, set_up
from stages.results import measures
from stages.results.submission import Content, submit

# The most that is kept for the pictures.
SHOWN = 100  # images
MISTAKES = 24  # images
UNITS = 225  # hidden units


class Options(Section):
    """`evaluation`: how all models are evaluated.

    `seed` chooses the images and the hidden units that the pictures show; `submission` says what
    `submission.csv` holds.
    """

    device: Device
    processor: Processor = "any"
    threads: PositiveInt
    batch_size: PositiveInt
    seed: int = Field(ge=0)
    submission: Content = "class"


def predict(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns probabilities, float32 [n, classes], for uint8 [n, height, width, channels]."""
    starts = range(0, len(images), batch_size)
    if not starts:
        return np.empty((0, model.output_shape[-1]), np.float32)
    return np.concatenate([feed.predict(model, images[s : s + batch_size]) for s in starts])


def choose(count: int, most: int, seed: int) -> np.ndarray:
    """Returns at most `most` of the indexes below `count`, in ascending order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def choose_pair(labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns the indexes of two images of different classes, or of one if all have one class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    return order[np.sort(first)[:2]]


def inspect(model: keras.Model, images: np.ndarray, seed: int) -> dict[str, Any]:
    """Returns what is inside the network, as far as it makes sense for it.

    Args:
        model: A trained network.
        images: Examples to look at, uint8 [n, height, width, channels].
        seed: Chooses the hidden units where there are many.

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
    """What `evaluate` writes about a model.

    Attributes:
        metrics: Single numbers, for `dvc metrics`.
        summary: Other single values.
        arrays: By the names of their files.
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
    counts: dict[str, int],
    options: Options,
) -> Evaluation:
    """Evaluates `model`, which takes uint8 images to probabilities.

    The pictures show unlabelled images, or test images where there are none.

    Args:
        model: A trained network.
        valid: The validation images.
        test: The test images.
        unlabelled: The photographs without labels.
        counts: The number of training images of each class, in the order of the classes.
        options: What to evaluate with.
    """
    classes = list(counts)
    labels, probabilities = test.labels, predict(model, test.images, options.batch_size)
    on_valid = measures.measure(valid.labels, predict(model, valid.images, options.batch_size))
    on_test = measures.measure(labels, probabilities)
    metrics = {f"valid_{metric}": value for metric, value in on_valid.items()}
    metrics |= {f"test_{metric}": value for metric, value in on_test.items()}
    metrics["parameters"] = model.count_params()
    metrics["multiply_adds"] = inspection.count_multiply_adds(model)

    calibration, calibration_error = measures.calibrate(labels, probabilities)
    tables = {
        "confusion_matrix": measures.count_confusions(labels, probabilities, classes),
        "per_class": measures.measure_classes(labels, probabilities, classes),
        "calibration": calibration,
        "layers": inspection.layer_table(model),
        **measures.trace_curves(labels, probabilities),
    }
    source, images, shown_probabilities = "test", test.images, probabilities
    answers = predict(model, unlabelled.images, options.batch_size)
    if len(answers):
        source, images, shown_probabilities = "unlabelled", unlabelled.images, answers
    if len(answers) or len(unlabelled.left_out):
        prior = np.array(list(counts.values())) / sum(counts.values())
        tables["submission"] = submit(unlabelled, answers, prior, classes, options.submission)

    shown = choose(len(images), SHOWN, options.seed)
    mistakes = measures.find_mistakes(labels, probabilities)[:MISTAKES]
    examples = choose_pair(labels, options.seed)
    inside = inspect(model, test.images[examples], options.seed)
    arrays = {
        "test_labels": labels,
        "test_probabilities": probabilities,
        "mistakes_images": test.images[mistakes],
        "mistakes_labels": labels[mistakes],
        "mistakes_probabilities": probabilities[mistakes],
        "examples_labels": labels[examples],
        "shown_images": images[shown],
        "shown_probabilities": shown_probabilities[shown],
    } | {name: value for name, value in inside.items() if isinstance(value, np.ndarray)}
    summary = {
        "classes": classes,
        "expected_calibration_error": round(calibration_error, 4),
        "shown": source,
        "grad_cam_layer": inside["grad_cam_layer"],
    }
    return Evaluation(metrics, summary, arrays, inside["feature_maps"], tables)


def write_outputs(name: str, evaluation: Evaluation) -> None:
    """Writes the files of the model named `name`."""
    paths = (Path("data/predictions") / name, Path("reports/metrics") / f"{name}.json")
    with write_atomically(*paths) as (folder, metrics_file):
        folder.mkdir()
        for path in (folder / "metrics.json", metrics_file):
            write_json(path, evaluation.metrics)
        write_json(folder / "summary.json", evaluation.summary)
        for stem, array in evaluation.arrays.items():
            np.save(folder / f"{stem}.npy", array)
        if evaluation.feature_maps:
            maps: dict[str, Any] = evaluation.feature_maps
            np.savez_compressed(folder / "feature_maps.npz", **maps)
        for stem, table in evaluation.tables.items():
            table.to_csv(folder / f"{stem}.csv", index=False, float_format="%.4f")


def main(name: str) -> None:
    """Evaluates the model named `name` in `params.yaml`."""
    options = params.read("evaluation", Options)
    splits = Path("data/splits") / params.read(f"models.{name}.dataset", str)
    runtime = set_up(options.device, options.threads, options.processor)
    model = load_model(Path("data/models") / f"{name}.keras")
    runtime.check(model)
    valid, test = read_part(splits, "valid"), read_part(splits, "test")
    unlabelled, counts = read_unlabelled(splits), read_summary(splits)["images"]["train"]
    write_outputs(name, evaluate(model, valid, test, unlabelled, counts, options))
    if len(unlabelled.left_out):
        print(
            f"{len(unlabelled.left_out)} photographs without labels gave no image; submission.csv "
            f"says of them what is most frequent: {', '.join(unlabelled.left_out)}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run(main)
