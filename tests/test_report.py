"""The tables, the comparisons and what the page says, on results written by hand."""

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TOP, Project
from PIL import Image
from ruamel.yaml import YAML

from stages import plot, report
from stages.lib.command import UserError
from stages.lib.files import write_json
from stages.page.model import group_pictures
from stages.page.rendering import Picture, arrange
from stages.pictures.overview import choose_examples
from stages.results.reading import read_dataset
from stages.results.sentences import (
    compare_best_two,
    compare_with_published,
    describe_calibration,
    most_confused,
)
from stages.results.statistics import mcnemar, wilson_interval

CLASSES = {"digits": ["0", "1", "2"], "pictures": ["cat", "dog"]}
SHAPES = {"digits": (12, 12, 1), "pictures": (10, 10, 3)}
TEST_IMAGES = 40
TABLES = {
    "notes": "file,note",
    "duplicates": "file,copy_of,reason",
    "near_copies": "first,second,first_class,second_class,distance,"
    "first_row,second_row,first_part,second_part",
    "checks": "check,file,row,value,part",
}


class Finished:
    """A folder with all that `plot` and `report` read, as if the stages before them had run.

    Its two datasets are `digits`, three grey classes, and `pictures`, two in colour.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        shutil.copy(TOP / "dvc.yaml", folder)
        self.params: dict[str, Any] = {
            "datasets": {},
            "training": {"seed": 0, "threads": 2},
            "models": {},
            "evaluation": {"seed": 0},
            "plots": {"text_size": 9, "dpi": 60},
            "report": {"title": "Results & <more>", "examples_per_class": 2, "seed": 0},
        }

    def add_dataset(self, name: str, origin: str, left_out: str = "") -> None:
        """Writes a dataset with five images of each class to learn from."""
        classes, shape = CLASSES[name], SHAPES[name]
        self.params["datasets"][name] = {
            "download": {"source": "/home/somebody/data.zip"},
            "prepare": {"format": "idx"},
            "split": {"valid": 0.25, "seed": 0},
        }
        split, arrays = self.folder / "data/splits" / name, self.folder / "data/arrays" / name
        split.mkdir(parents=True)
        arrays.mkdir(parents=True)
        labels = np.arange(5 * len(classes), dtype=np.uint8) % len(classes)
        rng = np.random.default_rng(0)
        np.save(split / "train_images.npy", rng.integers(0, 255, (len(labels), *shape), np.uint8))
        np.save(split / "train_labels.npy", labels)
        summary = {
            "origin": origin,
            "classes": classes,
            "image_shape": shape,
            "images": {
                part: dict.fromkeys(classes, count)
                for part, count in (("train", 5), ("valid", 2), ("test", 3))
            },
            "unlabelled": 0,
            "left_out": left_out.count("\n"),
        }
        write_json(split / "summary.json", summary)
        width = shape[1] if name == "digits" else 2 * shape[1]
        sizes = f"width,height,images\n{width},{shape[0]},9\n"
        sizes += f"{width + 3},{shape[0]},1\n" if name == "pictures" else ""
        (arrays / "sizes.csv").write_text(sizes)
        (arrays / "left_out.csv").write_text(f"file,reason\n{left_out}", encoding="utf-8")
        np.save(arrays / "images.npy", np.load(split / "train_images.npy"))
        for table, header in TABLES.items():
            (arrays / f"{table}.csv").write_text(f"{header}\n")

    def add_model(self, name: str, dataset: str, right: int, **published: float) -> None:
        """Writes a model that gets the first `right` of the 40 test images right."""
        classes = CLASSES[dataset]
        self.params["models"][name] = {
            "dataset": dataset,
            "network": {"layers": ["Flatten"]},
            "training": {"optimizer": "Adam", "batch_size": 16, "epochs": 2},
        } | ({"published": published} if published else {})
        labels = np.arange(TEST_IMAGES, dtype=np.uint8) % len(classes)
        predicted = np.where(np.arange(TEST_IMAGES) < right, labels, (labels + 1) % len(classes))
        metrics = {
            "valid_accuracy": 0.8,
            "valid_loss": 0.5,
            "test_accuracy": round(right / TEST_IMAGES, 4),
            "test_loss": 0.4567,
            "parameters": 1000 * right,
            "multiply_adds": 10_000_000 * right,
            "temperature": 1.5,
            "test_calibration_error": 0.0321,
            "test_calibration_error_scaled": 0.0123,
            "test_loss_scaled": 0.4,
        }
        for folder in ("data/history", f"data/predictions/{name}"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"data/predictions/{name}/metrics.json", metrics)
        self.write_history(name, "epoch", ["1,0.5,1.5,0.6,1", "2,0.7,0.9,0.8,0.5"])
        predictions = self.folder / "data/predictions" / name
        np.save(predictions / "test_labels.npy", labels)
        probabilities = np.full((TEST_IMAGES, len(classes)), 0.1, np.float32)
        probabilities[np.arange(TEST_IMAGES), predicted] = 0.9
        np.save(predictions / "test_probabilities.npy", probabilities)
        write_json(
            predictions / "summary.json",
            {"classes": classes, "expected_calibration_error": 0.0123, "shown": "test"},
        )
        rows = [f"{name},13,0.9,0.8,0.{85 - at},0.95,0.9" for at, name in enumerate(classes)]
        header = "class,images,precision,recall,f1,roc_auc,average_precision"
        (predictions / "per_class.csv").write_text("\n".join([header, *rows, ""]))
        (predictions / "layers.csv").write_text(
            "name,type,output_shape,parameters,inputs\nimages,InputLayer,12 x 12 x 1,0,\n"
            "classes,Dense,3,435,images\n"
        )
        counts = np.zeros((len(classes), len(classes)), int)
        np.add.at(counts, (labels, predicted), 1)
        pd.DataFrame(counts, pd.Index(classes, name="true class"), classes).to_csv(
            predictions / "confusion_matrix.csv"
        )
        snapshots = self.folder / "data/snapshots"
        snapshots.mkdir(exist_ok=True)
        np.save(snapshots / f"{name}.npy", np.zeros((2, 0, 12, 12, 1), np.float32))

    def write_history(self, name: str, unit: str, rows: list[str]) -> None:
        """Writes the history of a model, whose rows are counted in `epoch` or `step`."""
        table = "\n".join([f"{unit},accuracy,loss,val_accuracy,val_loss", *rows, ""])
        (self.folder / f"data/history/{name}.csv").write_text(table)

    def report(self) -> str:
        """Writes the report and returns the page about all models."""
        self.run(report.main)
        return self.read("index.html")

    def plot(self, name: str) -> str:
        """Draws the figures of a model and returns its page."""
        self.run(plot.main, name)
        return self.read(f"models/{name}.html")

    def run(self, main: Callable[..., None], *arguments: str) -> None:
        YAML().dump(self.params, self.folder / "params.yaml")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            main(*arguments)

    def read(self, name: str) -> str:
        return (self.folder / "reports" / name).read_text(encoding="utf-8")


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    """Two models of digits, which are real, and one of pictures, which are drawn."""
    project = Finished(tmp_path / "finished")
    project.add_dataset("digits", "real")
    project.add_dataset("pictures", "drawn")
    project.add_model("dense", "digits", 30, test_accuracy=0.8, training_images=60_000)
    project.add_model("cnn", "digits", 38)
    project.add_model("photo_net", "pictures", 25, valid_accuracy=0.7838)
    return project


def accuracy(project: Finished) -> pd.DataFrame:
    """Returns the rows of models."""
    table = pd.read_csv(project.folder / "reports/accuracy.csv").set_index("model")
    return table[table["parameters"].notna()]


def text_of(page: str) -> str:
    """The page's words without its tags."""
    return " ".join(re.sub(r"<[^>]+>", "", page).split())


