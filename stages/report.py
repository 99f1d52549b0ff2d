"""Writes the tables, the overview and the page: `python -m stages.report`.

Reads every model's `reports/metrics/M.json`, `data/history/M.csv`, `data/predictions/M/` and
`reports/figures/M/`, and of its dataset what `split` and `prepare` say. Writes

    reports/accuracy.csv, .md   a row a model, beside the published figures
    reports/datasets.csv        a row a dataset
    reports/history.csv         all histories in long form, for `dvc plots`
    reports/confusion.csv       all confusion matrices in long form, for `dvc plots`
    reports/overview/*.png      all models side by side, and what the datasets look like
    reports/index.html          the page; its pictures stay where they are
"""

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pydantic import Field, PositiveFloat, PositiveInt
from sklearn.metrics import confusion_matrix

from stages.lib import params
from stages.lib.command import UserError, run
from stages.lib.files import read_json, write_atomically
from stages.lib.params import Section
from stages.lib.splits import Part, read_part, read_summary
from stages.page import rendering as page
from stages.page.rendering import Picture
from stages.pictures import overview
from stages.pictures import style as figures
from stages.pictures.overview import Point
from stages.results.statistics import Interval, mcnemar, wilson_interval

TEMPLATES = Path(__file__).with_name("page") / "templates"
ORIGINS = {
    "drawn": "drawn",
    "sample": "sample of the real data",
    "real": "real",
}
ORIGINS_IN_WORDS = {
    "drawn": (
        "Drawn by the project itself, so that the pipeline runs without a network. What is reached "
        "on these pictures says nothing about photographs."
    ),
    "sample": (
        "A small sample of the real data, so that the pipeline runs without a network. With all of "
        "the data, accuracies are higher."
    ),
    "real": "The real data.",
}
PARTS = {"train": "training", "valid": "validation", "test": "test"}
LEFT_OUT_FILES = 5  # named on the page for each reason
# Where the stages keep what belongs to one model, and to one dataset.
MODEL_FOLDERS = (
    *("data/history", "data/models", "data/predictions", "data/snapshots", "data/timing"),
    *("reports/figures", "reports/metrics"),
)
DATASET_FOLDERS = ("data/arrays", "data/raw", "data/splits")


class Options(Section):
    """`report`: what the page says of itself, and which examples it shows of each dataset."""

    title: str
    examples_per_class: PositiveInt
    seed: int = Field(ge=0)


class Published(Section):
    """`models.M.published`: what others reached with this network, for the tables only."""

    valid_accuracy: float | None = Field(None, ge=0, le=1)
    test_accuracy: float | None = Field(None, ge=0, le=1)
    training_images: PositiveInt | None = None


class Model(Section):
    """`models.M` as far as the tables tell of it; `train` checks the rest."""

    dataset: str
    network: Any
    training: dict[str, Any]
    published: Published = Published()


