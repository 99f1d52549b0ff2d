"""Optimizers and their learning-rate schedules from `params.yaml`."""

import inspect
from typing import Any

from stages.lib.command import UserError
from stages.networks.runtime import keras
from stages.networks.vocabulary import Spec, build, name_and_arguments


def build_optimizer(spec: Spec, steps: int, key: str) -> keras.optimizers.Optimizer:
    """Builds the optimizer `spec`, which stands at `key` of `params.yaml`.

    A learning-rate schedule without `decay_steps` decays over all `steps` of the recipe, less those
    of its warm-up, so that one recipe serves datasets of any size.
    """
    spec = _with_decay_steps(spec, steps, key)
    return build(spec, keras.optimizers, keras.optimizers.Optimizer, key)


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
    if isinstance(warmup, int) and warmup >= steps:
        raise UserError(
            f"params.yaml: {key}.{name}.warmup_steps: {warmup}, but the recipe has {steps} steps:"
            " give fewer"
        )
    return {name: {"decay_steps": steps - warmup} | arguments}
