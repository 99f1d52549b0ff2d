"""What `evaluate` writes, on networks of a few weights."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import evaluate, plot
from stages.lib.command import UserError
from stages.lib.files import read_json, write_json
from stages.networks import inspection
from stages.networks.keras_file import save_model
from stages.networks.network import Network, build_network
from stages.networks.runtime import keras
from stages.networks.weights import class_images, first_weights
from stages.results import answers, measures, temperature

pytestmark = pytest.mark.usefixtures("tensorflow")
TOP = Path(__file__).parent.parent
PROGRAMS = Path(__file__).with_name("programs")
DIGITS = ["0", "1", "2"]
PETS = ["cat", "dog"]
DENSE = Network(
    layers=[
        {"Rescaling": {"scale": 1 / 255}},
        "Flatten",
        {"Dense": {"units": 5}},
        {"Dense": {"units": 4}},
    ]
)
CONVOLUTIONAL = Network(
    layers=[
        {"Rescaling": {"scale": 1 / 255}},
        {"Conv2D": {"filters": 4, "kernel_size": 3, "activation": "relu"}},
        {"Conv2D": {"filters": 3, "kernel_size": 3, "activation": "relu"}},
        "GlobalAveragePooling2D",
    ]
)
RECIPE = {"optimizer": "Adam", "batch_size": 8, "epochs": 2}
PARAMS = {
    "models": {
        name: {"dataset": dataset, "network": network.model_dump(), "training": RECIPE}
        for name, dataset, network in (
            ("dense", "digits", DENSE),
            ("convolutional", "pets", CONVOLUTIONAL),
        )
    },
    "evaluation": {"device": "cpu", "threads": 1, "batch_size": 8, "seed": 0},
    "plots": {"text_size": 9, "dpi": 50, "feature_maps": {}},
}


def random_images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def write_dataset(
    folder: Path,
    classes: list[str],
    shape: tuple[int, ...],
    names: list[str],
    left_out: tuple[str, ...] = (),
) -> None:
    folder.mkdir(parents=True)
    images = {"train": dict.fromkeys(classes, 40)}
    summary = {"classes": classes, "image_shape": shape, "origin": "drawn", "images": images}
    write_json(folder / "summary.json", summary)
    for index, part in enumerate(("train", "valid", "test")):
        labels = np.arange(40, dtype=np.uint8) % len(classes)
        np.save(folder / f"{part}_images.npy", random_images(40, *shape, seed=index))
        np.save(folder / f"{part}_labels.npy", labels)
    np.save(folder / "unlabelled_images.npy", random_images(len(names), *shape, seed=9))
    np.save(folder / "unlabelled_names.npy", np.array(names, np.str_))
    np.save(folder / "unlabelled_left_out.npy", np.array(left_out, np.str_))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tensorflow: None) -> Iterator[Path]:  # noqa: ARG001
    """A project in which both models have been evaluated, as the current directory."""
    top = tmp_path_factory.mktemp("project")
    (top / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    names = [*(str(number) for number in range(120, 0, -1)), "extra"]
    write_dataset(top / "data/splits/digits", DIGITS, (6, 6, 1), [])
    write_dataset(top / "data/splits/pets", PETS, (12, 12, 3), names, left_out=("121", "broken"))
    keras.utils.clear_session()  # or layers are numbered on from those of other tests' networks
    for folder in ("models", "history", "snapshots"):
        (top / "data" / folder).mkdir()
    networks = {"dense": (DENSE, (6, 6, 1), 3), "convolutional": (CONVOLUTIONAL, (12, 12, 3), 2)}
    for name, (network, shape, classes) in networks.items():
        model = build_network(network, shape, classes, "network")
        save_model(model, top / f"data/models/{name}.keras")
        np.save(top / f"data/snapshots/{name}.npy", np.empty((2, 0, *shape), np.float32))
        (top / f"data/history/{name}.csv").write_text(
            "epoch,accuracy,loss,val_accuracy,val_loss\n1,0.5,0.7,0.4,0.8\n2,0.6,0.6,0.5,0.7\n"
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        for name in networks:
            evaluate.main(name)
        yield top


def load(model: str, name: str) -> np.ndarray:
    array: np.ndarray = np.load(f"data/predictions/{model}/{name}.npy")
    return array


def table(model: str, name: str) -> pd.DataFrame:
    return pd.read_csv(f"data/predictions/{model}/{name}.csv")


def saved(model: str) -> keras.Model:
    return keras.models.load_model(f"data/models/{model}.keras", compile=False)


def predict(model: str, images: np.ndarray) -> np.ndarray:
    """Returns the saved model's probabilities, without `evaluate`."""
    probabilities: np.ndarray = saved(model)([images.astype(np.float32)]).numpy()
    return probabilities


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("model", "dataset"), [("dense", "digits"), ("convolutional", "pets")])
def test_metrics_are_those_of_a_plain_recomputation(model: str, dataset: str) -> None:
    expected: dict[str, float] = {}
    for part in ("valid", "test"):
        images = np.load(f"data/splits/{dataset}/{part}_images.npy")
        labels = np.load(f"data/splits/{dataset}/{part}_labels.npy")
        probabilities = predict(model, images).astype(np.float64)
        right = probabilities[np.arange(len(labels)), labels]
        expected[f"{part}_accuracy"] = float((probabilities.argmax(1) == labels).mean())
        expected[f"{part}_loss"] = float(-np.log(np.maximum(right, 1e-7)).mean())
    expected["parameters"] = saved(model).count_params()
    expected["multiply_adds"] = inspection.count_multiply_adds(saved(model))
    metrics = read_json(Path(f"reports/metrics/{model}.json"))
    expected["temperature"] = metrics["temperature"]  # what is right: test_temperature.py
    scaled = probabilities ** (1 / metrics["temperature"])
    scaled /= scaled.sum(1, keepdims=True)
    expected["test_calibration_error"] = measures.calibrate(labels, probabilities)[1]
    expected["test_calibration_error_scaled"] = measures.calibrate(labels, scaled)[1]
    expected["test_loss_scaled"] = float(-np.log(scaled[np.arange(len(labels)), labels]).mean())
    assert list(metrics) == list(expected)
    assert metrics == pytest.approx(expected, abs=2e-4)


