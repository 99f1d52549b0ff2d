"""What follows from the answers to the test images, whatever gave them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.images import Images
from stages.lib.splits import Part
from stages.results import measures, temperature

# The most that is kept for the pictures.
SHOWN = 100  # images
MISTAKES = 24  # images


@dataclass(frozen=True)
class Answers:
    """What the tables and the pictures show of answers.

    Attributes:
        metrics: Accuracy and loss, for `dvc metrics`.
        calibration: The temperature and what it changes, likewise.
        summary: Other single values.
        arrays: By the names of their files.
        tables: By the names of their files.
    """

    metrics: dict[str, float]
    calibration: dict[str, float]
    summary: dict[str, Any]
    arrays: dict[str, np.ndarray]
    tables: dict[str, pd.DataFrame]


def examine(
    valid: tuple[Part, np.ndarray], test: tuple[Part, np.ndarray], classes: list[str], seed: int
) -> Answers:
    """Examines the answers to the validation and the test images.

    Probabilities stay as they were said. The tables and metrics that are called `scaled` have them
    at the temperature that the validation images ask for.

    Args:
        valid: The validation images, and what was said of them, float32 [n, classes].
        test: The test images, likewise.
        classes: The names of the classes.
        seed: Chooses the images that are shown.
    """
    (_, on_valid), (part, said) = valid, test
    labels = part.labels
    metrics = {
        f"{name}_{metric}": value
        for name, (images, probabilities) in (("valid", valid), ("test", test))
        for metric, value in measures.measure(images.labels, probabilities).items()
    }
    degrees = temperature.fit(valid[0].labels, on_valid)
    scaled = temperature.scale(said, degrees)
    bins, error = measures.calibrate(labels, said)
    bins_scaled, scaled_error = measures.calibrate(labels, scaled)
    calibration = {
        "temperature": degrees,
        "test_calibration_error": round(error, 4),
        "test_calibration_error_scaled": round(scaled_error, 4),
        "test_loss_scaled": measures.measure(labels, scaled)["loss"],
    }
    mistakes = measures.find_mistakes(labels, said)[:MISTAKES]
    arrays = {
        "test_labels": labels,
        "test_probabilities": said,
        "valid_probabilities": on_valid,  # for ensembles
        "mistakes_images": part.images[mistakes],
        "mistakes_labels": labels[mistakes],
        "mistakes_probabilities": said[mistakes],
    } | show(part.images, said, seed)
    tables = {
        "confusion_matrix": measures.count_confusions(labels, said, classes),
        "per_class": measures.measure_classes(labels, said, classes),
        "calibration": bins,
        "calibration_scaled": bins_scaled,
        **measures.trace_curves(labels, said),
    }
    summary = {
        "classes": classes,
        "expected_calibration_error": round(error, 4),
        "shown": "test",
    }
    return Answers(metrics, calibration, summary, arrays, tables)


def show(images: Images, probabilities: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Returns the images that the pictures show, and what was said of them, in their order."""
    shown = np.sort(np.random.default_rng(seed).permutation(len(images))[:SHOWN])
    return {"shown_images": images[shown], "shown_probabilities": probabilities[shown]}
