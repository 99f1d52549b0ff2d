"""The page about all models and datasets, `reports/index.html`, and the list of the others."""

import json
from typing import Any

import numpy as np

from stages.page.rendering import Picture, render
from stages.results import tables
from stages.results.baseline import baseline_row
from stages.results.reading import NAMED_FILES, Dataset, Results
from stages.results.sentences import (
    ORIGINS_EXPLAINED,
    PARTS,
    caveat,
    compare_best_two,
    compare_with_published,
    describe_near_copies,
    original_sizes,
)
from stages.results.tables import Row, rank

PICTURES = (
    "examples",
    "classes",
    "sizes",
    "near_copies",
    "checks",
)  # of a dataset, where the overview has them


def render_summary(
    title: str,
    ranked: dict[str, list[Row]],
    results: dict[str, Results],
    datasets: dict[str, Dataset],
    overview: dict[str, Picture],
    params: dict[str, Any],
) -> str:
    """Returns the page about all models and datasets as HTML.

    Args:
        title: The title of the page.
        ranked: The accuracy rows of each dataset, the best model first.
        results: The results of each model.
        datasets: The facts of each dataset.
        overview: The pictures of the overview by their names.
        params: `params.yaml`.
    """
    right = {name: found.right for name, found in results.items()}
    rows = [row for rows in ranked.values() for row in rows]
    baselines = [baseline_row(name, dataset.summary) for name, dataset in datasets.items()]
    listed = [row for found in rank([*rows, *baselines]).values() for row in found]
    return render(
        "index.html.jinja",
        title=title,
        best=[_best(rows, right) for rows in ranked.values()],
        models=len(rows),
        rows=listed,
        caveat=caveat(rows),
        datasets=[
            _dataset(name, dataset, overview, params["datasets"][name])
            for name, dataset in datasets.items()
        ],
        overview=overview,
        params={key: params[key] for key in ("training", "evaluation")},
        interval=tables.interval,
        over_seeds=tables.over_seeds,
        repeated=any("seeds" in row for row in rows),
        published=tables.published,
    )


def list_models(ranked: dict[str, list[Row]]) -> str:
    """Returns the script that tells each model's page which models stand before and after it.

    A page that named them itself would have to be written again for each new model.
    """
    names = [row["model"] for rows in ranked.values() for row in rows]
    return f"const models = {json.dumps(names)};\n"


def _best(ranked: list[Row], right: dict[str, np.ndarray]) -> dict[str, Any]:
    best = ranked[0]
    return {
        "row": best,
        "test_images": len(right[best["model"]]),
        "published": compare_with_published(ranked),
        "second": compare_best_two(ranked, right),
    }


def _dataset(
    name: str, dataset: Dataset, overview: dict[str, Picture], section: Any
) -> dict[str, Any]:
    summary = dataset.summary
    row, images = tables.dataset_row(name, summary), summary["images"]
    return row | {
        "origin": ORIGINS_EXPLAINED[summary["origin"]],
        "size": " x ".join(map(str, summary["image_shape"][:2])),
        "original_sizes": original_sizes(dataset.sizes),
        "colour": "colour" if summary["image_shape"][2] == 3 else "grey",
        "counts": {name: [images[part][name] for part in PARTS] for name in summary["classes"]},
        "totals": [row[part] for part in PARTS],
        "reasons": dataset.left_out,
        "notes": dataset.notes,
        "duplicates": dataset.duplicates,
        "near_copies": describe_near_copies(dataset.near_copies),
        "checks": [
            {"reason": check, "count": len(files), "files": list(files[:NAMED_FILES])}
            for check, files in dataset.checks.groupby("check")["file"]
        ],
        "pictures": [
            overview[f"{kind}_{name}"] for kind in PICTURES if f"{kind}_{name}" in overview
        ],
        # Leave out `download`: its source may be a path on one machine.
        "params": {key: section[key] for key in ("prepare", "split")},
    }
