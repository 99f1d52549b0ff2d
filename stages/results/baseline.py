"""What a model must beat: answering every image with the commonest class of the training images."""

from typing import Any

from stages.results.statistics import round_accuracy, wilson_interval
from stages.results.tables import ORIGINS, Row

NAME = "always the commonest class"
EMPTY = (
    *("parameters", "multiply_adds", "test_loss", "test_time", "test_accuracy_plain"),
    *("published_training_images", "published_valid_accuracy", "published_test_accuracy"),
    *("valid_difference", "test_difference"),
)


def baseline_row(name: str, dataset: dict[str, Any]) -> Row:
    """Returns a dataset's row of the accuracy table for the answer that needs no image.

    Its name has spaces, which no model's has. Nothing was trained, and the loss of an answer
    without a doubt would be infinite: these columns are empty.

    Args:
        name: The dataset's name.
        dataset: The summary that `split` wrote.
    """
    images = dataset["images"]
    commonest = max(images["train"], key=lambda kind: images["train"][kind])  # the first of equals
    right, count = images["test"][commonest], sum(images["test"].values())
    interval = wilson_interval(right, count)
    return dict.fromkeys(EMPTY) | {
        "model": f"{name}: {NAME}",
        "dataset": name,
        "data": ORIGINS[dataset["origin"]],
        "classes": len(dataset["classes"]),
        "training_images": sum(images["train"].values()),
        "trained_for": "not trained",
        "valid_accuracy": round_accuracy(
            images["valid"][commonest] / sum(images["valid"].values())
        ),
        "test_accuracy": round_accuracy(right / count),
        "test_accuracy_low": round(interval.low, 4),
        "test_accuracy_high": round(interval.high, 4),
    }
