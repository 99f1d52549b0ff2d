"""What the results say, in words."""

import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from stages.results.reading import Results
from stages.results.statistics import mcnemar
from stages.results.tables import ORIGINS, Row, confusion_matrix
from stages.results.temperature import HIGHEST

PARTS = {"train": "training", "valid": "validation", "test": "test"}
ORIGINS_EXPLAINED = {
    "drawn": (
        "Drawn by the project itself, so that the pipeline runs without a network. What is reached "
        "on these pictures says nothing about photographs."
    ),
    "sample": (
        "A small sample of the real data, so that the pipeline runs without a network. With all of "
        "the data, accuracies are higher."
    ),
    "real": "The real data.",
}


def isolate(name: str) -> str:
    """Returns a name that reads from right to left so that it leaves the text around it in order.

    Without Unicode's isolates, `قطة, 0.98` would have the number on the left.
    """
    turned = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name)
    return f"\u2068{name}\u2069" if turned else name


def caveat(rows: Iterable[Row]) -> str:
    """Says what a reader must know before comparing the accuracy table with published figures."""
    kinds = {row["data"] for row in rows}
    sentences = []
    if kinds - {ORIGINS["real"]}:
        sentences.append(
            "Drawn pictures and samples of the real data are there to show the pipeline: "
            "accuracies on them must not be compared with the published ones, which were reached "
            "on the whole of the real data."
        )
    if ORIGINS["real"] in kinds:
        sentences.append(
            "In brackets: the difference to the published figure, in percentage points. Mind the "
            "numbers of training images."
        )
    return " ".join(sentences)


def describe_near_copies(pairs: list[dict[str, Any]]) -> str:
    """Says how many photographs show the same picture as another, and where they are.

    Args:
        pairs: The rows of `near_copies.csv`.
    """
    if not pairs:
        return ""
    # The parts that the dataset brings stay as they are.
    apart = [row for row in pairs if row["first_part"] != row["second_part"]]
    mixed = sum(row["first_class"] != row["second_class"] for row in pairs)
    text = f"{_photographs(len(pairs))} the same picture as another one, but not the same pixels. "
    if len(apart) < len(pairs):
        text += "Copies are in one part, so that no test image has one among the training images. "
    if apart:
        text += (
            f"{_photographs(len(apart))} the same picture as one in another part that the dataset "
            "brings itself: accuracies on that part are too high. "
        )
    if mixed:
        text += f"Of {mixed} of them, the copy is of another class: one of the labels is wrong."
    return text.strip()


def _photographs(count: int) -> str:
    return "1 photograph shows" if count == 1 else f"{count:,} photographs show"


def compare_with_published(ranked: list[Row]) -> str:
    """Says how far the best model of a dataset is from the published figure.

    That is its own figure or, where it has none, the highest one of the dataset's other models; on
    test images or, where none was published, on validation images.

    Args:
        ranked: The dataset's accuracy rows, the best model first.
    """
    best = ranked[0]
    for part in ("test", "valid"):
        key = f"published_{part}_accuracy"
        known = [row for row in ranked if row[key] is not None]
        if not known:
            continue
        source = best if best in known else max(known, key=lambda row: row[key])
        figure, reached = source[key], best[f"{part}_accuracy"]
        whose = "it" if source is best else source["model"]
        text = f"Published for {whose}: {figure:.2%} of the {PARTS[part]} images."
        if best["data"] != ORIGINS["real"]:
            what = best["data"] if best["data"] == ORIGINS["drawn"] else f"a {best['data']}"
            return f"{text} Not to be compared: this data is {what}."
        points = (reached - figure) * 100
        text = f"{text} Here {points:+.2f} percentage points"
        if part == "valid":
            return f"{text} ({reached:.2%})."
        chance = best["test_accuracy_low"] <= figure <= best["test_accuracy_high"]
        return f"{text}{', which may be chance' if chance else ''}."
    return "Nothing is published to compare it with."