def test_each_dataset_has_a_row_for_the_answer_that_needs_no_image(finished: Finished) -> None:
    path = finished.folder / "data/splits/digits/summary.json"
    summary = json.loads(path.read_text())
    first, second, third = summary["classes"]
    summary["images"] = {
        "train": {first: 4, second: 6, third: 6},  # of equals, the first
        "valid": {first: 1, second: 2, third: 2},
        "test": {first: 30, second: 10, third: 0},
    }
    write_json(path, summary)
    page = finished.report()
    table = pd.read_csv(finished.folder / "reports/accuracy.csv").set_index("model")
    name = "digits: always the commonest class"
    assert list(table.index)[:3] == ["cnn", "dense", name]
    row = table.loc[name]
    assert (row["valid_accuracy"], row["test_accuracy"]) == (0.4, 0.25)
    interval = (row["test_accuracy_low"], row["test_accuracy_high"])
    assert interval == pytest.approx(wilson_interval(10, 40), abs=5e-5)
    written = f"| {name} | digits (3 classes), real | 16 |  | not trained | 40.00% |  | 25.00% | "
    assert written in finished.read("accuracy.md")
    # It is no model: it has no page, no neighbours, and is never the best.
    assert f"{name.replace(' ', '%20')}.html" not in page
    assert f"{name}.html" not in page
    assert "always" not in finished.read("models.js")
    assert "3 models on 2 datasets" in page


