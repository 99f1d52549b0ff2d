"""Numbers about a model that follow from its predicted probabilities and the true labels.

In this module, `labels` are indexes of classes, uint8 [n], and `probabilities` are float32
[n, classes].
"""

from functools import partial

import numpy as np
import pandas as pd
from sklearn import metrics

from stages.results.statistics import round_accuracy

BINS = 10  # of confidence
# For each kind of curve: the function that traces it, and the names of the rates it returns first.
CURVES = {
    "roc": (metrics.roc_curve, ["false_positive_rate", "true_positive_rate"]),
    "precision_recall": (
        partial(metrics.precision_recall_curve, drop_intermediate=True),
        ["precision", "recall"],
    ),
}
# The area under each kind of curve.
AREAS = {
    "roc_auc": metrics.roc_auc_score,
    "average_precision": metrics.average_precision_score,
}


def measure(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Returns the `accuracy` and the `loss`, the mean cross-entropy of an image in nats.

    A probability counts as it is, as in the history: nothing is cut off but what float32 takes for
    0, which counts as the smallest number that it holds in full.
    """
    said = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    loss = -np.log(np.maximum(said, np.finfo(np.float32).tiny)).mean()
    return {
        "accuracy": round_accuracy(float(metrics.accuracy_score(labels, probabilities.argmax(1)))),
        "loss": round(float(loss), 4) + 0.0,  # which makes 0 of the logarithm's -0
    }


def count_confusions(
    labels: np.ndarray, probabilities: np.ndarray, classes: list[str]
) -> pd.DataFrame:
    """Returns the number of images by true class (rows) and predicted class (columns)."""
    predicted = probabilities.argmax(1)
    counts = metrics.confusion_matrix(labels, predicted, labels=range(len(classes)))
    table = pd.DataFrame(counts, columns=classes)
    # A class may have the name of this column.
    table.insert(0, "true class", pd.Series(classes, dtype=str), allow_duplicates=True)
    return table


def measure_classes(
    labels: np.ndarray, probabilities: np.ndarray, classes: list[str]
) -> pd.DataFrame:
    """Returns precision, recall, F1 and the areas under the curves, a row a class.

    Of a class that none of the images have, recall and F1 are empty, and the precision too if no
    image was taken for it. The curves tell a class from the rest by its probability. Their areas
    are empty for a class that none or all of the images have.
    """
    indexes, predicted = range(len(classes)), probabilities.argmax(1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=indexes, zero_division=0
    )
    recall[support == 0] = f1[support == 0] = np.nan
    precision[(support == 0) & ~np.isin(indexes, predicted)] = np.nan
    columns = {"class": classes, "images": support}
    columns |= {"precision": precision, "recall": recall, "f1": f1}
    for name, area in AREAS.items():
        columns[name] = [
            area(labels == index, probabilities[:, index])
            if 0 < support[index] < len(labels)
            else np.nan
            for index in indexes
        ]
    return pd.DataFrame(columns)


def trace_curves(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, pd.DataFrame]:
    """Returns the points of the curves that tell each class from the rest by its probability.

    Returns:
        A table for `roc` and one for `precision_recall`, a row a point: the index of its `class`
        and the two rates. A class that none or all of the images have has no curve.
    """
    classes = range(probabilities.shape[1])
    with_curve = [index for index in classes if 0 < (labels == index).sum() < len(labels)]
    return {
        name: pd.DataFrame(
            [
                (index, *point)
                for index in with_curve
                for point in zip(*trace(labels == index, probabilities[:, index])[:2], strict=True)
            ],
            columns=["class", *rates],
        )
        for name, (trace, rates) in CURVES.items()
    }


def calibrate(labels: np.ndarray, probabilities: np.ndarray) -> tuple[pd.DataFrame, float]:
    """Compares how sure the predictions are with how often they are right.

    Returns:
        A row for each of ten equal bins of confidence, the probability of the predicted class:
        `from`, `to`, number of `images`, mean `confidence` and `accuracy`, both empty in an empty
        bin; and the expected calibration error, the mean of their difference over all images
        (equation 3 of https://arxiv.org/abs/1706.04599).
    """
    edges = np.linspace(0, 1, BINS + 1).round(1)
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    frame = pd.DataFrame({"confidence": confidence, "accuracy": right})
    bins = frame.groupby(np.digitize(confidence, edges[1:-1], right=True))
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
