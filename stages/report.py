"""Writes the tables and the page: `python -m stages.report`.

Reads every model's `reports/metrics/M.json`, `data/history/M.csv` and `reports/figures/M/`, and
what `split` says of its dataset. Writes `reports/accuracy.csv` and `.md` (a row a model, beside the
published figures), `reports/datasets.csv`, `reports/history.csv` (all histories in long form, for
`dvc plots`) and the page `reports/index.html`, whose pictures stay where they are.
"""

from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import read_json, whole
from stages.lib.params import Section

ORIGINS = {
    "drawn": "drawn",
    "sample": "sample of the real data",
    "real": "real",
}


class Options(Section):
    """`report`: what the page says of itself."""

    title: str


class Published(Section):
    """`models.M.published`: what others reached with this network, for the tables only."""

    valid_accuracy: float | None = None
    test_accuracy: float | None = None
    training_images: int | None = None


class Model(Section):
    """`models.M` as far as the tables tell of it; `train` checks the rest."""

    dataset: str
    network: Any
    training: dict[str, Any]
    published: Published = Published()


def accuracy_row(
    name: str, model: Model, dataset: dict[str, Any], metrics: dict[str, Any]
) -> dict[str, Any]:
    """Returns one model's row of the accuracy table.

    Differences to published figures are given for real data only: drawn pictures and small samples
    say nothing about a figure that was reached on the whole of the real ones.

    Args:
        name: The model's name.
        model: Its section of `params.yaml`.
        dataset: What `split` says of its dataset.
        metrics: What `evaluate` found.
    """
    published = model.published
    length = "epochs" if "epochs" in model.training else "steps"
    row = {
        "model": name,
        "dataset": model.dataset,
        "data": ORIGINS[dataset["origin"]],
        "classes": len(dataset["classes"]),
        "training_images": sum(dataset["images"]["train"].values()),
        "published_training_images": published.training_images,
        "parameters": metrics["parameters"],
        "trained_for": f"{model.training[length]} {length}",
        "test_loss": metrics["test_loss"],
    }
    for part in ("valid", "test"):
        accuracy, figure = metrics[f"{part}_accuracy"], getattr(published, f"{part}_accuracy")
        comparable = figure is not None and dataset["origin"] == "real"
        row[f"{part}_accuracy"] = accuracy
        row[f"published_{part}_accuracy"] = figure
        row[f"{part}_difference"] = round(accuracy - figure, 4) if comparable else None
    return row


def dataset_row(name: str, dataset: dict[str, Any]) -> dict[str, Any]:
    """Returns one dataset's row of the table of datasets."""
    counts = {part: sum(classes.values()) for part, classes in dataset["images"].items()}
    height, width, channels = dataset["image_shape"]
    return {
        "dataset": name,
        "data": ORIGINS[dataset["origin"]],
        "classes": len(dataset["classes"]),
        "image": f"{height}x{width}x{channels}",
        **counts,
        "unlabelled": dataset["unlabelled"],
        "left_out": dataset["left_out"],
    }


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """Returns the accuracy table for people: percentages, and what not to compare them with.

    Args:
        rows: As `accuracy_row` gives them.
    """
    header = (
        "Model | Data | Training images | Parameters | Trained for "
        "| Valid accuracy | Published | Test accuracy | Published | Test loss"
    )
    lines = [
        " | ".join(
            [
                f"`{row['model']}`",
                f"{row['dataset']}, {row['data']}",
                training_images(row),
                f"{row['parameters']:,}",
                row["trained_for"],
                f"{row['valid_accuracy']:.2%}",
                published(row, "valid"),
                f"{row['test_accuracy']:.2%}",
                published(row, "test"),
                f"{row['test_loss']:.3f}",
            ]
        )
        for row in rows
    ]
    alignment = " | ".join(["---", "---", *["---:"] * 8])
    table = "\n".join(f"| {line} |" for line in (header, alignment, *lines))
    return f"{table}\n\n{caveat(rows)}\n"


def training_images(row: dict[str, Any]) -> str:
    """Returns how many images a model learned from, and how many the published one did."""
    others = row["published_training_images"]
    return f"{row['training_images']:,}" + (f" (published: {others:,})" if others else "")


def published(row: dict[str, Any], part: str) -> str:
    """Returns the published accuracy and, for real data, the difference in percentage points."""
    figure, difference = row[f"published_{part}_accuracy"], row[f"{part}_difference"]
    if figure is None:
        return ""
    return f"{figure:.2%}" + (f" ({difference * 100:+.2f})" if difference is not None else "")


def caveat(rows: list[dict[str, Any]]) -> str:
    """Returns what a reader must know before comparing the table with published figures."""
    if any(row["data"] != ORIGINS["real"] for row in rows):
        return (
            "Drawn pictures and samples of the real data are there to show the pipeline: these "
            "accuracies must not be compared with the published ones, which were reached on the "
            "whole of the real data."
        )
    return (
        "In brackets: the difference to the published figure, in percentage points. Mind the "
        "numbers of training images."
    )


def read_histories(histories: dict[str, Path]) -> pd.DataFrame:
    """Returns all histories as one table: model, at (epoch or step), then the figures.

    Args:
        histories: The file of each model, by its name.
    """
    tables = []
    for name, path in histories.items():
        table = pd.read_csv(path).rename(columns={"epoch": "at", "step": "at"})
        table.insert(0, "model", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    """Writes the report over all models in `params.yaml`."""
    options = params.read("report", Options)
    models = params.read("models", dict[str, Model])
    datasets = {
        dataset: read_json(_existing(Path("data/splits") / dataset / "summary.json"))
        for dataset in dict.fromkeys(model.dataset for model in models.values())
    }
    metrics = {name: read_json(_existing(Path(f"reports/metrics/{name}.json"))) for name in models}
    histories = {name: _existing(Path(f"data/history/{name}.csv")) for name in models}
    figures = {
        name: sorted(path.name for path in _existing(Path(f"reports/figures/{name}")).glob("*.png"))
        for name in models
    }
    rows = [
        accuracy_row(name, model, datasets[model.dataset], metrics[name])
        for name, model in models.items()
    ]
    dataset_rows = [dataset_row(name, dataset) for name, dataset in datasets.items()]
    page = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html.jinja")
    outputs = ("accuracy.csv", "accuracy.md", "datasets.csv", "history.csv", "index.html")
    with whole(*(Path("reports") / name for name in outputs)) as parts:
        accuracy_csv, accuracy_md, datasets_csv, history_csv, index_html = parts
        # As objects, or a count beside an empty cell would become a float.
        pd.DataFrame(rows, dtype=object).to_csv(accuracy_csv, index=False)
        accuracy_md.write_text(to_markdown(rows), encoding="utf-8")
        pd.DataFrame(dataset_rows).to_csv(datasets_csv, index=False)
        read_histories(histories).to_csv(history_csv, index=False)
        html = page.render(
            title=options.title,
            models=rows,
            datasets=dataset_rows,
            figures=figures,
            caveat=caveat(rows),
            training_images=training_images,
            published=published,
        )
        index_html.write_text(html, encoding="utf-8")


def _existing(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} is missing: `dvc repro` makes it, `dvc pull` brings it")
    return path


if __name__ == "__main__":
    run(main)
