"""Figures of what is inside a network: its layers, weights and feature maps."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.pictures import style
from stages.pictures.names import fit, width_of
from stages.pictures.style import BLUE, GREY, new_figure
from stages.results.reading import Results

# A network of more layers is drawn in blocks, one of more blocks not at all: too long to read.
MOST_LAYERS = 30
MOST_BLOCKS = 50
MOST_CLASSES = 100  # a picture of hundreds is too long to look at, and slow to draw


def draw_layers(results: Results) -> Figure | None:
    """Draws the layers as a chain, with output shapes and parameters; a deep network in blocks."""
    layers = results.files["layers"]
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
        flow.text(0.06, row, style.cut(layer.name, 22), va="center", color=colour)
        flow.text(0.43, row, style.cut(layer.type, 24), va="center")
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
    style.no_frame(flow)
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
    """Folds each part of a network that has several branches into one row.

    Args:
        layers: The layers in the order of computation: `name`, `type`, `output_shape`,
            `parameters`, and `inputs`, the names of layers.

    Returns:
        The same columns, a chain. The row of a block has the name and the output of the layer that
        joins its branches, and says in `type` how many layers and branches it has.
    """
    rows = {name: row for row, name in enumerate(layers["name"])}
    beside = np.zeros(len(layers), bool)  # layers that some path bypasses
    for row, names in enumerate(layers["inputs"]):
        for name in names.split():
            beside[rows[name] + 1 : row] = True
    before = np.cumsum(~beside) - ~beside  # the number of each layer's block
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
    """Draws the weights of hidden units of the first layer as images."""
    weights = results.files["weights"]
    title = f"{results.model}: weights of {len(weights)} units of the first layer"
    return _draw_weights(title, weights, 15)


def draw_class_images(results: Results) -> Figure:
    """Draws the product of all weight matrices, an image a class, of the first classes if many."""
    images = results.files["class_images"][:MOST_CLASSES]
    count = len(results.classes)
    chosen = f"; the first {len(images)} of {count} classes" if count > len(images) else ""
    columns = min(5, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(
        f"{results.model}: what it sees as each class, the product of all weight matrices\n"
        f"{'Grey' if images.shape[-1] == 3 else 'White'} is zero, "
        f"each class has its own scale{chosen}",
        style.height_of(rows, columns, 2) + 0.4,
    )
    cells = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in cells:
        style.no_frame(axes)
    names = fit(results.classes, 0.95 * style.room_of(columns))
    for axes, image, name in zip(cells, images, names, strict=False):
        style.draw_as_images(axes, image[np.newaxis], 1)
        axes.set_title(name, loc="center")
    return figure


def draw_filters(results: Results) -> Figure:
    """Draws the filters of the first convolution."""
    filters = results.files["filters"]
    title = f"{results.model}: the {len(filters)} filters of the first convolution"
    return _draw_weights(title, filters, min(16, len(filters)))


def _draw_weights(title: str, weights: np.ndarray, columns: int) -> Figure:
    height = style.height_of(-(-len(weights) // columns), columns, 0)
    in_colour = weights.shape[-1] == 3
    figure = new_figure(title + ", grey is zero" * in_colour, height + (0.4 if in_colour else 0.9))
    axes = figure.subplots()
    drawn = style.draw_as_images(axes, weights, columns)
    if drawn:
        style.add_scale(figure, [axes], drawn, "weight")
    return figure


def draw_feature_maps(results: Results, layer: str) -> Figure:
    """Draws the feature maps of `layer` for each example, each map on a scale of its own."""
    images = style.in_colour(results.files["examples_images"])
    maps = np.moveaxis(results.files["feature_maps"][layer].astype(np.float32), -1, 1)
    low, high = maps.min((2, 3), keepdims=True), maps.max((2, 3), keepdims=True)
    maps = (maps - low) / np.where(high > low, high - low, 1)
    count, _, width = maps.shape[1:]
    # `evaluate` keeps the first maps only, and reduces large ones: show the true numbers.
    *size, channels = output_shape(results.files["layers"], layer)
    shown = str(count) if count == channels else f"{count} of {channels}"
    high = style.height_of(-(-count // 8), 8 * len(images), 0)
    figure = new_figure(
        f"{results.model}: {shown} feature maps of {layer}, {size[0]} x {size[1]} pixels",
        1.7 + high,
    )
    names = fit(results.classes, 0.95 * style.room_of(len(images)))
    cells = figure.subplots(2, len(images), height_ratios=(1, high), squeeze=False)
    for column, image, label, shown in zip(
        cells.T, images, results.files["examples_labels"], maps, strict=True
    ):
        column[0].imshow(image)
        column[0].set_title(names[label], loc="center")
        column[1].imshow(style.montage(shown, 8, gap=max(1, width // 12)))
        for axes in column:
            style.no_frame(axes)
    return figure


def draw_grad_cam(results: Results) -> Figure:
    """Draws Grad-CAM for the two likeliest classes of each example."""
    files = results.files
    images = style.in_colour(files["examples_images"])
    heat = files["grad_cam"]
    height, width = heat.shape[2:]
    figure = new_figure(
        f"{results.model}: what speaks for the two likeliest classes\n"
        f"(Grad-CAM of {results.summary['grad_cam_layer']}, {height} x {width} pixels)",
        4.8,
    )
    cells = figure.subplots(len(images), 1 + heat.shape[1], squeeze=False)
    for axes in cells.flat:
        style.no_frame(axes)
    room = 0.95 * style.room_of(cells.shape[1])
    blank = "" if heat.any(axis=(2, 3)).all() else ": nothing"
    names = fit(results.classes, room - width_of(f"for , 0.00{blank}"))
    for row, image, label, probabilities, maps in zip(
        cells,
        images,
        files["examples_labels"],
        files["examples_probabilities"],
        heat,
        strict=True,
    ):
        row[0].imshow(image)
        row[0].set_title(f"is {names[label]}", loc="center")
        likeliest = np.argsort(-probabilities, kind="stable")
        for axes, index, shown in zip(row[1:], likeliest, maps, strict=False):
            _draw_heat(axes, image, shown)
            found = "" if shown.any() else blank
            axes.set_title(f"for {names[index]}, {probabilities[index]:.2f}{found}", loc="center")
    return figure


def _draw_heat(axes: Axes, image: np.ndarray, heat: np.ndarray) -> None:
    extent = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
    axes.imshow(image.mean(-1), cmap="gray", vmin=0, vmax=255)
    shade: dict[str, Any] = {"cmap": "inferno", "vmin": 0, "vmax": heat.max() or 1}
    axes.imshow(heat, extent=extent, interpolation="bilinear", alpha=0.6, **shade)


def one_a_resolution(layers: pd.DataFrame, names: Iterable[str]) -> list[str]:
    """Returns the last layer of each resolution, the finest first, among those named."""
    last = {tuple(output_shape(layers, name)[:2]): name for name in names}
    return [last[size] for size in sorted(last, reverse=True)]


def output_shape(layers: pd.DataFrame, name: str) -> list[int]:
    """Returns the output shape of the layer `name` for one image, such as [24, 24, 64]."""
    [shape] = layers.loc[layers["name"] == name, "output_shape"]
    return [int(size) for size in shape.split(" x ")]
