"""Keras builds what `params.yaml` says, and an error names what it cannot build."""

from typing import Any

import numpy as np
import pytest

from stages.lib import params
from stages.lib.command import UserError
from stages.networks.network import Network, build_network, build_optimizer
from stages.networks.runtime import keras

KEY = "models.m.network"
DIGIT, PHOTOGRAPH = (28, 28, 1), (50, 50, 3)
MODELS = params.load()["models"]


pytestmark = pytest.mark.usefixtures("tensorflow")


def build(network: dict[str, Any], shape: tuple[int, int, int] = DIGIT, classes: int = 10) -> Any:
    return build_network(params.check(KEY, network, Network), shape, classes, KEY)


def message(network: dict[str, Any], shape: tuple[int, int, int] = DIGIT) -> str:
    with pytest.raises(UserError) as raised:
        build(network, shape)
    return str(raised.value).removeprefix(f"params.yaml: {KEY}")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mnist_fc", 784 * 1024 + 1024 + 1024 * 10 + 10),
        ("mnist_dense", 784 * 200 + 200 + 200 * 200 + 200 + 200 * 10 + 10),
        ("mnist_cnn", 25 * 64 + 64 + 12 * 12 * 64 * 100 + 100 + 100 * 10 + 10),
        ("mnist_cnn_deep", 320 + 18496 + 12 * 12 * 64 * 128 + 128 + 128 * 10 + 10),
    ],
)
def test_the_chapters_mnist_networks_have_the_parameters_of_the_original(
    name: str, parameters: int
) -> None:
    assert build(MODELS[name]["network"]).count_params() == parameters


@pytest.mark.parametrize("name", ["cats_dogs_vgg16", "cats_dogs_vgg16_tuned"])
def test_vgg16_at_50_pixels_has_the_parameters_of_the_original(name: str) -> None:
    assert build(MODELS[name]["network"], PHOTOGRAPH, 2).count_params() == 33_605_442


@pytest.mark.slow
def test_every_model_of_params_yaml_ends_in_a_float32_softmax_over_the_classes() -> None:
    for name, model in MODELS.items():
        shape, classes = (DIGIT, 10) if model["dataset"] == "mnist" else (PHOTOGRAPH, 2)
        output = build(model["network"], shape, classes).layers[-1]
        assert (output.name, output.units, output.compute_dtype) == ("classes", classes, "float32")
        assert output.activation is keras.activations.softmax, name


def test_mnist_fc_starts_and_is_regularised_as_published() -> None:
    # With many classes, enough numbers are drawn to estimate the standard deviation.
    model = build(MODELS["mnist_fc"]["network"], classes=1000)
    kernels = [layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")]
    for kernel in kernels:
        # A normal cut off at two standard deviations has a standard deviation of 0.88.
        assert np.abs(kernel).max() <= 2.0
        assert kernel.std() == pytest.approx(0.88, abs=0.01)
    # The chapter's loss: lambda * sum(w^2) / 2 over both matrices, lambda = 0.1.
    penalty = sum(float(loss) for loss in model.losses)
    assert penalty == pytest.approx(0.1 * sum((k**2).sum() for k in kernels) / 2, rel=1e-4)


def test_layers_may_stand_before_an_application() -> None:
    model = build(
        {"layers": [{"Resizing": {"height": 75, "width": 75}}], "application": "InceptionV3"},
        PHOTOGRAPH,
        2,
    )
    assert type(model.layers[1]).__name__ == "Resizing"
    assert model(np.zeros((1, *PHOTOGRAPH), np.uint8)).shape == (1, 2)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (
            {"layers": [{"MaxPool2d": {}}]},
            ".layers[0]: keras.layers has no 'MaxPool2d'; did you mean 'MaxPool2D'?",
        ),
        (
            {"layers": ["Flatten", {"Dense": {"unit": 3}}]},
            ".layers[1].Dense.unit: no such argument; did you mean 'units'?",
        ),
        (
            {"application": "VGG17"},
            ".application: keras.applications has no 'VGG17'; did you mean 'VGG19'?",
        ),
        (
            {"application": {"VGG16": {"poolling": "avg"}}},
            ".application.VGG16.poolling: no such argument; did you mean 'pooling'?",
        ),
        (
            {"layers": [{"Dense": {"units": 3, "kernel_initializer": {"HeNormel": {}}}}]},
            ".layers[0].Dense.kernel_initializer: keras.initializers has no 'HeNormel'; "
            "did you mean 'HeNormal'?",
        ),
        ({"layer": []}, ".layer: unknown key; did you mean 'layers'?"),
        ({"layers": "Flatten"}, ".layers: expected a valid list, found 'Flatten'"),
        ({"layers": [{"Dense": 3}]}, ".layers[0].Dense: expected arguments as a mapping, found 3"),
        ({"layers": [3]}, ".layers[0]: expected one name with its arguments, found 3"),
        ({"layers": []}, ": a network needs `layers`, an `application`, or both"),
        (
            {"application": "VGG16", "output": {"use_bias": False}},
            ": `output` goes with `layers`; an application brings its own output",
        ),
        (
            {"layers": ["Flatten"], "kernel_initializer": "HeNormal"},
            ": `kernel_initializer` goes with an `application`; layers take it themselves",
        ),
        (
            {"application": {"VGG16": {"weights": "imagenet"}}},
            ".application.VGG16.weights: is set by the builder",
        ),
        (
            {"layers": ["Flatten"], "output": {"units": 3}},
            ": `output.units` is set by the builder: leave it out",
        ),
        (
            {"layers": ["Flatten"], "output": {"use_bais": False}},
            ".output.Dense.use_bais: no such argument; did you mean 'use_bias'?",
        ),
        (
            {"layers": [{"Flatten": {"name": "classes"}}]},
            ": Keras does not accept this: ",
        ),
        ({"layers": [{"Conv2D": {"filters": 4}}]}, ".layers[0].Conv2D: Keras does not accept this"),
        (
            {"layers": [{"Conv2D": {"filters": "4", "kernel_size": 3}}]},
            ".layers[0].Conv2D: Keras does not accept this",
        ),
        (
            {"layers": [{"Conv2D": {"filters": 4, "kernel_size": 99}}]},
            ".layers[0]: Keras does not accept this: Computed output size would be zero",
        ),
        (
            {"layers": [{"Rescaling": {"scale": 1}}]},
            ".layers: the last layer gives (28, 28, 1) for each image, expected one dimension",
        ),
    ],
)
def test_what_keras_cannot_build_is_named_by_its_full_path(
    network: dict[str, Any], expected: str
) -> None:
    assert message(network).startswith(expected)


