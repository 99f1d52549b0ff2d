"""Keras builds what `params.yaml` says, and an error names what it cannot build."""

from typing import Any

import numpy as np
import pytest

from stages.lib import params
from stages.lib.command import UserError
from stages.lib.images import Images
from stages.networks import inspection
from stages.networks.network import Network, build_network
from stages.networks.optimizers import build_optimizer
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


def dense(**arguments: Any) -> dict[str, Any]:
    return {"Dense": {"units": 4} | arguments}


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
            {"layers": [{"TimeDistributed": {"layer": {"Normalization": {}}}}, "Flatten"]},
            ".layers[0].TimeDistributed: the Normalization in it learns nothing of the images",
        ),
        # What builds, but cannot compute: in Keras, RandomCrop does not crop outside training.
        (
            {"layers": [{"RandomCrop": {"height": 8, "width": 8}}, "Flatten"]},
            ": Keras does not accept this: Exception encountered when calling Functional.call()",
        ),
        (
            {"layers": [{"Discretization": {"num_bins": 4}}, "Flatten"]},
            ": Keras does not accept this: Exception encountered when calling Discretization",
        ),
        ({"layers": ["StringLookup", "Flatten"]}, ": Keras does not accept this: "),
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
        # What builds and computes, but would end in a traceback when it is trained.
        (
            {"layers": ["Flatten", {"Dropout": {"rate": 0.5, "noise_shape": [3, 3]}}]},
            ": Keras does not accept this: Exception encountered when calling Dropout",
        ),
        (
            {"layers": ["Flatten", dense(kernel_constraint={"MaxNorm": {"axis": 5}})]},
            ": Keras does not accept this: ",
        ),
        (
            {"layers": ["Flatten", dense(bias_regularizer={"OrthogonalRegularizer": {}})]},
            ": Keras does not accept this: Inputs to OrthogonalRegularizer must have rank 2",
        ),
        (
            {"layers": ["Flatten", {"BatchNormalization": {"axis": 9}}]},
            ".layers[1]: Keras does not accept this: ",
        ),
        (
            {"layers": ["Flatten", dense(use_bias="no")]},
            ".layers[1].Dense.use_bias: expected true or false, found 'no'",
        ),
        (
            {"layers": ["Flatten", dense(kernel_regularizer={"L2": {"l2": "0.1"}})]},
            ".layers[1].Dense.kernel_regularizer.L2.l2: expected a number, found '0.1'",
        ),
        ({"layers": [{"Flatten": {1: 2}}]}, ".layers[0].Flatten.1: no such argument; known: "),
        ({"layers": [{1: {}}]}, ".layers[0]: expected one name with its arguments, found {1: {}}"),
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


@pytest.mark.parametrize(
    "layers",
    [
        [{"Dense": {"units": 10, "activation": "softmax"}}],
        [{"Dense": {"units": 10}}, "Softmax"],
        [{"Dense": {"units": 10}}, {"Activation": {"activation": "softmax"}}],
        [{"Dense": {"units": 10, "activation": "sigmoid"}}],
        [{"Dense": {"units": 1, "activation": "sigmoid"}}],
        [{"Dense": {"units": 1}}],
    ],
)
def test_an_output_layer_of_the_users_own_is_refused(layers: list[Any]) -> None:
    said = message({"layers": ["Flatten", *layers]})
    assert said.startswith(".layers: ends with ")
    assert said.endswith("a softmax over the 10 classes is added: leave yours out")


def test_hidden_layers_may_have_any_activation() -> None:
    for activation in ("sigmoid", "relu"):
        build({"layers": ["Flatten", {"Dense": {"units": 11, "activation": activation}}]})


@pytest.mark.parametrize(
    ("axis", "summed"), [(-1, (0, 1, 2)), (None, (0, 1, 2, 3)), ([1, -1], (0, 2))]
)
def test_normalization_takes_mean_and_variance_from_the_training_images(
    axis: Any, summed: tuple[int, ...]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (257, 6, 6, 3), np.uint8)
    layers = [{"Rescaling": {"scale": 0.5}}, {"Normalization": {"axis": axis}}, "Flatten"]
    network = params.check(KEY, {"layers": layers}, Network)
    models = [build_network(network, (6, 6, 3), 2, KEY, Images(images)) for _ in range(2)]
    first, second = (model.layers[2] for model in models)
    for one, other in zip(first.variables, second.variables, strict=True):
        assert np.array_equal(one, other)
    normalised = keras.Model(models[0].inputs, first.output).predict(images, verbose=0)
    np.testing.assert_allclose(normalised.mean(summed, np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(normalised.var(summed, np.float64), 1, atol=1e-5)


def test_normalization_of_a_pixel_that_never_changes_gives_numbers() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), np.uint8)
    images[:, 0, 0] = 0
    layers = [
        {"Rescaling": {"scale": 0.01, "offset": 0.123}},  # a sum of squares that is rounded
        {"Normalization": {"axis": [1, 2, 3]}},
        "Flatten",
    ]
    network = params.check(KEY, {"layers": layers}, Network)
    model = build_network(network, (4, 4, 1), 2, KEY, Images(images))
    assert np.isfinite(model.predict(images, verbose=0)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV3Small", "ConvNeXtTiny"])
def test_an_application_with_an_output_or_operations_of_its_own_kind_gets_ours(name: str) -> None:
    model = build({"application": name}, (32, 32, 3), 2)
    assert model.output_shape == (None, 2)
    assert model.layers[-1].name == "classes"
    table = inspection.layer_table(model)
    assert {source for inputs in table["inputs"] for source in inputs.split()} <= {*table["name"]}


@pytest.mark.slow
def test_kernel_initializer_replaces_every_kernel_of_an_application() -> None:
    network = {"application": "Xception", "kernel_initializer": "Zeros"}
    model = build(network, (71, 71, 3), 2)
    kernels = [w for w in model.weights if "kernel" in w.name and not w.path.startswith("classes")]
    assert len(kernels) == 74
    assert not any(np.any(kernel) for kernel in kernels)


def test_a_layer_with_several_outputs_is_refused() -> None:
    reshape = {"Reshape": {"target_shape": [28, 28]}}
    layers = [reshape, {"LSTM": {"units": 3, "return_state": True}}]
    assert message({"layers": layers}) == (
        ".layers[1]: LSTM gives several outputs, expected one: leave out arguments such as "
        "return_state"
    )