def test_a_model_that_is_worse_than_the_commonest_class_is_still_the_best_model(
    finished: Finished,
) -> None:
    del finished.params["models"]["cnn"]
    finished.add_model("dense", "digits", 1)
    page = finished.report()
    assert 'by the best model, <a href="models/dense.html">dense</a>' in page
    assert re.findall(r'<th scope="row">(?:<a [^>]*>)?(digits|dense)', page)[0] == "digits"


def test_page_and_table_say_which_views_were_averaged_and_what_the_image_alone_gives(
    finished: Finished,
) -> None:
    folder = finished.folder / "data/predictions/cnn"
    for file, change in (
        ("summary.json", {"test_time": {"flip": "horizontal", "shift": 2}}),
        ("metrics.json", {"test_accuracy_plain": 0.925}),
    ):
        write_json(folder / file, json.loads((folder / file).read_text()) | change)
    assert "flip, shifts by 2; 92.50% without" in finished.report()
    assert "| 95.00% (flip, shifts by 2; 92.50% without) |" in finished.read("accuracy.md")
    page = finished.plot("cnn")
    assert "(flip, shifts by 2), and the probabilities were averaged" in page
    assert "Without that, 92.50% of the test images are right" in page


@pytest.mark.parametrize(
    ("temperature", "valid_accuracy", "said"),
    [
        (1.5, 0.8, "it is too sure: temperature 1.50. Of the test images, that takes the calibrat"),
        (0.5, 0.8, "it is not sure enough: temperature 0.50."),
        (1.0, 0.8, "changes nothing: no other temperature is better."),
        (1.0, 1, "changes nothing: none of them is wrong."),
        (99.9995, 0.8, "ask for an even higher one: the network knows nothing."),
    ],
)
def test_a_models_page_says_what_temperature_scaling_does(
    finished: Finished, temperature: float, valid_accuracy: float, said: str
) -> None:
    metrics = json.loads((finished.folder / "data/predictions/cnn/metrics.json").read_text())
    changed = {"temperature": temperature, "valid_accuracy": valid_accuracy}
    assert said in describe_calibration(metrics | changed)


def test_there_is_a_row_for_each_model_in_params_and_none_for_a_removed_one(
    finished: Finished,
) -> None:
    finished.report()
    assert list(accuracy(finished).index) == ["cnn", "dense", "photo_net"]
    del finished.params["models"]["dense"]
    page = finished.report()
    assert list(accuracy(finished).index) == ["cnn", "photo_net"]
    assert "dense" not in page + finished.read("history.csv") + finished.read("confusion.csv")


@pytest.mark.parametrize(
    ("rows", "words"),
    [("epoch\n1", "1 epoch"), ("epoch\n1\n2", "2 epochs"), ("step\n0\n6000", "6001 steps")],
)
def test_how_long_a_model_was_trained_is_said_in_words(
    finished: Finished, rows: str, words: str
) -> None:
    unit, *ends = rows.split("\n")
    finished.write_history("dense", unit, [f"{end},0.5,1.5,0.6,1" for end in ends])
    assert f"Learning curves of dense over {words}:" in finished.plot("dense")
    finished.report()
    assert f"| {words} |" in finished.read("accuracy.md")
    assert accuracy(finished).loc["dense", "trained_for"] == words