@pytest.mark.usefixtures("project")
def test_predictions_are_the_models_own_in_the_order_of_the_test_images() -> None:
    images = np.load("data/splits/digits/test_images.npy")
    expected = predict("dense", images)
    np.testing.assert_allclose(load("dense", "test_probabilities"), expected, atol=1e-5)
    np.testing.assert_array_equal(
        load("dense", "test_labels"), np.load("data/splits/digits/test_labels.npy")
    )


@pytest.mark.usefixtures("project")
def test_the_confusion_matrix_counts_true_classes_in_rows_and_predicted_ones_in_columns() -> None:
    counts = np.zeros((3, 3), int)
    for label, row in zip(
        load("dense", "test_labels"), load("dense", "test_probabilities"), strict=True
    ):
        counts[label, row.argmax()] += 1
    written = table("dense", "confusion_matrix")
    assert written["true class"].astype(str).tolist() == DIGITS
    np.testing.assert_array_equal(written[DIGITS].to_numpy(), counts)


def test_precision_recall_and_areas_are_of_each_class_against_the_rest() -> None:
    labels = np.array([0, 0, 0, 1], np.uint8)
    probabilities = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.3, 0.7, 0], [0.4, 0.6, 0]])
    measured = measures.measure_classes(labels, probabilities, DIGITS).set_index("class")
    assert measured["images"].tolist() == [3, 1, 0]
    assert measured["precision"].tolist() == pytest.approx([1, 0.5, np.nan], nan_ok=True)
    assert measured["recall"].tolist() == pytest.approx([2 / 3, 1, np.nan], nan_ok=True)
    assert measured["f1"].tolist() == pytest.approx([0.8, 2 / 3, np.nan], nan_ok=True)
    assert measured["roc_auc"].tolist() == pytest.approx([2 / 3, 2 / 3, np.nan], nan_ok=True)
    assert measured.loc["1", "average_precision"] == pytest.approx(0.5)
    assert measured["average_precision"].isna().tolist() == [False, False, True]


def test_a_class_without_images_is_not_found_worse_than_the_others() -> None:
    labels = np.array([0, 0, 1, 1], np.uint8)
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.1, 0.7], [0.3, 0.7, 0], [0.4, 0.6, 0]])
    measured = measures.measure_classes(labels, probabilities, DIGITS).set_index("class")
    assert measured.loc["2", "precision"] == 0  # what was taken for it is none
    assert measured.loc["2", ["recall", "f1"]].isna().all()
    assert measured["f1"].idxmin() == "0"


