"""Draws one model's figures: `python -m stages.plot MODEL`.

Reads `data/history/M.csv` and `data/predictions/M/`. Writes `reports/figures/M/*.png`. Needs no
TensorFlow: all that takes the network is computed by `evaluate`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from pydantic import Field, PositiveFloat

from stages.lib import figures, params
from stages.lib.command import run
from stages.lib.files import read_json, whole
from stages.lib.params import Section


class Options(Section):
    """`plots`: how all figures look."""

    text_size: PositiveFloat
    dpi: int = Field(ge=50, le=400)


@dataclass(frozen=True)
class Results:
    """What is known of a model: `arrays` are by the names of their files, without the ending."""

    model: str
    history: pd.DataFrame
    classes: list[str]
    arrays: dict[str, Any]


def draw_curves(results: Results) -> Figure:
    """Draws accuracy and loss of training and validation, over epochs or steps."""
    at, history = results.history.columns[0], results.history
    figure = figures.new_figure(f"{results.model}: learning curves", 3)
    for axes, metric, label in zip(
        figure.subplots(1, 2), ("accuracy", "loss"), ("accuracy", "loss (nats)"), strict=True
    ):
        few = "o" if len(history) < 30 else ""
        axes.plot(history[at], history[metric], marker=few, ms=3, label="training")
        axes.plot(history[at], history[f"val_{metric}"], marker=few, ms=3, label="validation")
        axes.set(xlabel=at, ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    return figure


def draw_confusion_matrix(results: Results) -> Figure:
    """Draws how many test images of each class were taken for which."""
    counts, classes = results.arrays["confusion_matrix"], results.classes
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = figures.new_figure(f"{results.model}: what the test images were taken for", 5.6)
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for (row, column), share in np.ndenumerate(shares):
        text = f"{counts[row, column]}\n{share:.0%}" if counts[row, column] else "0"
        colour = "white" if share > 0.5 else figures.INK
        axes.text(column, row, text, ha="center", va="center", color=colour)
    ticks = range(len(classes))
    axes.set(xticks=ticks, yticks=ticks, xticklabels=classes, yticklabels=classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    return figure


def draw_predictions(results: Results) -> Figure:
    """Draws a hundred images with what the network says of each, coloured by its confidence."""
    images = results.arrays["shown_images"]
    probabilities = results.arrays["shown_probabilities"]
    confidence = probabilities.max(1)
    names = [results.classes[index] for index in probabilities.argmax(1)]
    titles = [f"{name}, {share:.2f}" for name, share in zip(names, confidence, strict=True)]
    scale = ScalarMappable(Normalize(1 / len(results.classes), 1), figures.CONFIDENCE)
    figure = figures.new_figure(f"{results.model}: predictions and their confidence", 9)
    axes = figure.subplots()
    figures.draw_titled(axes, images, titles, 10, list(scale.to_rgba(confidence)))
    figure.colorbar(
        scale,
        ax=axes,
        label="confidence: probability of the predicted class",
        location="bottom",
        aspect=50,
        shrink=0.6,
    )
    return figure


# The names of the figures, and for each the file that `evaluate` writes where it makes sense.
FIGURES: dict[str, tuple[Callable[[Results], Figure], str | None]] = {
    "curves": (draw_curves, None),
    "confusion_matrix": (draw_confusion_matrix, "confusion_matrix"),
    "predictions": (draw_predictions, "shown_images"),
}


def main(model: str) -> None:
    """Draws the figures of the model named `model` in `params.yaml`."""
    options = params.read("plots", Options)
    folder = Path("data/predictions") / model
    results = Results(
        model,
        pd.read_csv(Path("data/history") / f"{model}.csv"),
        read_json(folder / "summary.json")["classes"],
        {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))},
    )
    with whole(Path("reports/figures") / model) as [drawn]:
        drawn.mkdir()
        with figures.style(options.text_size, options.dpi):
            for name, (draw, needs) in FIGURES.items():
                if needs is None or needs in results.arrays:
                    figures.save(draw(results), drawn / f"{name}.png")


if __name__ == "__main__":
    run(main)
