"""Figures of how a network learns."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages.pictures import style
from stages.pictures.style import BLUE, GREEN, ORANGE, new_figure
from stages.results.history import kept_row
from stages.results.reading import Results

MOST_SNAPSHOTS = 13  # more would be too small to see


def draw_curves(results: Results, published: pd.DataFrame, loss: str) -> Figure:
    """Draws accuracy and loss of training and validation; published curves are thin.

    A dotted line stands at the row whose weights were kept.

    Args:
        results: The model's results.
        published: Its published curves: `unit` (epoch or step), `at`, `metric`, `value`.
        loss: What the axis of the loss is called.
    """
    history = results.history
    at = history.columns[0]
    kept = kept_row(history)
    published = published[published["unit"] == at]
    figure = new_figure(f"{results.model}: learning curves", 3.2)
    for axes, metric, label in zip(
        figure.subplots(1, 2),
        ("accuracy", "loss"),
        ("accuracy", loss),
        strict=True,
    ):
        marker = "o" if len(history) <= 30 else ""
        ours = {"training": (metric, BLUE), "validation": (f"val_{metric}", ORANGE)}
        drawn = [history[name] for name, _ in ours.values()]
        for part, (name, colour) in ours.items():
            axes.plot(history[at], history[name], marker + "-", color=colour, ms=3.5, label=part)
        for part, (name, colour) in (ours | {"test": (f"test_{metric}", GREEN)}).items():
            curve = published[published["metric"] == name]
            if len(curve) > 1:
                drawn.append(curve["value"])
                look = {
                    "color": colour,
                    "lw": 0.8,
                    "zorder": 1,
                    "label": f"{part}, published",
                }
                axes.plot(curve["at"], curve["value"], **look)
        if kept is not None:
            axes.axvline(kept, color="0.5", lw=0.8, ls=":", zorder=0, label="kept")
        values = np.concatenate(drawn)
        if metric == "loss" and values.min() > 0 and values.max() > 50 * values.min():
            style.scale_by_logarithm(axes)
        axes.set(xlabel=at, ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if metric == "accuracy":
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def draw_weights_over_training(results: Results, snapshots: np.ndarray) -> Figure:
    """Draws how the weights of a few hidden units change, from left to right.

    Args:
        results: The model's results.
        snapshots: The weights at each row of the history, float32 [rows, units, height, width,
            channels].
    """
    at = results.history.iloc[:, 0]
    shown = np.linspace(0, len(at) - 1, min(len(at), MOST_SNAPSHOTS)).round().astype(int)
    chosen = snapshots[shown]
    # Weights shrink or grow by orders of magnitude: on one scale, most moments would be blank.
    largest = np.quantile(np.abs(chosen), 0.995, axis=(1, 2, 3, 4), keepdims=True)
    images = (chosen / np.where(largest > 0, largest, 1)).swapaxes(0, 1)
    units, moments, *shape = images.shape
    zero = "grey" if shape[-1] == 3 else "white"
    figure = new_figure(
        f"{results.model}: weights of {units} units of the first layer as it learns\n"
        f"From left to right by {at.name}, each on a scale of its own; {zero} is zero",
        style.height_of(units, moments, 0) + 0.6,
    )
    axes = figure.subplots()
    style.draw_as_images(axes, images.reshape(-1, *shape), moments)
    left, right = axes.get_xlim()
    places = left + (right - left) * (np.arange(moments) + 0.5) / moments
    axes.set_xticks(places, at[shown])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    return figure