def test_the_curves_are_of_each_class_that_some_but_not_all_images_have() -> None:
    labels = np.array([0, 0, 0, 1], np.uint8)
    probabilities = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.3, 0.7, 0], [0.4, 0.6, 0]])
    curves = measures.trace_curves(labels, probabilities)
    areas = {
        "roc": ("roc_auc", "false_positive_rate", "true_positive_rate"),
        "precision_recall": ("average_precision", "recall", "precision"),
    }
    measured = measures.measure_classes(labels, probabilities, DIGITS)
    for name, (area, x, y) in areas.items():
        assert curves[name]["class"].unique().tolist() == [0, 1]
        for index in (0, 1):
            points = curves[name][curves[name]["class"] == index]
            heights = points[y] if name == "precision_recall" else points[y].rolling(2).mean()
            steps = points[x].diff().shift(-1 if name == "precision_recall" else 0).abs()
            assert (steps * heights).sum() == pytest.approx(measured.loc[index, area])
    nothing_to_tell = measures.trace_curves(np.zeros(4, np.uint8), probabilities)
    assert [len(points) for points in nothing_to_tell.values()] == [0, 0]


def test_the_calibration_error_is_the_mean_distance_of_accuracy_and_confidence() -> None:
    labels = np.array([0, 0, 1, 0], np.uint8)
    probabilities = np.array([[0.95, 0.05], [0.98, 0.02], [0.95, 0.05], [0.45, 0.55]], np.float32)
    bins, error = measures.calibrate(labels, probabilities)
    assert bins["images"].tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert bins["confidence"].iloc[9] == pytest.approx(0.96)
    assert bins["accuracy"].iloc[9] == pytest.approx(2 / 3)
    assert bins["accuracy"].iloc[5] == 0
    assert error == pytest.approx((3 * (0.96 - 2 / 3) + 0.55) / 4)


def test_predictions_that_are_all_right_and_sure_have_no_calibration_error() -> None:
    labels = np.array([1, 0], np.uint8)
    assert measures.calibrate(labels, np.array([[0.0, 1.0], [1.0, 0.0]]))[1] == 0


def test_predictions_that_are_all_right_and_sure_have_no_loss_not_even_a_negative_one() -> None:
    measured = measures.measure(np.array([1, 0], np.uint8), np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert str(measured["loss"]) == "0.0"  # a table would have -0.000


def test_mistakes_are_the_wrong_predictions_with_the_surest_first() -> None:
    labels = np.array([0, 1, 1, 0], np.uint8)
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7]])
    assert measures.find_mistakes(labels, probabilities).tolist() == [2, 3, 1]


@pytest.mark.usefixtures("project")
def test_mistakes_come_with_image_label_and_probabilities() -> None:
    labels, probabilities = load("dense", "test_labels"), load("dense", "test_probabilities")
    first = measures.find_mistakes(labels, probabilities)[0]
    images = np.load("data/splits/digits/test_images.npy")
    np.testing.assert_array_equal(load("dense", "mistakes_images")[0], images[first])
    np.testing.assert_array_equal(load("dense", "mistakes_probabilities")[0], probabilities[first])
    assert load("dense", "mistakes_labels")[0] == labels[first]
    assert len(load("dense", "mistakes_images")) <= answers.MISTAKES


@pytest.mark.usefixtures("project")
def test_the_submission_has_each_unlabelled_image_once_by_number() -> None:
    lines = Path("data/predictions/convolutional/submission.csv").read_text().splitlines()
    assert lines[0] == "id,label"
    rows = dict(line.split(",") for line in lines[1:])
    assert list(rows) == [*(str(number) for number in range(1, 122)), "broken", "extra"]
    assert rows["121"] == rows["broken"] == "0"  # there is no image, and as many cats as dogs
    images = np.load("data/splits/pets/unlabelled_images.npy")  # from 120 down to 1
    probabilities = predict("convolutional", images)
    clear = np.abs(probabilities[:120, 0] - 0.5) > 1e-3
    labels = np.array([rows[str(number)] for number in range(120, 0, -1)], int)
    np.testing.assert_array_equal(labels[clear], probabilities[:120].argmax(1)[clear])
    assert clear.any()


