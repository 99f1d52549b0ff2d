"""Networks that have learned something: applications with weights, and models of this project."""

import hashlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib.command import UserError
from stages.networks.keras_file import save_model
from stages.networks.network import Network, build_network
from stages.networks.pretrained import preprocessing
from stages.networks.runtime import keras

pytestmark = pytest.mark.usefixtures("tensorflow")

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8)
APPLICATIONS = sorted(
    name for name, value in vars(keras.applications).items() if inspect.isfunction(value)
)

POOLING = "head_global_average_pooling2d"  # the head that a network has without one


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build(shape: tuple[int, int, int] = (40, 40, 3), **network: Any) -> keras.Model:
    return build_network(Network(**network), shape, 2, "models.m.network")


def inner_output(model: keras.Model, pixels: np.ndarray, before: str) -> Any:
    """What `model` feeds to the layer named `before`."""
    return keras.Model(model.inputs, model.get_layer(before).input).predict_on_batch(pixels)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_pixels_are_prepared_as_each_application_of_keras_wants_them(name: str) -> None:
    make = getattr(keras.applications, name)
    scale, offset, swapped = preprocessing(make)
    ours = PIXELS * scale + offset
    theirs = inspect.getmodule(make).preprocess_input(PIXELS.astype(np.float64))  # type: ignore[union-attr]
    np.testing.assert_allclose(ours[..., ::-1] if swapped else ours, theirs, rtol=1e-6, atol=1e-5)


def preprocess_input(pixels: np.ndarray) -> np.ndarray:
    """What an application in this module would do to its pixels: each channel gets the mean."""
    return np.broadcast_to(pixels.mean(axis=-1, keepdims=True), pixels.shape)


def test_an_application_that_mixes_channels_is_refused() -> None:
    with pytest.raises(UserError, match=r"sha256 mixes the channels of its pixels"):
        preprocessing(sha256)  # any function of this module


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "VGG16",
        "MobileNet",
        pytest.param("DenseNet121", marks=pytest.mark.long),
        pytest.param("EfficientNetV2B0", marks=pytest.mark.long),
    ],
)
def test_an_application_with_weights_gives_what_keras_gives(name: str, tmp_path: Path) -> None:
    make = getattr(keras.applications, name)
    theirs = make(weights=None, include_top=False, input_shape=(40, 40, 3))
    path = tmp_path / "own.weights.h5"
    theirs.save_weights(path)
    model = build(application=name, weights=str(path), weights_sha256=sha256(path))
    prepared = inspect.getmodule(make).preprocess_input(PIXELS.astype(np.float32))  # type: ignore[union-attr]
    expected = theirs.predict_on_batch(prepared)
    found = inner_output(model, PIXELS, POOLING)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    # It opens elsewhere, and so do grey images in it.
    save_model(model, tmp_path / "m.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "m.keras").predict_on_batch(PIXELS),
        model.predict_on_batch(PIXELS),
    )
    grey = build((40, 40, 1), application=name, weights=str(path), weights_sha256=sha256(path))
    np.testing.assert_array_equal(
        inner_output(grey, PIXELS[..., :1], POOLING),
        inner_output(model, np.repeat(PIXELS[..., :1], 3, axis=-1), POOLING),
    )


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, str]:
    """A small application with weights of its own."""
    path = tmp_path / "small.weights.h5"
    keras.applications.MobileNet(
        weights=None, include_top=False, input_shape=(40, 40, 3), alpha=0.25
    ).save_weights(path)
    return {"weights": str(path), "weights_sha256": sha256(path)}


