"""How a model is trained: the sections `training` and `models.M.training` of `params.yaml`."""

from itertools import pairwise
from typing import Any

from pydantic import Field, PositiveInt, model_validator

from stages.lib import params
from stages.lib.command import UserError
from stages.lib.params import Section, TrainingSeed
from stages.networks.feed import count_batches
from stages.networks.runtime import Device, Precision, Processor
from stages.networks.vocabulary import Spec


class TrainingDefaults(Section):
    """`training`: what all models share."""

    seed: TrainingSeed
    device: Device
    processor: Processor = "any"
    precision: Precision
    threads: PositiveInt


class Recipe(Section):
    """`models.M.training`: how one model is trained, for so many `epochs` or so many `steps`.

    `steps` needs `every`: the history then has a row after the first step and every so many more.
    `seed` and `precision` replace the defaults for this model alone. `loss` is the cross-entropy
    unless it is given. `restore_best` names a column of the history.
    """

    optimizer: Spec
    batch_size: PositiveInt
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    every: PositiveInt | None = None
    seed: TrainingSeed | None = None
    precision: Precision | None = None
    loss: Spec = None
    class_weight: Any = None  # `weigh_classes` checks it
    metrics: list[Spec] = Field(default_factory=list)
    augment: list[Spec] = Field(default_factory=list)
    callbacks: list[Spec] = Field(default_factory=list)
    restore_best: str | None = None
    trainable_from: str | None = None

    @model_validator(mode="after")
    def _has_one_length(self) -> "Recipe":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("training needs either `epochs` or `steps`")
        if (self.steps is None) != (self.every is None):
            raise ValueError(
                "`steps` needs `every`, the steps from one row of the history to the next"
            )
        return self

    @property
    def unit(self) -> str:
        """What a row of the history counts: `epoch` or `step`."""
        return "epoch" if self.epochs else "step"

    def total_steps(self, images: int) -> int:
        """Returns the number of steps that are planned for so many training images."""
        return self.steps or (self.epochs or 0) * count_batches(images, self.batch_size)

    def row_bounds(self, images: int) -> list[tuple[int, int]]:
        """Returns, for each row of the history, its first step and the one after its last."""
        every = self.every or count_batches(images, self.batch_size)
        total = self.total_steps(images)
        ends = [*range(1 if self.every else every, total, every), total]
        return list(pairwise([0, *ends]))


def read_recipes(key: str, trainable_from: str | None = None) -> list[Recipe]:
    """Returns the phases at `key` of `params.yaml`, a recipe or a list of them.

    Args:
        key: Names joined by dots, such as `models.mnist_cnn.training`.
        trainable_from: The first layer that trains in the phases that name no other.

    Raises:
        UserError: A key is missing or wrong, or the phases do not go together.
    """
    return [
        phase.model_copy(update={"trainable_from": phase.trainable_from or trainable_from})
        for phase in check_recipes(key, params.read(key, Any))
    ]


def check_recipes(key: str, value: Any) -> list[Recipe]:
    """Returns `value`, found at `key` of `params.yaml`, as the phases of a training."""
    if not isinstance(value, list):
        return [params.check(key, value, Recipe)]
    if not value:
        raise UserError(f"params.yaml: {key}: an empty list, expected at least one recipe")
    phases = [params.check(f"{key}[{i}]", each, Recipe) for i, each in enumerate(value)]
    for number, phase in enumerate(phases[1:], 1):
        for name in ("seed", "precision"):
            if getattr(phase, name) is not None:
                raise UserError(
                    f"params.yaml: {key}[{number}].{name}: holds for all phases: write it into "
                    "the first one"
                )
        if phase.unit != phases[0].unit:
            raise UserError(
                f"params.yaml: {key}[{number}]: counts in {phase.unit}s, the first phase in "
                f"{phases[0].unit}s: give all phases `epochs`, or all `steps`"
            )
    return phases
