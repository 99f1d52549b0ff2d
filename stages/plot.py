"""Draws one model's figures: `python -m stages.plot MODEL`.

Reads `data/history/M.csv`, `data/snapshots/M.npy`, `data/predictions/M/` and
`stages/results/published.csv` (the curves of the material that the models come from). Writes
`reports/figures/M/*.png`, those that make sense for the model. Needs no TensorFlow: all that takes the network is computed by `evaluate`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from pydantic import Field, PositiveFloat

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import read_json, write_atomically
from stages.lib.params import Section, nearest
from stages.pictures import style as figures
from stages.pictures.style import BLUE, GREEN, GREY, INK, ORANGE, new_figure

PUBLISHED = Path(__file__).with_name("results") / "published.csv"
# Beyond these numbers of classes, layers or blocks a figure would be too crowded to read.
MOST_NUMBERS = 12
MOST_CLASSES = 30
MOST_LAYERS = 30
MOST_BLOCKS = 50
MOST_SNAPSHOTS = 13

CONFIDENCE = "confidence: probability of the predicted class"


class Options(Section):
    """`plots`: how all figures look and which layers they show.

    `feature_maps` names layers by model; for a model that is not named, they are the last layer of
    each resolution.
    """

    text_size: PositiveFloat
    dpi: int = Field(ge=50, le=400)
    feature_maps: dict[str, list[str]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """All that is known of a model.

    Attributes:
        model: Its name.
        history: A row an epoch or every so many steps.
        published: Its published curves: `unit` (epoch or step), `at`, `metric`, `value`.
        summary: The classes and what else is a single value.
        files: Arrays and tables that `evaluate` wrote, by their names without the ending, and the
            `snapshots` of the weights at each row of the history.
    """

    model: str
    history: pd.DataFrame
    published: pd.DataFrame
    summary: dict[str, Any]
    files: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        names: list[str] = self.summary["classes"]
        return names


def read_results(
    model: str, history: Path, snapshots: Path, predictions: Path, published: Path
) -> Results:
    """Reads what is known of a model.

    Args:
        model: Its name.
        history: The CSV file of its training.
        snapshots: The weights that its training kept.
        predictions: The folder that `evaluate` wrote.
        published: The CSV file of all published curves.
    """
    tables = {p.stem: pd.read_csv(p) for p in predictions.glob("*.csv")}
    arrays = {p.stem: np.load(p) for p in predictions.glob("*.np[yz]")}
    curves = pd.read_csv(published)
    return Results(
        model,
        pd.read_csv(history),
        curves[curves["model"] == model],
        read_json(predictions / "summary.json"),
        tables | arrays | {"snapshots": np.load(snapshots)},
    )


def draw_curves(results: Results) -> Figure:
    """Draws accuracy and loss of training and validation, thinly with those published."""
    history, published = results.history, results.published
    at = history.columns[0]
    published = published[published["unit"] == at]
    figure = new_figure(f"{results.model}: learning curves", 3.2)
    for axes, metric, label in zip(
        figure.subplots(1, 2),
        ("accuracy", "loss"),
        ("accuracy", "loss (nats)"),
        strict=True,
    ):
        few = "o" if len(history) <= 30 else ""
        ours = {"training": (metric, BLUE), "validation": (f"val_{metric}", ORANGE)}
        drawn = [history[name] for name, _ in ours.values()]
        for part, (name, colour) in ours.items():
            axes.plot(history[at], history[name], few + "-", color=colour, ms=3.5, label=part)
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
        values = np.concatenate(drawn)
        if metric == "loss" and values.min() > 0 and values.max() > 50 * values.min():
            axes.set_yscale("log")
        axes.set(xlabel=at, ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if metric == "accuracy":
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def draw_confusion_matrix(results: Results) -> Figure:
    """Draws how many test images of each class were taken for which."""
    classes = results.classes
    counts = results.files["confusion_matrix"].iloc[:, 1:].to_numpy()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    height = min(5.6, 2 + 0.5 * len(classes))
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
        axes.set_xticks(range(len(classes)), classes, rotation=90 * (len("".join(classes)) > 40))
        axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    figure.colorbar(image, label="share of the true class", shrink=0.8, aspect=5 * height)
    return figure


def draw_predictions(results: Results) -> Figure:
    """Draws a hundred images with what the network says of each, coloured by its confidence."""
    probabilities = results.files["shown_probabilities"]
    confidence = probabilities.max(1)
    names = [results.classes[index] for index in probabilities.argmax(1)]
    titles = [f"{name[:9]}, {sure:.2f}" for name, sure in zip(names, confidence, strict=True)]
    scale = ScalarMappable(Normalize(1 / len(results.classes), 1), figures.CONFIDENCE)
    rows = -(-len(titles) // 10)
    figure = new_figure(
        f"{results.model}: what it says of {results.summary['shown']} images, and how surely",
        figures.height_of(rows, 10, 1) + 0.8,
    )
    axes = figure.subplots()
    figures.draw_titled(
        axes, results.files["shown_images"], titles, 10, list(scale.to_rgba(confidence))
    )
    figures.add_scale(figure, [axes], scale, CONFIDENCE)
    return figure


def draw_mistakes(results: Results) -> Figure:
    """Draws the test images that were most surely taken for what they are not."""
    files, classes = results.files, results.classes
    probabilities = files["mistakes_probabilities"]
    titles = [
        f"is {classes[label][:14]}\nsaid {classes[row.argmax()][:9]}, {row.max():.2f}"
        for label, row in zip(files["mistakes_labels"], probabilities, strict=True)
    ]
    rows = -(-len(titles) // 6)
    figure = new_figure(
        f"{results.model}: the surest mistakes among the test images",
        figures.height_of(rows, 6, 2) + 0.3,
    )
    axes = figure.subplots()
    figures.draw_titled(axes, files["mistakes_images"], titles, 6, [INK] * len(titles))
    return figure


def draw_roc_and_precision_recall(results: Results) -> Figure:
    """Draws how well the probability of each class tells it from the rest."""
    files, table = results.files, results.files["per_class"]
    known = table[table["roc_auc"].notna()].sort_values("roc_auc", kind="stable")
    colours = dict(zip(known.index, (BLUE, ORANGE, INK), strict=False))
    others: dict[str, Any] = {"color": figures.FAINT, "lw": 0.9}
    height = 3.7 + 0.25 * min(len(results.classes) + 1, 4)  # the legends are below
    figure = new_figure(f"{results.model}: telling each class from the rest", height)
    roc, precision_recall = figure.subplots(1, 2)
    least = "least areas" if len(known) > len(colours) else "area"
    for axes, points, area, title in (
        (roc, files["roc"], "roc_auc", f"{least} under the curve"),
        (precision_recall, files["precision_recall"], "average_precision", "average precision"),
    ):
        curves = dict(list(points.groupby("class")))
        for index, value in known[area].items():
            name, curve, look = results.classes[index][:20], curves[index], others
            if index in colours:
                look = {"color": colours[index], "zorder": 3, "label": f"{name}: {value:.3f}"}
            if axes is roc:
                axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], **look)
            else:
                axes.step(curve["recall"], curve["precision"], where="post", **look)
        mean = f"mean of {len(known)} classes: {known[area].mean():.3f}"
        axes.plot([], [], **others | {"lw": 0.9 * (len(known) > len(colours))}, label=mean)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        below = {"loc": "upper left", "bbox_to_anchor": (0, -0.18), "alignment": "left"}
        axes.legend(title=title, **below)
    roc.plot([0, 1], [0, 1], ":", color=GREY, lw=0.9)
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    precision_recall.set(xlabel="recall", ylabel="precision", title="precision and recall")
    return figure


def draw_reliability(results: Results) -> Figure:
    """Draws whether predictions are as often right as they are sure."""
    table, error = (
        results.files["calibration"],
        results.summary["expected_calibration_error"],
    )
    figure = new_figure(
        f"{results.model}: is it as often right as it is sure?\n"
        f"expected calibration error {error:.3f}",
        5,
    )
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = [*table["from"], table["to"].iloc[-1]]
    above.plot([0, 1], [0, 1], ":", color=GREY, label="as often as sure")
    above.stairs(table["accuracy"].fillna(0), edges, fill=True, color=BLUE, alpha=0.25)
    above.plot(
        table["confidence"],
        table["accuracy"],
        "o-",
        color=BLUE,
        ms=4,
        label="test images",
    )
    above.set(ylabel="accuracy", ylim=(0, 1.02))
    figure.legend(loc="outside lower center", ncols=2)
    below.stairs(table["images"], edges, fill=True, color=BLUE)
    below.set(xlabel=CONFIDENCE, ylabel="test images")
    below.set(xlim=(0, 1))
    return figure


def draw_per_class(results: Results) -> Figure:
    """Draws precision, recall and F1 of each class, or of those with the least F1."""
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
    axes.hlines(rows, lowest, highest, color=figures.FAINT, lw=3)
    looks = ((BLUE, "<", 8), (ORANGE, ">", 8), (INK, "o", 5))
    for name, (colour, marker, size) in zip(measures, looks, strict=True):
        label = name.replace("f1", "F1: their harmonic mean")
        axes.plot(table[name], rows, marker, color=colour, label=label, ms=size, clip_on=False)
    names = [f"{results.classes[i]} ({n} images)" for i, n in table["images"].items()]
    axes.set_yticks(rows, names)
    axes.set(xlabel="share", ylim=(-0.6, len(table) - 0.4))
    axes.set_xlim(right=1.005)  # room for half a marker
    left, ticks = axes.get_xlim()[0], axes.get_xticks()
    axes.set_xticks(ticks[(ticks >= left) & (ticks <= 1)])
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_layers(results: Results) -> Figure | None:
    """Draws the network with shapes and numbers of parameters, a row a layer or a block."""
    layers = results.files["layers"].fillna("")
    table = layers if len(layers) <= MOST_LAYERS else blocks(layers)
    if len(table) > MOST_BLOCKS:
        return None
    total = table["parameters"].sum()
    figure = new_figure(
        f"{results.model}: {len(layers)} layers, {total:,} parameters",
        0.9 + 0.27 * len(table),
    )
    flow, weights = figure.subplots(1, 2, sharey=True, width_ratios=(5, 2))
    rows = {name: row for row, name in enumerate(table["name"])}
    for row, layer in enumerate(table.itertuples()):
        colour = BLUE if layer.parameters else GREY
        flow.text(0.06, row, figures.cut(layer.name, 22), va="center", color=colour)
        flow.text(0.43, row, figures.cut(layer.type, 24), va="center")
        flow.text(1, row, layer.output_shape, va="center", ha="right")
        flow.plot(0.04, row, "o", color=colour, ms=4)
        for name in str(layer.inputs).split():
            bend = 0 if rows[name] == row - 1 else 0.4
            flow.annotate(
                "",
                (0.04, row - 0.1),
                (0.04, rows[name] + 0.1),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": GREY,
                    "connectionstyle": f"arc3,rad={bend}",
                },
            )
    figures.no_frame(flow)
    flow.set(xlim=(0, 1), ylim=(len(table) - 0.4, -0.6))
    flow.set_title("layer, type, output for one image")
    weights.barh(range(len(table)), table["parameters"], color=BLUE, height=0.6)
    for row, count in enumerate(table["parameters"]):
        if count:
            weights.text(count, row, f" {count:,}", va="center")
    weights.set(xlim=(0, 1.85 * max(total and table["parameters"].max(), 1)), xticks=[])
    weights.grid(visible=False)
    weights.spines[:].set_visible(False)
    weights.tick_params(length=0)
    weights.set_title("parameters")
    return figure


def blocks(layers: pd.DataFrame) -> pd.DataFrame:
    """Returns the network with each part that has several branches folded into one row.

    Args:
        layers: The layers in the order of computation: `name`, `type`, `output_shape`,
            `parameters`, and `inputs`, the names of layers.

    Returns:
        The same columns, a chain. The row of a block has the name and the output of the layer that
        joins its branches, and says in `type` how many layers and branches it has.
    """
    rows = {name: row for row, name in enumerate(layers["name"])}
    beside = np.zeros(len(layers), bool)  # layers that some path through the network goes round
    for row, names in enumerate(layers["inputs"]):
        for name in names.split():
            beside[rows[name] + 1 : row] = True
    before = np.cumsum(~beside) - ~beside  # on the chain: the number of a layer's block
    block = layers.groupby(before)
    chain, sizes = block.last(), block.size()
    branches = chain["inputs"].map(lambda names: len(names.split()))
    folded = sizes.astype(str) + " layers, " + branches.astype(str) + " branches"
    return chain.assign(
        type=chain["type"].where(sizes == 1, folded),
        parameters=block["parameters"].sum(),
        inputs=chain["name"].shift(fill_value=""),
    )


def draw_weights(results: Results) -> Figure:
    """Draws what each hidden unit of the first layer looks at."""
    weights = results.files["weights"]
    title = f"{results.model}: weights of {len(weights)} units of the first layer"
    return _draw_weights(title, weights, 15)


def draw_weights_over_training(results: Results) -> Figure | None:
    """Draws how the weights of a few hidden units change, from left to right."""
    snapshots = results.files["snapshots"]
    if not snapshots.shape[1]:
        return None
    at = results.history.iloc[:, 0]
    shown = np.linspace(0, len(at) - 1, min(len(at), MOST_SNAPSHOTS)).round().astype(int)
    chosen = snapshots[shown]
    # Weights shrink or grow by orders of magnitude: on one scale most of the moments are blank.
    largest = np.quantile(np.abs(chosen), 0.995, axis=(1, 2, 3, 4), keepdims=True)
    images = (chosen / np.where(largest > 0, largest, 1)).swapaxes(0, 1)
    units, moments, *shape = images.shape
    zero = "grey" if shape[-1] == 3 else "white"
    figure = new_figure(
        f"{results.model}: weights of {units} units of the first layer as it learns\n"
        f"From left to right by {at.name}, each on a scale of its own; {zero} is zero",
        figures.height_of(units, moments, 0) + 0.6,
    )
    axes = figure.subplots()
    figures.draw_weights(axes, images.reshape(-1, *shape), moments)
    left, right = axes.get_xlim()
    places = left + (right - left) * (np.arange(moments) + 0.5) / moments
    axes.set_xticks(places, at[shown])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    return figure


def draw_class_images(results: Results) -> Figure:
    """Draws the product of all weight matrices, an image a class."""
    images = results.files["class_images"]
    columns = min(5, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(
        f"{results.model}: what it sees as each class, the product of all weight matrices\n"
        f"{'Grey' if images.shape[-1] == 3 else 'White'} is zero, each class has its own scale",
        figures.height_of(rows, columns, 2) + 0.4,
    )
    cells = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in cells:
        figures.no_frame(axes)
    for axes, image, name in zip(cells, images, results.classes, strict=False):
        figures.draw_weights(axes, image[np.newaxis], 1)
        axes.set_title(name, loc="center")
    return figure


def draw_filters(results: Results) -> Figure:
    """Draws the filters of the first convolution."""
    filters = results.files["filters"]
    title = f"{results.model}: the {len(filters)} filters of the first convolution"
    return _draw_weights(title, filters, min(16, len(filters)))


def _draw_weights(title: str, weights: np.ndarray, columns: int) -> Figure:
    height = figures.height_of(-(-len(weights) // columns), columns, 0)
    in_colour = weights.shape[-1] == 3
    figure = new_figure(title + ", grey is zero" * in_colour, height + (0.4 if in_colour else 0.9))
    axes = figure.subplots()
    drawn = figures.draw_weights(axes, weights, columns)
    if drawn:
        figures.add_scale(figure, [axes], drawn, "weight")
    return figure


def draw_feature_maps(results: Results, layer: str) -> Figure:
    """Draws what `layer` makes of each example, each map from its lowest to its highest value."""
    images = figures.in_colour(results.files["examples_images"])
    maps = np.moveaxis(results.files["feature_maps"][layer].astype(np.float32), -1, 1)
    low, high = maps.min((2, 3), keepdims=True), maps.max((2, 3), keepdims=True)
    maps = (maps - low) / np.where(high > low, high - low, 1)
    count, _, width = maps.shape[1:]
    # What is kept may be a part of them, and made smaller.
    *size, channels = output_shape(results.files["layers"], layer)
    shown = str(count) if count == channels else f"{count} of {channels}"
    high = figures.height_of(-(-count // 8), 8 * len(images), 0)
    figure = new_figure(
        f"{results.model}: {shown} feature maps of {layer}, {size[0]} x {size[1]} pixels",
        1.7 + high,
    )
    cells = figure.subplots(2, len(images), height_ratios=(1, high), squeeze=False)
    for column, image, label, shown in zip(
        cells.T, images, results.files["examples_labels"], maps, strict=True
    ):
        column[0].imshow(image)
        column[0].set_title(results.classes[label], loc="center")
        column[1].imshow(figures.montage(shown, 8, gap=max(1, width // 12)))
        for axes in column:
            figures.no_frame(axes)
    return figure


def draw_grad_cam(results: Results) -> Figure:
    """Draws where in each example the network finds what speaks for the two likeliest classes."""
    files, classes = results.files, results.classes
    images = figures.in_colour(files["examples_images"])
    heat = files["grad_cam"]
    height, width = heat.shape[2:]
    figure = new_figure(
        f"{results.model}: what speaks for the two likeliest classes\n"
        f"(Grad-CAM of {results.summary['grad_cam_layer']}, {height} x {width} pixels)",
        4.8,
    )
    cells = figure.subplots(len(images), 1 + heat.shape[1], squeeze=False)
    for axes in cells.flat:
        figures.no_frame(axes)
    for row, image, label, probabilities, maps in zip(
        cells,
        images,
        files["examples_labels"],
        files["examples_probabilities"],
        heat,
        strict=True,
    ):
        row[0].imshow(image)
        row[0].set_title(f"is {classes[label]}", loc="center")
        likeliest = np.argsort(-probabilities, kind="stable")
        for axes, index, shown in zip(row[1:], likeliest, maps, strict=False):
            _draw_heat(axes, image, shown)
            found = "" if shown.any() else ": nothing"
            axes.set_title(f"for {classes[index]}, {probabilities[index]:.2f}{found}", loc="center")
    return figure


def _draw_heat(axes: Axes, image: np.ndarray, heat: np.ndarray) -> None:
    extent = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
    axes.imshow(image.mean(-1), cmap="gray", vmin=0, vmax=255)
    shade: dict[str, Any] = {"cmap": "inferno", "vmin": 0, "vmax": heat.max() or 1}
    axes.imshow(heat, extent=extent, interpolation="bilinear", alpha=0.6, **shade)


# The names of the figures, and for each the file that `evaluate` writes where it makes sense.
FIGURES: dict[str, tuple[Callable[[Results], Figure | None], str]] = {
    "curves": (draw_curves, "test_labels"),
    "predictions": (draw_predictions, "shown_images"),
    "mistakes": (draw_mistakes, "mistakes_images"),
    "confusion_matrix": (draw_confusion_matrix, "confusion_matrix"),
    "per_class": (draw_per_class, "per_class"),
    "roc_and_precision_recall": (draw_roc_and_precision_recall, "roc"),
    "reliability": (draw_reliability, "calibration"),
    "layers": (draw_layers, "layers"),
    "weights": (draw_weights, "weights"),
    "weights_over_training": (draw_weights_over_training, "snapshots"),
    "class_images": (draw_class_images, "class_images"),
    "filters": (draw_filters, "filters"),
    "grad_cam": (draw_grad_cam, "grad_cam"),
}


def draw(results: Results, layers: list[str]) -> Iterator[tuple[str, Figure]]:
    """Yields the figures that make sense for a model, and their names.

    Args:
        results: What is known of it.
        layers: Whose feature maps to draw; if empty, the last of each resolution.
    """
    for name, (make, needs) in FIGURES.items():
        if needs in results.files and len(results.files[needs]):
            figure = make(results)
            if figure is not None:
                yield name, figure
    names = results.files.get("feature_maps", ())
    for layer in layers or one_a_resolution(results.files["layers"], names):
        yield f"feature_maps_{layer}", draw_feature_maps(results, layer)


def one_a_resolution(layers: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """Returns the last one of each resolution, the finest first, of the `layers` of these names."""
    last = {tuple(output_shape(layers, name)[:2]): name for name in names}
    return [last[size] for size in sorted(last, reverse=True)]


def output_shape(layers: pd.DataFrame, name: str) -> list[int]:
    """Returns the shape that the layer `name` gives for an image, such as [24, 24, 64]."""
    [shape] = layers.loc[layers["name"] == name, "output_shape"]
    return [int(size) for size in shape.split(" x ")]


def main(model: str) -> None:
    """Draws the figures of the model named `model` in `params.yaml`."""
    options = params.read("plots", Options)
    params.check_names(options.feature_maps, params.load()["models"], "plots.feature_maps.")
    results = read_results(
        model,
        Path("data/history") / f"{model}.csv",
        Path("data/snapshots") / f"{model}.npy",
        Path("data/predictions") / model,
        PUBLISHED,
    )
    layers = options.feature_maps.get(model, [])
    known = list(results.files.get("feature_maps", ()))
    for layer in layers:
        if layer not in known:
            match = nearest(layer, known)
            hint = f"did you mean '{match}'?" if match else f"known: {', '.join(known) or 'none'}"
            raise UserError(
                f"params.yaml: plots.feature_maps.{model}: '{layer}' is none of this network's "
                f"convolutions and activations, whose feature maps are kept; {hint}"
            )
    with write_atomically(Path("reports/figures") / model) as [folder]:
        folder.mkdir()
        with figures.style(options.text_size, options.dpi):
            for name, figure in draw(results, layers):
                figures.save(figure, folder / f"{name}.png")


if __name__ == "__main__":
    run(main)
