"""Trains one model: `python -m stages.train MODEL`.

Reads the train and valid parts of its dataset, `data/splits/D/`. Writes `data/models/M.keras`
(without optimizer; plain Keras opens it), `data/history/M.csv` (loss and accuracy of training and
validation, a row an epoch or every so many steps) and `data/snapshots/M.npy` (the weights of a few
hidden units at each row). What differs from run to run goes to `data/timing/M.json`, which Git
keeps and DVC does not know: versions and device of the last training here, and its seconds and
memory, since its last interruption.

The same params, data and versions give the same bytes. A training that was interrupted goes on
from the end of its last epoch, to the bytes of one that was not.
"""

import hashlib
import math
import resource
import sys
import time
from functools import lru_cache
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
from stages.networks.checkpoint import Checkpoint, Progress
from stages.networks.keras_file import save_model
from stages.networks.network import Network, Spec, build_network, build_optimizer
from stages.networks.runtime import Device, Precision, keras, set_up, tf
from stages.networks.weights import first_weights

UNITS = 10  # whose weights are kept after each row of the history
# A network of fewer parameters takes so many steps in one call of TensorFlow: `mnist_fc` learns
# twice as fast so, to the same bytes. A larger one gains nothing, and Ctrl-C would have to wait.
SMALL, STEPS_AT_ONCE = 2_000_000, 50


class Common(Section):
    """`training`: what all models share."""

    seed: int = Field(ge=0)
    device: Device
    precision: Precision
    threads: PositiveInt


class Options(Section):
    """`models.M.training`: the recipe, its length given either as `epochs` or as `steps`.

    `every` goes with `steps`: the history has a row after the first step and every so many more.
    `seed` and `precision` replace the common ones for this model alone.
    """

    optimizer: Spec
    batch_size: PositiveInt
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    every: PositiveInt | None = None
    seed: int | None = Field(None, ge=0)
    precision: Precision | None = None

    @model_validator(mode="after")
    def _has_one_length(self) -> "Options":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("training needs either `epochs` or `steps`")
        if (self.steps is None) != (self.every is None):
            raise ValueError(
                "`steps` needs `every`, the steps from one row of the history to the next"
            )
        return self


