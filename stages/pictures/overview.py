"""Figures of all models side by side, and of the datasets."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from stages.pictures import amount, oddities, style
from stages.pictures.names import fit
from stages.pictures.style import BLUE, GREEN, GREY, ORANGE, Percent, looks, new_figure
from stages.results.baseline import NAME, baseline_row
from stages.results.reading import Dataset
from stages.results.sentences import isolate
from stages.results.tables import Row

# With more classes, a figure of a dataset would be too long: it leaves out names, then classes.
MOST_NAMED = 30
MOST_EXAMPLES = 20
BESIDE = 110  # points; room for a name beside an axis

# The costs of a model: a column of the accuracy table, and the name that the axis bears.
COSTS = {"parameters": "parameters", "multiply_adds": "multiply-adds an image"}
PARTS = (("train", "training", BLUE), ("valid", "validation", ORANGE), ("test", "test", GREEN))


class Drawn(NamedTuple):
    """A figure, its description for those who do not see it, and its caption."""

    figure: Figure
    alt: str
    caption: str


def draw(
    ranked: dict[str, list[Row]],
    datasets: dict[str, Dataset],
    repeats: pd.DataFrame,
    per_class: int,
    seed: int,
) -> dict[str, Drawn]:
    """Draws all models side by side, and what the datasets look like.

    Args:
        ranked: The accuracy rows of each dataset, the best model first.
        datasets: The facts of each dataset.
        repeats: The accuracies of models that were trained again, a row each time.
        per_class: How many examples of each class to show.
        seed: Seeds the choice of examples.

    Returns:
        The figures by the names of their files.
    """
    whole = repeats[repeats["share"] == 1]
    seeds = {str(model): list(each) for model, each in whole.groupby("model")["test_accuracy"]}
    drawn = {
        "accuracy": Drawn(
            draw_accuracy(ranked, datasets, seeds),
            "Test accuracy of every model as a dot on a line that spans its 95% interval, a panel "
            "for each dataset; the table of accuracy has the same in numbers.",
            "Each line spans the accuracies that the number of test images leaves likely. The test "
            "in the summary, image by image, tells two models apart more sharply. Grey: what "
            "answering with the commonest class of the training images gives; a dotted line where "
            "that is near."
            + (" Small dots are the same model, trained under several seeds." if seeds else ""),
        ),
        "costs": Drawn(
            draw_costs(ranked),
            f"Test accuracy of every model against {' and '.join(COSTS.values())} on a "
            "logarithmic axis, a row for each dataset; the table of accuracy has the same in "
            "numbers.",
            "Further to the left costs less, further up is right more often.",
        ),
    }
    if lines := amount.list_lines(ranked, repeats):
        drawn["amount"] = Drawn(
            amount.draw_amount(lines), amount.describe_lines(lines), amount.describe_band(lines)
        )
    for name, dataset in datasets.items():
        classes, part = dataset.summary["classes"], dataset.training
        drawn[f"classes_{name}"] = Drawn(
            draw_class_counts(name, dataset.summary["images"]),
            f"Bars of the numbers of images of each of the {len(classes)} classes of {name}, in "
            "three colours for training, validation and test.",
            "How many images of each class there are to learn from and to test with.",
        )
        chosen = choose_examples(part.labels, per_class, seed)
        labels = part.labels[chosen]
        shown = [classes[label] for label in np.unique(labels)]
        drawn[f"examples_{name}"] = Drawn(
            draw_examples(name, part.images[chosen], labels, classes, per_class),
            f"{len(chosen)} training images of {name}, by class: {', '.join(map(isolate, shown))}.",
            "Training images, chosen by the seed of the report.",
        )
        if len(dataset.sizes) > 1:
            drawn[f"sizes_{name}"] = Drawn(
                draw_sizes(name, dataset.sizes),
                f"Width against height of the images of {name} before they were resized, a dot "
                f"for each of {len(dataset.sizes)} different sizes.",
                "How large the images were before they were resized; larger dots are more images.",
            )
        drawn |= draw_worth_a_look(name, dataset)
    return drawn


def draw_worth_a_look(name: str, dataset: Dataset) -> dict[str, Drawn]:
    """Draws near copies and what the checks found, where there is any."""
    drawn = {}
    if count := len(dataset.near_copies):
        shown = len(dataset.shown.near_copies) // 2
        drawn[f"near_copies_{name}"] = Drawn(
            oddities.draw_near_copies(name, dataset),
            f"{shown} of {count} pairs of photographs of {name} that show the same picture.",
            f"{shown} of {count} pairs of near copies. Where the two are of different classes, "
            "their titles are orange.",
        )
    if len(dataset.checks):
        found = ", ".join(dataset.checks["check"].unique())
        drawn[f"checks_{name}"] = Drawn(
            oddities.draw_checks(name, dataset),
            f"Photographs of {name} that the checks found, a row for each check: {found}.",
            "The photographs that each check finds first.",
        )
    return drawn


def draw_accuracy(
    ranked: dict[str, list[Row]], datasets: dict[str, Dataset], seeds: dict[str, list[float]]
) -> Figure:
    """Draws the accuracy of every model with its interval, a panel a dataset.

    In grey, what needs no model: its line, unless that would leave no room to tell models apart.

    Args:
        ranked: The accuracy rows of each dataset, the best model first.
        datasets: The facts of each dataset.
        seeds: The accuracies of models that were trained again, under each seed.
    """
    counts = [len(rows) for rows in ranked.values()]
    height = 1.1 + sum(0.6 + 0.26 * count for count in counts)
    figure = new_figure("Test accuracy and its 95% interval", height)
    panels = figure.subplots(
        len(counts), 1, squeeze=False, height_ratios=[count + 0.6 for count in counts]
    )
    published = dots = None
    for axes, (name, rows) in zip(panels.flat, ranked.items(), strict=True):
        places = np.arange(len(rows))
        _draw_intervals(axes, rows, places, "x")
        dots = amount.draw_seeds(axes, rows, seeds) or dots
        known = [
            (row["published_test_accuracy"], place)
            for place, row in enumerate(rows)
            if row["test_difference"] is not None
        ]
        if known:
            look = {"mfc": "white", "mec": ORANGE, "mew": 1.5, "ls": ""}
            published = axes.plot(*zip(*known, strict=True), "D", **look)[0]
        commonest = baseline_row(name, datasets[name].summary)["test_accuracy"]
        low, high = axes.get_xlim()
        if commonest > low - (high - low) / 2:
            axes.axvline(commonest, color=GREY, ls=":", lw=1.2)
        axes.set_title(f"{NAME}: {commonest:.1%}", loc="right", color=GREY)
        axes.set_yticks(places, [row["model"] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.xaxis.set_major_formatter(Percent())
        axes.xaxis.get_major_locator().set_params(nbins=7)
        axes.set_title(name)
    panels[-1, 0].set_xlabel("test accuracy")
    legend = {"published": published, "under several seeds": dots}
    if shown := {label: each for label, each in legend.items() if each}:
        figure.legend(shown.values(), shown, loc="outside lower center", ncols=2)
    return figure


def draw_costs(ranked: dict[str, list[Row]]) -> Figure:
    """Draws accuracy against what a model costs: a row a dataset, a column a kind of cost."""
    height = 0.7 + sum(max(2.1, 0.9 + 0.2 * len(rows)) for rows in ranked.values())
    figure = new_figure("Test accuracy against what a model costs", height)
    ratios = [*[2.2] * len(COSTS), 1.5]
    panels = figure.subplots(len(ranked), len(ratios), squeeze=False, width_ratios=ratios)
    for panel, (name, rows) in zip(panels, ranked.items(), strict=True):
        for axes, (cost, label) in zip(panel, COSTS.items(), strict=False):
            for row, look in zip(rows, looks(len(rows)), strict=True):
                _draw_intervals(axes, [row], [row[cost]], "y", **look)
            _scale(axes, [row[cost] for row in rows])
            axes.set_xlabel(label)
            axes.yaxis.set_major_formatter(Percent())
        panel[0].set(title=name, ylabel="test accuracy")
        style.no_frame(panel[-1])
        names = [row["model"] for row in rows]
        panel[-1].legend(panel[0].lines, names, loc="center left", borderaxespad=0)
    return figure


def _scale(axes: Axes, costs: list[float]) -> None:
    middle, room = np.sqrt(min(costs) * max(costs)), 1.7
    # Wide enough for two ticks; ticks at 2 and 5 where they do not crowd.
    half = max(np.sqrt(max(costs) / min(costs)) * room, np.sqrt(6))
    axes.set(xscale="log", xlim=(middle / half, middle * half))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if half < 6 else (1,)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_intervals(
    axes: Axes, rows: list[Row], at: Any, along: str, color: str = BLUE, marker: str = "o"
) -> None:
    accuracies, low, high = (
        np.array([row[f"test_accuracy{end}"] for row in rows]) for end in ("", "_low", "_high")
    )
    lines = axes.hlines if along == "x" else axes.vlines
    lines(at, low, high, color=color, lw=1.6, alpha=0.55)
    places = (accuracies, at) if along == "x" else (at, accuracies)
    axes.plot(*places, marker, color=color, ms=6.5)


def draw_class_counts(dataset: str, images: dict[str, dict[str, int]]) -> Figure:
    """Draws the images of each class, by part.

    Args:
        dataset: The name of the dataset.
        images: Counts by part (train, valid, test), then by class.
    """
    classes = list(images["train"])
    height = 1.5 + min(0.24 * len(classes), 6)
    figure = new_figure(f"{dataset}: images of each class", height)
    axes = figure.subplots()
    rows, left = np.arange(len(classes)), np.zeros(len(classes))
    for part, label, colour in PARTS:
        counts = np.array([images[part][name] for name in classes])
        axes.barh(rows, counts, left=left, color=colour, height=0.7, label=label)
        left += counts
    axes.set(xlabel="images", ylabel="class", ylim=(len(classes) - 0.4, -0.6))
    if len(classes) <= MOST_NAMED:
        axes.set_yticks(rows, fit(classes, BESIDE))
    axes.grid(visible=False, axis="y")
    axes.locator_params("x", integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_sizes(dataset: str, sizes: pd.DataFrame) -> Figure:
    """Draws width against height of the images before they were resized.

    Args:
        dataset: The name of the dataset.
        sizes: Numbers of `images` by `width` and `height`, in pixels.
    """
    figure = new_figure(f"{dataset}: size of the images before they were resized", 4.2)
    axes = figure.subplots()
    largest = max(sizes["width"].max(), sizes["height"].max()) * 1.05
    axes.plot([0, largest], [0, largest], ":", color=GREY, lw=0.9, label="square")
    area = 6 + 120 * sizes["images"] / sizes["images"].sum()
    axes.scatter(sizes["width"], sizes["height"], area, color=BLUE, alpha=0.4, lw=0)
    axes.set(xlabel="width (pixels)", ylabel="height (pixels)", aspect="equal")
    axes.set(xlim=(0, largest), ylim=(0, largest))
    axes.legend(loc="upper left")
    return figure


def draw_examples(
    dataset: str, images: np.ndarray, labels: np.ndarray, classes: list[str], per_class: int
) -> Figure:
    """Draws some images of each class.

    Args:
        dataset: The name of the dataset.
        images: uint8 [n, height, width, 1 or 3], sorted by class.
        labels: Indexes of classes, int [n].
        classes: The names of the classes.
        per_class: The most images that a class has.
    """
    columns = per_class * (1 if len(classes) <= 4 or per_class > 6 else 2)
    rows = -(-len(images) // columns)
    figure = new_figure(
        f"{dataset}: examples from the training images",
        style.height_of(rows, columns, 1) + 0.3,
    )
    names = fit(classes, 0.95 * style.room_of(columns))
    titles = [names[label] for label in labels]
    axes = figure.subplots()
    style.draw_titled(axes, images, titles, columns, [GREY] * len(titles))
    return figure


def choose_examples(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Returns the indexes of `per_class` images of each class, or all where there are fewer.

    Args:
        labels: Indexes of classes, uint8 [n].
        per_class: Images of each class.
        seed: Seeds the choice.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    classes = np.unique(labels)[:MOST_EXAMPLES]
    return np.concatenate([np.sort(order[labels[order] == c][:per_class]) for c in classes])