def test_the_momentum_of_an_applications_batch_normalisations_can_be_set() -> None:
    network = {"layers": ["BatchNormalization"], "application": "ResNet50"}
    own, *others = (
        layer.momentum
        for layer in build(network | {"batch_norm_momentum": 0.5}, PHOTOGRAPH).layers
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    assert (own, set(others)) == (0.99, {0.5})


def test_the_initializer_of_an_applications_kernels_can_be_set() -> None:
    layers = [{"Conv2D": {"filters": 3, "kernel_size": 1, "kernel_initializer": "ones"}}]
    network = {"layers": layers, "application": "VGG16"}
    normal = {"RandomNormal": {"stddev": 0.5}}
    first, *others, last = (
        layer.kernel.numpy()
        for layer in build(network | {"kernel_initializer": normal}, PHOTOGRAPH).layers
        if hasattr(layer, "kernel")
    )
    assert (first == 1).all(), "a layer before the application keeps its own"
    assert all(kernel.std() == pytest.approx(0.5, rel=0.05) for kernel in others)
    assert last.std() < 0.1, "the output layer keeps its own"
    assert len({kernel.tobytes()[:400] for kernel in others}) == len(others)


def test_an_unknown_initializer_of_an_application_is_named() -> None:
    network = {"application": "VGG16", "kernel_initializer": "HeNormall"}
    expected = ".kernel_initializer: keras.initializers has no 'HeNormall'; did you mean 'HeNormal"
    assert message(network, PHOTOGRAPH).startswith(expected)


def test_an_application_that_wants_larger_images_says_so() -> None:
    assert message({"application": "InceptionV3"}, PHOTOGRAPH).startswith(
        ".application.InceptionV3: Keras does not accept this: "
    )


def test_an_optimizer_takes_the_arguments_that_keras_gives_it() -> None:
    optimizer = build_optimizer({"SGD": {"learning_rate": 0.5, "momentum": 0.9}}, 10, "o")
    assert (float(optimizer.learning_rate), optimizer.momentum) == (0.5, 0.9)


def test_a_schedule_without_decay_steps_decays_over_the_whole_training() -> None:
    default = {"Adam": {"learning_rate": {"CosineDecay": {"initial_learning_rate": 1.0}}}}
    given = {
        "Adam": {"learning_rate": {"CosineDecay": {"initial_learning_rate": 1.0, "decay_steps": 5}}}
    }
    rates = [
        [float(build_optimizer(spec, 10, "o")._learning_rate(step)) for step in (0, 5, 10)]
        for spec in (default, given)
    ]
    assert rates == [[1.0, pytest.approx(0.5), 0.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("adam", "o: keras.optimizers has no 'adam'; did you mean 'Adam'?"),
        ({"Adam": {"learning_rat": 1}}, "o.Adam.learning_rat: no such argument; did you mean"),
        ({"SGD": {"momentum": 7}}, "o.SGD: Keras does not accept this"),
        (
            {"Adam": {"learning_rate": {"CosinDecay": {}}}},
            "o.Adam.learning_rate: keras.optimizers.schedules has no 'CosinDecay'; did you mean",
        ),
    ],
)
def test_an_optimizer_that_keras_does_not_have_is_named(spec: Any, expected: str) -> None:
    with pytest.raises(UserError) as raised:
        build_optimizer(spec, 10, "o")
    assert str(raised.value).startswith(f"params.yaml: {expected}")
