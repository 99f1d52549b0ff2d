"""Names of classes of any kind survive to the end: tables, figures, pages, answers."""

import csv
import html
import io
import json
import re
import shutil
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import TOP
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from stages import classify, evaluate, plot, report
from stages.lib.files import read_json, write_json
from stages.networks.keras_file import save_model
from stages.networks.network import Network, build_network
from stages.pictures import answers, names, style
from stages.results.reading import Results, read_dataset, read_results, read_table
from stages.results.tables import confusion_matrix
from stages.sources.copies import write_no_tables

WORDS = [
    *("$x$", "a$b$c", "_neg", "true class", "predicted class", "a,b", '"quoted"', "it's", "<b>"),
    *("&amp;", "NA", "null", "None", "nan", "1", "1.0", "001", "True", " leading space", "%"),
    *("{x}", "\\n", "two\nlines", "x" * 40, "y" * 300, "A", "a", "id", "class"),
]
SCRIPTS = [
    *(
        "中文猫",
        "ねこカフェ",
        "고양이",
        "قطة جميلة",
        "חתול",
        "แมวที่บ้าน",
        "कुत्ता क्षत्रिय",
        "γάτα",
        "кошка",
    ),
    *("😀", "kočka", "பூனை", "መኪና", "კატა", "ཞི་མི", "_猫", "a/b"),
]
CLASSES = {"words": WORDS, "scripts": SCRIPTS}
NETWORKS = {
    "words": Network(layers=[{"Rescaling": {"scale": 1 / 255}}, "Flatten"]),
    "scripts": Network(
        layers=[
            {"Rescaling": {"scale": 1 / 255}},
            {"Conv2D": {"filters": 4, "kernel_size": 3, "activation": "relu"}},
            "Flatten",
        ]
    ),
}
PARAMS = {
    "datasets": {
        name: {
            "download": {"source": "sample", "seed": 0},
            "prepare": {"format": "photos"},
            "split": {"valid": 0.2, "test": 0.2, "seed": 0},
        }
        for name in CLASSES
    },
    "training": {"seed": 0},
    "models": {
        name: {
            "dataset": name,
            "network": network.model_dump(),
            "training": {"optimizer": "Adam", "batch_size": 2, "epochs": 2},
        }
        for name, network in NETWORKS.items()
    },
    # Without `submission`, as in the params of those who began before that key was there.
    "evaluation": {"device": "cpu", "threads": 1, "batch_size": 64, "seed": 0},
    "plots": {"text_size": 9, "dpi": 60},
    "report": {"title": "Names", "examples_per_class": 1, "seed": 0},
}
# What `prepare` writes of copies and checks.
TABLES = ("duplicates", "near_copies", "checks")
LEFT_OUT = [("NA", "001"), ("null", "001"), ("<i>.jpg", "a reason, with a comma")]