def test_what_is_no_output_is_moved_away_or_named_and_nothing_else_is(
    finished: Finished, capfd: pytest.CaptureFixture[str]
) -> None:
    # A model may have the name of a dataset.
    finished.params["models"]["pictures"] = finished.params["models"].pop("photo_net")
    finished.add_model("pictures", "pictures", 25)
    del finished.params["datasets"]["digits"]
    del finished.params["models"]["cnn"]
    del finished.params["models"]["dense"]
    strays = [
        "data/arrays/pictures/my notes.txt",
        "data/predictions/readme.md",
        "data/splits/pictures/old/test_images.npy",
    ]
    running = finished.folder / "data/history/pictures.part.csv"
    for path in [*(finished.folder / name for name in strays), running]:
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.name)
    finished.report()
    removed = ("cnn", "dense", "photo_net")
    moved = [
        *("data/arrays/digits", "data/arrays/pictures/my notes.txt"),
        *(f"data/history/{name}.csv" for name in removed),
        *(f"data/predictions/{name}" for name in removed),
        *("data/predictions/readme.md", "data/splits/digits", "data/splits/pictures/old"),
    ]
    printed = capfd.readouterr().out
    assert f"so moved to data/leftovers: {', '.join(moved)}\n" in printed
    for name in moved:
        assert not (finished.folder / name).exists()
    for name in strays:
        assert (finished.folder / name.replace("data", "data/leftovers", 1)).is_file(), name
    assert running.exists()
    [command] = re.findall("rm -r (.*)", printed)
    snapshots = [f"data/snapshots/{name}.npy" for name in removed]
    assert command.split() == [*snapshots, "data/leftovers"]

    page = finished.report()
    assert "so moved to" not in capfd.readouterr().out
    assert list((finished.folder / "data/predictions").iterdir()) == [
        finished.folder / "data/predictions/pictures"
    ]
    assert "dense" not in page


def test_what_is_moved_away_twice_replaces_what_was_moved_before(finished: Finished) -> None:
    for content in ("first", "second"):
        folder = finished.folder / "data/predictions/old"
        folder.mkdir()
        (folder / "summary.json").write_text(content)
        finished.report()
    moved = finished.folder / "data/leftovers/predictions/old/summary.json"
    assert moved.read_text() == "second"


def test_without_a_model_there_is_nothing_to_report(finished: Finished) -> None:
    finished.params["models"] = {}
    with pytest.raises(UserError, match="models: none found, expected at least one"):
        finished.report()


def test_a_published_percentage_is_refused(finished: Finished) -> None:
    finished.params["models"]["dense"]["published"]["test_accuracy"] = 97.93
    complaint = r"models\.dense\.published\.test_accuracy: expected less than or equal to 1"
    with pytest.raises(UserError, match=complaint):
        finished.report()


def test_a_dataset_without_a_model_is_left_out(finished: Finished) -> None:
    del finished.params["models"]["photo_net"]
    assert "dataset-pictures" not in finished.report()
    assert not (finished.folder / "reports/overview/classes_pictures.png").exists()


def test_real_data_shows_the_difference_to_the_published_figure(finished: Finished) -> None:
    page = text_of(finished.report())
    row = accuracy(finished).loc["dense"]
    assert (row["data"], row["test_difference"]) == ("real", -0.05)
    assert "80.00% (-5.00)" in page
    assert "| `dense` | digits (3 classes), real |" in finished.read("accuracy.md")
    assert "| 75.00% | 59.81 to 85.81 | 80.00% (-5.00) | 0.457 |" in finished.read("accuracy.md")


@pytest.mark.parametrize(
    ("origin", "words"), [("drawn", "drawn"), ("sample", "sample of the real data")]
)
def test_drawn_and_sample_data_are_marked_and_show_no_difference(
    tmp_path: Path, origin: str, words: str
) -> None:
    project = Finished(tmp_path)
    project.add_dataset("digits", origin)
    project.add_model("dense", "digits", 30, test_accuracy=0.8, valid_accuracy=0.9)
    page = text_of(project.report())
    row = accuracy(project).loc["dense"]
    assert row["data"] == words
    assert np.isnan(row["test_difference"])
    assert np.isnan(row["valid_difference"])
    assert "(-5.00)" not in page + project.read("accuracy.md")
    assert "must not be compared" in page
    assert "must not be compared" in project.read("accuracy.md")
    assert f"Not to be compared: this data is {'' if origin == 'drawn' else 'a '}{words}." in page