def compare_best_two(ranked: list[Row], right: dict[str, np.ndarray]) -> str:
    """Says whether the best model of a dataset is better than the second by more than chance.

    Args:
        ranked: The dataset's accuracy rows, the best model first.
        right: Which of the same test images each model gets right, bool [n].
    """
    if len(ranked) == 1:
        return "No other model to compare it with."
    first, second = (row["model"] for row in ranked[:2])
    found = mcnemar(right[first], right[second])
    if found.only_first <= found.only_second:  # fewer, if their rounded accuracies are equal
        verdict = "is no better"
    elif found.significant:
        verdict = "is better than chance explains"
    else:
        verdict = "may be ahead by chance alone"
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    return (
        f"Against the second, {second}, it {verdict}: of the test images, it alone gets "
        f"{found.only_first:,} right, the second alone {found.only_second:,} "
        f"(McNemar's exact test, {p})."
    )


def most_confused(counts: np.ndarray, classes: list[str]) -> str:
    """Says which class is most often taken for which other.

    Args:
        counts: The confusion matrix, true classes in rows, int [classes, classes].
        classes: The names of the classes.
    """
    mistakes = counts - np.diag(np.diag(counts))
    if not mistakes.any():
        return "no image is taken for another class"
    true, predicted = np.unravel_index(mistakes.argmax(), mistakes.shape)
    return (
        f"the most frequent mistake is {isolate(classes[true])} taken for "
        f"{isolate(classes[predicted])}, "
        f"{mistakes[true, predicted]:,} of {counts[true].sum():,} images"
    )


def describe(row: Row, results: Results) -> dict[str, str]:
    """Returns the facts that the texts of a model's figures name."""
    history, per_class = results.history, results.files["per_class"]
    learned = {}
    if len(history):  # an ensemble has none
        learned = {
            "valid_first": _percent(history["val_accuracy"].iloc[0]),
            "valid_last": _percent(history["val_accuracy"].iloc[-1]),
            "train_last": _percent(history["accuracy"].iloc[-1]),
        }
    weakest = int(per_class["f1"].argmin())
    name, f1 = isolate(results.classes[weakest]), per_class["f1"].iloc[weakest]
    return {
        "model": results.model,
        "accuracy": f"{row['test_accuracy']:.2%}",
        "trained_for": row["trained_for"],
        "parameters": f"{row['parameters']:,}",
        **learned,
        "confused": most_confused(confusion_matrix(results), results.classes),
        "weakest": f"that of {name}, {f1:.3f}",
        "roc_auc": f"{per_class['roc_auc'].mean():.3f}",
        "calibration_error": f"{results.summary['expected_calibration_error']:.3f}",
        "scaled_error": f"{results.metrics['test_calibration_error_scaled']:.3f}",
        "shown": results.summary["shown"],
    }


def _percent(share: float) -> str:
    """Writes a share of images that are right; 100.00% where all are."""
    return f"{share if share == 1 else min(share, 0.9999):.2%}"


def describe_calibration(metrics: dict[str, Any]) -> str:
    """Says what temperature scaling does to the probabilities, or why it does nothing."""
    temperature = metrics["temperature"]
    source = "Temperature scaling (Guo et al., 2017), fitted on the validation images"
    if temperature == 1:
        why = (
            "none of them is wrong"
            if metrics["valid_accuracy"] == 1
            else "no other temperature is better"
        )
        return f"{source}, changes nothing: {why}."
    error, loss = (
        f"{metrics[f'test_{name}']:.3f} to {metrics[f'test_{name}_scaled']:.3f}"
        for name in ("calibration_error", "loss")
    )
    text = (
        f"{source}, finds that it is {'too' if temperature > 1 else 'not'} sure"
        f"{'' if temperature > 1 else ' enough'}: temperature {temperature:.2f}. Of the test "
        f"images, that takes the calibration error from {error}, the loss from {loss}. It changes "
        "no class."
    )
    if temperature > 0.99 * HIGHEST:
        text += " The validation images ask for an even higher one: the network knows nothing."
    return text


def describe_test_time(row: Row) -> str:
    """Says which views of each image were averaged, and what the image alone gives."""
    if not row["test_time"]:
        return ""
    return (
        f"Each image was seen as it is and changed ({row['test_time']}), and the probabilities "
        f"were averaged. Without that, {row['test_accuracy_plain']:.2%} of the test images are "
        "right."
    )


def original_sizes(sizes: pd.DataFrame) -> str:
    """Writes the heights and widths of images before resizing, in pixels: `120-500 x 90-400`."""
    ranges = [(sizes[side].min(), sizes[side].max()) for side in ("height", "width")]
    return " x ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in ranges)
