"""Histograms of oriented gradients as a network: against plain NumPy, and as a file of Keras."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stages.lib.command import UserError
from stages.lib.images import Images
from stages.networks import exporting
from stages.networks.exporting import FORMATS
from stages.networks.keras_file import save_model
from stages.networks.network import Network, build_network
from stages.networks.runtime import keras, tf

pytestmark = pytest.mark.usefixtures("tensorflow")
HOG = Network(application="HOG")
SHAPES = [(28, 28, 1), (50, 50, 3), (16, 33, 3)]


def random_images(*shape: int) -> np.ndarray:
    """Returns images of noise, the last of which are flat or have one edge."""
    images = np.random.default_rng(0).integers(0, 256, (6, *shape), np.uint8)
    images[-2], images[-1] = 77, 0
    images[-1, :, shape[1] // 2 :, -1] = 255
    return images


def histograms(image: np.ndarray, cell: int) -> np.ndarray:
    """Computes the features of one image, pixel by pixel, by angles."""
    pixels = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width, _ = image.shape
    rows, columns = height // cell, width // cell
    cells = np.zeros((rows, columns, 9))
    for y, x in np.ndindex(rows * cell, columns * cell):
        across = pixels[y + 1, x + 2] - pixels[y + 1, x]
        down = pixels[y + 2, x + 1] - pixels[y, x + 1]
        channel = (across**2 + down**2).argmax()
        length = np.hypot(across[channel], down[channel])
        place = np.degrees(np.arctan2(down[channel], across[channel])) % 180 / 20
        low = int(place)
        # What lies along the two directions that it is between.
        for step, part in ((0, low + 1 - place), (1, place - low)):
            share = length * np.sin(np.radians(20 * part)) / np.sin(np.radians(20))
            cells[y // cell, x // cell, (low + step) % 9] += share / cell**2
    blocks = []
    for y, x in np.ndindex(rows - 1, columns - 1):
        block = cells[y : y + 2, x : x + 2].ravel()
        blocks.append(block / np.sqrt((block**2).sum() + 1))
    return np.concatenate(blocks)


def features(model: keras.Model) -> keras.Model:
    return keras.Model(model.inputs, model.get_layer("hog_features").output)


@pytest.mark.parametrize(
    # In the last, a cell of 8 pixels leaves no more over, but a block of two does not fit.
    ("shape", "cell"),
    [*zip(SHAPES, (7, 7, 8), strict=True), ((14, 48, 1), 7)],
)
def test_the_features_are_those_of_a_plain_implementation(
    shape: tuple[int, int, int], cell: int
) -> None:
    model = build_network(HOG, shape, 3, "network")
    images = random_images(*shape)
    expected = np.stack([histograms(image, cell) for image in images])
    found = features(model).predict_on_batch(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not found[-2].any()  # a flat image has no gradient
    assert [weight.shape for weight in model.weights] == [(expected.shape[1], 3), (3,)]
    np.testing.assert_array_equal(features(model).predict_on_batch(images), found)


def test_a_saved_model_opens_with_keras_alone_and_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "hog.keras"
    model = build_network(HOG, SHAPES[1], 2, "network")
    save_model(model, path)
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json").decode()
    modules = set(re.findall(r'"module": "([^."]+)', config))
    assert modules == {"keras"}
    assert '"Lambda"' not in config
    images = random_images(*SHAPES[1])
    said = model.predict_on_batch(images)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded.predict_on_batch(images), said)
    assert np.ptp(said[:, 0]) > 0


@pytest.mark.parametrize("name", FORMATS)
def test_it_can_be_exported(name: str, tmp_path: Path) -> None:
    model = build_network(HOG, SHAPES[1], 2, "network")
    images = random_images(*SHAPES[1])
    path = tmp_path / FORMATS[name].file
    said = exporting.run(exporting.export(model, name, path, 1, "exports.m"), Images(images), 4)
    np.testing.assert_allclose(said, model.predict_on_batch(images), atol=1e-5)


def test_layers_before_the_histograms_learn_by_finite_gradients() -> None:
    convolution = {"Conv2D": {"filters": 2, "kernel_size": 3, "use_bias": False}}
    model = build_network(Network(layers=[convolution], application="HOG"), SHAPES[0], 2, "network")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(random_images(*SHAPES[0]))[:, 0])
    first, *_ = tape.gradient(loss, model.trainable_weights)
    assert np.isfinite(first.numpy()).all()
    assert first.numpy().any()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            {"application": "HOG", "layers": ["Flatten"]},
            "network.application.HOG: takes images of 14 x 14 pixels at least, found 784: end `lay",
        ),
        (
            {"application": "HOG", "layers": [{"Resizing": {"height": 14, "width": 13}}]},
            "takes images of 14 x 14 pixels at least, found 14 x 13 x 1",
        ),
        ({"application": {"HOG": {"cells": 4}}}, "network.application.HOG.cells: no such argument"),
    ],
)
def test_what_the_histograms_cannot_take_is_refused(network: object, message: str) -> None:
    with pytest.raises(UserError) as raised:
        build_network(Network.model_validate(network), SHAPES[0], 2, "network")
    assert message in str(raised.value)