@dataclass(frozen=True)
class Results:
    """What is known of a model.

    Attributes:
        metrics: What `evaluate` measured.
        history: A row an epoch or every so many steps.
        labels: Of the test images, uint8 [n].
        predicted: Their likeliest classes, int [n].
        summary: What else `evaluate` says in single values.
        per_class: Precision, recall, F1 and areas under curves, a row a class.
        layers: The layers of the network.
    """

    metrics: dict[str, Any]
    history: pd.DataFrame
    labels: np.ndarray
    predicted: np.ndarray
    summary: dict[str, Any]
    per_class: pd.DataFrame
    layers: pd.DataFrame

    @property
    def right(self) -> np.ndarray:
        """Which of the test images it gets right, bool [n]."""
        found: np.ndarray = self.predicted == self.labels
        return found


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset.

    Attributes:
        summary: What `split` says of it.
        training: What models learn from.
        sizes: How many `images` had which `width` and `height` before resizing, in pixels.
        left_out: For each reason, how many files were left out, and the first ones.
    """

    summary: dict[str, Any]
    training: Part
    sizes: pd.DataFrame
    left_out: list[dict[str, Any]]


def read_dataset(splits: Path, arrays: Path) -> Dataset:
    """Reads what is known of a dataset.

    Args:
        splits: The folder that `split` wrote.
        arrays: The folder that `prepare` wrote.
    """
    _existing(splits / "summary.json")
    return Dataset(
        read_summary(splits),
        read_part(splits, "train"),
        pd.read_csv(_existing(arrays / "sizes.csv")),
        read_left_out(_existing(arrays / "left_out.csv")),
    )


def read_results(metrics: Path, history: Path, predictions: Path) -> Results:
    """Reads what is known of a model.

    Args:
        metrics: The JSON file that `evaluate` wrote.
        history: The CSV file of its training.
        predictions: The folder that `evaluate` wrote.
    """
    return Results(
        read_json(_existing(metrics)),
        pd.read_csv(_existing(history)),
        np.load(_existing(predictions / "test_labels.npy")),
        np.load(_existing(predictions / "test_probabilities.npy")).argmax(1),
        read_json(_existing(predictions / "summary.json")),
        pd.read_csv(_existing(predictions / "per_class.csv"), dtype={"class": str}),
        pd.read_csv(_existing(predictions / "layers.csv"), keep_default_na=False),
    )


def accuracy_row(
    name: str, model: Model, dataset: dict[str, Any], results: Results
) -> dict[str, Any]:
    """Returns one model's row of the accuracy table.

    Differences to published figures are given for real data only: drawn pictures and small samples
    say nothing about a figure that was reached on the whole of the real ones.

    Args:
        name: The model's name.
        model: Its section of `params.yaml`.
        dataset: What `split` says of its dataset.
        results: What is known of the model.
    """
    published, metrics = model.published, results.metrics
    interval = wilson_interval(int(results.right.sum()), len(results.right))
    unit = "epoch" if "epochs" in model.training else "step"
    length = model.training[f"{unit}s"]
    row = {
        "model": name,
        "dataset": model.dataset,
        "data": ORIGINS[dataset["origin"]],
        "classes": len(dataset["classes"]),
        "training_images": sum(dataset["images"]["train"].values()),
        "published_training_images": published.training_images,
        "parameters": metrics["parameters"],
        "multiply_adds": metrics["multiply_adds"],
        "trained_for": f"{length} {unit}{'' if length == 1 else 's'}",
        "test_loss": metrics["test_loss"],
        "test_accuracy_low": round(interval.low, 4),
        "test_accuracy_high": round(interval.high, 4),
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
        "Model | Data | Training images | Parameters | Trained for | Valid accuracy | Published "
        "| Test accuracy | 95% interval | Published | Test loss"
    )
    lines = [
        " | ".join(
            [
                f"`{row['model']}`",
                f"{row['dataset']} ({row['classes']} classes), {row['data']}",
                training_images(row),
                f"{row['parameters']:,}",
                row["trained_for"],
                f"{row['valid_accuracy']:.2%}",
                published(row, "valid"),
                f"{row['test_accuracy']:.2%}",
                interval(row),
                published(row, "test"),
                f"{row['test_loss']:.3f}",
            ]
        )
        for row in rows
    ]
    alignment = " | ".join(["---", "---", *["---:"] * 9])
    table = "\n".join(f"| {line} |" for line in (header, alignment, *lines))
    return f"{table}\n\n{caveat(rows)}\n"


def training_images(row: Mapping[str, Any]) -> str:
    """Returns how many images a model learned from, and how many the published one did."""
    others = row["published_training_images"]
    return f"{row['training_images']:,}" + (f" (published: {others:,})" if others else "")


def published(row: Mapping[str, Any], part: str) -> str:
    """Returns the published accuracy and, for real data, the difference in percentage points."""
    figure, difference = row[f"published_{part}_accuracy"], row[f"{part}_difference"]
    if figure is None:
        return ""
    return f"{figure:.2%}" + (f" ({difference * 100:+.2f})" if difference is not None else "")


def interval(row: Mapping[str, Any]) -> str:
    """Returns between which percentages the test accuracy lies with 95% confidence."""
    return f"{row['test_accuracy_low'] * 100:.2f} to {row['test_accuracy_high'] * 100:.2f}"


def caveat(rows: list[dict[str, Any]]) -> str:
    """Returns what a reader must know before comparing the table with published figures."""
    sentences = []
    if any(row["data"] != ORIGINS["real"] for row in rows):
        sentences.append(
            "Drawn pictures and samples of the real data are there to show the pipeline: "
            "accuracies on them must not be compared with the published ones, which were reached "
            "on the whole of the real data."
        )
    if any(row["data"] == ORIGINS["real"] for row in rows):
        sentences.append(
            "In brackets: the difference to the published figure, in percentage points. Mind the "
            "numbers of training images."
        )
    return " ".join(sentences)


def rank(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows of each dataset, the highest test accuracy first."""
    best_first = sorted(rows, key=lambda row: -row["test_accuracy"])
    names = dict.fromkeys(row["dataset"] for row in rows)
    return {name: [row for row in best_first if row["dataset"] == name] for name in names}


