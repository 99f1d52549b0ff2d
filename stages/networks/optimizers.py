"""Optimizers and their learning-rate schedules from `params.yaml`."""

import inspect
from typing import Any

import numpy as np

from stages.lib.command import UserError
from stages.networks.runtime import keras, tf
from stages.networks.vocabulary import Spec, blame, build, name_and_arguments


def build_optimizer(spec: Spec, steps: int, key: str) -> keras.optimizers.Optimizer:
    """Builds the optimizer `spec`, which stands at `key` of `params.yaml`.

    A learning-rate schedule without `decay_steps` decays over all `steps` of the recipe, less those
    of its warm-up, so that one recipe serves datasets of any size.
    """
    spec = _with_decay_steps(spec, steps, key)
    return build(spec, keras.optimizers, keras.optimizers.Optimizer, key)


def check_optimizer(spec: Spec, steps: int, key: str) -> None:
    """Raises a `UserError` where `build_optimizer` builds what cannot take a step.

    Call it outside the scope of a strategy.
    """
    optimizer = build_optimizer(spec, steps, key)
    weight = keras.Variable(np.ones((2, 2), np.float32))
    with blame(f"{key}.{name_and_arguments(spec, key)[0]}"):
        try:
            optimizer.build([weight])
            optimizer.apply_gradients([(tf.ones((2, 2)), weight)])
        except tf.errors.OpError as error:
            raise ValueError(error.message) from error


def _with_decay_steps(spec: Spec, steps: int, key: str) -> Spec:
    name, arguments = name_and_arguments(spec, key)
    given: dict[str, Any] = {}
    if arguments.get("inner_optimizer") is not None:
        path = f"{key}.{name}.inner_optimizer"
        given["inner_optimizer"] = _with_decay_steps(arguments["inner_optimizer"], steps, path)
    schedule = arguments.get("learning_rate")
    if isinstance(schedule, dict):
        path = f"{key}.{name}.learning_rate"
        given["learning_rate"] = _schedule_with_decay_steps(schedule, steps, path)
    return {name: arguments | given}


def _schedule_with_decay_steps(spec: Spec, steps: int, key: str) -> Spec:
    name, arguments = name_and_arguments(spec, key)
    make = getattr(keras.optimizers.schedules, name, None)
    missing = make and "decay_steps" in inspect.signature(make).parameters.keys() - arguments.keys()
    if not missing:
        return spec
    if arguments.get("staircase"):
        raise UserError(
            f"params.yaml: {key}.{name}.staircase: needs decay_steps, the steps from one stair to "
            f"the next: the recipe has {steps} steps, and the rate would stay as it starts"
        )
    warmup = arguments.get("warmup_steps") or 0
    if not isinstance(warmup, int | float):
        raise UserError(
            f"params.yaml: {key}.{name}.warmup_steps: expected a number, found {warmup!r}"
        )
    if warmup >= steps:
        raise UserError(
            f"params.yaml: {key}.{name}.warmup_steps: {warmup}, but the recipe has {steps} steps:"
            " give fewer"
        )
    return {name: {"decay_steps": steps - warmup} | arguments}
