"""Writes the tables, the overview and the page about all models: `python -m stages.report`.

Reads every model's `data/history/M.csv` and `data/predictions/M/`, of its dataset what `split` and
`prepare` wrote, the repeats in `data/predictions/` and the ensembles in `data/ensembles/`. What
else lies in these folders, it moves to `data/leftovers/` first. Writes

    reports/accuracy.csv, .md   a row a model or ensemble, beside the published figures, and one a
                                dataset for the answer that needs no image
    reports/datasets.csv        a row a dataset
    reports/history.csv         all histories in long form, for `dvc plots`
    reports/confusion.csv       all confusion matrices in long form, for `dvc plots`
    reports/repeats.csv         a row a repeat, in long form; none without `repeated`
    reports/overview/*.png      all models side by side, and what the datasets look like
    reports/index.html          the page; each model has its own, which `plot` writes
    reports/models.js           the order of the models, which links their pages
    data/tables/*.csv           the same bytes as the tables in reports/: see dvc.yaml
"""

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import write_atomically
from stages.lib.params import Section
from stages.lib.repeats import read_ensembles, read_repeats
from stages.page.rendering import Picture, picture
from stages.page.summary import list_models, render_summary
from stages.pictures import overview, style
from stages.results import tables
from stages.results.baseline import baseline_row
from stages.results.leftovers import (
    OTHERS,
    PLACE,
    REPORTED,
    clear_away,
    find_leftovers,
    list_outputs,
)
from stages.results.reading import Dataset, read_dataset, read_ensemble, read_results
from stages.results.repeats import add_spread, read_table_of
from stages.results.sentences import caveat
from stages.results.tables import Model, Row


class Options(Section):
    """`report`: the title of the page, and which examples it shows of each dataset."""

    title: str
    examples_per_class: PositiveInt
    seed: int = Field(ge=0)


def read_models() -> dict[str, Model]:
    """Reads the models and ensembles of `params.yaml`, sorted by dataset and name.

    Reordering params.yaml does not run this stage, so its order must not matter.
    """
    sections = params.load()
    models: dict[str, Model] = {}
    for key in params.MODEL_SECTIONS:
        models |= params.check(key, sections.get(key) or {}, dict[str, Model])
    if not models:
        raise UserError("params.yaml: models: none found, expected at least one")
    for name, ensemble in read_ensembles().items():
        models[name] = Model(dataset=ensemble.dataset, network=None, training=None)
    return dict(sorted(models.items(), key=lambda item: (item[1].dataset, item[0])))


def tidy_up(sections: dict[str, Any]) -> None:
    """Moves what the report must not depend on to `data/leftovers/`, and says what is left over."""
    outputs = list_outputs(sections)
    clear_away(REPORTED, outputs)
    others = find_leftovers(OTHERS, outputs)
    if others or PLACE.exists():
        remove = [*others, *([PLACE] if PLACE.exists() else [])]
        print(f"to remove what no model or dataset needs: rm -r {shlex.join(map(str, remove))}")


def draw_overview(
    folder: Path,
    ranked: dict[str, list[Row]],
    datasets: dict[str, Dataset],
    repeats: pd.DataFrame,
    options: Options,
) -> dict[str, Picture]:
    """Draws the overview into `folder`, which becomes `reports/overview/`."""
    folder.mkdir()
    pictures = {}
    drawn = overview.draw(ranked, datasets, repeats, options.examples_per_class, options.seed)
    for name, (figure, alt, caption) in drawn.items():
        path = folder / f"{name}.png"
        style.save(figure, path)
        pictures[name] = picture(path, f"overview/{path.name}", alt, caption)
    return pictures


def main() -> None:
    """Writes the report about all models in `params.yaml`."""
    options = params.read("report", Options)
    look = style.apply(
        params.read("plots.text_size", PositiveFloat), params.read("plots.dpi", PositiveInt)
    )
    models, sections = read_models(), params.load()
    tidy_up(sections)
    datasets = {
        name: read_dataset(name) for name in dict.fromkeys(m.dataset for m in models.values())
    }
    ensembles = read_ensembles()
    results = {
        name: read_ensemble(name) if name in ensembles else read_results(name) for name in models
    }
    repeats = read_table_of(read_repeats().values())
    rows = [
        tables.accuracy_row(model, datasets[model.dataset].summary, results[name])
        for name, model in models.items()
    ]
    rows = add_spread(rows, repeats)
    ranked = tables.rank(rows)
    listed = [
        row
        for name, found in datasets.items()
        for row in (*(r for r in rows if r["dataset"] == name), baseline_row(name, found.summary))
    ]
    csv_tables = {
        # As objects, counts stay integers in a column that has gaps.
        "accuracy.csv": pd.DataFrame(listed, dtype=object),
        "confusion.csv": tables.all_confusion_matrices(results.values()),
        "datasets.csv": pd.DataFrame(
            [tables.dataset_row(name, dataset.summary) for name, dataset in datasets.items()]
        ),
        "history.csv": tables.all_histories(results.values()),
        "repeats.csv": repeats,
    }

    outputs = ("accuracy.md", "overview", "models.js", "index.html")
    places = [Path(folder) / name for folder in ("reports", "data/tables") for name in csv_tables]
    with write_atomically(*(Path("reports") / name for name in outputs), *places) as parts:
        accuracy_md, pictures_folder, models_js, index_html, *csv_files = parts
        for table, path in zip(2 * list(csv_tables.values()), csv_files, strict=True):
            table.to_csv(path, index=False)
        accuracy_md.write_text(tables.to_markdown(listed, caveat(rows)), encoding="utf-8")
        with look:
            pictures = draw_overview(pictures_folder, ranked, datasets, repeats, options)
        models_js.write_text(list_models(ranked), encoding="utf-8")
        index_html.write_text(
            render_summary(options.title, ranked, results, datasets, pictures, sections),
            encoding="utf-8",
        )


if __name__ == "__main__":
    run(main)