def test_counts_in_the_tables_are_whole_numbers(finished: Finished) -> None:
    finished.report()
    header, *rows = (line.split(",") for line in finished.read("accuracy.csv").splitlines())
    cells = [dict(zip(header, row, strict=True)) for row in rows if "always" not in row[0]]
    assert [row["published_training_images"] for row in cells] == ["", "60000", ""]
    assert [row["parameters"] for row in cells] == ["38000", "30000", "25000"]
    assert finished.read("datasets.csv").splitlines() == [
        "dataset,data,classes,image,train,valid,test,unlabelled,left_out",
        "digits,real,3,12x12x1,15,6,9,0,0",
        "pictures,drawn,2,10x10x3,10,4,6,0,0",
    ]


def test_the_long_tables_hold_every_history_and_every_test_image(finished: Finished) -> None:
    finished.report()
    histories = pd.read_csv(finished.folder / "reports/history.csv")
    assert histories.groupby("model", sort=False)["at"].apply(list).to_dict() == {
        "dense": [1, 2],
        "cnn": [1, 2],
        "photo_net": [1, 2],
    }
    table = pd.read_csv(finished.folder / "reports/confusion.csv", dtype={"actual": str})
    assert table.groupby("model")["images"].sum().eq(TEST_IMAGES).all()
    right = table[table["actual"] == table["predicted"]].groupby("model")["images"].sum()
    assert right.to_dict() == {"dense": 30, "cnn": 38, "photo_net": 25}


def test_wilsons_interval_is_that_of_the_literature() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    assert wilson_interval(10, 10) == pytest.approx((0.722467, 1), abs=1e-6)


def test_mcnemars_exact_test_is_the_binomial_one_of_the_images_that_differ() -> None:
    first = np.array([True] * 20 + [True] + [False] * 8)
    second = np.array([True] * 20 + [False] + [True] * 8)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (1, 8)
    assert found.p == pytest.approx(2 * (1 + 9) / 2**9)
    assert found.significant
    assert mcnemar(first, first).p == 1
    assert not mcnemar(first[18:23], second[18:23]).significant


def test_the_best_two_models_of_a_dataset_are_compared(finished: Finished) -> None:
    page = text_of(html.unescape(finished.report()))
    assert (
        "Against the second, dense, it is better than chance explains: of the test images, it "
        "alone gets 8 right, the second alone 0 (McNemar's exact test, p = 0.008)."
    ) in page
    assert "No other model to compare it with." in page
    finished.add_model("cnn_as_good", "digits", 38)
    assert "Against the second, cnn_as_good, it is no better: of" in text_of(finished.report())
    del finished.params["models"]["cnn_as_good"]
    finished.add_model("cnn_again", "digits", 37)
    assert "Against the second, cnn_again, it may be ahead by chance alone" in text_of(
        finished.report()
    )


def test_of_two_models_with_one_rounded_accuracy_the_first_is_not_called_better() -> None:
    right = {"a": np.ones(100_000, bool), "b": np.ones(100_000, bool)}
    right["a"][:8] = False  # of many images, two accuracies may be one in four digits
    rows = ranked(a={}, b={})
    assert compare_best_two(rows, right) == (
        "Against the second, b, it is no better: of the test images, it alone gets 0 right, the "
        "second alone 8 (McNemar's exact test, p = 0.008)."
    )


def ranked(**models: dict[str, Any]) -> list[dict[str, Any]]:
    unknown = {"published_test_accuracy": None, "published_valid_accuracy": None, "data": "real"}
    reached = {"test_accuracy_low": 0.78, "test_accuracy_high": 0.82, "valid_accuracy": 0.81}
    rows = [{"model": name, "test_accuracy": 0.8} | unknown | reached for name in models]
    return [row | model for row, model in zip(rows, models.values(), strict=True)]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (
            {"a": {"published_test_accuracy": 0.75}},
            "Published for it: 75.00% of the test images. Here +5.00 percentage points.",
        ),
        (
            {"a": {"published_test_accuracy": 0.79}},
            "Published for it: 79.00% of the test images. Here +1.00 percentage points, which may "
            "be chance.",
        ),
        (
            {"a": {"published_valid_accuracy": 0.9}},
            "Published for it: 90.00% of the validation images. Here -9.00 percentage points "
            "(81.00%).",
        ),
        (
            {"a": {}, "b": {"published_test_accuracy": 0.6}, "c": {"published_test_accuracy": 0.7}},
            "Published for c: 70.00% of the test images. Here +10.00 percentage points.",
        ),
        ({"a": {}}, "Nothing is published to compare it with."),
    ],
)
def test_the_summary_says_how_far_the_best_model_is_from_the_published_figure(
    models: dict[str, Any], expected: str
) -> None:
    assert compare_with_published(ranked(**models)) == expected


