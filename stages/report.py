"""Writes the tables, the overview and the page about all models: `python -m stages.report`.

Reads every model's `reports/metrics/M.json`, `data/history/M.csv` and `data/predictions/M/`, and of
its dataset what `split` and `prepare` wrote. Writes

    reports/accuracy.csv, .md   a row a model, beside the published figures
    reports/datasets.csv        a row a dataset
    reports/history.csv         all histories in long form, for `dvc plots`
    reports/confusion.csv       all confusion matrices in long form, for `dvc plots`
    reports/overview/*.png      all models side by side, and what the datasets look like
    reports/index.html          the page; each model has its own, which `plot` writes
    reports/models.js           the order of the models, which links their pages
"""

import shlex
from collections.abc import Collection
from pathlib import Path

import pandas as pd
from pydantic import Field, PositiveFloat, PositiveInt

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import write_atomically
from stages.lib.params import Section
from stages.page.rendering import Picture, picture
from stages.page.summary import list_models, render_summary
from stages.pictures import overview, style
from stages.results import tables
from stages.results.reading import Dataset, read_dataset, read_results
from stages.results.sentences import caveat
from stages.results.tables import Model, Row

# Where the stages keep what belongs to one model, and to one dataset.
MODEL_FOLDERS = (
    *("data/history", "data/models", "data/predictions", "data/snapshots", "data/timing"),
    *("reports/figures", "reports/metrics", "reports/models"),
)
DATASET_FOLDERS = ("data/arrays", "data/raw", "data/splits")


class Options(Section):
    """`report`: the title of the page, and which examples it shows of each dataset."""

    title: str
    examples_per_class: PositiveInt
    seed: int = Field(ge=0)


def read_models() -> dict[str, Model]:
    """Reads the models of `params.yaml`, sorted by dataset and name.

    Reordering params.yaml does not run this stage, so its order must not matter.
    """
    models = params.read("models", dict[str, Model])
    if not models:
        raise UserError("params.yaml: models: none found, expected at least one")
    return dict(sorted(models.items(), key=lambda item: (item[1].dataset, item[0])))


def leftovers(models: Collection[str], datasets: Collection[str]) -> list[Path]:
    """Returns the files of models and datasets that are no longer in `params.yaml`, sorted."""
    return sorted(
        path
        for names, folders in ((models, MODEL_FOLDERS), (datasets, DATASET_FOLDERS))
        for folder in folders
        for path in Path(folder).glob("[!.]*")
        if path.stem not in names
    )


def draw_overview(
    folder: Path, ranked: dict[str, list[Row]], datasets: dict[str, Dataset], options: Options
) -> dict[str, Picture]:
    """Draws the overview into `folder`, which becomes `reports/overview/`."""
    folder.mkdir()
    pictures = {}
    drawn = overview.draw(ranked, datasets, options.examples_per_class, options.seed)
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
    if removed := leftovers(models, sections["datasets"]):
        names = sorted({path.stem for path in removed})
        print(
            f"not in params.yaml: {', '.join(names)}; the report leaves them out. To remove what "
            f"is left of them: rm -r {shlex.join(map(str, removed))}"
        )
    datasets = {
        name: read_dataset(name) for name in dict.fromkeys(m.dataset for m in models.values())
    }
    results = {name: read_results(name) for name in models}
    rows = [
        tables.accuracy_row(model, datasets[model.dataset].summary, results[name])
        for name, model in models.items()
    ]
    ranked = tables.rank(rows)
    csv_tables = {
        # As objects, counts stay integers in a column that has gaps.
        "accuracy.csv": pd.DataFrame(rows, dtype=object),
        "confusion.csv": tables.all_confusion_matrices(results.values()),
        "datasets.csv": pd.DataFrame(
            [tables.dataset_row(name, dataset.summary) for name, dataset in datasets.items()]
        ),
        "history.csv": tables.all_histories(results.values()),
    }

    outputs = (*csv_tables, "accuracy.md", "overview", "models.js", "index.html")
    with write_atomically(*(Path("reports") / name for name in outputs)) as parts:
        *csv_files, accuracy_md, pictures_folder, models_js, index_html = parts
        for table, path in zip(csv_tables.values(), csv_files, strict=True):
            table.to_csv(path, index=False)
        accuracy_md.write_text(tables.to_markdown(rows, caveat(rows)), encoding="utf-8")
        with look:
            pictures = draw_overview(pictures_folder, ranked, datasets, options)
        models_js.write_text(list_models(ranked), encoding="utf-8")
        index_html.write_text(
            render_summary(options.title, ranked, results, datasets, pictures, sections),
            encoding="utf-8",
        )


if __name__ == "__main__":
    run(main)