@pytest.mark.parametrize("images", [121, 0])
def test_a_submission_of_probabilities_names_what_gave_no_image(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    images: int,
) -> None:
    shutil.copytree(project / "data/splits/pets", tmp_path / "data/splits/pets")
    for folder in ("history", "models"):
        shutil.copytree(project / "data" / folder, tmp_path / "data" / folder)
    text = yaml.safe_dump(PARAMS).replace("threads: 1", "submission: probability\n  threads: 1")
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    for kind in ("images", "names"):
        path = Path(f"data/splits/pets/unlabelled_{kind}.npy")
        np.save(path, np.load(path)[:images])
    evaluate.main("convolutional")
    assert capsys.readouterr().err.splitlines()[-1] == (
        "2 photographs without labels gave no image; submission.csv says of them what is most "
        "frequent: 121, broken"
    )
    lines = Path("data/predictions/convolutional/submission.csv").read_text().splitlines()
    rows = dict(line.split(",") for line in lines[1:])
    assert rows["121"] == rows["broken"] == "0.5"
    assert len(rows) == images + 2
    if images:
        expected = predict("convolutional", np.load("data/splits/pets/unlabelled_images.npy"))
        degrees = read_json(Path("reports/metrics/convolutional.json"))["temperature"]
        assert degrees != 1
        expected = temperature.scale(expected, degrees)
        names = np.load("data/splits/pets/unlabelled_names.npy")
        found = np.array([float(rows[name]) for name in names])
        np.testing.assert_allclose(found, expected[:, 1], rtol=1e-4)


@pytest.mark.usefixtures("project")
def test_a_dataset_without_unlabelled_images_has_no_submission_and_shows_test_images() -> None:
    assert not Path("data/predictions/dense/submission.csv").exists()
    assert read_json(Path("data/predictions/dense/summary.json"))["shown"] == "test"
    np.testing.assert_array_equal(
        load("dense", "shown_images"), np.load("data/splits/digits/test_images.npy")
    )
    np.testing.assert_array_equal(
        load("dense", "shown_probabilities"), load("dense", "test_probabilities")
    )


@pytest.mark.usefixtures("project")
def test_no_more_than_a_hundred_unlabelled_images_are_kept() -> None:
    kept, all_images = load("convolutional", "shown_images"), random_images(121, 12, 12, 3, seed=9)
    assert len(kept) == 100
    assert {image.tobytes() for image in kept} < {image.tobytes() for image in all_images}
    expected = predict("convolutional", kept)
    np.testing.assert_allclose(load("convolutional", "shown_probabilities"), expected, atol=1e-5)


def test_another_seed_chooses_other_images_in_their_order() -> None:
    first, second = inspection.choose(1000, 100, seed=0), inspection.choose(1000, 100, seed=1)
    assert first.tolist() == sorted(set(first.tolist()))
    assert first.tolist() != second.tolist()
    assert inspection.choose(5, 100, seed=0).tolist() == [0, 1, 2, 3, 4]


def test_examples_are_of_two_classes() -> None:
    labels = np.array([1] * 50 + [0] * 2, np.uint8)
    assert {int(labels[index]) for index in evaluate.choose_pair(labels, seed=3)} == {0, 1}
    assert len(evaluate.choose_pair(np.zeros(4, np.uint8), seed=0)) == 1


@pytest.mark.usefixtures("project")
def test_a_dense_networks_weights_and_their_product_are_images() -> None:
    first, second, last = (
        layer.kernel.numpy() for layer in saved("dense").layers if layer.count_params()
    )
    weights, product = load("dense", "weights"), load("dense", "class_images")
    assert weights.shape == (5, 6, 6, 1)
    np.testing.assert_array_equal(weights[3].ravel(), first[:, 3])
    assert product.shape == (3, 6, 6, 1)
    np.testing.assert_allclose(
        product[2].ravel(), first @ second @ last[:, 2], rtol=1e-4, atol=1e-6
    )
    for name in ("filters", "feature_maps", "grad_cam"):
        assert not list(Path("data/predictions/dense").glob(f"{name}.*"))