def test_the_most_frequent_mistake_is_named() -> None:
    classes = ["ant", "bee", "cow"]
    assert most_confused(np.array([[1, 0, 2], [1, 1, 0], [0, 0, 1]]), classes) == (
        "the most frequent mistake is ant taken for cow, 2 of 3 images"
    )
    assert most_confused(np.eye(3, dtype=int), classes) == "no image is taken for another class"


def test_what_was_left_out_stands_on_the_page_with_the_reasons(tmp_path: Path) -> None:
    project = Finished(tmp_path)
    broken = "".join(f"cat.{at}.jpg,no image\n" for at in range(7))
    project.add_dataset("pictures", "real", f"{broken}notes.txt,no known class\n")
    project.add_model("photo_net", "pictures", 25)
    page = text_of(project.report())
    assert "7 files: no image (cat.0.jpg, cat.1.jpg, cat.2.jpg, cat.3.jpg, cat.4.jpg, and" in page
    assert "1 file: no known class (notes.txt)" in page


def test_every_link_of_every_page_leads_to_something_in_the_reports(finished: Finished) -> None:
    pages = {f"models/{name}.html": finished.plot(name) for name in finished.params["models"]}
    pages["index.html"] = finished.report()
    for name, page in pages.items():
        links = re.findall(r'(?:src|href)="([^"]*)"', page)
        files = {link for link in links if not link.startswith(("#", "data:,"))}
        assert len(files) > 5
        for link in files:
            file, _, anchor = link.partition("#")
            target = (finished.folder / "reports" / name).parent / file
            assert target.is_file(), link
            assert not anchor or target.read_text().count(f'id="{anchor}"') == 1, link
        for anchor in {link[1:] for link in links if link.startswith("#")}:
            assert page.count(f'id="{anchor}"') == 1, anchor
        assert "http" not in page
    drawn = {path.name for path in (finished.folder / "reports/figures/cnn").iterdir()}
    assert drawn == set(re.findall(r'src="../figures/cnn/([^"]*)"', pages["models/cnn.html"]))


def test_every_picture_says_what_is_on_it(finished: Finished) -> None:
    pages = [finished.report(), finished.plot("dense")]
    texts = [text for page in pages for text in re.findall(r'alt="([^"]*)"', page)]
    assert len(texts) == 7 + len(list((finished.folder / "reports/figures/dense").iterdir()))
    assert all(len(text) > 20 for text in texts)
    confusion = next(text for text in texts if text.startswith("Confusion matrix of dense"))
    assert "75.00% of the test images are on its diagonal" in confusion


def test_a_figure_without_a_caption_of_its_own_is_shown_under_its_name(tmp_path: Path) -> None:
    for name in ("something_new", "feature_maps_conv2d_2", "curves", "feature_maps_conv2d_10"):
        Image.new("RGB", (640, 320)).save(tmp_path / f"{name}.png")
    facts = dict.fromkeys(("trained_for", "valid_first", "valid_last", "train_last"), "")
    groups = group_pictures(tmp_path, {"model": "cnn", **facts})
    assert [picture.link for pictures in groups.values() for picture in pictures] == [
        f"../figures/cnn/{name}.png"
        for name in ("curves", "feature_maps_conv2d_2", "feature_maps_conv2d_10", "something_new")
    ]
    assert groups["More"][0].alt == "Something new of cnn."
    assert "layer conv2d_10 of cnn" in groups["What it looks at"][1].alt


def test_pictures_share_a_row_only_with_one_of_similar_height() -> None:
    heights = [300, 600, 900, 320, 1000, 610, 100]
    pictures = [Picture(f"{height}", "", "", 640, height) for height in heights]
    rows = [[picture.height for picture in row] for row in arrange(pictures)]
    assert rows == [[300, 320], [600, 610], [900, 1000], [100]]


def test_the_best_model_of_each_dataset_comes_first(finished: Finished) -> None:
    page = finished.report()
    expected = ["cnn", "dense", "photo_net"]
    assert re.findall(r'<th scope="row"><a href="models/(\w+).html">', page) == expected
    assert finished.read("models.js") == f"const models = {json.dumps(expected)};\n"


