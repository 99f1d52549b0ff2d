"""Trains one model: `python -m stages.train MODEL`.

Reads the train and valid parts of the model's dataset, `data/splits/D/`. Writes

    data/models/M.keras      the model without its optimizer; plain Keras opens it
    data/history/M.csv       loss and accuracy of training and validation, a row an epoch or every
                             so many steps
    data/snapshots/M.npy     the weights of a few hidden units after each row of the history
    data/timing/M.json       seconds and memory since the last interruption, versions and device

The last one differs from run to run, so Git keeps it and DVC does not know it. The others are the
same bytes whenever params, data and versions are the same. An interrupted training goes on from the
end of its last epoch, to the bytes of one that was never interrupted.
"""

import hashlib
import math
import os
import resource
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt, model_validator

from stages.lib import params
from stages.lib.command import UserError, end_on_interrupt, run
from stages.lib.files import write_atomically, write_json
from stages.lib.params import Section
from stages.lib.splits import Part, read_part, read_summary
from stages.networks import feed
from stages.networks.checkpoint import Checkpoint, Progress
from stages.networks.keras_file import save_model
from stages.networks.network import Network, Spec, build_network, build_optimizer, compile_model
from stages.networks.runtime import Device, Precision, Processor, keras, set_up
from stages.networks.weights import take_snapshot

VALIDATION_BATCH = 256  # images


class TrainingDefaults(Section):
    """`training`: what all models share."""

    seed: int = Field(ge=0)
    device: Device
    processor: Processor = "any"
    precision: Precision
    threads: PositiveInt


class Recipe(Section):
    """`models.M.training`: how one model is trained, for so many `epochs` or so many `steps`.

    `steps` needs `every`: the history then has a row after the first step and every so many more.
    `seed` and `precision` replace the defaults for this model alone.
    """

    optimizer: Spec
    batch_size: PositiveInt
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    every: PositiveInt | None = None
    seed: int | None = Field(None, ge=0)
    precision: Precision | None = None

    @model_validator(mode="after")
    def _has_one_length(self) -> "Recipe":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("training needs either `epochs` or `steps`")
        if (self.steps is None) != (self.every is None):
            raise ValueError(
                "`steps` needs `every`, the steps from one row of the history to the next"
            )
        return self