def write_dataset(top: Path, name: str, classes: list[str]) -> None:
    splits, arrays = top / "data/splits" / name, top / "data/arrays" / name
    splits.mkdir(parents=True)
    arrays.mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(classes), dtype=np.uint8), 2)
    for part in ("train", "valid", "test"):
        images = rng.integers(0, 256, (len(labels), 6, 6, 3), np.uint8)
        np.save(splits / f"{part}_images.npy", images)
        np.save(splits / f"{part}_labels.npy", labels)
    np.save(splits / "unlabelled_images.npy", rng.integers(0, 256, (20, 6, 6, 3), np.uint8))
    np.save(splits / "unlabelled_names.npy", np.array([*map(str, range(19)), "NA"]))
    np.save(splits / "unlabelled_left_out.npy", np.array(["null"]))
    counts = {part: dict.fromkeys(classes, 2) for part in ("train", "valid", "test")}
    summary = {"origin": "real", "classes": classes, "image_shape": [6, 6, 3], "images": counts}
    write_json(splits / "summary.json", summary | {"unlabelled": 20, "left_out": len(LEFT_OUT)})
    (arrays / "sizes.csv").write_text("width,height,images\n6,6,9\n")
    with (arrays / "left_out.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("file", "reason"), *LEFT_OUT])
    (arrays / "notes.csv").write_text("file,note\n")
    write_no_tables({f"{table}.csv": arrays / f"{table}.csv" for table in TABLES})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tensorflow: None) -> Iterator[Path]:  # noqa: ARG001
    """A project that was evaluated, plotted and reported, as the current directory."""
    top = tmp_path_factory.mktemp("project")
    (top / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    shutil.copy(TOP / "dvc.yaml", top)
    for folder in ("models", "history", "snapshots"):
        (top / "data" / folder).mkdir(parents=True)
    for name, classes in CLASSES.items():
        write_dataset(top, name, classes)
        model = build_network(NETWORKS[name], (6, 6, 3), len(classes), "network")
        save_model(model, top / f"data/models/{name}.keras")
        np.save(top / f"data/snapshots/{name}.npy", np.empty((2, 0, 6, 6, 3), np.float32))
        (top / f"data/history/{name}.csv").write_text(
            "epoch,accuracy,loss,val_accuracy,val_loss\n1,0.5,900,0.4,0.8\n2,0.6,0.6,0.5,0.7\n"
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        with warnings.catch_warnings():
            # A letter that no font has, or a name that a legend leaves out, is a warning.
            warnings.filterwarnings("error", module="stages|matplotlib")
            warnings.filterwarnings("error", message="Glyph")
            for name in CLASSES:
                evaluate.main(name)
                plot.main(name)
            report.main()
        yield top


def read_rows(path: str) -> list[list[str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def results_of(classes: list[str]) -> Results:
    """Returns the results on `scripts`, with other names of the classes."""
    found = read_results("scripts")
    return replace(found, summary=found.summary | {"classes": classes[: len(SCRIPTS)]})


def texts_of(figure: Figure, folder: Path) -> list[Text]:
    style.save(figure, folder / "figure.png")
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


# Tables


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", CLASSES)
def test_tables_have_the_names_as_they_are(name: str) -> None:
    classes = CLASSES[name]
    header, *rows = read_rows(f"data/predictions/{name}/confusion_matrix.csv")
    assert header == ["true class", *classes]
    assert [row[0] for row in rows] == classes
    assert sum(int(count) for row in rows for count in row[1:]) == 2 * len(classes)
    _, *rows = read_rows(f"data/predictions/{name}/per_class.csv")
    assert [row[0] for row in rows] == classes
    assert read_json(Path(f"data/predictions/{name}/summary.json"))["classes"] == classes
    header, *rows = read_rows("reports/confusion.csv")
    pairs = [tuple(row[1:3]) for row in rows if row[0] == name]
    assert pairs == [(true, said) for true in classes for said in classes]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", CLASSES)
def test_what_is_read_back_is_what_was_written(name: str) -> None:
    found = read_results(name)
    assert found.files["per_class"]["class"].tolist() == CLASSES[name]
    assert found.files["confusion_matrix"].iloc[:, 0].tolist() == CLASSES[name]
    counts = confusion_matrix(found)
    assert counts.shape == (len(CLASSES[name]),) * 2
    assert counts.sum() == len(found.files["test_labels"])
    assert found.files["submission"]["id"].tolist() == [*map(str, range(19)), "NA", "null"]
    assert set(found.files["submission"]["label"]) <= set(CLASSES[name])


@pytest.mark.usefixtures("project")
def test_files_that_were_left_out_keep_their_names_on_the_page() -> None:
    assert read_dataset("words").left_out == [
        {"reason": "001", "count": 2, "files": ["NA", "null"]},
        {"reason": "a reason, with a comma", "count": 1, "files": ["<i>.jpg"]},
    ]
    page = Path("reports/index.html").read_text(encoding="utf-8")
    assert "2 files: 001 (<bdi>NA</bdi>, <bdi>null</bdi>)" in page
    assert "<bdi>&lt;i&gt;.jpg</bdi>" in page


def test_gaps_in_columns_of_numbers_are_read_as_gaps(tmp_path: Path) -> None:
    path = tmp_path / "per_class.csv"
    path.write_text("class,images,f1,roc_auc\nNA,2,0.5,\nnull,3,0.25,0.75\n")
    table = read_table(path)
    assert table["class"].tolist() == ["NA", "null"]
    assert table["roc_auc"].isna().tolist() == [True, False]
    assert table["images"].tolist() == [2, 3]


# The page and the answers


@pytest.mark.usefixtures("project")
def test_the_page_has_every_name_and_none_is_markup() -> None:
    page = Path("reports/index.html").read_text(encoding="utf-8")
    cells = re.findall(r'<th scope="row"><bdi>(.*?)</bdi></th>', page, re.DOTALL)
    assert [html.unescape(cell) for cell in cells] == [*SCRIPTS, *WORDS]
    assert not any("<" in cell for cell in cells)


@pytest.mark.parametrize("form", ["text", "json", "csv"])
def test_classify_says_the_names_as_they_are(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    classes = [name for name in WORDS + SCRIPTS if form != "text" or "\n" not in name]
    classify.write_answers((("a.jpg", (name, 0.5)) for name in classes), form)
    printed = capsys.readouterr().out
    rows: list[str]
    if form == "csv":
        rows = [row[1] for row in csv.reader(io.StringIO(printed, newline=""))][1:]
    elif form == "json":
        rows = [json.loads(line)["class"] for line in printed.splitlines()]
    else:
        rows = [line.split("\t")[1] for line in printed.split("\n")[:-1]]
    assert rows == classes


# Figures


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", CLASSES)
def test_no_name_in_a_figure_is_read_as_markup(name: str, tmp_path: Path) -> None:
    results = read_results(name)
    with style.apply(9, 50):
        shown = names.fit(results.classes, answers.BESIDE)
        figure = answers.draw_confusion_matrix(results)
        texts = texts_of(figure, tmp_path)
    assert len(set(shown)) == len(results.classes)
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks == [text.get_text() for text in figure.axes[0].get_yticklabels()] == shown
    assert not any(text.get_parse_math() for text in texts)
    for kept in ("$x$", "a$b$c", "_neg", "<b>", "&amp;", "{x}", "%", "001"):
        assert kept in shown or name != "words"


@pytest.mark.usefixtures("project")
def test_legends_have_names_that_start_with_an_underscore() -> None:
    results = results_of([f"_class {index}" for index in range(len(SCRIPTS))])
    with style.apply(9, 50):
        figure = answers.draw_roc_and_precision_recall(results)
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        *classes, mean = [text.get_text() for text in legend.get_texts()]
        assert len(classes) == len({text.split(":")[0] for text in classes}) == 3
        assert all(text.startswith("_class ") for text in classes)
        assert mean.startswith("mean of")
        lines = [line.get_color() for line in legend.get_lines()]
        drawn = [line.get_color() for line in axes.get_lines()]
        assert lines[:3] == [style.BLUE, style.ORANGE, style.INK]
        assert set(lines) <= set(drawn)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("letter", "text_size"), [("W", 9), ("W", 16), ("猫", 9), ("ق", 9)])
def test_wide_names_do_not_overlap(letter: str, text_size: float, tmp_path: Path) -> None:
    results = results_of([f"{letter * 40}{index}" for index in range(len(SCRIPTS))])
    with style.apply(text_size, 100):
        for figure in (answers.draw_predictions(results), answers.draw_mistakes(results)):
            texts_of(figure, tmp_path)
            boxes = [text.get_window_extent() for text in figure.axes[0].texts]
            for left, right in pairwise(boxes):
                assert left.x1 <= right.x0 + 1 or abs(left.y0 - right.y0) > left.height / 2
        figure = answers.draw_confusion_matrix(results)
        texts_of(figure, tmp_path)
        for label, following in pairwise(figure.axes[0].get_xticklabels()):
            gap = following.get_window_extent().x0 - label.get_window_extent().x1
            assert gap >= -1 or text_size > 9  # 17 lines of 16 points have no room


def test_powers_of_ten_on_an_axis_are_still_markup(tmp_path: Path) -> None:
    with style.apply(9, 50):
        figure = style.new_figure("loss", 3)
        axes = figure.subplots()
        axes.plot([1, 2], [1e-9, 1e9])
        style.scale_by_logarithm(axes)
        texts_of(figure, tmp_path)
    labels = [text for text in axes.get_yticklabels() if text.get_text()]
    assert labels
    assert all(text.get_parse_math() and "$" in text.get_text() for text in labels)


def picture_of(text: str, folder: Path) -> np.ndarray:
    with style.apply(20, 50):
        figure = style.new_figure("", 1)
        figure.text(0.5, 0.5, text)
        style.save(figure, folder / "text.png")
    return np.asarray(Image.open(folder / "text.png").convert("L"))


def test_arabic_letters_are_joined_and_run_from_right_to_left(tmp_path: Path) -> None:
    joined, apart = (picture_of(text, tmp_path) < 128 for text in ("قطة", "ق\u200cط\u200cة"))
    assert np.ptp(np.flatnonzero(joined.any(0))) < np.ptp(np.flatnonzero(apart.any(0)))
    # Lam is tall, meem is not: in the picture, the first letter stands on the right.
    heights = (picture_of("لم", tmp_path) < 128).sum(0)
    inked = np.flatnonzero(heights)
    assert heights[inked[len(inked) // 2 :]].max() > heights[inked[: len(inked) // 2]].max()


def test_a_name_that_runs_to_the_left_leaves_the_number_behind_it_in_its_place() -> None:
    with style.apply(9, 50):
        assert names.fit(["قطة", "cat"], 100) == ["\u2068قطة\u2069", "cat"]


def test_fonts_are_read_only_when_a_name_needs_them(tmp_path: Path) -> None:
    names._other_fonts.cache_clear()
    with style.apply(9, 50):
        names.fit(["cat", "$x$", "naïve", "γάτα", "кошка", "חתול", "قطة", "x" * 99], 50)
        picture_of("\u2068قطة\u2069, 0.98…", tmp_path)
        assert names._other_fonts.cache_info().misses == 0
        names.fit(["猫"], 50)
        assert names._other_fonts.cache_info().misses == 1


LOOK_ALIKE = [["a\nb", "a\\nb"], ["é", "e\u0301"], ["a", "a ", " a"], ["x" * 98 + "1x", "x" * 100]]


@pytest.mark.parametrize("pair", LOOK_ALIKE)
def test_names_that_look_alike_are_told_apart(pair: list[str]) -> None:
    with style.apply(9, 50):
        shown = names.fit([*pair, "other"], 60)
    assert len({unicodedata.normalize("NFC", text).strip() for text in shown}) == len(pair) + 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(max_size=30) | st.text("abW猫ق", min_size=20), min_size=2, unique=True),
    st.integers(40, 120),
)
def test_names_that_are_cut_fit_and_stay_different(classes: list[str], room: int) -> None:
    with style.apply(9, 50):
        shown = names.fit(classes, room)
        assert len(set(shown)) == len(classes)
        assert names.widest(shown) <= room
        for text in shown:
            assert not {"Cc", "Zl", "Zp", "Cs"} & {unicodedata.category(letter) for letter in text}


def test_a_name_that_fits_is_shown_as_it_is() -> None:
    with style.apply(9, 50):
        plain = [name for name in WORDS if len(name) < 15 and name.isprintable()]
        assert [text.replace("␣", " ") for text in names.fit(plain, 200)] == plain


def test_pandas_is_given_no_table_of_names_without_their_columns() -> None:
    stages = Path(evaluate.__file__).parent
    found = [path for path in stages.rglob("*.py") if "pd.read_csv" in path.read_text()]
    # The published curves have no names but those of models, which are letters, digits and _; a
    # history, which `evaluate` reads, has numbers alone.
    assert sorted(path.name for path in found) == ["curves.py", "evaluate.py", "reading.py"]