def test_a_hundred_models_fit_one_page(finished: Finished) -> None:
    for index in range(100):
        finished.add_model(f"pictures_network_{index}", "pictures", 1 + index % 39)
    page = finished.report()
    assert len(page) < 200_000
    assert page.count("models/pictures_network_") == 101


def test_texts_are_escaped(finished: Finished) -> None:
    page = finished.report()
    assert "<title>Results &amp; &lt;more&gt;</title>" in page
    assert "<more>" not in page


def test_where_the_data_was_downloaded_from_is_no_part_of_the_report(finished: Finished) -> None:
    assert "somebody" not in finished.report()


def test_two_runs_in_two_places_give_the_same_bytes(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "another place")
    another = Finished(tmp_path / "another place")
    another.params = finished.params
    finished.report()
    another.report()
    files = sorted(p for p in finished.folder.rglob("*") if p.is_file())
    assert len([p for p in files if p.parent.name == "overview"]) == 7
    for path in files:
        other = another.folder / path.relative_to(finished.folder)
        assert path.read_bytes() == other.read_bytes(), path.name


def test_the_overview_changes_with_what_it_shows(finished: Finished) -> None:
    def pictures() -> dict[str, bytes]:
        return {p.stem: p.read_bytes() for p in (finished.folder / "reports/overview").iterdir()}

    finished.report()
    before = pictures()
    finished.params["report"]["seed"] = 1
    finished.params["models"].pop("cnn")
    finished.report()
    changed = {name for name, image in pictures().items() if image != before[name]}
    assert changed == {"accuracy", "costs", "examples_digits", "examples_pictures"}


def test_the_order_of_params_changes_no_byte(finished: Finished) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return value

    def written() -> dict[str, bytes]:
        finished.report()
        files = (finished.folder / "reports").rglob("*")
        return {str(path): path.read_bytes() for path in files if path.is_file()}

    before = written()
    finished.params = turned(finished.params)
    assert written() == before


def test_images_of_many_sizes_are_shown_as_they_were_before_resizing(finished: Finished) -> None:
    page = finished.report()
    assert "<dt>Before resizing</dt><dd>10 x 20-23</dd>" in page
    assert page.count("Before resizing") == 1
    drawn = {path.stem for path in (finished.folder / "reports/overview").iterdir()}
    assert {name for name in drawn if name.startswith("sizes_")} == {"sizes_pictures"}


def test_examples_are_as_many_of_each_class_or_all_there_are() -> None:
    labels = np.array([1, 0, 0, 1, 0, 2, 0], np.uint8)
    chosen = choose_examples(labels, 2, seed=0)
    assert list(labels[chosen]) == [0, 0, 1, 1, 2]
    assert list(chosen) == list(choose_examples(labels, 2, seed=0))
    assert len({tuple(choose_examples(labels, 2, seed)) for seed in range(9)}) > 1


@pytest.mark.parametrize(
    "name",
    [
        "data/predictions/cnn/metrics.json",
        "data/history/cnn.csv",
        "data/predictions/cnn/test_probabilities.npy",
        "data/predictions/cnn/confusion_matrix.csv",
        "data/splits/digits/summary.json",
        "data/arrays/digits/left_out.csv",
        "data/arrays/digits/sizes.csv",
    ],
)
def test_what_is_missing_is_named_and_nothing_is_written(finished: Finished, name: str) -> None:
    path = finished.folder / name
    path.unlink()
    with pytest.raises(UserError, match=rf"^{re.escape(name)} is missing: `dvc repro`"):
        finished.report()
    assert not (finished.folder / "reports/index.html").exists()


def test_all_models_are_plotted_together_from_git_alone(
    reproduced: Project, tmp_path: Path
) -> None:
    reproduced.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.environment = reproduced.environment
    shutil.copytree(TOP / ".dvc/plots", clone.folder / ".dvc/plots", dirs_exist_ok=True)
    changed = clone.folder / "reports/accuracy.csv"
    changed.write_text(changed.read_text().replace("epochs", "rounds"))
    for command, revisions in (("show", ["workspace"]), ("diff", ["HEAD", "workspace"])):
        plots = json.loads(clone.run("dvc", "plots", command, "--json"))
        assert plots.get("errors") is None
        for name in (
            "validation_loss",
            "reports/history.csv",
            "reports/confusion.csv",
            "reports/accuracy.csv",
        ):
            [plot] = plots["data"][name]
            assert sorted(plot["revisions"]) == revisions
            template, values = json.dumps(plot["content"]), plot["content"]["data"]["values"]
            assert "DVC_METRIC" not in template, "every anchor is filled"
            models = {row["model"] for row in values if row.get("parameters") != ""}
            assert models == {"dense", "cnn"}  # the template leaves out what has no parameters
            assert {row["rev"] for row in values} == set(revisions)