MOBILE_NET = {"MobileNet": {"alpha": 0.25}}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": "no.h5"}, r"\.weights: there is no file 'no\.h5'"),
        (
            {"weights_sha256": "0" * 64},
            r"\.weights_sha256: expected that of .*: write \w{64}",
        ),
        ({"application": "VGG16"}, r"\.weights: Keras does not accept this"),
        ({"application": "MobilNet"}, r"\.application: keras.applications has no 'MobilNet'; did"),
        (
            {"application": {"MobileNet": {"include_top": True}}},
            r"\.application\.MobileNet\.include_top: is set by the builder",
        ),
        (
            {"application": {"MobileNetV3Small": {"include_preprocessing": False}}},
            r"\.application\.MobileNetV3Small\.include_preprocessing: is set by the builder",
        ),
        ({"layers": [{"Rescaling": {"scale": 0.1}}]}, r"\.layers: Rescaling changes the pixe"),
        ({"head": [{"Dence": {}}]}, r"\.head\[0\]: keras.layers has no 'Dence'; did you mean"),
        ({"head": [{"Dropout": {"rate": 0.5}}]}, r"\.head: the last layer gives"),
        ({"head": ["Flatten", {"Dense": {"units": 1}}]}, r"\.head: ends with Dense, an output la"),
        ({"trainable_from": "hed"}, r"\.trainable_from: the network has no layer 'hed'; did you"),
    ],
)
def test_what_does_not_fit_is_named_by_its_full_path(
    weights: dict[str, str], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=r"^params\.yaml: models\.m\.network" + message):
        build(**({"application": MOBILE_NET} | weights | changed))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"application": "VGG16", "weights": "a.h5"}, "`weights_sha256` goes with `weights`"),
        ({"application": "VGG16", "weights_sha256": "0"}, "`weights_sha256` goes with `weights`"),
        ({"layers": ["Flatten"], "weights": "imagenet"}, "`weights` goes with an `application`"),
        ({"application": "VGG16", "head": ["Flatten"]}, "`head` goes with `weights` or `start_fr"),
        ({"application": "VGG16", "start_from": "m"}, "`start_from` brings its own network"),
        (
            {"application": "VGG16", "weights": "imagenet", "kernel_initializer": "HeNormal"},
            "`kernel_initializer` would replace the `weights`",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_refused(network: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(**network)


FETCH = """
import sys
from stages.lib.command import UserError
from stages.networks.network import Network, build_network
network = Network(application={"MobileNet": {"alpha": 0.25}}, weights="imagenet")
try:
    model = build_network(network, (40, 40, 3), 2, "models.m.network")
except UserError as error:
    print(error)
else:
    print("kernel", float(model.get_layer("conv1").kernel.numpy().sum()))
"""


@pytest.mark.slow
def test_weights_that_cannot_be_fetched_may_be_put_where_the_message_says(tmp_path: Path) -> None:
    environment = os.environ | {
        "KERAS_HOME": str(tmp_path),
        "https_proxy": "http://127.0.0.1:9",  # nobody answers there
        "CUDA_VISIBLE_DEVICES": "-1",
    }

    def run() -> str:
        command = [sys.executable, "-c", FETCH]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    message = run()
    assert "mobilenet_2_5_224_tf_no_top.h5 (" in message
    folder = message.rpartition(" ")[2]
    assert folder == str(tmp_path / "models")
    theirs = keras.applications.MobileNet(
        weights=None, include_top=False, input_shape=(40, 40, 3), alpha=0.25
    )
    theirs.save_weights(tmp_path / "a.weights.h5")
    theirs.save(tmp_path / "models/mobilenet_2_5_224_tf_no_top.h5")
    assert run() == f"kernel {float(theirs.get_layer('conv1').kernel.numpy().sum())}"


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> keras.Model:
    """A model of this project, `data/models/first.keras`."""
    monkeypatch.chdir(tmp_path)
    Path("data/models").mkdir(parents=True)
    layers = [
        {"Rescaling": {"scale": 0.00392}},
        {"Conv2D": {"filters": 3, "kernel_size": 3, "name": "seen"}},
        "BatchNormalization",
        "GlobalAveragePooling2D",
    ]
    model = build(layers=layers)
    save_model(model, Path("data/models/first.keras"))
    return model


def test_what_starts_from_a_model_has_its_weights_and_a_new_output(start: keras.Model) -> None:
    head = [{"Dense": {"units": 5}}]
    model = build(start_from="first", layers=[{"RandomFlip": {}}], head=head)
    assert [layer.name for layer in model.layers][-2:] == ["head_dense", "classes"]
    np.testing.assert_array_equal(
        inner_output(model, PIXELS, "head_dense"), inner_output(start, PIXELS, "classes")
    )
    assert model.get_layer("classes").kernel.shape == (5, 2)


def test_layers_before_the_model_may_have_the_names_of_its_layers(start: keras.Model) -> None:
    before = [{"Identity": {"name": "seen"}}]
    model = build(start_from="first", layers=before, trainable_from="first_seen")
    assert [layer.name for layer in model.layers][1:4:2] == ["seen", "first_seen"]
    np.testing.assert_array_equal(
        inner_output(model, PIXELS, "classes"), inner_output(start, PIXELS, "classes")
    )


@pytest.mark.usefixtures("start")
def test_a_chain_of_models_has_one_head_the_last() -> None:
    save_model(
        build(start_from="first", head=[{"Dense": {"units": 5}}]), Path("data/models/second.keras")
    )
    third = build(start_from="second", head=[{"Dense": {"units": 4}}], trainable_from="head")
    names = [layer.name for layer in third.layers if layer.weights]
    assert names[-3:] == ["second_head_dense", "head_dense", "classes"]


@pytest.mark.usefixtures("start")
def test_a_model_that_takes_colours_takes_grey_images_and_no_other_size() -> None:
    assert build((40, 40, 1), start_from="first").input_shape == (None, 40, 40, 1)
    with pytest.raises(UserError, match=r"first takes images of 40x40x3, expected 20x20x3"):
        build((20, 20, 3), start_from="first")
    with pytest.raises(UserError, match=r"data/models/none\.keras is missing"):
        build(start_from="none")
