"""Networks of `keras.applications`, built without weights on any features."""

import inspect
from collections.abc import Callable
from typing import Any

from stages.lib.command import UserError
from stages.networks import hog
from stages.networks.runtime import keras
from stages.networks.vocabulary import (
    MODULE_OF_ARGUMENT,
    Spec,
    blame,
    build,
    check_arguments,
    name_and_arguments,
    unknown_name,
)


def application_features(spec: Spec, features: Any, classes: int, key: str) -> Any:
    """Returns what the application, applied to `features`, feeds to its own output layer.

    `HOG` is one too, which Keras does not have.
    """
    name, arguments = name_and_arguments(spec, key)
    if name == hog.NAME:
        return hog.hog_features(features, arguments, f"{key}.{name}")
    make, name, arguments = find_application(spec, key, ("weights", "classes"))
    with blame(f"{key}.{name}"):
        application = make(**arguments, weights=None, input_tensor=features, classes=classes)
    # MobileNets end with a convolution of one pixel, and with layers that reshape what it gives.
    last = next(layer for layer in reversed(application.layers) if layer.weights)
    shape = last.input.shape[1:]
    if isinstance(last, keras.layers.Dense | keras.layers.Conv2D) and set(shape[:-1]) <= {1}:
        return last.input if len(shape) == 1 else keras.layers.Flatten()(last.input)
    raise UserError(
        f"params.yaml: {key}.{name}: ends with {type(last).__name__} of {last.output.shape[1:]}, "
        "expected its own output over the classes (keep include_top)"
    )


def find_application(
    spec: Spec, key: str, reserved: tuple[str, ...]
) -> tuple[Callable[..., keras.Model], str, dict[str, Any]]:
    """Returns the function of `keras.applications` that `spec` names, its name and its arguments.

    Raises:
        UserError: Keras has no such function or argument, or the argument is `reserved` for the
            builder.
    """
    name, arguments = name_and_arguments(spec, key)
    make = getattr(keras.applications, name, None)
    if not inspect.isfunction(make):
        known = [n for n, value in vars(keras.applications).items() if inspect.isfunction(value)]
        raise UserError(unknown_name(keras.applications, name, known, key))
    check_arguments(make, arguments, f"{key}.{name}")
    for argument in arguments:
        if argument in (*reserved, "input_tensor", "input_shape"):
            raise UserError(
                f"params.yaml: {key}.{name}.{argument}: is set by the builder, by the network's "
                "`weights` and the dataset's images and classes: leave it out"
            )
    return make, name, arguments


def adjust(
    layers: list[keras.layers.Layer], initializer: Spec, batch_norm_momentum: float | None, key: str
) -> None:
    """Changes an application's `layers`; `initializer` stands in `params.yaml` at `key`."""
    for layer in layers:
        normalises = isinstance(layer, keras.layers.BatchNormalization)
        if batch_norm_momentum is not None and normalises:
            layer.momentum = batch_norm_momentum
        if initializer is not None:
            _initialize(layer, initializer, key)


def _initialize(layer: keras.layers.Layer, initializer: Spec, key: str) -> None:
    module, kind = MODULE_OF_ARGUMENT["initializer"]
    for name in ("kernel", "depthwise_kernel", "pointwise_kernel"):
        if hasattr(layer, name):
            # Build a new initializer for each kernel: a seeded one repeats its numbers.
            fresh = build(initializer, module, kind, key)
            with blame(key):
                kernel = fresh(getattr(layer, name).shape)
            getattr(layer, name).assign(kernel)