def compare_with_published(ranked: list[dict[str, Any]]) -> str:
    """Says how far the best model of a dataset is from the published figure.

    That is its own figure or, where it has none, the highest one of the dataset's other models; on
    test images or, where none was published, on validation images.

    Args:
        ranked: The rows of a dataset, the best model first.
    """
    best = ranked[0]
    for part in ("test", "valid"):
        key = f"published_{part}_accuracy"
        known = [row for row in ranked if row[key] is not None]
        if not known:
            continue
        source = best if best in known else max(known, key=lambda row: row[key])
        figure, reached = source[key], best[f"{part}_accuracy"]
        whose = "it" if source is best else source["model"]
        text = f"Published for {whose}: {figure:.2%} of the {PARTS[part]} images."
        if best["data"] != ORIGINS["real"]:
            return f"{text} Not to be compared: this data is {_what_it_is(best['data'])}."
        points = (reached - figure) * 100
        text = f"{text} Here {points:+.2f} percentage points"
        if part == "valid":
            return f"{text} ({reached:.2%})."
        chance = best["test_accuracy_low"] <= figure <= best["test_accuracy_high"]
        return f"{text}{', which may be chance' if chance else ''}."
    return "Nothing is published to compare it with."


def _what_it_is(data: str) -> str:
    return "drawn" if data == ORIGINS["drawn"] else f"a {data}"


def compare_best_two(ranked: list[dict[str, Any]], right: dict[str, np.ndarray]) -> str:
    """Says whether the best model of a dataset is better than the second by more than chance.

    Args:
        ranked: The rows of the dataset, the best model first.
        right: Which of the same test images each model gets right, bool [n].
    """
    if len(ranked) == 1:
        return "No other model to compare it with."
    first, second = (row["model"] for row in ranked[:2])
    found = mcnemar(right[first], right[second])
    if found.significant:
        verdict = "is better than chance explains"
    elif found.only_first == found.only_second:
        verdict = "is no better"
    else:
        verdict = "may be ahead by chance alone"
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    return (
        f"Against the second, {second}, it {verdict}: of the test images, it alone gets "
        f"{found.only_first:,} right, the second alone {found.only_second:,} "
        f"(McNemar's exact test, {p})."
    )


def most_confused(labels: np.ndarray, predicted: np.ndarray, classes: list[str]) -> str:
    """Says which class is most often taken for which other."""
    counts = confusion_matrix(labels, predicted, labels=range(len(classes)))
    mistakes = counts - np.diag(np.diag(counts))
    if not mistakes.any():
        return "no image is taken for another class"
    true, said = np.unravel_index(mistakes.argmax(), mistakes.shape)
    return (
        f"the most frequent mistake is {classes[true]} taken for {classes[said]}, "
        f"{mistakes[true, said]:,} of {counts[true].sum():,} images"
    )


def describe(row: dict[str, Any], classes: list[str], results: Results) -> dict[str, str]:
    """Returns what the texts of a model's pictures name."""
    history, per_class = results.history, results.per_class
    weakest = per_class.iloc[int(per_class["f1"].argmin())]
    return {
        "model": row["model"],
        "accuracy": f"{row['test_accuracy']:.2%}",
        "trained_for": row["trained_for"],
        "parameters": f"{row['parameters']:,}",
        "valid_first": f"{history['val_accuracy'].iloc[0]:.2%}",
        "valid_last": f"{history['val_accuracy'].iloc[-1]:.2%}",
        "train_last": f"{history['accuracy'].iloc[-1]:.2%}",
        "confused": most_confused(results.labels, results.predicted, classes),
        "weakest": f"that of {weakest['class']}, {weakest['f1']:.3f}",
        "roc_auc": f"{per_class['roc_auc'].mean():.3f}",
        "calibration_error": f"{results.summary['expected_calibration_error']:.3f}",
        "shown": results.summary["shown"],
    }


def read_left_out(path: Path) -> list[dict[str, Any]]:
    """Returns, for each reason, how many files were left out of a dataset, and the first ones."""
    table = pd.read_csv(path, dtype=str)
    return [
        {"reason": reason, "count": len(files), "files": list(files[:LEFT_OUT_FILES])}
        for reason, files in table.groupby("reason")["file"]
    ]