def test_weight_matrices_that_do_not_follow_each_other_have_no_product() -> None:
    reshape = {"Reshape": {"target_shape": [2, 3]}}
    layers = ["Flatten", {"Dense": {"units": 6}}, reshape, {"Dense": {"units": 2}}, "Flatten"]
    network = Network(layers=layers)
    model = build_network(network, (3, 3, 1), 2, "network")
    assert first_weights(model) is not None
    assert class_images(model) is None


def test_many_hidden_units_are_chosen_by_seed() -> None:
    network = Network(layers=["Flatten", {"Dense": {"units": 300}}])
    model = build_network(network, (3, 3, 1), 2, "network")
    kept = inspection.inspect(model, random_images(2, 3, 3, 1), seed=0)["weights"]
    all_units = first_weights(model)
    assert all_units is not None
    assert len(kept) == inspection.UNITS
    assert {unit.tobytes() for unit in kept} < {unit.tobytes() for unit in all_units}


@pytest.mark.usefixtures("project")
def test_filters_and_feature_maps_are_those_of_the_convolutions() -> None:
    model = saved("convolutional")
    kernel, bias = model.get_layer("conv2d").get_weights()
    np.testing.assert_array_equal(load("convolutional", "filters")[1], kernel[..., 1])
    maps = np.load("data/predictions/convolutional/feature_maps.npz")
    assert [(name, maps[name].shape) for name in maps] == [
        ("conv2d", (2, 10, 10, 4)),
        ("conv2d_1", (2, 8, 8, 3)),
    ]
    image = load("convolutional", "examples_images")[1] / 255
    expected = np.maximum((image[4:7, 2:5, :, None] * kernel).sum((0, 1, 2)) + bias, 0)
    np.testing.assert_allclose(maps["conv2d"][1, 4, 2], expected, atol=2e-3)
    for name in ("weights", "class_images"):
        assert not Path(f"data/predictions/convolutional/{name}.npy").exists()


def test_large_feature_maps_are_reduced_to_64_pixels_and_64_channels() -> None:
    network = Network(layers=[{"Conv2D": {"filters": 70, "kernel_size": 1}}, "Flatten"])
    model = build_network(network, (128, 32, 1), 2, "network")
    [maps] = inspection.feature_maps(model, random_images(1, 128, 32, 1)).values()
    assert maps.shape == (1, 64, 32, 64)


@pytest.mark.slow
def test_class_images_are_the_same_bytes_on_one_core() -> None:
    program = str(PROGRAMS / "class_images.py")
    on_one_core, on_all_cores = (
        subprocess.check_output(
            [sys.executable, *arguments], env=os.environ | {"PYTHONPATH": str(TOP)}
        )
        for arguments in ([str(PROGRAMS / "on_one_core.py"), program], [program])
    )
    assert on_one_core == on_all_cores


def test_grad_cam_looks_at_what_all_branches_of_a_network_give() -> None:
    network = Network(application="InceptionV3", layers=[{"Resizing": {"height": 75, "width": 75}}])
    model = build_network(network, (20, 20, 3), 2, "network")
    found = inspection.grad_cam(model, random_images(1, 20, 20, 3), np.array([[0, 1]]))
    assert found is not None
    layer, heat = found
    assert (layer, heat.shape) == ("mixed7", (1, 2, 3, 3))


@pytest.mark.usefixtures("project")
def test_grad_cam_after_average_pooling_weighs_the_maps_with_the_classs_own_weights() -> None:
    # Section 3.1 of the article: for such a network it is CAM, up to the number of pixels.
    model = saved("convolutional")
    maps = np.load("data/predictions/convolutional/feature_maps.npz")["conv2d_1"]
    heat, probabilities = (
        load("convolutional", name) for name in ("grad_cam", "examples_probabilities")
    )
    assert heat.shape == (2, 2, 8, 8)
    weights = model.layers[-1].kernel.numpy()
    for example in range(2):
        for rank, index in enumerate(np.argsort(-probabilities[example])):
            expected = np.maximum(maps[example] @ weights[:, index], 0) / 64
            np.testing.assert_allclose(heat[example, rank], expected, atol=1e-3)
    assert heat.max() > 0
    assert read_json(Path("data/predictions/convolutional/summary.json"))["grad_cam_layer"] == (
        "conv2d_1"
    )


