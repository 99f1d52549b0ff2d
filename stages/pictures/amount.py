"""What repeats show: dots in the figure of accuracy, and accuracy against the amount of data."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from stages.pictures.style import INK, Percent, looks, new_figure
from stages.results.tables import Row

BELOW = 0.27  # of the distance of two models: where the dots of seeds are


class Line(NamedTuple):
    """A model's accuracy by the number of its training images.

    Attributes:
        model: Its name.
        images: The numbers of training images, int [n].
        accuracies: The test accuracies under the seeds, a list for each number.
    """

    model: str
    images: np.ndarray
    accuracies: list[np.ndarray]


def list_lines(ranked: dict[str, list[Row]], repeats: pd.DataFrame) -> dict[str, list[Line]]:
    """Returns the lines of each dataset, the best model first; empty without several shares.

    Args:
        ranked: The accuracy rows of each dataset, the best model first.
        repeats: A row a repeat.
    """
    by_model = {str(model): rows for model, rows in repeats.groupby("model")}
    lines: dict[str, list[Line]] = {}
    for dataset, rows in ranked.items():
        for row in rows:
            own = by_model.get(row["model"])
            if own is not None and len(own["share"].unique()) > 1:
                shares = own.groupby(["training_images", "share"])["test_accuracy"]
                images = np.array([count for (count, _), _ in shares], int)
                accuracies = [np.array(each, float) for _, each in shares]
                lines.setdefault(dataset, []).append(Line(row["model"], images, accuracies))
    return lines


def draw_amount(lines: dict[str, list[Line]]) -> Figure:
    """Draws accuracy against the number of training images, a panel a dataset.

    Args:
        lines: As `list_lines` gives them, of one dataset at least.
    """
    figure = new_figure(
        "Test accuracy against the number of training images", 0.6 + 3.4 * len(lines)
    )
    panels = figure.subplots(len(lines), 1, squeeze=False)
    for axes, (dataset, models) in zip(panels.flat, lines.items(), strict=True):
        for line, look in zip(models, looks(len(models)), strict=True):
            _draw_line(axes, line, look)
        _scale(axes, np.unique(np.concatenate([line.images for line in models])))
        axes.set(title=dataset, ylabel="test accuracy")
        axes.yaxis.set_major_formatter(Percent())
        axes.legend(loc="best")
    panels[-1, 0].set_xlabel("training images")
    return figure


def draw_seeds(axes: Axes, rows: list[Row], seeds: dict[str, list[float]]) -> Line2D | None:
    """Draws a dot for each seed below each model of `rows`; returns the last of them, if any."""
    dots = None
    for place, row in enumerate(rows):
        if again := seeds.get(row["model"]):
            below = np.full(len(again), place + BELOW)
            dots = axes.plot(again, below, ".", color=INK, ms=4, alpha=0.6)[0]
    return dots


def describe_lines(lines: dict[str, list[Line]]) -> str:
    """Returns the description for those who do not see the figure."""
    names = ", ".join(line.model for models in lines.values() for line in models)
    return (
        f"Test accuracy of {names} against the number of training images on a logarithmic axis, as "
        "a line each with a band; reports/repeats.csv has the same in numbers."
    )


def describe_band(lines: dict[str, list[Line]]) -> str:
    """Returns the caption: what the bands span, which is no confidence interval."""
    seeds = {len(each) for models in lines.values() for line in models for each in line.accuracies}
    if max(seeds) == 1:
        return "Each dot is one training: nothing here tells what another seed would do."
    return (
        f"A line is the mean over {max(seeds)} seeds. The band spans the lowest and the highest of "
        "them, which are the small dots: it is no confidence interval. Each seed chooses its own "
        "training images; the test images are always the same."
    )


def _draw_line(axes: Axes, line: Line, look: dict[str, Any]) -> None:
    mean, low, high = (
        np.array([of(each) for each in line.accuracies]) for of in (np.mean, np.min, np.max)
    )
    colour = look["color"]
    axes.fill_between(line.images, low, high, color=colour, alpha=0.18, lw=0)
    for images, each in zip(line.images, line.accuracies, strict=True):
        axes.plot(np.full(len(each), images), each, ".", color=colour, ms=3, alpha=0.6)
    axes.plot(line.images, mean, label=line.model, ms=5, **look)


def _scale(axes: Axes, images: np.ndarray) -> None:
    """Makes the horizontal axis logarithmic, with a tick at each number of images with room."""
    ticks = [images[0]]
    for count in images[1:]:
        if count > 1.25 * ticks[-1]:
            ticks.append(count)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