def sizes_in_words(sizes: pd.DataFrame) -> str:
    """Returns the sizes of a dataset's images before they were resized: `120-500 x 90-400`."""
    ranges = [(sizes[side].min(), sizes[side].max()) for side in ("height", "width")]
    return " x ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in ranges)


def long_histories(results: dict[str, Results]) -> pd.DataFrame:
    """Returns all histories as one table: model, at (epoch or step), then the figures."""
    tables = []
    for name, found in results.items():
        table = found.history.rename(columns={"epoch": "at", "step": "at"})
        table.insert(0, "model", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def long_confusion(results: dict[str, Results], classes: dict[str, list[str]]) -> pd.DataFrame:
    """Returns all confusion matrices as one table: model, actual, predicted, images.

    Args:
        results: Of each model.
        classes: Of each model's dataset.
    """
    rows = []
    for name, found in results.items():
        names = classes[name]
        counts = confusion_matrix(found.labels, found.predicted, labels=range(len(names)))
        rows += [
            {"model": name, "actual": names[true], "predicted": names[said], "images": count}
            for (true, said), count in np.ndenumerate(counts)
        ]
    return pd.DataFrame(rows)


def overview_points(ranked: dict[str, list[dict[str, Any]]]) -> dict[str, list[Point]]:
    """Returns the models as the overview draws them.

    Args:
        ranked: The rows of each dataset, the best model first.
    """
    costs = {"parameters": "parameters", "multiply_adds": "multiply-adds an image"}
    return {
        name: [
            Point(
                row["model"],
                row["test_accuracy"],
                Interval(row["test_accuracy_low"], row["test_accuracy_high"]),
                None if row["test_difference"] is None else row["published_test_accuracy"],
                {name: row[key] for key, name in costs.items()},
            )
            for row in found
        ]
        for name, found in ranked.items()
    }


def summarise(ranked: list[dict[str, Any]], right: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns what the page says of the best model of a dataset.

    Args:
        ranked: The rows of the dataset, the best model first.
        right: Which of the test images each model gets right, bool [n].
    """
    best = ranked[0]
    return {
        "row": best,
        "test_images": len(right[best["model"]]),
        "published": compare_with_published(ranked),
        "second": compare_best_two(ranked, right),
    }


def model_card(
    row: dict[str, Any], classes: list[str], results: Results, pictures: Path, section: Any
) -> dict[str, Any]:
    """Returns what the page says of a model.

    Args:
        row: Its row of the table of accuracy.
        classes: Of its dataset.
        results: What is known of it.
        pictures: The folder that `plot` wrote.
        section: Its section of `params.yaml`.
    """
    facts = describe(row, classes, results)
    return {
        "row": row,
        "groups": page.model_pictures(_existing(pictures), facts),
        "layers": results.layers.to_dict("records"),
        "params": to_yaml(section),
    }


def dataset_card(row: dict[str, Any], dataset: Dataset, section: Any) -> dict[str, Any]:
    """Returns what the page says of a dataset.

    Args:
        row: Its row of the table of datasets.
        dataset: What is known of it.
        section: Its section of `params.yaml`.
    """
    summary = dataset.summary
    images = summary["images"]
    return row | {
        "origin": ORIGINS_IN_WORDS[summary["origin"]],
        "size": " x ".join(map(str, summary["image_shape"][:2])),
        "size_before": sizes_in_words(dataset.sizes),
        "colour": "colour" if summary["image_shape"][2] == 3 else "grey",
        "counts": {name: [images[part][name] for part in PARTS] for name in summary["classes"]},
        "totals": [row[part] for part in PARTS],
        "reasons": dataset.left_out,
        # Where it was downloaded from is no part of the page: it may be a path of one machine.
        "params": to_yaml({key: section[key] for key in ("prepare", "split")}),
    }


def to_yaml(section: Any) -> str:
    """Returns a section of `params.yaml` as text, the same whatever the order of its keys."""
    text: str = yaml.safe_dump(section, allow_unicode=True, width=76)
    return text.rstrip()


def leftovers(models: Collection[str], datasets: Collection[str]) -> list[Path]:
    """Returns the files of models and datasets that were removed from `params.yaml`, sorted."""
    return sorted(
        path
        for names, folders in ((models, MODEL_FOLDERS), (datasets, DATASET_FOLDERS))
        for folder in folders
        for path in Path(folder).glob("[!.]*")
        if path.stem not in names
    )


def page_context(
    title: str,
    rows: list[dict[str, Any]],
    dataset_rows: list[dict[str, Any]],
    results: dict[str, Results],
    datasets: dict[str, Dataset],
    sections: dict[str, Any],
) -> dict[str, Any]:
    """Returns what the page says, all but the overview's pictures.

    Args:
        title: Of the page.
        rows: The table of accuracy, a row a model.
        dataset_rows: The table of datasets.
        results: What is known of each model.
        datasets: What is known of each dataset.
        sections: `params.yaml`.
    """
    right = {name: found.right for name, found in results.items()}
    return {
        "title": title,
        "best": [summarise(ranked, right) for ranked in rank(rows).values()],
        "rows": rows,
        "models": [
            model_card(
                row,
                datasets[row["dataset"]].summary["classes"],
                results[row["model"]],
                Path("reports/figures") / row["model"],
                sections["models"][row["model"]],
            )
            for row in rows
        ],
        "datasets": [
            dataset_card(row, datasets[row["dataset"]], sections["datasets"][row["dataset"]])
            for row in dataset_rows
        ],
        "params": to_yaml({key: sections[key] for key in ("training", "evaluation", "plots")}),
        "caveat": caveat(rows),
        "training_images": training_images,
        "published": published,
        "interval": interval,
    }


def main() -> None:
    """Writes the report over all models in `params.yaml`."""
    options = params.read("report", Options)
    # In an order of the report's own: that of params.yaml may change without a stage running again.
    models = dict(
        sorted(
            params.read("models", dict[str, Model]).items(),
            key=lambda item: (item[1].dataset, item[0]),
        )
    )
    text_size = params.read("plots.text_size", PositiveFloat)
    dpi = params.read("plots.dpi", PositiveInt)

    if not models:
        raise UserError("params.yaml: models: none found, expected one at least")
    if removed := leftovers(models, params.read("datasets", dict[str, Any])):
        print(
            f"not in params.yaml: {', '.join(sorted({path.stem for path in removed}))}; left out "
            f"of the report. To remove what is left: rm -r {shlex.join(map(str, removed))}"
        )
    datasets = {
        name: read_dataset(Path("data/splits") / name, Path("data/arrays") / name)
        for name in dict.fromkeys(model.dataset for model in models.values())
    }
    results = {
        name: read_results(
            Path(f"reports/metrics/{name}.json"),
            Path(f"data/history/{name}.csv"),
            Path(f"data/predictions/{name}"),
        )
        for name in models
    }
    summaries = {name: dataset.summary for name, dataset in datasets.items()}
    rows = [
        accuracy_row(name, model, summaries[model.dataset], results[name])
        for name, model in models.items()
    ]
    dataset_rows = [dataset_row(name, summary) for name, summary in summaries.items()]
    classes = {name: summaries[model.dataset]["classes"] for name, model in models.items()}
    tables = {
        "accuracy.csv": pd.DataFrame(rows, dtype=object),  # or counts beside a gap became floats
        "confusion.csv": long_confusion(results, classes),
        "datasets.csv": pd.DataFrame(dataset_rows),
        "history.csv": long_histories(results),
    }
    context = page_context(options.title, rows, dataset_rows, results, datasets, params.load())

    outputs = (*tables, "accuracy.md", "overview", "index.html")
    with write_atomically(*(Path("reports") / name for name in outputs)) as parts:
        *csv_files, accuracy_md, pictures, index_html = parts
        for table, path in zip(tables.values(), csv_files, strict=True):
            table.to_csv(path, index=False)
        accuracy_md.write_text(to_markdown(rows), encoding="utf-8")
        pictures.mkdir()
        shown: dict[str, Picture] = {}
        with figures.style(text_size, dpi):
            drawn = overview.draw(
                overview_points(rank(rows)),
                summaries,
                {name: dataset.training for name, dataset in datasets.items()},
                {name: dataset.sizes for name, dataset in datasets.items()},
                options.examples_per_class,
                options.seed,
            )
            for name, (figure, alt, caption) in drawn.items():
                path = pictures / f"{name}.png"
                figures.save(figure, path)
                shown[name] = page.picture(path, f"overview/{path.name}", alt, caption)
        html = page.render(TEMPLATES, overview=shown, **context)
        index_html.write_text(html, encoding="utf-8")


def _existing(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} is missing: `dvc repro` makes it, `dvc pull` brings it")
    return path


if __name__ == "__main__":
    run(main)
