"""A model's page: `reports/models/M.html`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.lib.files import natural_key
from stages.page.captions import FIGURES, MORE, Figure
from stages.page.rendering import Picture, picture, render
from stages.results import tables
from stages.results.reading import Results
from stages.results.sentences import caveat, describe, describe_calibration, describe_test_time
from stages.results.tables import Row


def render_model(row: Row, results: Results, pictures: Path, section: Any) -> str:
    """Returns a model's page as HTML.

    Args:
        row: The model's row of the accuracy table, or an ensemble's.
        results: The results of either.
        pictures: The folder of its figures, which becomes `reports/figures/M/`.
        section: Its section of `params.yaml`.
    """
    return render(
        "model.html.jinja",
        row=row,
        caveat=caveat([row]),
        calibration=describe_calibration(results.metrics),
        test_time=describe_test_time(row),
        groups=group_pictures(pictures, describe(row, results)),
        layers=results.files["layers"].to_dict("records") if "layers" in results.files else [],
        params=section,
        interval=tables.interval,
        published=tables.published,
        training_images=tables.training_images,
    )


def group_pictures(folder: Path, facts: Mapping[str, str]) -> dict[str, list[Picture]]:
    """Returns a model's pictures by the heading that they stand under, in the order of the page.

    Args:
        folder: The pictures.
        facts: What their texts name, as `describe` gives it.
    """
    order = list(FIGURES)
    found = []
    for path in sorted(folder.glob("*.png"), key=lambda path: natural_key(path.stem)):
        name, layer = path.stem, ""
        if name.startswith("feature_maps_"):
            name, layer = "feature_maps", name.removeprefix("feature_maps_")
        words = path.stem.replace("_", " ").capitalize()
        figure = FIGURES.get(name, Figure(MORE, f"{words}.", f"{words} of {facts['model']}."))
        known = {**facts, "layer": layer}
        shown = picture(
            path,
            f"../figures/{facts['model']}/{path.name}",
            figure.alt.format_map(known),
            figure.caption.format_map(known),
        )
        found.append((order.index(name) if name in order else len(order), figure.group, shown))
    groups: dict[str, list[Picture]] = {}
    for _, group, shown in sorted(found, key=lambda entry: entry[0]):
        groups.setdefault(group, []).append(shown)
    return groups