def add_oddities(project: Finished, **parts: str) -> None:
    """Writes copies and odd photographs of `pictures`, as `prepare` does."""
    arrays = project.folder / "data/arrays/pictures"
    np.save(arrays / "test_images.npy", np.full((3, 10, 10, 3), 7, np.uint8))
    rows = {
        "notes": ["a.png,16 bits a channel"],
        "duplicates": [
            "b.jpg,a.jpg,the same pixels: left out",
            "c.jpg,a.jpg,the same pixels: left out",
            'd.jpg,e.jpg,"copies with different labels: cat, dog"',
        ],
        "near_copies": [
            f"z.zip/f{at}.jpg,z.zip/g{at}.jpg,cat,{'dog' if at == 9 else 'cat'},2,{at % 5},2,train,"
            f"{parts.get(f'g{at}', 'train')}"
            for at in range(10)
        ],
        "checks": [f"dark,z.zip/h{at}.jpg,{at % 9},0.{20 + at},train" for at in range(7)]
        + ["odd size,z.zip/i.jpg,1,12.5,train", "odd size,z.zip/j.jpg,1,0.02,test"],
    }
    for table, lines in rows.items():
        (arrays / f"{table}.csv").write_text("\n".join([TABLES[table], *lines, ""]))


def test_the_card_shows_copies_and_odd_photographs_with_their_pictures(finished: Finished) -> None:
    plain = finished.report()
    overview = finished.folder / "reports/overview"
    before = {path.name: path.read_bytes() for path in overview.iterdir()}
    assert "Near copies" not in plain
    assert "checks" not in plain
    add_oddities(finished)
    page = text_of(finished.report())
    for words in (
        "1 file: 16 bits a channel (a.png)",
        "2 files: the same pixels: left out (b.jpg, c.jpg)",
        "1 file: copies with different labels: cat, dog (d.jpg)",
        "10 photographs show the same picture as another one",
        "Of 1 of them, the copy is of another class",
        "7 files: dark (z.zip/h0.jpg, z.zip/h1.jpg, z.zip/h2.jpg, z.zip/h3.jpg, z.zip/h4.jpg, and",
        "2 files: odd size (z.zip/j.jpg, z.zip/i.jpg)",
        "8 of 10 pairs of near copies",
    ):
        assert words in page, words
    assert "in another part" not in page
    after = {path.name: path.read_bytes() for path in overview.iterdir()}
    assert after.keys() - before.keys() == {"near_copies_pictures.png", "checks_pictures.png"}
    assert all(after[name] == content for name, content in before.items())


def test_near_copies_between_given_parts_are_said_to_inflate_the_accuracy(
    finished: Finished,
) -> None:
    add_oddities(finished, g3="test")
    page = text_of(finished.report())
    assert "1 photograph shows the same picture as one in another part" in page
    assert "accuracies on that part are too high" in page


def test_pairs_of_two_classes_come_first_and_the_worst_photographs_of_each_check(
    finished: Finished,
) -> None:
    add_oddities(finished)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished.folder)
        dataset = read_dataset("pictures")
    assert dataset.near_copies[0]["first"] == "z.zip/f9.jpg"
    images = np.load(finished.folder / "data/arrays/pictures/images.npy")
    np.testing.assert_array_equal(dataset.shown.near_copies[0], images[4])
    np.testing.assert_array_equal(dataset.shown.near_copies[1], images[2])
    assert len(dataset.shown.near_copies) == 16
    assert list(dataset.shown.checked_rows["file"])[-2:] == ["z.zip/j.jpg", "z.zip/i.jpg"]
    assert (dataset.shown.checked[-2] == 7).all(), "it is a test image"
    assert len(dataset.shown.checked) == 7