def compile_model(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Prepares `model` for training, within the scope of the strategy that it was built in."""
    # Given by its name, it would be made while TensorFlow traces the first step: twice then.
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    # TensorFlow fails to run several steps in one call where several devices share each of them.
    at_once = (
        model.count_params() < SMALL and tf.distribute.get_strategy().num_replicas_in_sync == 1
    )
    model.compile(
        optimizer,
        "sparse_categorical_crossentropy",
        metrics=[accuracy],
        steps_per_execution=STEPS_AT_ONCE if at_once else 1,
    )


def train(
    model: keras.Model,
    part: Part,
    valid: Part,
    options: Options,
    seed: int,
    checkpoint: Checkpoint,
) -> Progress:
    """Trains `model`, which is compiled, from where `checkpoint` left off.

    Shuffling, dropout and augmentation follow from `seed` and the step alone, so it does not matter
    in which process the steps before it ran.

    Args:
        model: Takes uint8 images to probabilities.
        part: What to learn from.
        valid: What to validate on after each row of the history.
        options: The recipe.
        seed: Of the shuffling and of the layers that draw random numbers.
        checkpoint: Where the state is kept after each row of the history.

    Returns:
        The history: a row an epoch (`epoch`, counted from 1) or every `options.every` steps
        (`step`, counted from 0), with `loss` and `accuracy` as means over the steps since the row
        before, and `val_loss` and `val_accuracy`. The snapshots: after each row the weights of the
        first ten hidden units as images, float32 [units, height, width, channels], none of a
        network whose first weights are not of a dense layer.

    Raises:
        UserError: The loss is no number any more.
    """
    images = len(part.labels)
    steps_per_epoch = math.ceil(images / options.batch_size)
    validation = _dataset(
        valid, np.split(np.arange(len(valid.labels)), range(256, len(valid.labels), 256))
    )
    model.optimizer.build(model.trainable_variables)
    progress = checkpoint.restore(model)
    history, snapshots = progress.history, progress.snapshots
    if history:
        print(f"going on after row {len(history)} of the history", flush=True)
    periods = _periods(options, steps_per_epoch)
    for first, end in periods[len(history) :]:
        started = time.perf_counter()
        _seed_layers(model, seed, first)
        batches = [_batch(step, images, options.batch_size, seed) for step in range(first, end)]
        figures = model.fit(
            _dataset(part, batches),
            validation_data=validation,
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 0,
        ).history
        at = {"epoch": end // steps_per_epoch} if options.epochs else {"step": end - 1}
        history.append(at | {name: values[-1] for name, values in figures.items()})
        if not all(map(math.isfinite, history[-1].values())):
            raise UserError(
                f"the training diverged: {_in_words(history[-1])}; lower the learning rate in the "
                "model's `training.optimizer` in params.yaml"
            )
        snapshots.append(_snapshot(model))
        checkpoint.save(model, progress)
        print(f"{_in_words(history[-1])} ({time.perf_counter() - started:.1f} s)", flush=True)
    return progress


def _in_words(row: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items())


def _snapshot(model: keras.Model) -> np.ndarray:
    weights = first_weights(model)
    return np.empty((0, *model.input_shape[1:]), "f4") if weights is None else weights[:UNITS]


def _periods(options: Options, steps_per_epoch: int) -> list[tuple[int, int]]:
    """Returns, for each row of the history, its first step and the one after its last."""
    if options.epochs:
        ends = [steps_per_epoch * epoch for epoch in range(1, options.epochs + 1)]
    else:
        ends = [*range(1, options.steps or 0, options.every or 1), options.steps or 0]
    return list(pairwise([0, *ends]))


@lru_cache(maxsize=1)
def _permutation(images: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(images)


def _batch(step: int, images: int, batch_size: int, seed: int) -> np.ndarray:
    """Returns the indexes of the images that step number `step` sees.

    Each epoch is a permutation of its own of all images; its last batch may be smaller.
    """
    epoch, index = divmod(step, math.ceil(images / batch_size))
    return _permutation(images, seed, epoch)[index * batch_size : (index + 1) * batch_size]


def _dataset(part: Part, batches: list[np.ndarray]) -> tf.data.Dataset:
    """Returns the images and labels of `part`, batch by batch as `batches` index them."""
    with tf.device("CPU:0"):
        images, labels = tf.constant(part.images), tf.constant(part.labels)
        rows = tf.RaggedTensor.from_row_lengths(
            np.concatenate(batches), [len(batch) for batch in batches]
        )
    # There is nothing to tune, and the thread for it looks up ever more rarely: an epoch of 2.6 s
    # would often end after 5.1 s only.
    options = tf.data.Options()
    options.autotune.enabled = False
    return (
        tf.data.Dataset.from_tensor_slices(rows)
        .map(lambda row: (tf.gather(images, row), tf.gather(labels, row)))
        .prefetch(2)
        .with_options(options)
    )


def _seed_layers(model: keras.Model, seed: int, step: int) -> None:
    """Sets the random state of each layer that has one from `seed`, its place and `step`."""
    states = [v for v in model.non_trainable_variables if v.name == "seed_generator_state"]
    for index, state in enumerate(states):
        words = np.random.SeedSequence((seed, index, step)).generate_state(2)
        state.assign(words)


def identity(folder: Path, *settings: Any) -> dict[str, Any]:
    """Returns what a training's bytes depend on: settings, data, code.

    Args:
        folder: The dataset's splits.
        settings: Params and versions, anything that JSON can hold.
    """
    code = [m.__file__ for n, m in sys.modules.items() if n.startswith("stages.") and m.__file__]
    data = [path for part in ("summary", "train_", "valid_") for path in folder.glob(f"{part}*")]
    digests = {}
    for path in [*sorted(data), Path(__file__), *map(Path, sorted(code))]:
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"settings": settings, "files": digests}


def _peak_memory() -> int:
    """Returns the most memory that this process ever had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(model: str) -> None:
    """Trains the model named `model` in `params.yaml`."""
    key = f"models.{model}"
    common = params.read("training", Common)
    network = params.read(f"{key}.network", Network)
    options = params.read(f"{key}.training", Options)
    folder = Path("data/splits") / params.read(f"{key}.dataset", str)
    seed = common.seed if options.seed is None else options.seed
    precision = options.precision or common.precision
    runtime = set_up(common.device, common.threads, precision, seed)
    summary = read_summary(folder)
    part, valid = read_part(folder, "train"), read_part(folder, "valid")
    with runtime.strategy.scope():
        built = build_network(
            network, tuple(summary["image_shape"]), len(summary["classes"]), f"{key}.network"
        )
        steps = _periods(options, math.ceil(len(part.labels) / options.batch_size))[-1][-1]
        optimizer = build_optimizer(options.optimizer, steps, f"{key}.training.optimizer")
        compile_model(built, optimizer)
    settings = (common.model_dump(), network.model_dump(), options.model_dump())
    checkpoint = Checkpoint(
        Path("data/checkpoints") / model, identity(folder, *settings, runtime.environment)
    )
    end_on_interrupt()
    with checkpoint.locked():
        started = time.perf_counter()
        progress = train(built, part, valid, options, seed, checkpoint)
        seconds = time.perf_counter() - started
        outputs = (
            Path("data/models") / f"{model}.keras",
            Path("data/history") / f"{model}.csv",
            Path("data/snapshots") / f"{model}.npy",
            Path("data/timing") / f"{model}.json",
        )
        with write_atomically(*outputs) as (model_file, history_file, snapshots_file, timing_file):
            save_model(built, model_file)
            pd.DataFrame(progress.history).to_csv(history_file, index=False, float_format="%.6g")
            np.save(snapshots_file, np.stack(progress.snapshots))
            write_json(
                timing_file,
                {
                    "seconds": round(seconds, 1),
                    "peak_memory_mb": _peak_memory() >> 20,
                    "environment": runtime.environment,
                },
            )


if __name__ == "__main__":
    run(main)