@pytest.mark.usefixtures("project")
def test_the_table_of_layers_adds_up() -> None:
    layers = table("convolutional", "layers")
    assert layers["type"].tolist()[:3] == ["InputLayer", "Rescaling", "Conv2D"]
    assert layers.set_index("name").loc["conv2d_1", "output_shape"] == "8 x 8 x 3"
    assert layers["parameters"].sum() == saved("convolutional").count_params()
    assert layers["inputs"].tolist()[1:] == layers["name"].tolist()[:-1]


def test_half_precision_and_branching_networks_can_be_inspected() -> None:
    # A process of its own: half precision takes all that the processor has.
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("programs") / "inspect_half_precision.py"],
        env=os.environ | {"PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_accuracy_and_loss_are_rounded_to_four_places() -> None:
    labels = np.array([0, 1, 1], np.uint8)
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], np.float32)
    assert measures.measure(labels, probabilities) == {"accuracy": 0.6667, "loss": 0.5108}


def test_an_accuracy_of_1_says_that_all_images_are_right() -> None:
    labels = np.zeros(20_000, np.uint8)
    probabilities = np.tile(np.array([0.9, 0.1], np.float32), (20_000, 1))
    assert measures.measure(labels, probabilities)["accuracy"] == 1
    labels[0] = 1
    assert measures.measure(labels, probabilities)["accuracy"] == 0.9999


