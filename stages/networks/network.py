"""Networks and optimizers from `params.yaml`, in Keras's own vocabulary.

A layer is any class of `keras.layers`, an optimizer any of `keras.optimizers`, an application any
function of `keras.applications`, each with its own arguments. Initializers, regularizers,
constraints, schedules and wrapped layers nest the same way: `{L2: {l2: 0.05}}`.
"""

import inspect
from types import ModuleType
from typing import Any

from pydantic import Field, model_validator

from stages.lib.command import UserError
from stages.lib.params import Section, nearest
from stages.networks.runtime import keras

Spec = Any  # a name, or {name: {argument: value}}; `build` checks it and says what is wrong

# Where the class that an argument names is to be looked up, by how the argument's name ends.
_NESTED = {
    "initializer": (keras.initializers, keras.initializers.Initializer),
    "regularizer": (keras.regularizers, keras.regularizers.Regularizer),
    "constraint": (keras.constraints, keras.constraints.Constraint),
    "learning_rate": (
        keras.optimizers.schedules,
        keras.optimizers.schedules.LearningRateSchedule,
    ),
    "layer": (keras.layers, keras.layers.Layer),
}


# Arguments of the output layer that the builder gives.
OUTPUT = {"units", "activation", "dtype", "name"}


class Network(Section):
    """A network: layers in their order, then an application if one is named.

    `output` are further arguments of the output layer, which the builder adds. What follows is of
    the application's layers and no argument of it:

    `kernel_initializer` replaces GlorotUniform, which halves the signal's variance at each
    rectified layer (https://arxiv.org/abs/1502.01852): in 8 epochs of 200 drawings, a VGG-16 came
    to a test accuracy of 60% with it, and with HeNormal to 79% on 160.
    `batch_norm_momentum` replaces Keras's 0.99, which needs hundreds of steps before the moving
    averages, and with them the validation figures, can be relied on.
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
        for name in sorted(OUTPUT & self.output.keys()):
            raise ValueError(f"`output.{name}` is set by the builder: leave it out")
        for name in ("kernel_initializer", "batch_norm_momentum"):
            if self.application is None and getattr(self, name) is not None:
                raise ValueError(f"`{name}` goes with an `application`; layers take it themselves")
        return self


def build_network(
    network: Network, image_shape: tuple[int, int, int], classes: int, key: str
) -> keras.Model:
    """Builds a model from raw pixels, 0 to 255, to one probability for each class.

    Args:
        network: What to build; an application is built with random weights.
        image_shape: Height, width, channels.
        classes: Number of classes. The softmax over them is computed in float32 whatever the
            policy, since half-precision probabilities near 0 and 1 are too coarse for the loss.
        key: Where `network` stands in `params.yaml`, for error messages.

    Raises:
        UserError: A layer, an application or an argument that Keras does not have or not accept.
    """
    inputs = keras.Input(image_shape, name="images")
    features = inputs
    for index, spec in enumerate(network.layers):
        at = f"{key}.layers[{index}]"
        layer = build(spec, keras.layers, keras.layers.Layer, at)
        features = _explain(at, layer, features)
    output = {"units": classes, "activation": "softmax", "dtype": "float32", "name": "classes"}
    if network.application is not None:
        features = _apply(network.application, features, classes, f"{key}.application")
    elif len(features.shape) != 2:
        raise UserError(
            f"params.yaml: {key}.layers: the last layer gives {features.shape[1:]} for each image, "
            "expected one dimension: end with Flatten or GlobalAveragePooling2D"
        )
    at = f"{key}.output"
    layer = build({"Dense": network.output | output}, keras.layers, keras.layers.Layer, at)
    model = _explain(key, keras.Model, inputs, layer(features))
    for layer in model.layers[len(network.layers) + 1 : -1]:
        normalises = isinstance(layer, keras.layers.BatchNormalization)
        if network.batch_norm_momentum is not None and normalises:
            layer.momentum = network.batch_norm_momentum
        if network.kernel_initializer is not None and hasattr(layer, "kernel"):
            # An initializer of its own each time: one gives every layer the same numbers.
            at = f"{key}.kernel_initializer"
            initializer = build(network.kernel_initializer, *_NESTED["initializer"], at)
            layer.kernel.assign(_explain(at, initializer, layer.kernel.shape))
    return model


def build_optimizer(spec: Spec, steps: int, key: str) -> keras.optimizers.Optimizer:
    """Builds the optimizer `spec`, which stands at `key` of `params.yaml`.

    A learning-rate schedule without `decay_steps` decays over the whole training, `steps` steps, so
    that one recipe serves datasets of any size.
    """
    name, arguments = _name_and_arguments(spec, key)
    schedule = arguments.get("learning_rate")
    if isinstance(schedule, dict):
        schedule_name, given = _name_and_arguments(schedule, f"{key}.{name}.learning_rate")
        made_by = getattr(keras.optimizers.schedules, schedule_name, None)
        if made_by and "decay_steps" in inspect.signature(made_by).parameters:
            arguments = arguments | {
                "learning_rate": {schedule_name: {"decay_steps": steps} | given}
            }
    return build({name: arguments}, keras.optimizers, keras.optimizers.Optimizer, key)


def build(spec: Spec, module: ModuleType, kind: type, key: str) -> Any:
    """Makes the object that `spec` names: a class of `module`, of the given kind.

    Args:
        spec: A class name, or `{name: {argument: value}}`.
        module: The module of Keras that has the class.
        kind: The base class it must have.
        key: Where `spec` stands in `params.yaml`, for error messages.
    """
    name, arguments = _name_and_arguments(spec, key)
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, kind)):
        known = [
            candidate
            for candidate, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, kind)
        ]
        raise UserError(_unknown(module, name, known, key))
    _check_arguments(found, arguments, f"{key}.{name}")
    built = {
        argument: _build_nested(argument, value, f"{key}.{name}.{argument}")
        for argument, value in arguments.items()
    }
    return _explain(f"{key}.{name}", found, **built)


def _build_nested(argument: str, value: Any, key: str) -> Any:
    for ending, (module, kind) in _NESTED.items():
        if argument.endswith(ending) and isinstance(value, dict):
            return build(value, module, kind, key)
    return value


def _apply(spec: Spec, features: Any, classes: int, key: str) -> Any:
    """Returns the features that the application's own output layer is given, made of `features`."""
    name, arguments = _name_and_arguments(spec, key)
    found = getattr(keras.applications, name, None)
    if not inspect.isfunction(found):
        known = [n for n, value in vars(keras.applications).items() if inspect.isfunction(value)]
        raise UserError(_unknown(keras.applications, name, known, key))
    _check_arguments(found, arguments, f"{key}.{name}")
    given = {"weights": None, "input_tensor": features, "classes": classes}
    for argument in sorted(given.keys() & arguments.keys()):
        raise UserError(
            f"params.yaml: {key}.{name}.{argument}: is set by the builder (random weights, the "
            "dataset's images and classes): leave it out"
        )
    application = _explain(f"{key}.{name}", found, **arguments, **given)
    last = application.layers[-1]
    if not isinstance(last, keras.layers.Dense):
        raise UserError(
            f"params.yaml: {key}.{name}: ends with {type(last).__name__}, expected its own dense "
            "output over the classes (keep include_top)"
        )
    return last.input


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


def _check_arguments(made_by: Any, arguments: dict[str, Any], key: str) -> None:
    """Raises a `UserError` for an argument that neither `made_by` nor what it inherits from has."""
    classes = inspect.getmro(made_by) if isinstance(made_by, type) else ()
    signatures = [made_by, *(c for c in classes if c.__module__.startswith("keras."))]
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


def _unknown(module: ModuleType, name: str, known: list[str], key: str) -> str:
    public = module.__name__.replace("keras.api", "keras").replace("._tf_keras.keras", "")
    match = nearest(name, sorted(known))
    hint = f"did you mean '{match}'?" if match else f"see {public} in Keras's documentation"
    return f"params.yaml: {key}: {public} has no '{name}'; {hint}"


def _explain(key: str, make: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls `make`, and says which key of `params.yaml` Keras did not accept if it raises."""
    try:
        return make(*args, **kwargs)
    except (TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"params.yaml: {key}: Keras does not accept this: {reason}") from error