@dataclass(frozen=True)
class Training:
    """What a model learns from, what it is validated on, and how.

    Attributes:
        seed: Seeds the shuffling and the random layers.
    """

    train_part: Part
    valid_part: Part
    recipe: Recipe
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches that hold all training images once."""
        return feed.count_batches(len(self.train_part.labels), self.recipe.batch_size)

    @property
    def total_steps(self) -> int:
        """The number of steps from the start to the end."""
        return self.recipe.steps or (self.recipe.epochs or 0) * self.steps_per_epoch

    @property
    def row_bounds(self) -> list[tuple[int, int]]:
        """For each row of the history, its first step and the one after its last."""
        every = self.recipe.every or self.steps_per_epoch
        first = 1 if self.recipe.every else every
        ends = [*range(first, self.total_steps, every), self.total_steps]
        return list(pairwise([0, *ends]))


def train(model: keras.Model, training: Training, checkpoint: Checkpoint) -> Progress:
    """Trains `model`, which is compiled, from where `checkpoint` left off.

    Returns:
        The history: a row an epoch (`epoch`, counted from 1) or every `recipe.every` steps (`step`,
        counted from 0), with `loss` and `accuracy` as means over the steps since the row before,
        and `val_loss` and `val_accuracy`. The snapshots: one after each row.

    Raises:
        UserError: The loss is not a finite number.
    """
    recipe, train_part, valid_part = training.recipe, training.train_part, training.valid_part
    valid_images = np.arange(len(valid_part.labels))
    valid_batches = range(feed.count_batches(len(valid_images), VALIDATION_BATCH))
    validation = feed.batches(
        valid_part, [feed.cut(valid_images, batch, VALIDATION_BATCH) for batch in valid_batches]
    )

    # The optimizer's own variables must exist before the checkpoint can fill them.
    model.optimizer.build(model.trainable_variables)
    progress = checkpoint.restore(model)
    if progress.history:
        print(f"going on after row {len(progress.history)} of the history", flush=True)

    for first, end in training.row_bounds[len(progress.history) :]:
        started = time.perf_counter()
        feed.seed_layers(model, training.seed, first)
        batches = [
            feed.draw_batch(step, len(train_part.labels), recipe.batch_size, training.seed)
            for step in range(first, end)
        ]
        metrics = model.fit(
            feed.batches(train_part, batches),
            validation_data=validation,
            shuffle=False,  # the batches are shuffled already
            verbose=1 if sys.stdout.isatty() else 0,
        ).history
        row: dict[str, float]
        row = {"epoch": end // training.steps_per_epoch} if recipe.epochs else {"step": end - 1}
        row |= {name: values[-1] for name, values in metrics.items()}
        if not all(map(math.isfinite, row.values())):
            raise UserError(
                f"the training diverged: {_format_row(row)}; lower the learning rate in the "
                "model's `training.optimizer` in params.yaml"
            )
        progress.history.append(row)
        progress.snapshots.append(take_snapshot(model))
        checkpoint.save(model, progress)
        print(f"{_format_row(row)} ({time.perf_counter() - started:.1f} s)", flush=True)
    return progress


def _format_row(row: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items())


def fingerprint(splits: Path, *settings: Any) -> dict[str, Any]:
    """Returns what the bytes of a training depend on: settings, data and code.

    Args:
        splits: The folder of the dataset's splits.
        settings: Params and versions, as values that JSON can hold.
    """
    data = [path for part in ("summary", "train_", "valid_") for path in splits.glob(f"{part}*")]
    loaded = [m.__file__ for n, m in sys.modules.items() if n.startswith("stages.") and m.__file__]
    digests = {}
    # As a command, this module is `__main__`: list its file too.
    for path in [*data, *map(Path, loaded), Path(__file__)]:
        with path.open("rb") as file:
            # A stage runs in the top folder of the repository, which itself may be moved.
            digests[os.path.relpath(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"settings": settings, "files": digests}


def write_outputs(
    name: str, model: keras.Model, progress: Progress, seconds: float, environment: dict[str, str]
) -> None:
    """Writes the files of the model named `name`."""
    paths = (
        Path("data/models") / f"{name}.keras",
        Path("data/history") / f"{name}.csv",
        Path("data/snapshots") / f"{name}.npy",
        Path("data/timing") / f"{name}.json",
    )
    with write_atomically(*paths) as (model_file, history_file, snapshots_file, timing_file):
        save_model(model, model_file)
        pd.DataFrame(progress.history).to_csv(history_file, index=False, float_format="%.6g")
        np.save(snapshots_file, np.stack(progress.snapshots))
        timing = {"seconds": round(seconds, 1), "peak_memory_mb": _peak_memory() >> 20}
        write_json(timing_file, timing | {"environment": environment})


def _peak_memory() -> int:
    """Returns the most memory that this process has used at any time, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # others give kibibytes


def main(name: str) -> None:
    """Trains the model named `name` in `params.yaml`."""
    key = f"models.{name}"
    defaults = params.read("training", TrainingDefaults)
    network = params.read(f"{key}.network", Network)
    recipe = params.read(f"{key}.training", Recipe)
    splits = Path("data/splits") / params.read(f"{key}.dataset", str)
    seed = defaults.seed if recipe.seed is None else recipe.seed
    precision = recipe.precision or defaults.precision
    runtime = set_up(defaults.device, defaults.threads, defaults.processor, precision, seed)
    if runtime.portable and recipe.batch_size == 1:
        raise UserError(
            f"params.yaml: {key}.training.batch_size is 1, which each kind of processor computes "
            "in its own way: give it 2 or more, or set training.processor to this"
        )

    summary = read_summary(splits)
    training = Training(read_part(splits, "train"), read_part(splits, "valid"), recipe, seed)
    with runtime.strategy.scope():
        shape, classes = tuple(summary["image_shape"]), len(summary["classes"])
        model = build_network(network, shape, classes, f"{key}.network")
        optimizer = build_optimizer(
            recipe.optimizer, training.total_steps, f"{key}.training.optimizer"
        )
        compile_model(model, optimizer)

    settings = [section.model_dump() for section in (defaults, network, recipe)]
    checkpoint = Checkpoint(
        Path("data/checkpoints") / name, fingerprint(splits, *settings, runtime.environment)
    )
    end_on_interrupt()
    with checkpoint.locked():
        started = time.perf_counter()
        progress = train(model, training, checkpoint)
        seconds = time.perf_counter() - started
        write_outputs(name, model, progress, seconds, runtime.environment)


if __name__ == "__main__":
    run(main)
