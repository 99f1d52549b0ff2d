"""A saved model is silent: whoever opens it, and however they call it, it augments nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augmenting import AUGMENTING

from stages.networks.keras_file import load_model, save_model
from stages.networks.network import Network, build_network
from stages.networks.runtime import keras, tf
from stages.networks.vocabulary import FAULTY_LAYERS

pytestmark = pytest.mark.usefixtures("tensorflow")

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), np.uint8)


def build(*layers: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    head: tuple[Any, ...] = (
        {"Dropout": {"rate": 0.5}},
        {"GaussianNoise": {"stddev": 1.0}},
        {"Flatten": {}},
    )
    return build_network(Network(layers=[*layers, *head]), PIXELS.shape[1:], 3, "network")


def test_every_layer_of_keras_that_augments_is_tried() -> None:
    random = {
        name
        for name, layer in vars(keras.layers).items()
        if isinstance(layer, type)
        and issubclass(layer, keras.layers.Layer)
        and name.startswith(("Random", "Rand", "AugMix"))
    }
    # Keras's RandomCrop does not crop outside training, so no network of a fixed shape can have it.
    assert random - {"RandomCrop"} - FAULTY_LAYERS.keys() <= AUGMENTING.keys()


@pytest.mark.parametrize("name", AUGMENTING)
def test_a_saved_model_augments_nothing(name: str, tmp_path: Path) -> None:
    model = build({"Rescaling": {"scale": 1.0}}, {name: AUGMENTING[name]})
    expected = model.predict(PIXELS, verbose=0)
    for file in ("one.keras", "two.keras"):
        save_model(model, tmp_path / file)
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()
    for opened in (
        load_model(tmp_path / "one.keras"),
        keras.models.load_model(tmp_path / "one.keras"),
    ):
        for _ in range(2):
            np.testing.assert_allclose(opened([PIXELS]), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(opened.predict(PIXELS, verbose=0), expected, rtol=0, atol=1e-5)
    assert np.array_equal(
        model.predict(PIXELS, verbose=0), expected
    )  # the model itself is as it was


@pytest.mark.parametrize(
    "layer",
    [
        {"Resizing": {"height": 9, "width": 9}},
        {"CenterCrop": {"height": 9, "width": 9}},
        "AutoContrast",
        "Equalization",
    ],
)
def test_no_layer_of_a_saved_model_takes_itself_for_one_in_training(
    layer: Any, tmp_path: Path
) -> None:
    model = build(layer, "BatchNormalization")
    expected = model.predict(PIXELS, verbose=0)
    save_model(model, tmp_path / "model.keras")
    for opened in (load_model(tmp_path / "model.keras"), model):
        for batch in (PIXELS, PIXELS[:2]):  # in training, each would be normalised by itself
            found = opened([batch], **({"training": False} if opened is model else {}))
            np.testing.assert_allclose(found, expected[: len(batch)], rtol=0, atol=1e-5)


def test_a_layer_that_augments_within_another_is_silent_too(tmp_path: Path) -> None:
    inputs = keras.Input((2, 12, 12, 3))
    inner = keras.layers.TimeDistributed(keras.layers.RandomFlip())(inputs)
    model = keras.Model(inputs, inner)
    save_model(model, tmp_path / "model.keras")
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 2, 12, 12, 3)).astype(np.float32)
    opened = load_model(tmp_path / "model.keras")
    assert np.array_equal(opened([pixels]), pixels)


def test_an_exported_model_agrees_with_the_saved_one(tmp_path: Path) -> None:
    augment = [{"RandomFlip": {}}, {"RandomShear": {"x_factor": 0.5}}, {"Solarization": {}}]
    model = build({"Rescaling": {"scale": 1 / 255}}, *augment, {"RandomRotation": {"factor": 0.4}})
    save_model(model, tmp_path / "model.keras")
    opened = load_model(tmp_path / "model.keras")
    expected = opened.predict(PIXELS, verbose=0)
    opened.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    served = loaded.serve([tf.constant(PIXELS, tf.float32)])
    np.testing.assert_allclose(served, expected, rtol=0, atol=1e-5)

    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], PIXELS.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], PIXELS.astype(np.float32))
    interpreter.invoke()
    lite = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(lite, expected, rtol=0, atol=1e-5)
