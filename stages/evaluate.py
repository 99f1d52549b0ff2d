"""Evaluates one model: `python -m stages.evaluate MODEL`.

Reads `data/models/M.keras` and its dataset's `data/splits/D/`. Writes `reports/metrics/M.json`
(accuracy and cross-entropy on the validation and the test images, parameters, multiply-adds, the
temperature that the validation images ask for, and what it mends on the test images) and
`data/predictions/M/`, all that the pictures need, so that drawing them needs no TensorFlow:

    metrics.json           the same bytes as `reports/metrics/M.json`: see dvc.yaml
    summary.json           classes, expected calibration error, the layer that Grad-CAM looked at
    test_*.npy             true labels and predicted probabilities; `test_probabilities_plain` are
                           those without the views of `evaluation.test_time`, where it has some
    valid_probabilities.npy  those of the validation images
    confusion_matrix.csv   test images by true class (rows) and predicted class (columns)
    per_class.csv          precision, recall, F1 and areas under the curves, a row a class
    roc.csv                the points of each class's curve; precision_recall.csv likewise
    calibration.csv        confidence and accuracy of the test images in ten bins of confidence;
                           calibration_scaled.csv likewise, at the temperature
    mistakes_*.npy         the wrong predictions that are surest
    shown_*.npy            a hundred unlabelled images, or test images of a dataset that has none
    submission.csv         the class of each photograph without a label, in Kaggle's format; if it
                           gave no image, the most frequent class. Standard error names these.
                           Its probabilities are those at the temperature, all others are not
    layers.csv             the network's layers
    weights.npy, class_images.npy, filters.npy, feature_maps.npz, grad_cam.npy, examples_*.npy
                           what is inside the network, as far as it makes sense: see `inspection`
                           and `weights` in stages/networks/
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib import params
from stages.lib.command import run
from stages.lib.files import write_atomically, write_json
from stages.lib.splits import Part, Unlabelled, read_part, read_summary, read_unlabelled
from stages.networks import inspection
from stages.networks.evaluation import Options, open_model, read_options
from stages.networks.inspection import inspect
from stages.networks.objectives import Measure, build_metrics
from stages.networks.recipe import read_recipes
from stages.networks.runtime import keras
from stages.networks.views import Views, predict
from stages.results import measures, temperature
from stages.results.answers import examine, show
from stages.results.history import kept_row
from stages.results.submission import submit


def choose_pair(labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns the indexes of two images of different classes, or of one if all have one class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    return order[np.sort(first)[:2]]


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
    own: Sequence[Measure] = (),
    views: Views | None = None,
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
        own: The metrics that the model's recipe names.
        views: Those of each image whose mean counts, beside the image as it is.
    """
    classes = list(counts)
    ask = partial(predict, model, batch_size=options.batch_size)
    on_valid, on_test = ask(valid.images, views=views), ask(test.images, views=views)
    answers = examine((valid, on_valid), (test, on_test), classes, options.seed)
    metrics, arrays, tables = dict(answers.metrics), dict(answers.arrays), dict(answers.tables)
    for part, true, said in (("valid", valid.labels, on_valid), ("test", test.labels, on_test)):
        for measure in own:
            metrics[f"{part}_{measure.name}"] = round(float(measure.once(true, said)), 4)
    metrics["parameters"] = model.count_params()
    metrics["multiply_adds"] = inspection.count_multiply_adds(model)
    metrics |= answers.calibration
    tables["layers"] = inspection.layer_table(model)

    shown = "test"
    on_unlabelled = ask(unlabelled.images, views=views)
    if len(on_unlabelled):
        shown = "unlabelled"
        arrays |= show(unlabelled.images, on_unlabelled, options.seed)
    if len(on_unlabelled) or len(unlabelled.left_out):
        prior = np.array(list(counts.values())) / sum(counts.values())
        scaled = temperature.scale(on_unlabelled, metrics["temperature"])
        tables["submission"] = submit(unlabelled, scaled, prior, classes, options.submission)

    examples = choose_pair(test.labels, options.seed)
    inside = inspect(model, test.images[examples], options.seed, views)
    arrays["examples_labels"] = test.labels[examples]
    arrays |= {name: value for name, value in inside.items() if isinstance(value, np.ndarray)}
    summary = answers.summary | {"shown": shown, "grad_cam_layer": inside["grad_cam_layer"]}
    if views is not None:
        summary["test_time"] = views.model_dump()
        plain = {"valid": ask(valid.images), "test": ask(test.images)}
        arrays["test_probabilities_plain"] = plain["test"]
        for part, labels in (("valid", valid.labels), ("test", test.labels)):
            accuracy = measures.measure(labels, plain[part])["accuracy"]
            metrics[f"{part}_accuracy_plain"] = accuracy
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
    options = read_options()
    key = params.model_key(name)
    splits = Path("data/splits") / params.read(f"{key}.dataset", str)
    model = open_model(Path("data/models") / f"{name}.keras", options)
    valid, test = read_part(splits, "valid"), read_part(splits, "test")
    unlabelled, counts = read_unlabelled(splits), read_summary(splits)["images"]["train"]
    metrics = read_recipes(f"{key}.training")[-1].metrics
    own = build_metrics(metrics, len(counts), f"{key}.training.metrics")
    views = options.test_time.get(name)
    evaluation = evaluate(model, valid, test, unlabelled, counts, options, own, views)
    kept = kept_row(pd.read_csv(Path("data/history") / f"{name}.csv"))
    if kept is not None:
        evaluation.metrics["kept"] = kept
    write_outputs(name, evaluation)
    if len(unlabelled.left_out):
        print(
            f"{len(unlabelled.left_out)} photographs without labels gave no image; submission.csv "
            f"says of them what is most frequent: {', '.join(unlabelled.left_out)}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run(main)
