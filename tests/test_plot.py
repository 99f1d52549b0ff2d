"""What `plot` draws, from results written by hand: no network and no TensorFlow."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from stages import plot
from stages.lib.command import UserError
from stages.lib.files import write_json
from stages.pictures import answers, inside, learning, style
from stages.pictures.overview import draw_class_counts
from stages.results.reading import Results

TOP = Path(__file__).parents[1]
PARAMS = """
models:
  pets: {{dataset: cats_dogs, network: {{}}, training: {{epochs: 3}}}}
evaluation: {{}}
plots: {{text_size: {text_size}, dpi: {dpi}, feature_maps: {feature_maps}}}
"""
DPI = 50
FIGURES = ("curves", "weights_over_training", *plot.FIGURES, "feature_maps_conv")


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape, np.float32)


def random_images(count: int) -> np.ndarray:
    return (random(count, 12, 12, 3) * 255).astype(np.uint8)


PUBLISHED = pd.DataFrame(
    {"model": "pets", "unit": "epoch", "at": [1, 2], "metric": "accuracy", "value": [0.4, 0.9]}
)
SNAPSHOTS = random(3, 5, 12, 12, 1) - 0.5


def make_results(classes: int = 2) -> Results:
    """Returns results that have something for every figure."""
    names = ["cat", "dog"] if classes == 2 else [f"class {index}" for index in range(classes)]
    indexes = np.arange(classes)
    probabilities = np.random.default_rng(1).dirichlet(np.full(classes, 0.5), 6 * classes)
    labels = np.resize(indexes, 6 * classes)
    counts = np.full((classes, classes), 2) + 10 * np.eye(classes, dtype=int)
    per_class = {"class": names, "images": 6, "precision": indexes / classes, "recall": 0.5}
    per_class |= {"f1": indexes / classes, "roc_auc": 0.9 - indexes / 100}
    per_class |= {"average_precision": 0.8 - indexes / 100}
    precision_recall = {"class": indexes.repeat(3), "recall": np.tile([1, 0.5, 0], classes)}
    precision_recall |= {"precision": np.tile([0.5, 0.75, 1], classes)}
    roc = {"class": indexes.repeat(3), "false_positive_rate": np.tile([0, 0.25, 1], classes)}
    roc |= {"true_positive_rate": np.tile([0, 0.75, 1], classes)}
    edges = np.linspace(0, 1, 11)
    calibration = {"from": edges[:-1], "to": edges[1:], "images": 3}
    calibration |= {"confidence": edges[1:] - 0.05, "accuracy": [np.nan, *edges[2:]]}
    layers = {
        "name": ["images", "conv", "classes"],
        "type": ["InputLayer", "Conv2D", "Dense"],
        "output_shape": ["12 x 12 x 3", "10 x 10 x 4", str(classes)],
        "parameters": [0, 1000, 20],
        "inputs": ["", "images", "conv"],
    }
    history = {"epoch": [1, 2, 3], "accuracy": [0.5, 0.6, 0.7], "loss": [0.7, 0.6, 0.5]}
    history |= {"val_accuracy": [0.5, 0.55, 0.6], "val_loss": [0.8, 0.7, 0.6]}
    files = {
        "test_labels": labels,
        "test_probabilities": probabilities,
        "confusion_matrix": pd.DataFrame(counts, pd.Index(names), names).reset_index(),
        "per_class": pd.DataFrame(per_class),
        "roc": pd.DataFrame(roc),
        "precision_recall": pd.DataFrame(precision_recall),
        "calibration": pd.DataFrame(calibration),
        "calibration_scaled": pd.DataFrame(calibration | {"accuracy": [np.nan, *edges[1:-1]]}),
        "mistakes_images": random_images(3),
        "mistakes_labels": np.array([0, 1, 0]),
        "mistakes_probabilities": np.eye(classes)[[1, 0, 1]] * 0.75 + 0.125,
        "shown_images": random_images(12),
        "shown_probabilities": np.eye(classes)[[0, 1] * 6] * 0.86 + 0.07,
        "layers": pd.DataFrame(layers),
        "weights": random(20, 12, 12, 1) - 0.5,
        "class_images": random(classes, 12, 12, 1) - 0.5,
        "filters": random(4, 3, 3, 3) - 0.5,
        "feature_maps": {"conv": random(2, 10, 10, 4)},
        "examples_images": random_images(2),
        "examples_labels": np.array([1, 0]),
        "examples_probabilities": np.eye(classes)[[1, 0]] * 0.8 + 0.1,
        "grad_cam": random(2, 2, 4, 4),
    }
    summary = {"classes": names, "expected_calibration_error": 0.0321, "shown": "unlabelled"}
    summary |= {"grad_cam_layer": "conv"}
    metrics = {"valid_accuracy": 0.6, "test_accuracy": 0.5, "test_loss": 0.7}
    metrics |= {"parameters": 1020, "multiply_adds": 100, "temperature": 1.5}
    metrics |= {"test_calibration_error": 0.0321, "test_calibration_error_scaled": 0.0123}
    metrics |= {"test_loss_scaled": 0.6}
    return Results("pets", metrics, pd.DataFrame(history), summary, files)


def write_results(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True)
    write_json(folder / "metrics.json", results.metrics)
    write_json(folder / "summary.json", results.summary)
    for name, value in results.files.items():
        if isinstance(value, pd.DataFrame):
            value.to_csv(folder / f"{name}.csv", index=False)
        elif isinstance(value, dict):
            np.savez(folder / f"{name}.npz", **value)
        else:
            np.save(folder / f"{name}.npy", value)


def write_params(top: Path, text_size: float = 9, dpi: int = DPI, feature_maps: str = "{}") -> None:
    text = PARAMS.format(text_size=text_size, dpi=dpi, feature_maps=feature_maps)
    (top / "params.yaml").write_text(text)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    results = make_results()
    write_results(results, tmp_path / "data/predictions/pets")
    (tmp_path / "data/history").mkdir()
    results.history.to_csv(tmp_path / "data/history/pets.csv", index=False)
    (tmp_path / "data/snapshots").mkdir()
    np.save(tmp_path / "data/snapshots/pets.npy", SNAPSHOTS)
    (tmp_path / "data/splits/cats_dogs").mkdir(parents=True)
    parts = {part: {"cat": 10, "dog": 10} for part in ("train", "valid", "test")}
    summary = {"classes": results.classes, "origin": "drawn", "images": parts}
    write_json(tmp_path / "data/splits/cats_dogs/summary.json", summary)
    write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def styled() -> Iterator[None]:
    with style.apply(text_size=9, dpi=DPI):
        yield


def draw(name: str, results: Results, snapshots: np.ndarray = SNAPSHOTS) -> Figure:
    drawn = draw_all(results, snapshots, ["conv"] if name == "feature_maps_conv" else [])
    return drawn[name]


def draw_all(
    results: Results, snapshots: np.ndarray = SNAPSHOTS, layers: Iterable[str] = ()
) -> dict[str, Figure]:
    return dict(plot.draw(results, snapshots, PUBLISHED, layers, {"epochs": 3}))


def png(figure: Figure, folder: Path) -> bytes:
    path = folder / "figure.png"
    style.save(figure, path)
    return path.read_bytes()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def legend(axes: Axes) -> list[str]:
    drawn = axes.get_legend()
    assert drawn is not None
    return [text.get_text() for text in drawn.get_texts()]


def test_tensorflow_is_not_imported() -> None:
    code = (
        "import sys, stages.plot; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(TOP)}, check=True
    )


def test_every_figure_is_a_png_of_the_expected_size_and_not_too_large(project: Path) -> None:
    plot.main("pets")
    drawn = sorted((project / "reports/figures/pets").iterdir())
    assert [path.name for path in drawn] == sorted(f"{name}.png" for name in FIGURES)
    heights = {"curves": 3.2, "reliability": 5, "grad_cam": 4.8, "feature_maps_conv": 2.1}
    for path in drawn:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width == int(style.WIDTH * DPI), path
            assert image.height == round(heights.get(path.stem, image.height / DPI) * DPI), path
            assert len(image.getcolors(1 << 24) or ()) > 10, path
            assert not image.info, path  # no date, no program, no place
        assert path.stat().st_size < style.LARGEST


def test_two_runs_give_the_same_bytes_whatever_the_users_own_style(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plot.main("pets")
    first = {path: path.read_bytes() for path in (project / "reports").rglob("*.*")}
    assert len(first) == len(FIGURES) + 1
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 9)
    monkeypatch.setitem(mpl.rcParams, "axes.facecolor", "red")
    plot.main("pets")
    for path, content in first.items():
        assert path.read_bytes() == content, path.name


@pytest.mark.parametrize("change", [{"text_size": 12}, {"dpi": 60}])
def test_a_change_of_style_changes_every_figure(project: Path, change: dict[str, Any]) -> None:
    plot.main("pets")
    before = {path.name: path.read_bytes() for path in (project / "reports/figures/pets").iterdir()}
    write_params(project, **change)
    plot.main("pets")
    for name, content in before.items():
        assert (project / "reports/figures/pets" / name).read_bytes() != content, name


def less(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table.assign(**{column: table[column] * 0.9})


CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "predictions": ("shown_images", np.flip),
    "mistakes": ("mistakes_labels", lambda labels: 1 - labels),
    "confusion_matrix": ("confusion_matrix", lambda table: table.assign(cat=[9, 3])),
    "per_class": ("per_class", lambda table: less(table, "recall")),
    "roc_and_precision_recall": ("roc", lambda table: less(table, "true_positive_rate")),
    "reliability": ("calibration_scaled", lambda table: less(table, "accuracy")),
    "layers": ("layers", lambda table: table.assign(parameters=[0, 500, 20])),
    "weights": ("weights", np.negative),
    "class_images": ("class_images", np.negative),
    "filters": ("filters", np.negative),
    "grad_cam": ("grad_cam", np.flip),
    "feature_maps_conv": ("feature_maps", lambda maps: {"conv": np.flip(maps["conv"])}),
}


@pytest.mark.usefixtures("styled")
@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_figure_changes_with_what_it_shows(name: str, tmp_path: Path) -> None:
    results = make_results()
    file, change = CHANGES[name]
    changed = replace(results, files=results.files | {file: change(results.files[file])})
    assert png(draw(name, results), tmp_path) != png(draw(name, changed), tmp_path)


@pytest.mark.usefixtures("styled")
def test_the_weights_over_training_change_with_the_snapshots(tmp_path: Path) -> None:
    name, results = "weights_over_training", make_results()
    assert png(draw(name, results), tmp_path) != png(draw(name, results, -SNAPSHOTS), tmp_path)


@pytest.mark.usefixtures("styled")
def test_curves_are_the_history_with_the_published_ones_thin_behind() -> None:
    results = make_results()
    accuracy, loss = draw("curves", results).axes
    ours, validation, published = accuracy.lines
    assert np.asarray(ours.get_ydata()).tolist() == results.history["accuracy"].tolist()
    assert np.asarray(validation.get_ydata()).tolist() == results.history["val_accuracy"].tolist()
    assert np.asarray(published.get_xdata()).tolist() == [1, 2]
    assert np.asarray(published.get_ydata()).tolist() == [0.4, 0.9]
    assert published.get_linewidth() < ours.get_linewidth()
    assert published.get_zorder() < ours.get_zorder()
    assert (accuracy.get_xlabel(), loss.get_ylabel()) == ("epoch", "loss (nats)")
    assert len(loss.lines) == 2
    assert loss.get_yscale() == "linear"


@pytest.mark.usefixtures("styled")
@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([None], "loss (nats)"),
        (["CategoricalCrossentropy", {"CategoricalFocalCrossentropy": {}}], "loss (nats)"),
        (["MeanSquaredError"], "loss"),
        ([None, {"Dice": {"axis": [1]}}], "loss"),
    ],
)
def test_only_a_cross_entropy_is_said_to_be_in_nats(losses: list[Any], expected: str) -> None:
    training = [{"loss": loss} if loss else {} for loss in losses]
    for recipe in (training, training[0]) if len(training) == 1 else (training,):
        drawn = plot.draw(make_results(), SNAPSHOTS, PUBLISHED, [], recipe)
        assert dict(drawn)["curves"].axes[1].get_ylabel() == expected


@pytest.mark.usefixtures("styled")
def test_published_curves_by_epoch_are_not_drawn_over_steps() -> None:
    results = make_results()
    by_step = replace(results, history=results.history.rename(columns={"epoch": "step"}))
    accuracy, _ = draw("curves", by_step).axes
    assert len(accuracy.lines) == 2
    assert accuracy.get_xlabel() == "step"


@pytest.mark.usefixtures("styled")
def test_a_loss_that_falls_by_orders_of_magnitude_has_a_logarithmic_axis() -> None:
    results = make_results()
    steep = replace(results, history=results.history.assign(loss=[9000, 90, 0.9]))
    assert draw("curves", steep).axes[1].get_yscale() == "log"


def test_the_published_curves_are_a_complete_table() -> None:
    published = pd.read_csv(TOP / "stages/results/published.csv")
    assert list(published) == ["model", "unit", "at", "metric", "value"]
    assert set(published["unit"]) == {"epoch", "step"}
    assert published["value"].notna().all()


@pytest.mark.usefixtures("styled")
def test_the_confusion_matrix_shows_counts_and_shares_of_the_true_class() -> None:
    shown = texts(draw("confusion_matrix", make_results()))
    assert shown == ["12\n86%", "2\n14%", "2\n14%", "12\n86%"]


@pytest.mark.usefixtures("styled")
def test_predictions_are_titled_with_class_and_confidence() -> None:
    results = make_results()
    results.files["shown_probabilities"][0] = [0.55, 0.45]
    axes = draw("predictions", results).axes[0]
    assert [text.get_text() for text in axes.texts][:2] == ["cat, 0.55", "dog, 0.93"]
    unsure, sure, also_sure = (text.get_color() for text in axes.texts[:3])
    assert not np.array_equal(unsure, sure)
    assert np.array_equal(sure, also_sure)


@pytest.mark.usefixtures("styled")
def test_mistakes_say_what_is_true_and_what_was_said() -> None:
    shown = texts(draw("mistakes", make_results()))
    assert shown == ["is cat\nsaid dog, 0.88", "is dog\nsaid cat, 0.88", "is cat\nsaid dog, 0.88"]


@pytest.mark.usefixtures("styled")
def test_the_curves_of_each_class_carry_their_areas() -> None:
    roc, precision_recall = draw("roc_and_precision_recall", make_results()).axes
    assert legend(roc) == ["dog: 0.890", "cat: 0.900", "mean of 2 classes: 0.895"]
    assert legend(precision_recall)[0] == "dog: 0.790"
    assert np.asarray(roc.lines[0].get_xydata()).tolist() == [[0, 0], [0.25, 0.75], [1, 1]]
    assert np.asarray(precision_recall.lines[0].get_xydata()).tolist() == [
        [1, 0.5],
        [0.5, 0.75],
        [0, 1],
    ]


@pytest.mark.usefixtures("styled")
def test_a_class_has_the_same_colour_in_both_curves_whichever_has_the_least_area() -> None:
    results = make_results()
    table = results.files["per_class"].assign(roc_auc=[0.9, 0.8], average_precision=[0.7, 0.95])
    changed = replace(results, files=results.files | {"per_class": table})
    looks = [
        {
            text.get_text().split(":")[0]: line.get_color()
            for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
        }
        for axes in draw("roc_and_precision_recall", changed).axes
        if (legend := axes.get_legend())
    ]
    assert looks[0]["cat"] == looks[1]["cat"] != looks[0]["dog"] == looks[1]["dog"]


@pytest.mark.usefixtures("styled")
def test_test_images_of_one_class_have_no_curves() -> None:
    results = make_results()
    none = results.files["roc"].head(0)
    one_class = replace(results, files=results.files | {"roc": none, "precision_recall": none})
    assert "roc_and_precision_recall" not in draw_all(one_class)


@pytest.mark.usefixtures("styled")
def test_grad_cam_says_where_nothing_speaks_for_a_class() -> None:
    results = make_results()
    results.files["grad_cam"][0, 1] = 0
    titles = [axes.get_title() for axes in draw("grad_cam", results).axes]
    assert titles[:3] == ["is dog", "for dog, 0.90", "for cat, 0.10: nothing"]


@pytest.mark.usefixtures("styled")
def test_the_reliability_diagram_shows_the_network_before_and_after_temperature_scaling() -> None:
    figure = draw("reliability", make_results())
    named = "expected calibration error 0.032; 0.012 at temperature 1.50"
    assert named in figure.get_suptitle()
    before, after = (np.asarray(line.get_ydata()) for line in figure.axes[0].lines[1:])
    np.testing.assert_allclose(before, [np.nan, *np.linspace(0, 1, 11)[2:]])
    np.testing.assert_allclose(after, [np.nan, *np.linspace(0, 1, 11)[1:-1]])


@pytest.mark.usefixtures("styled")
def test_a_network_that_no_temperature_makes_better_has_one_line_of_reliability() -> None:
    results = make_results()
    results.metrics["temperature"] = 1.0
    assert len(draw("reliability", results).axes[0].lines) == 2  # with that of as often as sure


@pytest.mark.usefixtures("styled")
def test_many_classes_stay_readable() -> None:
    results = make_results(classes=40)
    assert texts(draw("confusion_matrix", results)) == []
    roc = draw("roc_and_precision_recall", results).axes[0]
    assert legend(roc) == [
        *(f"class {index}: {0.9 - index / 100:.3f}" for index in (39, 38, 37)),
        "mean of 40 classes: 0.705",
    ]
    labels = [label.get_text() for label in draw("per_class", results).axes[0].get_yticklabels()]
    assert len(labels) == answers.MOST_CLASSES
    assert labels[-1] == "class 0 (6 images)"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0.38, 1.0), ["40%", "60%", "80%", "100%"]),
        ((0.72, 0.83), ["72.5%", "75.0%", "77.5%", "80.0%", "82.5%"]),  # not 72, 75, 78, 80, 82
        ((0.965, 0.995), ["97.0%", "98.0%", "99.0%"]),
        ((0.9946, 0.9974), ["99.50%", "99.55%", "99.60%", "99.65%", "99.70%"]),
    ],
)
def test_ticks_of_shares_say_what_they_stand_at(
    limits: tuple[float, float], expected: list[str]
) -> None:
    axes = Figure().subplots()
    axes.set_xlim(limits)
    places = np.array([float(text.rstrip("%")) / 100 for text in expected])
    axes.set_xticks(places)
    axes.xaxis.set_major_formatter(style.Percent())
    assert [label.get_text() for label in axes.get_xticklabels()] == expected


def test_ticks_of_numbers_of_images_are_whole() -> None:
    for count in (1, 7):  # by themselves, they would stand at 0.5 and 2.5
        figure = draw_class_counts(
            "pets", {part: {"cat": count} for part in ("train", "valid", "test")}
        )
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        axes = figure.axes[0]
        written = [int(label.get_text()) for label in axes.get_xticklabels()]
        assert written == axes.get_xticks().tolist()
        assert len({*written}) == len(written) > 2


@pytest.mark.usefixtures("styled")
def test_layers_are_listed_with_shapes_and_parameters() -> None:
    shown = texts(draw("layers", make_results()))
    assert {"conv", "Conv2D", "10 x 10 x 4", " 1,000"} <= set(shown)


def deep_network(blocks: int) -> pd.DataFrame:
    """Returns the layers of a network of blocks: two layers beside a third, and their sum."""
    rows: list[tuple[str, str, str, int, str]] = [("images", "InputLayer", "8 x 8 x 3", 0, "")]
    for at in (f"block{number}" for number in range(blocks)):
        before = rows[-1][0]
        rows += [
            (f"{at}_1", "Conv2D", "8 x 8 x 4", 100, before),
            (f"{at}_short", "Conv2D", "8 x 8 x 4", 10, before),
            (f"{at}_2", "Conv2D", "8 x 8 x 4", 1000, f"{at}_1"),
            (f"{at}_add", "Add", "8 x 8 x 4", 0, f"{at}_short {at}_2"),
        ]
    rows.append(("classes", "Dense", "2", 514, rows[-1][0]))
    return pd.DataFrame(rows, columns=["name", "type", "output_shape", "parameters", "inputs"])


def test_blocks_fold_the_branches_of_a_network_and_keep_its_chain() -> None:
    folded = inside.blocks(deep_network(2))
    assert folded.to_numpy().tolist() == [
        ["images", "InputLayer", "8 x 8 x 3", 0, ""],
        ["block0_add", "4 layers, 2 branches", "8 x 8 x 4", 1110, "images"],
        ["block1_add", "4 layers, 2 branches", "8 x 8 x 4", 1110, "block0_add"],
        ["classes", "Dense", "2", 514, "block1_add"],
    ]


def test_a_network_of_blocks_beside_each_other_keeps_all_its_parameters() -> None:
    layers = deep_network(3)
    layers["inputs"] = [*layers["inputs"][:-1], "block2_add block0_1"]  # a way round two blocks
    folded = inside.blocks(layers)
    assert folded["name"].tolist() == ["images", "classes"]
    assert folded["parameters"].sum() == layers["parameters"].sum()


@pytest.mark.usefixtures("styled")
def test_a_deep_network_is_drawn_block_by_block_and_one_too_long_for_a_page_is_not() -> None:
    results = make_results()
    deep = replace(results, files=results.files | {"layers": deep_network(20)})
    shown = texts(draw("layers", deep))
    assert {"block19_add", "4 layers, 2 branches", " 1,110"} <= set(shown)
    files = results.files | {"layers": deep_network(60), "feature_maps": {}}
    deeper = replace(results, files=files)
    assert "layers" not in draw_all(deeper)


@pytest.mark.usefixtures("styled")
@pytest.mark.parametrize("kind", ["predictions", "mistakes"])
def test_the_titles_of_tall_images_do_not_overlap(kind: str) -> None:
    results = make_results()
    results.files["shown_images"] = results.files["shown_images"].repeat(4, axis=1)
    results.files["mistakes_images"] = results.files["mistakes_images"].repeat(4, axis=1)
    figure = draw(kind, results)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


@pytest.mark.usefixtures("styled")
def test_of_hundreds_of_classes_the_first_hundred_have_an_image() -> None:
    figure = draw("class_images", make_results(classes=103))
    assert sum(bool(axes.images) for axes in figure.axes) == 100
    assert "the first 100 of 103 classes" in figure.get_suptitle()
    assert "the first" not in draw("class_images", make_results()).get_suptitle()


@pytest.mark.usefixtures("styled")
def test_figures_without_their_input_are_not_drawn() -> None:
    results = make_results()
    for name in ("weights", "class_images", "filters", "grad_cam", "feature_maps"):
        del results.files[name]
    results.files["mistakes_images"] = random_images(0)
    drawn = set(draw_all(results, layers=plot.choose_layers(results, [])))
    absent = {"weights", "class_images", "filters", "grad_cam", "feature_maps_conv", "mistakes"}
    assert drawn == set(FIGURES) - absent


@pytest.mark.usefixtures("styled")
def test_weights_over_training_are_a_row_a_unit_and_a_column_a_row_of_the_history() -> None:
    results = make_results()
    snapshots = np.zeros((3, 5, 12, 12, 1), np.float32)
    snapshots[2, 4] = 1
    figure = draw("weights_over_training", results, snapshots)
    axes = figure.axes[0]
    sheet: np.ndarray = np.ma.filled(np.ma.asarray(axes.images[0].get_array()), np.nan)
    height, width = sheet.shape[0] / 5, sheet.shape[1] / 3
    bright = np.argwhere(sheet == 1)
    assert (bright.min(0) >= [4 * height - 1, 2 * width - 1]).all()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
    assert "by epoch" in figure.get_suptitle()


@pytest.mark.usefixtures("styled")
def test_a_long_training_shows_thirteen_moments_from_the_first_to_the_last() -> None:
    results = make_results()
    history = pd.DataFrame({"step": [0, *range(99, 10000, 100)]})
    snapshots = random(101, 2, 12, 12, 1)
    axes = learning.draw_weights_over_training(replace(results, history=history), snapshots).axes[0]
    shown = [int(label.get_text()) for label in axes.get_xticklabels()]
    assert (len(shown), shown[0], shown[-1]) == (13, 0, 9999)


@pytest.mark.usefixtures("styled")
def test_weights_that_are_no_images_are_not_drawn_over_training() -> None:
    assert "weights_over_training" not in draw_all(make_results(), random(3, 0, 12, 12, 1))


@pytest.mark.usefixtures("styled")
def test_images_too_large_for_a_grid_are_averaged_not_thinned_out() -> None:
    images = np.zeros((2, 128, 128, 1), np.uint8)
    images[:, ::2, ::2] = images[:, 1::2, 1::2] = 200  # a fine chequerboard
    figure = style.new_figure("", 2)
    axes = figure.subplots()
    style.draw_titled(axes, images, ["a", "b"], 2, ["black", "black"])
    sheet: np.ndarray = np.ma.filled(np.ma.asarray(axes.images[0].get_array()), 0)
    assert set(np.unique(sheet)) == {100, 255}, "grey, on white"
    assert sheet.shape[1] == 2 * style.LARGEST_IMAGE + 6


def test_feature_maps_are_by_default_the_last_of_each_resolution() -> None:
    sizes = {"images": 224, "block1_conv1": 224, "block1_conv2": 224, "block2_conv2": 112}
    sizes |= {"block3_conv2": 56, "block3_conv3": 56, "block4_conv3": 28}
    shapes = [f"{size} x {size} x 64" for size in sizes.values()]
    layers = pd.DataFrame({"name": list(sizes), "output_shape": shapes})
    last = ["block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3"]
    assert inside.one_a_resolution(layers, list(sizes)[1:]) == last


@pytest.mark.usefixtures("styled")
def test_feature_maps_say_of_how_many_they_are_and_how_large_those_are() -> None:
    results = make_results()
    figure = draw("feature_maps_conv", results)
    assert "4 feature maps of conv, 10 x 10 pixels" in figure.get_suptitle()
    layers = results.files["layers"].assign(output_shape=["12 x 12 x 3", "80 x 90 x 256", "2"])
    figure = draw("feature_maps_conv", replace(results, files=results.files | {"layers": layers}))
    assert "4 of 256 feature maps of conv, 80 x 90 pixels" in figure.get_suptitle()


def test_feature_maps_are_of_the_layers_named_in_the_params(project: Path) -> None:
    names = ("first", "second", "third")
    maps: Any = {name: random(2, 5, 5, 4) for name in names}
    np.savez(project / "data/predictions/pets/feature_maps.npz", **maps)
    layers = pd.DataFrame({"name": names, "type": "Conv2D", "output_shape": "5 x 5 x 4"})
    layers = layers.assign(parameters=1, inputs=["", *names[:2]])
    layers.to_csv(project / "data/predictions/pets/layers.csv", index=False)
    write_params(project, feature_maps="{pets: [third, first]}")
    plot.main("pets")
    drawn = sorted(path.stem for path in project.glob("reports/figures/pets/feature_maps_*"))
    assert drawn == ["feature_maps_first", "feature_maps_third"]


@pytest.mark.parametrize(
    ("feature_maps", "message"),
    [
        ("{pets: [convv]}", "plots.feature_maps.pets: .* did you mean 'conv'"),
        ("{pest: [conv]}", "plots.feature_maps.pest: unknown key; did you mean 'pets'"),
    ],
)
def test_an_unknown_layer_or_model_is_named_with_the_nearest_known(
    project: Path, feature_maps: str, message: str
) -> None:
    write_params(project, feature_maps=feature_maps)
    with pytest.raises(UserError, match=message):
        plot.main("pets")
    assert not (project / "reports/figures/pets").exists()


@pytest.mark.usefixtures("styled")
def test_a_figure_that_would_be_too_large_gets_fewer_colours(tmp_path: Path) -> None:
    figure = style.new_figure("noise", 6)
    figure.set_dpi(120)
    figure.subplots().imshow(random(600, 600, 3).round(1))
    style.save(figure, tmp_path / "noise.png")
    assert 100_000 < (tmp_path / "noise.png").stat().st_size <= style.LARGEST


def test_a_montage_lays_images_out_row_by_row() -> None:
    images = np.arange(3, dtype=np.float32).reshape(3, 1, 1) * np.ones((1, 2, 2))
    sheet = style.montage(images, columns=2)
    assert sheet.shape == (5, 5)
    assert [sheet[0, 0], sheet[0, 3], sheet[3, 0]] == [0, 1, 2]
    assert np.isnan(sheet[2]).all()
    assert np.isnan(sheet[3:, 2:]).all()


def test_grey_images_between_which_is_white_are_laid_out_in_colour() -> None:
    images = style.in_colour(np.full((2, 2, 2, 1), 7, np.uint8))
    sheet = style.montage(images, columns=2, gap=1, room=1)
    assert sheet.shape == (3, 5, 3)
    assert (sheet[1:, :2] == 7).all()
    assert (sheet[0] == 255).all()
    assert (sheet[:, 2] == 255).all()
