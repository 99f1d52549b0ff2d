"""Figures of what a network answers, and how often and how surely it is right."""

from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from stages.pictures import style
from stages.pictures.names import families, fit, widest, width_of
from stages.pictures.style import BLUE, GREY, INK, ORANGE, new_figure
from stages.results.reading import Results
from stages.results.tables import confusion_matrix

# With more classes, a figure leaves out the numbers in its cells, then the names of the classes.
MOST_NUMBERS = 12
MOST_CLASSES = 30
BESIDE = 80  # points; room for a name beside an axis
IN_LEGEND = 110  # points; room for a name in one of two legends
CONFIDENCE = "confidence: probability of the predicted class"


def draw_confusion_matrix(results: Results) -> Figure:
    """Draws how many test images of each class were taken for which."""
    classes = results.classes
    counts = confusion_matrix(results)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = fit(classes, BESIDE)
    # A quarter of the width is for the scale and the labels.
    sideways = widest(names) > (0.75 * style.room_of(1) - widest(names)) / len(classes)
    sideways = sideways and len(classes) <= MOST_CLASSES
    height = min(5.6, 2 + 0.5 * len(classes)) + sideways * widest(names) / 72
    figure = new_figure(f"{results.model}: what the test images were taken for", height)
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for (row, column), share in np.ndenumerate(shares if len(classes) <= MOST_NUMBERS else []):
        count = counts[row, column]
        text = f"{count}\n{share:.0%}" if share >= 0.005 else f"{count}"
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            color="w" if share > 0.5 else INK,
        )
    if len(classes) <= MOST_CLASSES:
        axes.set_xticks(range(len(classes)), names, rotation=90 * sideways)
        axes.set_yticks(range(len(classes)), names)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    figure.colorbar(image, label="share of the true class", shrink=0.8, aspect=5 * height)
    return figure


def draw_predictions(results: Results) -> Figure:
    """Draws a hundred images under the predicted class and its probability, which is the colour."""
    probabilities = results.files["shown_probabilities"]
    confidence = probabilities.max(1)
    room = style.room_of(10)
    names = fit(results.classes, 0.93 * room)
    in_line = widest(names) + width_of(", 0.00") <= room
    between, lines = (", ", 1) if in_line else ("\n", 2)
    titles = [
        f"{names[index]}{between}{sure:.2f}"
        for index, sure in zip(probabilities.argmax(1), confidence, strict=True)
    ]
    scale = ScalarMappable(Normalize(1 / len(results.classes), 1), style.CONFIDENCE)
    rows = -(-len(titles) // 10)
    figure = new_figure(
        f"{results.model}: what it says of {results.summary['shown']} images, and how surely",
        style.height_of(rows, 10, lines) + 0.8,
    )
    axes = figure.subplots()
    style.draw_titled(
        axes, results.files["shown_images"], titles, 10, list(scale.to_rgba(confidence))
    )
    style.add_scale(figure, [axes], scale, CONFIDENCE)
    return figure


def draw_mistakes(results: Results) -> Figure:
    """Draws the misclassified test images of the highest confidence."""
    files, probabilities = results.files, results.files["mistakes_probabilities"]
    room = style.room_of(6)
    names = fit(results.classes, 0.96 * room - width_of("said "))
    in_line = widest(names) + width_of("said , 0.00") <= room
    between, lines = (", ", 2) if in_line else ("\n", 3)
    titles = [
        f"is {names[label]}\nsaid {names[row.argmax()]}{between}{row.max():.2f}"
        for label, row in zip(files["mistakes_labels"], probabilities, strict=True)
    ]
    rows = -(-len(titles) // 6)
    figure = new_figure(
        f"{results.model}: the surest mistakes among the test images",
        style.height_of(rows, 6, lines) + 0.3,
    )
    axes = figure.subplots()
    style.draw_titled(axes, files["mistakes_images"], titles, 6, [INK] * len(titles))
    return figure


def draw_roc_and_precision_recall(results: Results) -> Figure:
    """Draws how well the probability of each class tells it from the rest."""
    files, table = results.files, results.files["per_class"]
    known = table[table["roc_auc"].notna()].sort_values("roc_auc", kind="stable")
    names = fit(results.classes, IN_LEGEND)
    colours = dict(zip(known.index, (BLUE, ORANGE, INK), strict=False))
    others: dict[str, Any] = {"color": style.FAINT, "lw": 0.9}
    height = 3.7 + 0.25 * min(len(results.classes) + 1, 4)  # room for the legends below
    height += 0.3 * any(len(families(name)) > 1 for name in names)  # whose lines are higher
    figure = new_figure(f"{results.model}: telling each class from the rest", height)
    roc, precision_recall = figure.subplots(1, 2)
    least = "least areas" if len(known) > len(colours) else "area"
    for axes, points, area, title in (
        (roc, files["roc"], "roc_auc", f"{least} under the curve"),
        (precision_recall, files["precision_recall"], "average_precision", "average precision"),
    ):
        curves, lines, labels = dict(list(points.groupby("class"))), [], []
        for index, value in known[area].items():
            curve, look = curves[index], others
            if index in colours:
                look = {"color": colours[index], "zorder": 3}
            if axes is roc:
                line = axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], **look)
            else:
                line = axes.step(curve["recall"], curve["precision"], where="post", **look)
            if index in colours:
                lines += line
                labels.append(f"{names[index]}: {value:.3f}")
        labels.append(f"mean of {len(known)} classes: {known[area].mean():.3f}")
        lines += axes.plot([], [], **others | {"lw": 0.9 * (len(known) > len(colours))})
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        below = {"loc": "upper left", "bbox_to_anchor": (0, -0.18), "alignment": "left"}
        # The legend takes no name that starts with _ from the `label` of a line.
        axes.legend(lines, labels, title=title, **below)
    roc.plot([0, 1], [0, 1], ":", color=GREY, lw=0.9)
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    precision_recall.set(xlabel="recall", ylabel="precision", title="precision and recall")
    return figure