@pytest.mark.parametrize("model", ["dense", "convolutional"])
def test_plot_draws_what_evaluate_wrote(project: Path, model: str) -> None:
    plot.main(model)
    drawn = {path.stem for path in (project / "reports/figures" / model).iterdir()}
    common = {"curves", "predictions", "mistakes", "confusion_matrix", "per_class", "layers"}
    common |= {"roc_and_precision_recall", "reliability"}
    assert drawn == common | (
        {"weights", "class_images"}
        if model == "dense"
        else {"filters", "grad_cam", "feature_maps_conv2d", "feature_maps_conv2d_1"}
    )


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(project: Path, tmp_path: Path) -> None:
    for name in ("params.yaml", "data/history", "data/splits", "data/models"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(project / name)
    subprocess.run(
        [sys.executable, "-m", "stages.evaluate", "convolutional"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(TOP)},
        check=True,
    )
    folder = Path("data/predictions/convolutional")
    names = sorted(path.name for path in (project / folder).iterdir())
    assert names == sorted(path.name for path in (tmp_path / folder).iterdir())
    for path in [*(folder / name for name in names), Path("reports/metrics/convolutional.json")]:
        assert (tmp_path / path).read_bytes() == (project / path).read_bytes(), path


def test_multiply_adds_are_those_that_are_published() -> None:
    vgg16 = keras.applications.VGG16(weights=None)
    assert inspection.count_multiply_adds(vgg16) / 1e9 == pytest.approx(15.5, abs=0.05)
    resnet50 = keras.applications.ResNet50(weights=None)
    assert inspection.count_multiply_adds(resnet50) / 1e9 == pytest.approx(3.86, abs=0.05)


def test_separable_convolutions_multiply_with_both_of_their_kernels() -> None:
    layers = [{"SeparableConv2D": {"filters": 5, "kernel_size": 3}}, "Flatten"]
    model = build_network(Network(layers=layers), (10, 10, 2), 3, "network")
    expected = 8 * 8 * (3 * 3 * 2 + 2 * 5) + 8 * 8 * 5 * 3
    assert inspection.count_multiply_adds(model) == expected


# Functions that make the layers: a recurrent one starts TensorFlow, for which it is too early here.
@pytest.mark.parametrize(
    ("shape", "make", "expected"),
    [
        ((7, 5), lambda of: of.LSTM(3), 7 * (5 * 12 + 3 * 12)),
        ((7, 5), lambda of: of.GRU(3, return_sequences=True), 7 * (5 * 9 + 3 * 9)),
        ((7, 5), lambda of: of.Bidirectional(of.SimpleRNN(3)), 2 * 7 * (15 + 9)),
        ((4, 8, 8, 2), lambda of: of.ConvLSTM2D(3, 3), 4 * 36 * 9 * (2 + 3) * 12),
        ((7, 5), lambda of: of.TimeDistributed(of.Dense(3)), 7 * 15),
        ((7, 5), lambda of: of.EinsumDense("abc,cd->abd", output_shape=(None, 3)), 7 * 15),
        ((8, 8, 2), lambda of: of.Conv2DTranspose(3, 3, strides=2), 64 * 9 * 6),
        ((8, 8, 2), lambda of: of.SeparableConv2D(3, 3), 36 * (9 * 2 + 2 * 3)),
        ((8, 8, 2), lambda of: of.Conv2D(4, 3, groups=2), 36 * 9 * 1 * 4),
    ],
)
def test_multiply_adds_of_layers_that_apply_their_weights_elsewhere_than_at_their_output(
    shape: tuple[int, ...], make: Callable[[Any], keras.layers.Layer], expected: int
) -> None:
    inputs = keras.Input(shape)
    model = keras.Model(inputs, make(keras.layers)(inputs))
    assert inspection.count_multiply_adds(model) == expected


def evaluate_with(project: Path, folder: Path, **options: Any) -> None:
    """Evaluates the convolutional network in `folder`, with other options of the evaluation."""
    for part in ("splits/pets", "history", "models"):
        shutil.copytree(project / "data" / part, folder / "data" / part)
    evaluation: dict[str, Any] = PARAMS["evaluation"]  # type: ignore[assignment]
    params = PARAMS | {"evaluation": evaluation | options}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evaluate.main("convolutional")


def test_flips_and_shifts_give_the_mean_over_the_changed_images(
    project: Path, tmp_path: Path
) -> None:
    views = {"flip": "horizontal", "shift": 2}
    evaluate_with(project, tmp_path, test_time={"convolutional": views})
    found, plain = (top / "data/predictions/convolutional" for top in (tmp_path, project))
    images = np.load(project / "data/splits/pets/test_images.npy")
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    shifts = [padded[:, y : y + 12, x : x + 12] for y, x in ((0, 2), (4, 2), (2, 0), (2, 4))]
    changed = [images, images[:, :, ::-1], *shifts]
    expected = np.mean([predict("convolutional", each) for each in changed], axis=0)
    probabilities = np.load(found / "test_probabilities.npy")
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    before = np.load(plain / "test_probabilities.npy")
    assert np.abs(probabilities - before).max() > 1e-4
    np.testing.assert_array_equal(np.load(found / "test_probabilities_plain.npy"), before)
    # All that is written is of the mean, and the accuracies without are kept.
    labels = np.load(found / "test_labels.npy")
    metrics, others = (read_json(at / "metrics.json") for at in (found, plain))
    assert metrics["test_accuracy"] == pytest.approx((expected.argmax(1) == labels).mean())
    for part in ("valid", "test"):
        assert metrics[f"{part}_accuracy_plain"] == others[f"{part}_accuracy"]
    examples = np.load(found / "examples_probabilities.npy")
    assert np.isin(examples.round(4), probabilities.round(4)).all()
    assert read_json(found / "summary.json")["test_time"] == views


def test_two_evaluations_with_flips_and_shifts_write_the_same_bytes(
    project: Path, tmp_path: Path
) -> None:
    for name in "ab":
        options = {"test_time": {"convolutional": {"shift": 1}}, "submission": "probability"}
        evaluate_with(project, tmp_path / name, **options)
    first, second = (tmp_path / name / "data/predictions/convolutional" for name in "ab")
    files = sorted(path.name for path in first.iterdir())
    assert "test_probabilities_plain.npy" in files
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)


@pytest.mark.parametrize(
    ("test_time", "message"),
    [
        ({"convolutonal": {"flip": "horizontal"}}, "did you mean 'convolutional'"),
        (
            {"convolutional": {"flop": "horizontal"}},
            "convolutional.flop: unknown key; did",
        ),
        ({"convolutional": {"flip": "vertical"}}, "convolutional.flip: expected 'horizontal', fo"),
        ({"convolutional": {"shift": 0}}, "convolutional.shift: expected greater than or equal"),
        ({"convolutional": {}}, "convolutional: expected `flip: horizontal`, `shift: 1`, or both"),
    ],
)
def test_views_that_cannot_be_are_refused_with_their_key(
    project: Path, tmp_path: Path, test_time: Any, message: str
) -> None:
    with pytest.raises(UserError) as raised:
        evaluate_with(project, tmp_path, test_time=test_time)
    assert str(raised.value).startswith("params.yaml: evaluation.test_time.")
    assert message in str(raised.value)
