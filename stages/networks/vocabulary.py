"""Keras's own vocabulary in `params.yaml`: a class by its name, with its own arguments.

Initializers, regularizers, constraints, schedules and wrapped layers nest the same way:
`{L2: {l2: 0.05}}`.
"""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from stages.lib.command import UserError
from stages.lib.params import suggest
from stages.networks.runtime import keras

Spec = Any  # a name, or {name: {argument: value}}; `build` checks it

# Where Keras keeps the class that an argument names, by the end of the argument's name.
MODULE_OF_ARGUMENT = {
    "initializer": (keras.initializers, keras.initializers.Initializer),
    "regularizer": (keras.regularizers, keras.regularizers.Regularizer),
    "constraint": (keras.constraints, keras.constraints.Constraint),
    "learning_rate": (
        keras.optimizers.schedules,
        keras.optimizers.schedules.LearningRateSchedule,
    ),
    "layer": (keras.layers, keras.layers.Layer),
    "inner_optimizer": (keras.optimizers, keras.optimizers.Optimizer),
}
# The modes of its `RandomFlip`, which takes any other text and then flips nothing.
FLIPS = ("horizontal", "vertical", "horizontal_and_vertical")
# What it raises for arguments of a wrong type or size.
KERAS_RAISES = (
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
)
# Layers that Keras 3.15 computes wrongly in a compiled function, as all training is; tests show it.
FAULTY_LAYERS = {
    "RandomElasticTransform": "it puts the first image of a batch in the place of others",
    "AugMix": "it chooses its changes once for many batches",
}


def build(spec: Spec, module: ModuleType, kind: type, key: str) -> Any:
    """Makes an object of the class that `spec` names.

    Args:
        spec: A class name, or `{name: {argument: value}}`.
        module: The module of Keras that has the class.
        kind: The base class it must have.
        key: Where `spec` stands in `params.yaml`, for error messages.
    """
    name, arguments = name_and_arguments(spec, key)
    make = getattr(module, name, None)
    if not (isinstance(make, type) and issubclass(make, kind)):
        known = [
            candidate
            for candidate, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, kind)
        ]
        raise UserError(unknown_name(module, name, known, key))
    path = f"{key}.{name}"
    if module is keras.layers and name in FAULTY_LAYERS:
        raise UserError(
            f"params.yaml: {path}: Keras computes this layer wrongly in training: "
            f"{FAULTY_LAYERS[name]}; take another, such as RandomPerspective or RandAugment"
        )
    check_arguments(make, arguments, path)
    mode = arguments.get("mode", FLIPS[0])
    if module is keras.layers and name == "RandomFlip" and mode not in FLIPS:
        hint = suggest(str(mode), FLIPS, f"known: {', '.join(FLIPS)}")
        raise UserError(f"params.yaml: {path}.mode: Keras would flip nothing by {mode!r}; {hint}")
    named = arguments.get("name")
    # Keras takes others too, and TensorFlow fails with them when it trains, but for a metric's.
    allowed = re.fullmatch(r"[\w.-]*", named, re.ASCII) if isinstance(named, str) else True
    if not allowed and module is not keras.metrics:
        raise UserError(
            f"params.yaml: {path}.name: expected letters, digits, _, . and - only, found '{named}'"
        )
    values = {
        argument: _build_nested(argument, value, f"{path}.{argument}")
        for argument, value in arguments.items()
    }
    with blame(path):
        return make(**values)


def _build_nested(argument: str, value: Any, key: str) -> Any:
    for ending, (module, kind) in MODULE_OF_ARGUMENT.items():
        # Keras itself makes most objects of a name alone, but no optimizer.
        named = isinstance(value, dict) or ending == "inner_optimizer"
        if argument.endswith(ending) and named:
            return build(value, module, kind, key)
    return value


def name_and_arguments(spec: Spec, key: str) -> tuple[str, dict[str, Any]]:
    """Takes `spec`, which stands at `key` of `params.yaml`, apart."""
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, dict) or len(spec) != 1 or not isinstance(next(iter(spec)), str):
        raise UserError(f"params.yaml: {key}: expected one name with its arguments, found {spec!r}")
    (name, arguments), *_ = spec.items()
    if not isinstance(arguments, dict | None):
        raise UserError(
            f"params.yaml: {key}.{name}: expected arguments as a mapping, found {arguments!r}"
        )
    return name, arguments or {}


def check_arguments(make: Any, arguments: dict[str, Any], key: str) -> None:
    """Raises a `UserError` for an argument that neither `make` nor a base class of it takes.

    And for a text in the place of a number, or of true or false: to Keras, the text `no` is true.
    """
    classes = inspect.getmro(make) if isinstance(make, type) else ()
    signatures = [*(c for c in classes[:0:-1] if c.__module__.startswith("keras.")), make]
    defaults = {
        name: parameter.default
        for signature in signatures
        for name, parameter in inspect.signature(signature).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    known = {*defaults} | ({"name", "dtype", "trainable"} if classes else set())
    for argument, value in arguments.items():
        if argument not in known:
            hint = suggest(argument, sorted(known), f"known: {', '.join(sorted(known))}")
            raise UserError(f"params.yaml: {key}.{argument}: no such argument; {hint}")
        default = defaults.get(argument)
        if isinstance(default, bool) and value not in (True, False):
            raise UserError(
                f"params.yaml: {key}.{argument}: expected true or false, found {value!r}"
            )
        if isinstance(default, int | float) and isinstance(value, str):
            raise UserError(f"params.yaml: {key}.{argument}: expected a number, found {value!r}")


def unknown_name(module: ModuleType, name: str, known: list[str], key: str) -> str:
    """Says that `module` has no `name`, and which of the `known` ones is like it."""
    public = module.__name__.replace("keras.api", "keras").replace("._tf_keras.keras", "")
    hint = suggest(name, sorted(known), f"see {public} in Keras's documentation")
    return f"params.yaml: {key}: {public} has no '{name}'; {hint}"


@contextmanager
def blame(key: str) -> Iterator[None]:
    """Turns what Keras raises into a `UserError` that names the key of `params.yaml`."""
    try:
        yield
    except KERAS_RAISES as error:
        text = re.sub(r"\x1b\[\d+m", "", str(error))  # without Keras's bold type
        reason = " ".join(text.split())
        raise UserError(f"params.yaml: {key}: Keras does not accept this: {reason}") from error