def draw_reliability(results: Results) -> Figure:
    """Draws accuracy against confidence and the images of each bin: the reliability diagram.

    Before temperature scaling in grey, after it in blue.
    """
    metrics, after = results.metrics, results.files["calibration_scaled"]
    degrees = f"at temperature {metrics['temperature']:.2f}"
    figure = new_figure(
        f"{results.model}: is it as often right as it is sure?\n"
        f"expected calibration error {metrics['test_calibration_error']:.3f}; "
        f"{metrics['test_calibration_error_scaled']:.3f} {degrees}",
        5,
    )
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = [*after["from"], after["to"].iloc[-1]]
    above.plot([0, 1], [0, 1], ":", color=GREY, label="as often as sure")
    above.stairs(after["accuracy"].fillna(0), edges, fill=True, color=BLUE, alpha=0.25)
    if metrics["temperature"] != 1:
        before = results.files["calibration"]
        quiet: dict[str, Any] = {"color": GREY, "lw": 1.2}
        label = "as the network says"
        above.plot(before["confidence"], before["accuracy"], "o-", ms=3, label=label, **quiet)
        below.stairs(before["images"], edges, zorder=3, **quiet)
    above.plot(after["confidence"], after["accuracy"], "o-", color=BLUE, ms=4, label=degrees)
    above.set(ylabel="accuracy", ylim=(0, 1.02))
    figure.legend(loc="outside lower center", ncols=3)
    below.stairs(after["images"], edges, fill=True, color=BLUE)
    below.set(xlabel=CONFIDENCE, ylabel="test images")
    below.set(xlim=(0, 1))
    return figure


def draw_per_class(results: Results) -> Figure:
    """Draws precision, recall and F1 of each class, or of the classes with the lowest F1."""
    table = results.files["per_class"]
    least = table.sort_values("f1", kind="stable").head(MOST_CLASSES).index
    table = table.loc[sorted(least, reverse=True)]
    chosen = f" (the {MOST_CLASSES} least)" if len(results.classes) > MOST_CLASSES else ""
    figure = new_figure(
        f"{results.model}: precision, recall and F1 by class{chosen}",
        1.6 + 0.24 * len(table),
    )
    axes = figure.subplots()
    measures = ["precision", "recall", "f1"]
    rows = np.arange(len(table))
    lowest, highest = table[measures].min(axis=1), table[measures].max(axis=1)
    axes.hlines(rows, lowest, highest, color=style.FAINT, lw=3)
    looks = ((BLUE, "<", 8), (ORANGE, ">", 8), (INK, "o", 5))
    for name, (colour, marker, size) in zip(measures, looks, strict=True):
        label = name.replace("f1", "F1: their harmonic mean")
        axes.plot(table[name], rows, marker, color=colour, label=label, ms=size, clip_on=False)
    names = fit(results.classes, BESIDE)
    axes.set_yticks(rows, [f"{names[i]} ({n} images)" for i, n in table["images"].items()])
    axes.set(xlabel="share", ylim=(-0.6, len(table) - 0.4))
    axes.set_xlim(right=1.005)  # room for half a marker
    left, ticks = axes.get_xlim()[0], axes.get_xticks()
    axes.set_xticks(ticks[(ticks >= left) & (ticks <= 1)])
    figure.legend(loc="outside lower center", ncols=3)
    return figure
