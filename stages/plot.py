"""Draws one model's figures and writes its page: `python -m stages.plot MODEL`.

Reads what `train` and `evaluate` wrote of the model, `data/snapshots/M.npy`, the summary of its
dataset's `data/splits/D/`, and the published curves, `stages/results/published.csv`. Writes
`reports/figures/M/*.png`, the figures that make sense for the model, and `reports/models/M.html`.

Of an ensemble, it reads what `ensemble` wrote: that has answers, but no network of its own.

`evaluate` computes what needs the network, so this stage needs no TensorFlow and takes seconds.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field, PositiveFloat

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import read_array, write_atomically
from stages.lib.params import Section, suggest
from stages.lib.repeats import read_ensembles
from stages.page.model import render_model
from stages.pictures import answers, inside, learning, style
from stages.results.curves import read_published_curves
from stages.results.reading import (
    Results,
    existing,
    read_dataset_summary,
    read_ensemble,
    read_results,
)
from stages.results.tables import Model, accuracy_row


class Options(Section):
    """`plots`: how all figures look and which layers they show.

    `feature_maps` names layers by model; for a model that is not named, they are the last layer of
    each resolution.
    """

    text_size: PositiveFloat
    dpi: int = Field(ge=50, le=400)
    feature_maps: dict[str, list[str]] = Field(default_factory=dict)


# The figures by name, each with the file of `evaluate` without which it makes no sense.
FIGURES: dict[str, tuple[Callable[[Results], Figure | None], str]] = {
    "predictions": (answers.draw_predictions, "shown_images"),
    "mistakes": (answers.draw_mistakes, "mistakes_images"),
    "confusion_matrix": (answers.draw_confusion_matrix, "confusion_matrix"),
    "per_class": (answers.draw_per_class, "per_class"),
    "roc_and_precision_recall": (answers.draw_roc_and_precision_recall, "roc"),
    "reliability": (answers.draw_reliability, "calibration_scaled"),
    "layers": (inside.draw_layers, "layers"),
    "weights": (inside.draw_weights, "weights"),
    "class_images": (inside.draw_class_images, "class_images"),
    "filters": (inside.draw_filters, "filters"),
    "grad_cam": (inside.draw_grad_cam, "grad_cam"),
}


def draw(
    results: Results,
    snapshots: np.ndarray,
    published: pd.DataFrame,
    layers: Iterable[str],
    training: Any,
) -> Iterator[tuple[str, Figure]]:
    """Yields the figures that make sense for a model or an ensemble, with their names.

    Args:
        results: The model's results.
        snapshots: Weights at each row of the history, float32 [rows, units, height, width,
            channels]; no units for a network that does not begin with a dense layer, no rows for
            an ensemble.
        published: The model's published curves.
        layers: The layers whose feature maps to draw.
        training: The model's recipe, or a list of them; `None` for an ensemble.
    """
    if len(results.history):
        unit = " (nats)" if all(map(is_in_nats, list_losses(training))) else ""
        yield "curves", learning.draw_curves(results, published, f"loss{unit}")
    if snapshots.size:
        yield "weights_over_training", learning.draw_weights_over_training(results, snapshots)
    for name, (draw_figure, needs) in FIGURES.items():
        if len(results.files.get(needs, ())):
            figure = draw_figure(results)
            if figure is not None:
                yield name, figure
    for layer in layers:
        yield f"feature_maps_{layer}", inside.draw_feature_maps(results, layer)


def list_losses(training: Any) -> list[str]:
    """Returns the names of the losses that recipes name; the others have the cross-entropy."""
    recipes = training if isinstance(training, list) else [training]
    losses = [recipe["loss"] for recipe in recipes if recipe.get("loss") is not None]
    return [loss if isinstance(loss, str) else next(iter(loss)) for loss in losses]


def is_in_nats(loss: str) -> bool:
    """Returns whether a loss of Keras is an amount of information: others have other units."""
    return loss.endswith(("Crossentropy", "KLDivergence"))


def choose_layers(results: Results, wanted: list[str]) -> list[str]:
    """Returns the `wanted` layers or, if there are none, the last layer of each resolution.

    Raises:
        UserError: The feature maps of a wanted layer are not kept.
    """
    kept = list(results.files.get("feature_maps", ()))
    for layer in wanted:
        if layer not in kept:
            hint = suggest(layer, kept, f"known: {', '.join(kept) or 'none'}")
            raise UserError(
                f"params.yaml: plots.feature_maps.{results.model}: '{layer}' is none of this "
                f"network's convolutions and activations, whose feature maps are kept; {hint}"
            )
    if "layers" not in results.files:
        return []
    return wanted or inside.one_a_resolution(results.files["layers"], kept)


def main(name: str) -> None:
    """Draws the figures and writes the page of the model or ensemble `name` in `params.yaml`."""
    options = params.read("plots", Options)
    sections, ensembles = params.load(), read_ensembles()
    models = params.list_models(sections)
    params.check_names(options.feature_maps, models, "plots.feature_maps.")
    if name in ensembles:
        model = Model(dataset=ensembles[name].dataset, network=None, training=None)
        results, snapshots = read_ensemble(name), np.empty(0)
        section = sections["ensembles"][name]
    else:
        model = params.read(params.model_key(name), Model)
        results, snapshots = (
            read_results(name),
            read_array(existing(Path(f"data/snapshots/{name}.npy"))),
        )
        section = models[name]
    row = accuracy_row(model, read_dataset_summary(model.dataset), results)
    layers = choose_layers(results, options.feature_maps.get(name, []))

    outputs = (Path(f"reports/figures/{name}"), Path(f"reports/models/{name}.html"))
    with write_atomically(*outputs) as (pictures, page):
        pictures.mkdir()
        with style.apply(options.text_size, options.dpi):
            published, training = read_published_curves(name), model.training
            for title, figure in draw(results, snapshots, published, layers, training):
                style.save(figure, pictures / f"{title}.png")
        page.write_text(render_model(row, results, pictures, section), encoding="utf-8")


if __name__ == "__main__":
    run(main)
