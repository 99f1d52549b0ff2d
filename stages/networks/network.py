"""Networks and optimizers from `params.yaml`, in Keras's own vocabulary.

A layer is any class of `keras.layers`, an optimizer any of `keras.optimizers`, an application any
function of `keras.applications`, each with its own arguments. Initializers, regularizers,
constraints, schedules and wrapped layers nest the same way: `{L2: {l2: 0.05}}`.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from pydantic import Field, model_validator

from stages.lib.command import UserError
from stages.lib.params import Section, nearest
from stages.networks.runtime import keras, tf

Spec = Any  # a name, or {name: {argument: value}}; `build` checks it

# Where Keras keeps the class that an argument names, by the end of the argument's name.
_MODULE_OF_ARGUMENT = {
    "initializer": (keras.initializers, keras.initializers.Initializer),
    "regularizer": (keras.regularizers, keras.regularizers.Regularizer),
    "constraint": (keras.constraints, keras.constraints.Constraint),
    "learning_rate": (
        keras.optimizers.schedules,
        keras.optimizers.schedules.LearningRateSchedule,
    ),
    "layer": (keras.layers, keras.layers.Layer),
}
# Arguments that the builder gives to the output layer.
RESERVED_BY_BUILDER = {"units", "activation", "dtype", "name"}
# Below SMALL_NETWORK parameters, TensorFlow runs STEPS_PER_CALL steps in one call. This trains
# `mnist_fc` twice as fast, with identical bytes; larger networks gain nothing and would react late
# to Ctrl-C.
SMALL_NETWORK = 2_000_000
STEPS_PER_CALL = 50


class Network(Section):
    """A network: its layers in order, then an application if there is one.

    `output` holds further arguments of the output layer, which the builder adds. Two keys change
    the layers of the application, which takes no such arguments itself:

    `kernel_initializer` replaces GlorotUniform, which halves the signal's variance at each
    rectified layer (https://arxiv.org/abs/1502.01852).
    `batch_norm_momentum` replaces Keras's 0.99. With that, moving averages need hundreds of steps
    until they, and the validation metrics, can be relied on.
    """

    layers: list[Spec] = Field(default_factory=list)
    application: Spec = None
    output: dict[str, Any] = Field(default_factory=dict)
    kernel_initializer: Spec = None
    batch_norm_momentum: float | None = Field(None, ge=0, lt=1)

    @model_validator(mode="after")
    def _has_something(self) -> "Network":
        if not self.layers and self.application is None:
            raise ValueError("a network needs `layers`, an `application`, or both")
        if self.application is not None and self.output:
            raise ValueError("`output` goes with `layers`; an application brings its own output")
        if reserved := sorted(RESERVED_BY_BUILDER & self.output.keys()):
            raise ValueError(f"`output.{reserved[0]}` is set by the builder: leave it out")
        for name in ("kernel_initializer", "batch_norm_momentum"):
            if self.application is None and getattr(self, name) is not None:
                raise ValueError(f"`{name}` goes with an `application`; layers take it themselves")
        return self


def build_network(
    network: Network, image_shape: tuple[int, int, int], classes: int, key: str
) -> keras.Model:
    """Builds a model from raw pixels, 0 to 255, to one probability for each class.

    Args:
        network: What to build; an application gets random weights.
        image_shape: Height, width, channels.
        classes: The number of classes.
        key: Where `network` stands in `params.yaml`, for error messages.

    Raises:
        UserError: Keras does not have, or does not accept, a layer, application or argument.
    """
    inputs = keras.Input(image_shape, name="images")
    features = _stack_layers(network.layers, inputs, f"{key}.layers")
    if network.application is not None:
        path = f"{key}.application"
        features = _application_features(network.application, features, classes, path)
    elif len(features.shape) != 2:
        raise UserError(
            f"params.yaml: {key}.layers: the last layer gives {features.shape[1:]} for each image, "
            "expected one dimension: end with Flatten or GlobalAveragePooling2D"
        )
    probabilities = _output_layer(network.output, classes, f"{key}.output")(features)
    with _blame(key):
        model = keras.Model(inputs, probabilities)
    _adjust_application(model, network, key)
    return model


def _stack_layers(specs: list[Spec], features: Any, key: str) -> Any:
    for index, spec in enumerate(specs):
        path = f"{key}[{index}]"
        layer = build(spec, keras.layers, keras.layers.Layer, path)
        with _blame(path):
            features = layer(features)
    return features


def _application_features(spec: Spec, features: Any, classes: int, key: str) -> Any:
    """Returns what the application, applied to `features`, feeds to its own output layer."""
    name, arguments = _name_and_arguments(spec, key)
    make = getattr(keras.applications, name, None)
    if not inspect.isfunction(make):
        known = [n for n, value in vars(keras.applications).items() if inspect.isfunction(value)]
        raise UserError(_unknown_name(keras.applications, name, known, key))
    _check_arguments(make, arguments, f"{key}.{name}")
    given = {"weights": None, "input_tensor": features, "classes": classes}
    if reserved := sorted(given.keys() & arguments.keys()):
        raise UserError(
            f"params.yaml: {key}.{name}.{reserved[0]}: is set by the builder (random weights, the "
            "dataset's images and classes): leave it out"
        )
    with _blame(f"{key}.{name}"):
        application = make(**arguments, **given)
    last = application.layers[-1]
    if not isinstance(last, keras.layers.Dense):
        raise UserError(
            f"params.yaml: {key}.{name}: ends with {type(last).__name__}, expected its own dense "
            "output over the classes (keep include_top)"
        )
    return last.input


def _output_layer(arguments: dict[str, Any], classes: int, key: str) -> keras.layers.Layer:
    # The softmax stays in float32 whatever the policy: half-precision probabilities near 0 and 1
    # are too coarse for the loss.
    reserved = {"units": classes, "activation": "softmax", "dtype": "float32", "name": "classes"}
    return build({"Dense": arguments | reserved}, keras.layers, keras.layers.Layer, key)


def _adjust_application(model: keras.Model, network: Network, key: str) -> None:
    """Changes the application's layers: neither those before it nor the output layer."""
    path = f"{key}.kernel_initializer"
    for layer in model.layers[len(network.layers) + 1 : -1]:
        normalises = isinstance(layer, keras.layers.BatchNormalization)
        if network.batch_norm_momentum is not None and normalises:
            layer.momentum = network.batch_norm_momentum
        if network.kernel_initializer is not None and hasattr(layer, "kernel"):
            # Build a new initializer for each layer: a seeded one repeats its numbers.
            module, kind = _MODULE_OF_ARGUMENT["initializer"]
            initializer = build(network.kernel_initializer, module, kind, path)
            with _blame(path):
                kernel = initializer(layer.kernel.shape)
            layer.kernel.assign(kernel)


def build_optimizer(spec: Spec, steps: int, key: str) -> keras.optimizers.Optimizer:
    """Builds the optimizer `spec`, which stands at `key` of `params.yaml`.

    A learning-rate schedule without `decay_steps` decays over the whole training of `steps` steps,
    so that one recipe serves datasets of any size.
    """
    name, arguments = _name_and_arguments(spec, key)
    schedule = arguments.get("learning_rate")
    if isinstance(schedule, dict):
        schedule_name, given = _name_and_arguments(schedule, f"{key}.{name}.learning_rate")
        make = getattr(keras.optimizers.schedules, schedule_name, None)
        if make and "decay_steps" in inspect.signature(make).parameters:
            schedule = {schedule_name: {"decay_steps": steps} | given}
            arguments = arguments | {"learning_rate": schedule}
    return build({name: arguments}, keras.optimizers, keras.optimizers.Optimizer, key)


def compile_model(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Prepares `model` for training, within the scope of the strategy that it was built in."""
    # Pass the metric object, not the string: Keras would create it inside the first traced step and
    # trace that step twice.
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    # TensorFlow fails to run several steps in one call under a strategy of several devices.
    one_device = tf.distribute.get_strategy().num_replicas_in_sync == 1
    small = model.count_params() < SMALL_NETWORK
    model.compile(
        optimizer,
        "sparse_categorical_crossentropy",
        metrics=[accuracy],
        steps_per_execution=STEPS_PER_CALL if small and one_device else 1,
    )


def build(spec: Spec, module: ModuleType, kind: type, key: str) -> Any:
    """Makes an object of the class that `spec` names.

    Args:
        spec: A class name, or `{name: {argument: value}}`.
        module: The module of Keras that has the class.
        kind: The base class it must have.
        key: Where `spec` stands in `params.yaml`, for error messages.
    """
    name, arguments = _name_and_arguments(spec, key)
    make = getattr(module, name, None)
    if not (isinstance(make, type) and issubclass(make, kind)):
        known = [
            candidate
            for candidate, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, kind)
        ]
        raise UserError(_unknown_name(module, name, known, key))
    path = f"{key}.{name}"
    _check_arguments(make, arguments, path)
    values = {
        argument: _build_nested(argument, value, f"{path}.{argument}")
        for argument, value in arguments.items()
    }
    with _blame(path):
        return make(**values)


def _build_nested(argument: str, value: Any, key: str) -> Any:
    for ending, (module, kind) in _MODULE_OF_ARGUMENT.items():
        if argument.endswith(ending) and isinstance(value, dict):
            return build(value, module, kind, key)
    return value


def _name_and_arguments(spec: Spec, key: str) -> tuple[str, dict[str, Any]]:
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, dict) or len(spec) != 1:
        raise UserError(f"params.yaml: {key}: expected one name with its arguments, found {spec!r}")
    (name, arguments), *_ = spec.items()
    if not isinstance(arguments, dict | None):
        raise UserError(
            f"params.yaml: {key}.{name}: expected arguments as a mapping, found {arguments!r}"
        )
    return name, arguments or {}


def _check_arguments(make: Any, arguments: dict[str, Any], key: str) -> None:
    """Raises a `UserError` for an argument that neither `make` nor a base class of it takes."""
    classes = inspect.getmro(make) if isinstance(make, type) else ()
    signatures = [make, *(c for c in classes if c.__module__.startswith("keras."))]
    known = {
        name
        for signature in signatures
        for name, parameter in inspect.signature(signature).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    known |= {"name", "dtype", "trainable"} if classes else set()
    for argument in arguments:
        if argument not in known:
            match = nearest(argument, sorted(known))
            hint = f"did you mean '{match}'?" if match else f"known: {', '.join(sorted(known))}"
            raise UserError(f"params.yaml: {key}.{argument}: no such argument; {hint}")


def _unknown_name(module: ModuleType, name: str, known: list[str], key: str) -> str:
    public = module.__name__.replace("keras.api", "keras").replace("._tf_keras.keras", "")
    match = nearest(name, sorted(known))
    hint = f"did you mean '{match}'?" if match else f"see {public} in Keras's documentation"
    return f"params.yaml: {key}: {public} has no '{name}'; {hint}"


@contextmanager
def _blame(key: str) -> Iterator[None]:
    """Turns what Keras raises into a `UserError` that names the key of `params.yaml`."""
    try:
        yield
    except (TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"params.yaml: {key}: Keras does not accept this: {reason}") from error
